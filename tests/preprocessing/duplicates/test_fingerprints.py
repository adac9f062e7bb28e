"""Fingerprints do not depend on unit and coding; those of different recordings differ clearly."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.duplicates.fingerprints import (
    is_distinctive,
    same_signals,
    same_videos,
    signal_fingerprint,
    video_fingerprint,
)
from preprocessing.recordings import Channel, Recording, SignalRef
from preprocessing.signals.signals import ChannelData, Signal, SignalOptions, process_signal, used


def walk(seed, length=200, channels=2):
    return 5 + np.random.default_rng(seed).normal(size=(length, channels)).cumsum(0) / 10


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-9, 1e-3, 1 / 7, 1e3, 1e6]), st.sampled_from(["float32", "text", "float64"]))
def test_fingerprints_do_not_depend_on_unit_and_coding(seed, gain, coding):
    signal = walk(seed)
    other = signal * gain
    if coding == "float32":
        other = other.astype(np.float32)
    elif coding == "text":
        other = np.array([[float(f"{x:.6g}") for x in row] for row in other])
    prints = [signal_fingerprint(x) for x in (signal, other, walk(seed + 1), signal + 0.5)]
    assert same_signals(prints) == [(0, 1)]


def test_one_duplicate_among_many_recordings():
    signals = [walk(seed) for seed in range(2000)]
    signals.append(signals[17] * np.array([1000.0, 0.001]))
    assert same_signals([signal_fingerprint(s) for s in signals]) == [(17, 2000)]


def test_constant_signals_have_no_fingerprint():
    assert signal_fingerprint(np.full((50, 2), 3.3)) is None and signal_fingerprint(np.zeros((0, 0))) is None
    assert signal_fingerprint(np.array([[np.nan, 1.0], [2.0, 3.0]])) is None
    one = walk(3)
    one[:, 1] = 7.0  # one sensor is constant, the other identifies the recording
    assert same_signals([signal_fingerprint(one), signal_fingerprint(one * 2), signal_fingerprint(walk(4))]) == [(0, 1)]


def counts(rng, n=40, level=6e6):
    """(n,) 24-bit counts at 4 Hz: the level differs by 1 % between clips; drift and noise are small."""
    return np.round(level * (1 + 0.01 * rng.normal()) + 30 * rng.normal() * np.arange(n) / 4 + 3 * rng.normal(size=n))


def prepared(values):
    return process_signal(Signal((ChannelData("x", "other", 4.0, np.asarray(values, np.float64)),)))


def test_noise_on_a_large_level_distinguishes_recordings_and_copies_are_found():
    rng = np.random.default_rng(0)
    raw = [x for x in (counts(rng) for _ in range(400)) if np.ptp(x) > 40]  # less is below a millionth of the level
    assert len(raw) > 300 and all(is_distinctive([x]) for x in raw)
    copies = [raw[7].astype(np.float32), raw[30] * (4.5 / 2**23), (raw[31] * (4.5 / 2**23)).astype(np.float32)]
    prints = [signal_fingerprint(prepared(x)) for x in (*raw, *copies)]
    assert None not in prints
    n = len(raw)
    assert same_signals(prints) == [(7, n), (30, n + 1), (31, n + 2)]


def picture(seed, shift=0):
    small = np.random.default_rng(seed).integers(30, 220, (7, 7, 3)).astype(np.uint8)
    return np.clip(cv2.resize(small, (224, 224), interpolation=cv2.INTER_CUBIC).astype(int) + shift, 0, 255).astype(np.uint8)


def coded(images, ending=".png", options=()):
    return [cv2.imencode(ending, image, list(options))[1].tobytes() for image in images]


@pytest.mark.parametrize("how", ["same", "webp", "bright by one", "jpeg 95"])
def test_fingerprints_of_videos_do_not_depend_on_coding(how):
    film = [picture(seed) for seed in range(5)]
    other = {"same": coded(film), "webp": coded(film, ".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
             "bright by one": coded([picture(seed, 1) for seed in range(5)]),
             "jpeg 95": coded(film, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 95))}[how]
    stranger = coded([picture(seed) for seed in range(50, 55)])
    assert same_videos([video_fingerprint(coded(film)), video_fingerprint(stranger), video_fingerprint(other)]) == [(0, 2)]


def test_no_or_uniform_crops_have_no_fingerprint():
    assert video_fingerprint([]) is None and video_fingerprint(coded([np.zeros((224, 224, 3), np.uint8)])) is None
    assert same_videos([]) == []


def test_only_the_values_used_for_a_clip_count():
    """Ten coarse values of a long recording hold little information, in its first seconds or as a crop from its centre."""
    rng = np.random.default_rng(0)
    lively = np.round(100 * rng.normal(size=200))
    for flat, options in ((slice(0, 10), SignalOptions(seconds=10.0)),
                          (slice(95, 105), SignalOptions(window_mode="crop", length=10))):
        values = lively.copy()
        values[flat] = np.round(70 + rng.normal(0, 0.4, 10).cumsum())
        signal = Signal((ChannelData("x", "other", 1.0, values),))
        assert [len(x) for x in used(signal, options)] == [10] and not is_distinctive(used(signal, options))
        assert is_distinctive(used(signal, SignalOptions()))


def test_a_clip_records_whether_its_signals_are_distinctive(tmp_path):
    rng = np.random.default_rng(0)
    for values, expected in ((np.round(70 + rng.normal(0, 0.4, 10).cumsum()), False), (rng.normal(size=100), True)):
        np.save(tmp_path / "x.npy", values)
        ref = SignalRef(tmp_path / "x.npy", "npy", (Channel("x", 0, "other", 1.0),))
        assert prepare_clip(Recording("p", "s", 0, "a", signal=ref), None, ClipOptions(video=False)).distinctive is expected


def test_an_outlier_does_not_hide_an_identical_copy():
    x = np.random.default_rng(0).normal(size=2000)
    x[7] = 1e7
    assert not is_distinctive([x]) and is_distinctive([x], exactly=True)
    coarse = np.repeat([61.0, 62, 62, 61, 60, 61, 62, 61, 61, 60], 1)
    assert not is_distinctive([coarse], exactly=True)
    assert not is_distinctive([np.interp(np.linspace(0, 9, 640), range(10), coarse)], exactly=True)
