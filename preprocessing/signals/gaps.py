"""Stretches that a sensor did not record: a wireless link or a recorder fills them with zeros, or holds the last value.

A filter rings at their edges, and a denoiser takes their silence for the noise of the clip: they are found before either.
n samples at fs Hz.
"""

from collections.abc import Iterator

import numpy as np

from preprocessing.errors import ClipError
from preprocessing.information import grid
from preprocessing.notes import note

# Seconds of one and the same value that no body gives at a sensor's resolution. Other kinds stand still by nature (a skin
# conductance of 8 bits, a saturation in whole per cent): there only zeros below a level are a gap.
HELD = {"emg": 0.05, "ecg": 0.5}
# The same of kinds that stand still where the sensor is coarse (a limb at rest in 8 bits, a rate that was raised by repeating):
# a gap only of a channel that hardly ever repeats a value otherwise.
FINE = {"bvp": 0.5, "imu": 0.5, "resp": 1.0, "fnirs": 1.0}
REPEATS = 0.01  # share of neighbours that may be equal outside of such stretches
ENOUGH = 50  # neighbours outside, to know that
ZEROS = 0.1  # seconds
LEAST = 8  # samples, of a held value
MOST = 0.5  # a clip with more of it missing is excluded
STUCK = 0.01  # share of samples at an end of the range, each beside another such: the amplifier was saturated
NEVER_ZERO = ("ecg", "gsr", "eda", "spo2")  # a conductance or a saturation of exactly 0 was not measured


def runs(same: np.ndarray, least: int) -> np.ndarray:
    """(n,) bool of the stretches of at least `least` samples that hold one value. same (n-1,): sample i+1 equals sample i."""
    found = np.zeros(len(same) + 1, bool)
    for start, stop in _stretches(same, least):
        found[start:stop] = True
    return found


def _stretches(same: np.ndarray, least: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each, stop excluded, as `runs`."""
    edges = np.diff(np.concatenate(([0], same.view(np.int8), [0])))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 1  # of pairs: a run has one sample more
    for start, stop in zip(starts, stops, strict=True):
        if stop - start >= least:
            yield int(start), int(stop)


def find(x: np.ndarray, kind: str, fs: float) -> np.ndarray | None:
    """(n,) bool of what was not recorded of x (n,), None where all of it was. A channel that never moves has none."""
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
    """(n,) bool of held stretches, but those of a sensor so coarse that a muscle at rest stays on one of its steps: before or
    after one, as many samples are on the same step or on the next one."""
    stretches = list(_stretches(same, least))
    near = 1.5 * grid(x) if stretches else 0.0  # 0.0: no sensor of steps
    held = np.zeros(len(x), bool)
    for start, stop in stretches:
        sides = (x[max(0, start - least) : start], x[stop : stop + least])
        held[start:stop] = not near or not any(len(side) and (np.abs(side - x[start]) <= near).all() for side in sides)
    return held


def _held_though_fine(x: np.ndarray, same: np.ndarray, least: int) -> np.ndarray:
    """(n,) bool of held stretches of a channel that otherwise never repeats. What rests at an end of the range may be
    saturation, and is none, but for zeros beyond what the channel else takes."""
    held = runs(same, least)
    outside = same[~(held[1:] & held[:-1])]
    if not held.any() or len(outside) < ENOUGH or outside.mean() > REPEATS:
        return np.zeros(len(x), bool)
    end = (x == x.max()) | (x == x.min())
    zero = x == 0
    return held & (~end | (zero & _apart(x, zero)))


def _apart(x: np.ndarray, zero: np.ndarray) -> bool:
    """Whether 0 lies outside of what the other samples (most of them) take."""
    low, high = np.percentile(x[~zero], (1, 99)) if not zero.all() else (0.0, 0.0)
    return bool(low > 0 or high < 0)


def bridge(x: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """x (n,) with a straight line over every gap, the nearest value at the ends: nothing for a filter to ring at."""
    at = np.arange(len(x))
    return np.where(gap, np.interp(at, at[~gap], x[~gap]), x)


def check(gap: np.ndarray, kind: str) -> None:
    """Say that there are gaps; ClipError where more than half of the clip is missing."""
    if gap.mean() > MOST:
        raise ClipError("signal", "gaps", f"More than half of a channel of kind {kind} is zeros or one held value, as a lost "
                                          "connection leaves; choose another window, or signal.source=filtered if the file "
                                          "was gated on purpose.")
    rest = "left silent" if kind == "emg" else "bridged by a straight line"
    note(f"{kind}: stretches that were not recorded (zeros, or one value held) are {rest}.")


def stuck(x: np.ndarray, kind: str) -> bool:
    """Whether x (n,) rests at an end of its range again and again, as a saturated amplifier does."""
    if kind not in HELD or len(x) < 100:
        return False
    for end in (x.max(), x.min()):
        at = x == end
        pairs = at[1:] & at[:-1]
        if pairs.sum() > STUCK * len(x) and len(np.unique(x)) > 50:
            return True
    return False
