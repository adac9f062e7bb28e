"""Prints: equal after decoding is equal whatever the unit and the coding; what is not the same recording is far away."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.prints import film_print, same_films, same_signals, signal_print, tells
from preprocessing.recordings import Channel, Recording, SignalRef
from preprocessing.signals.signals import ChannelData, Signal, SignalOptions, process_signal, used


def walk(seed, length=200, channels=2):
    return 5 + np.random.default_rng(seed).normal(size=(length, channels)).cumsum(0) / 10


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-9, 1e-3, 1 / 7, 1e3, 1e6]), st.sampled_from(["float32", "text", "float64"]))
def test_a_unit_or_a_coding_is_no_other_recording(seed, gain, coding):
    signal = walk(seed)
    other = signal * gain
    if coding == "float32":
        other = other.astype(np.float32)
    elif coding == "text":
        other = np.array([[float(f"{x:.6g}") for x in row] for row in other])
    prints = [signal_print(signal), signal_print(other), signal_print(walk(seed + 1)), signal_print(signal + 0.5)]
    assert same_signals(prints) == [(0, 1)]


def test_many_recordings_and_the_one_that_is_there_twice():
    signals = [walk(seed) for seed in range(2000)]
    signals.append(signals[17] * np.array([1000.0, 0.001]))
    assert same_signals([signal_print(s) for s in signals]) == [(17, 2000)]


def test_what_is_constant_says_nothing():
    assert signal_print(np.full((50, 2), 3.3)) is None and signal_print(np.zeros((0, 0))) is None
    assert signal_print(np.array([[np.nan, 1.0], [2.0, 3.0]])) is None
    one = walk(3)
    one[:, 1] = 7.0  # one sensor fell off, the other says who it is
    assert same_signals([signal_print(one), signal_print(one * 2), signal_print(walk(4))]) == [(0, 1)]


def counts(rng, n=40, level=6e6):
    """(n,) 24-bit counts at 4 Hz: the level differs by 1 % between clips, beside it drift and noise are small."""
    return np.round(level * (1 + 0.01 * rng.normal()) + 30 * rng.normal() * np.arange(n) / 4 + 3 * rng.normal(size=n))


def prepared(values):
    return process_signal(Signal((ChannelData("x", "other", 4.0, np.asarray(values, np.float64)),)))


def test_noise_beside_a_large_level_tells_recordings_apart_and_copies_are_found():
    rng = np.random.default_rng(0)
    raw = [x for x in (counts(rng) for _ in range(400)) if np.ptp(x) > 40]  # less is beneath a millionth of the level
    assert len(raw) > 300 and all(tells([x]) for x in raw)
    copies = [raw[7].astype(np.float32), raw[30] * (4.5 / 2**23), (raw[31] * (4.5 / 2**23)).astype(np.float32)]
    prints = [signal_print(prepared(x)) for x in (*raw, *copies)]
    assert None not in prints
    n = len(raw)
    assert same_signals(prints) == [(7, n), (30, n + 1), (31, n + 2)]


def picture(seed, shift=0):
    small = np.random.default_rng(seed).integers(30, 220, (7, 7, 3)).astype(np.uint8)
    return np.clip(cv2.resize(small, (224, 224), interpolation=cv2.INTER_CUBIC).astype(int) + shift, 0, 255).astype(np.uint8)


def coded(images, ending=".png", options=()):
    return [cv2.imencode(ending, image, list(options))[1].tobytes() for image in images]


@pytest.mark.parametrize("how", ["same", "webp", "bright by one", "jpeg 95"])
def test_another_coding_is_no_other_film(how):
    film = [picture(seed) for seed in range(5)]
    other = {"same": coded(film), "webp": coded(film, ".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
             "bright by one": coded([picture(seed, 1) for seed in range(5)]),
             "jpeg 95": coded(film, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 95))}[how]
    stranger = coded([picture(seed) for seed in range(50, 55)])
    assert same_films([film_print(coded(film)), film_print(stranger), film_print(other)]) == [(0, 2)]


def test_no_or_blank_pictures_say_nothing():
    assert film_print([]) is None and film_print(coded([np.zeros((224, 224, 3), np.uint8)])) is None and same_films([]) == []


def test_only_what_a_clip_is_made_of_counts():
    """Ten coarse values of a long recording hold little, whether a length in seconds or a crop of its middle takes them."""
    rng = np.random.default_rng(0)
    lively = np.round(100 * rng.normal(size=200))
    for flat, options in ((slice(0, 10), SignalOptions(seconds=10.0)),
                          (slice(95, 105), SignalOptions(window_mode="crop", length=10))):
        values = lively.copy()
        values[flat] = np.round(70 + rng.normal(0, 0.4, 10).cumsum())
        signal = Signal((ChannelData("x", "other", 1.0, values),))
        assert [len(x) for x in used(signal, options)] == [10] and not tells(used(signal, options))
        assert tells(used(signal, SignalOptions()))


def test_a_clip_says_whether_its_signals_tell(tmp_path):
    rng = np.random.default_rng(0)
    for values, expected in ((np.round(70 + rng.normal(0, 0.4, 10).cumsum()), False), (rng.normal(size=100), True)):
        np.save(tmp_path / "x.npy", values)
        ref = SignalRef(tmp_path / "x.npy", "npy", (Channel("x", 0, "other", 1.0),))
        assert prepare_clip(Recording("p", "s", 0, "a", signal=ref), None, ClipOptions(video=False)).tells is expected


def test_one_outlying_value_does_not_hide_a_copy_to_the_last_bit():
    x = np.random.default_rng(0).normal(size=2000)
    x[7] = 1e7
    assert not tells([x]) and tells([x], exactly=True)
    coarse = np.repeat([61.0, 62, 62, 61, 60, 61, 62, 61, 61, 60], 1)
    assert not tells([coarse], exactly=True) and not tells([np.interp(np.linspace(0, 9, 640), range(10), coarse)], exactly=True)
