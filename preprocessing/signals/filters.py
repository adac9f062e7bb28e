"""Butterworth filters, envelope and resampling of one channel (spec section 2). n samples, rate fs in Hz.

scipy.signal is imported where it is used: that saves 1 s where only options or stored clips are read.
"""

import math
from functools import lru_cache

import numpy as np

from preprocessing.notes import note

NYQUIST_SHARE = 0.98  # above this share of fs/2 an upper corner has no effect


def unfit(low: float | None, high: float | None, fs: float) -> str:
    """Which part of a band is not possible at this rate, as one clause; "" where all of it is. Such a filter is left out."""
    limit = NYQUIST_SHARE * fs / 2
    if low is not None and low >= limit:
        return f"not filtered: the band from {low:g} Hz lies at or above the Nyquist limit, half the rate"
    if high is not None and high >= limit:
        left = "not filtered" if low is None else "high-pass only"
        return f"{left}: the upper corner of {high:g} Hz lies at or above the Nyquist limit, half the rate"
    return ""


def design(low: float | None, high: float | None, order: int, fs: float, name: str = "a channel") -> np.ndarray | None:
    """Second-order sections (S,6) of a Butterworth filter, or None where no corner lies below Nyquist.

    low None = low-pass, high None = high-pass. As in scipy, a band-pass of order N has N poles at each corner.
    An upper corner >= 0.98 fs/2 is left out; a lower corner there switches the filter off. Both give a note on `name`.
    """
    if problem := unfit(low, high, fs):
        note(f"{name}: {problem}.")
    return _sections(low, high, order, fs)


@lru_cache(maxsize=64)  # gives no note: with the cache there would be only one per process
def _sections(low: float | None, high: float | None, order: int, fs: float) -> np.ndarray | None:
    from scipy import signal as sps

    limit = NYQUIST_SHARE * fs / 2
    if high is not None and high >= limit:
        high = None
    if low is not None and low >= limit:
        return None
    if low is not None and high is not None:
        return sps.butter(order, (low, high), "bandpass", fs=fs, output="sos")
    if low is not None:
        return sps.butter(order, low, "highpass", fs=fs, output="sos")
    return None if high is None else sps.butter(order, high, "lowpass", fs=fs, output="sos")


def butterworth(
    x: np.ndarray, low: float | None, high: float | None, order: int, fs: float, causal: bool = False, pad: str = "odd",
    name: str = "a channel",
) -> np.ndarray:
    """x (n,) filtered: zero-phase (`sosfiltfilt`, magnitude applied twice) or causal.

    pad: "odd" with scipy's length is the default; "even" over the whole clip is for ECG, whose 0.1 Hz corner has a longer
    period than a 5.5 s clip. A filter that is not possible gives a note on `name`, the kind of the channel.
    """
    from scipy import signal as sps

    sos = design(low, high, order, fs, name)
    if sos is None:
        return x
    if causal:
        # Start in the steady state of the first value, or the step from zero rings through the clip.
        return sps.sosfilt(sos, x, zi=sps.sosfilt_zi(sos) * x[0])[0]
    if len(x) < 3:
        note(f"{name}: not filtered: the clip has fewer than three samples.")
        return x
    if pad == "even":
        return sps.sosfiltfilt(sos, x, padtype="even", padlen=len(x) - 1)
    return sps.sosfiltfilt(sos, x, padlen=min(3 * (2 * len(sos) + 1), len(x) - 1))


def half_window(fs: float, seconds: float) -> int:
    """Number of samples on either side of the centre of a moving window."""
    return max(1, round(seconds * fs / 2))


def rms_envelope(x: np.ndarray, fs: float, seconds: float = 0.1) -> np.ndarray:
    """Centred moving root mean square of x (n,), window at least 3 samples, shorter at the edges."""
    half = half_window(fs, seconds)
    total = np.concatenate(([0.0], np.cumsum(x**2)))
    index = np.arange(len(x))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(x))
    return np.sqrt(np.maximum(total[stop] - total[start], 0.0) / (stop - start))


def resample(x: np.ndarray, length: int) -> np.ndarray:
    """The whole of x (n,) on `length` samples by anti-aliased polyphase resampling."""
    from scipy import signal as sps

    if len(x) == length:
        return x
    if len(x) < 2:  # one sample: no line to extend it
        return np.full(length, x[0])
    divisor = math.gcd(length, len(x))
    # The mean is removed, and the signal is extended along the line through its ends: a skin conductance far from 0 then
    # has neither drops at the edges nor the ripple of the polyphase branches (6e-6 of the level).
    level = x.mean()
    return level + sps.resample_poly(x - level, length // divisor, len(x) // divisor, padtype="line")[:length]
