"""Find the gaps in a signal, which a wireless link or a recorder fills with zeros or with the last value.

They are found before filtering and denoising: a filter rings at their edges, and a denoiser would estimate the noise of the
clip from them. n samples at fs Hz.
"""

from collections.abc import Iterator

import numpy as np

from preprocessing.duplicates.information import grid
from preprocessing.errors import ClipError
from preprocessing.notes import note

# Seconds of a constant value that is not physiological at the resolution of a sensor. Other kinds can be constant (a skin
# conductance of 8 bits, an oxygen saturation in whole per cent): there only zeros are a gap.
HELD = {"emg": 0.05, "ecg": 0.5}
# The same for kinds that are constant where the sensor is coarse (a limb at rest in 8 bits, upsampling by repetition): a gap
# only in a channel that otherwise hardly ever repeats a value.
FINE = {"bvp": 0.5, "imu": 0.5, "resp": 1.0, "fnirs": 1.0}
REPEATS = 0.01  # largest share of equal successive samples outside of such stretches
ENOUGH = 50  # least number of successive samples outside, to estimate that share
ZEROS = 0.1  # seconds
LEAST = 8  # samples of a constant stretch
MOST = 0.5  # a clip with more of it missing is excluded
STUCK = 0.01  # share of successive samples that are both at one end of the range: the amplifier was saturated
NEVER_ZERO = ("ecg", "gsr", "eda", "spo2")  # a conductance or an oxygen saturation of exactly 0 was not measured


def runs(same: np.ndarray, least: int) -> np.ndarray:
    """(n,) bool: constant stretches of at least `least` samples. same (n-1,): sample i+1 equals sample i."""
    found = np.zeros(len(same) + 1, bool)
    for start, stop in _stretches(same, least):
        found[start:stop] = True
    return found


def _stretches(same: np.ndarray, least: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch of `runs`, stop excluded."""
    edges = np.diff(np.concatenate(([0], same.view(np.int8), [0])))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 1  # of pairs: a run has one sample more
    for start, stop in zip(starts, stops, strict=True):
        if stop - start >= least:
            yield int(start), int(stop)


def find(x: np.ndarray, kind: str, fs: float) -> np.ndarray | None:
    """(n,) bool: samples of x (n,) that were not recorded; None where there are none. A constant channel has none."""
    same = x[1:] == x[:-1]
    if len(x) < 3 or not same.any() or same.all():
        return None
    gap = np.zeros(len(x), bool)
    if kind in HELD:
        gap |= _held_not_resting(x, same, max(LEAST, round(HELD[kind] * fs)))
    if kind in FINE:
        gap |= _held_though_fine(x, same, max(LEAST, round(FINE[kind] * fs)))
    if kind in NEVER_ZERO:
        zero = x == 0
        if zero.any() and (kind != "ecg" or _apart(x, zero)):
            gap |= runs(same & zero[1:], max(2, round(ZEROS * fs)))
    return gap if gap.any() else None


def _held_not_resting(x: np.ndarray, same: np.ndarray, least: int) -> np.ndarray:
    """(n,) bool: constant stretches, except those of a coarse sensor, with which a muscle at rest stays on one quantisation
    step: there, as many samples before or after the stretch are on the same step or on the next one."""
    stretches = list(_stretches(same, least))
    near = 1.5 * grid(x) if stretches else 0.0  # 0.0: no visible quantisation
    held = np.zeros(len(x), bool)
    for start, stop in stretches:
        sides = (x[max(0, start - least) : start], x[stop : stop + least])
        held[start:stop] = not near or not any(len(side) and (np.abs(side - x[start]) <= near).all() for side in sides)
    return held


def _held_though_fine(x: np.ndarray, same: np.ndarray, least: int) -> np.ndarray:
    """(n,) bool: constant stretches of a channel that otherwise never repeats a value. A stretch at an end of the range may be
    saturation and is not a gap, except zeros outside of the range of the other samples."""
    held = runs(same, least)
    outside = same[~(held[1:] & held[:-1])]
    if not held.any() or len(outside) < ENOUGH or outside.mean() > REPEATS:
        return np.zeros(len(x), bool)
    end = (x == x.max()) | (x == x.min())
    zero = x == 0
    return held & (~end | (zero & _apart(x, zero)))


def _apart(x: np.ndarray, zero: np.ndarray) -> bool:
    """Whether 0 lies outside of the range of (most of) the other samples."""
    low, high = np.percentile(x[~zero], (1, 99)) if not zero.all() else (0.0, 0.0)
    return bool(low > 0 or high < 0)


def bridge(x: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """x (n,) with every gap filled by linear interpolation (nearest value at the ends), so that no filter rings."""
    at = np.arange(len(x))
    return np.where(gap, np.interp(at, at[~gap], x[~gap]), x)


def check(gap: np.ndarray, kind: str) -> None:
    """Add a note on the gaps; ClipError where more than half of the clip is missing."""
    if gap.mean() > MOST:
        raise ClipError("signal", "gaps", f"More than half of a channel of kind {kind} is zeros or one constant value, as "
                                          "after a lost connection; choose another window, or signal.source=filtered if the "
                                          "file was gated on purpose.")
    filled = "set to zero" if kind == "emg" else "filled by linear interpolation"
    note(f"{kind}: parts that were not recorded (zeros, or one constant value) are {filled}.")


def stuck(x: np.ndarray, kind: str) -> bool:
    """Whether x (n,) often stays at one end of its range, as the output of a saturated amplifier does."""
    if kind not in HELD or len(x) < 100:
        return False
    for end in (x.max(), x.min()):
        at = x == end
        pairs = at[1:] & at[:-1]
        if pairs.sum() > STUCK * len(x) and len(np.unique(x)) > 50:
            return True
    return False
