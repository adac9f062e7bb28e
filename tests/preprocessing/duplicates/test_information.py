"""Signals that could be equal by chance hold few bits at any rate; signals with sensor noise hold many."""

import numpy as np
import pytest

from preprocessing.duplicates.information import LEAST_BITS, bits, holds_enough

COMPARED = (1e-3, 2e-7)


def heart_rate(rng, n=10):
    return np.round(rng.integers(60, 80) + rng.normal(0, 0.4, n).cumsum())


def interpolated(values, rate):
    return np.interp(np.arange(0, len(values) - 1, 1 / rate), np.arange(len(values)), values)


LITTLE = {
    "whole beats": lambda rng: [heart_rate(rng)],
    "whole beats in Hz": lambda rng: [np.round(heart_rate(rng) / 60, 4)],
    "their intervals": lambda rng: [60 / heart_rate(rng)],
    "held at 128 Hz": lambda rng: [np.repeat(heart_rate(rng), 128)],
    "in lines at 128 Hz": lambda rng: [interpolated(heart_rate(rng), 128)],
    "in lines at 4 Hz": lambda rng: [interpolated(heart_rate(rng), 4)],
    "six times the same": lambda rng: [heart_rate(np.random.default_rng(int(rng.integers(1)))) * (-1) ** i for i in range(9)],
    "SpO2 falls once": lambda rng: [98.0 - (np.arange(10) >= rng.integers(1, 9))] * 1 + [np.full(10, 3.3)],
    "a marker": lambda rng: [(np.arange(5000) >= rng.integers(1, 4999)) * 1.0],
    "a clock": lambda rng: [1.7e9 + rng.integers(1e6) + np.arange(10000) / 128],
    "tenths of a degree": lambda rng: [np.round(33 + 0.02 * rng.normal(size=20).cumsum(), 1)],
    "nothing": lambda rng: [np.zeros(0), np.full(9, 1.0), np.full(9, np.nan), np.ones(1)],
}
MUCH = {
    "ECG of 10 bits, 1 s": lambda rng: [np.round(rng.normal(size=128) * 3)],
    "EDA, 4 Hz, 10 s": lambda rng: [np.round(5 + 0.05 * rng.normal(size=40).cumsum(), 3)],
    "EDA of a constant slope with noise": lambda rng: [5 + 0.02 * np.arange(40) / 4 + 0.0005 * rng.normal(size=40)],
    "24-bit counts": lambda rng: [np.round(6e6 + 30 * rng.normal() * np.arange(40) / 4 + 3 * rng.normal(size=40))],
    "ten channels of ten values": lambda rng: list(np.round(rng.normal(size=(10, 10)), 2)),
    "whole beats, ten minutes": lambda rng: [heart_rate(rng, 600)],
    "a flat beginning": lambda rng: [np.concatenate([np.zeros(2000), rng.normal(size=2000)])],
    "slow beside its rate": lambda rng: [interpolated(rng.normal(size=40).cumsum(), 1000)],
}


@pytest.mark.parametrize("what", LITTLE)
def test_signals_that_may_be_equal_by_chance_hold_few_bits(what):
    rng = np.random.default_rng(5)
    assert not any(holds_enough(LITTLE[what](rng), *COMPARED) for _ in range(100))


@pytest.mark.parametrize("what", MUCH)
def test_signals_with_sensor_noise_hold_many_bits(what):
    rng = np.random.default_rng(5)
    assert all(holds_enough(MUCH[what](rng), *COMPARED) for _ in range(100))


def test_bits_are_about_those_of_a_known_source():
    """A fair coin's flips, summed up, hold one bit each, a die of 16 sides four: never more, and little less."""
    rng = np.random.default_rng(0)
    for sides, expected in ((2, 1.0), (16, 4.0)):
        found = bits(rng.integers(0, sides, 2001).cumsum().astype(float), 1e-3) / 2000
        assert 0.75 * expected < found < 1.02 * expected


def test_bits_predict_how_often_two_clips_are_equal():
    """Of short coarse clips with b bits about one pair in 2^b is equal: the estimate may be lower, not much higher."""
    rng = np.random.default_rng(1)
    clips = [rng.integers(0, 2, 5).cumsum() for _ in range(2000)]
    counts = np.unique([np.diff(c) for c in clips], axis=0, return_counts=True)[1].astype(float)
    true = -np.log2((counts * (counts - 1)).sum() / (2000 * 1999))
    assert np.mean([bits(c.astype(float), 1e-3) for c in clips]) < true + 1 < LEAST_BITS
