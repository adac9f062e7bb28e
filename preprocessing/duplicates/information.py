"""How much information a recording holds, in bits. Ten heart rates in whole beats may be equal in two recordings by chance;
a second of ECG never is.

Two recordings of one kind are equal by chance with a probability of about 2^-bits, where bits sums the collision entropy
(Renyi 1961, order 2: -log2 of the probability that two draws are equal) of the change from each value to the next.
"""

from collections.abc import Sequence

import numpy as np

# 100,000 clips are 5e9 = 2^32 pairs, so that 60 bits leave one chance in 2^28 that any two of them are equal by chance.
LEAST_BITS = 60.0
BEGIN = 512  # values of a channel that are used first; they are mostly enough
FEWEST = 16  # least values of a channel where only every 2nd, 4th, ... value is used


def holds_enough(channels: Sequence[np.ndarray], tolerance: float, rounding: float, least: float = LEAST_BITS) -> bool:
    """Whether channels (n,), which may differ in length, hold at least `least` bits together; a copy of another adds none.

    Values that differ by less than tolerance (in standard deviations) + rounding (relative to the mean) count as equal.
    """
    return any(_total(channels, tolerance, rounding, length, least) >= least for length in (BEGIN, None))


def _total(channels: Sequence[np.ndarray], tolerance: float, rounding: float, length: int | None, least: float) -> float:
    total, seen = 0.0, set()  # seen: changes of the channels so far, to skip a channel that repeats another one, even negated
    for channel in channels:
        values = np.asarray(channel, np.float64)
        if not values.size or not np.isfinite(values).all():
            continue
        apart = 2 * (tolerance * float(values.std()) + rounding * abs(float(values.mean())))
        if not apart:
            continue
        steps = np.rint(np.diff(values[:length]) / apart)
        if (key := np.abs(steps).astype(np.float32).tobytes()) not in seen:
            seen.add(key)
            total += bits(values[:length], apart)
        if total >= least:
            break
    return total


def bits(values: np.ndarray, apart: float) -> float:
    """Bits of the changes between successive values of (n,); changes that differ by less than `apart` count as equal.

    Where values change by less than `apart`, every 2nd, 4th, ... value is tried as well; the largest result counts.
    """
    step = grid(values, apart)
    found, stride = 0.0, 1
    while True:
        changes = np.rint(np.diff(values[::stride]) / step)
        found = max(found, _of_changes(changes))
        stride *= 2
        if len(values) < FEWEST * stride or np.median(np.abs(changes)) >= 1:
            return found


def grid(values: np.ndarray, apart: float = 0.0) -> float:
    """The quantisation step, of which all differences of values (n,) are multiples; `apart` if larger, or if there is none."""
    levels = np.unique(values)
    gaps = np.diff(levels)
    gaps = gaps[gaps > apart / 4]
    if not gaps.size or gaps.min() <= apart:
        return apart
    places = (levels - levels[0]) / gaps.min()
    return float(gaps.min()) if np.abs(places - np.rint(places)).max() < 0.1 else apart


def _of_changes(changes: np.ndarray) -> float:
    """The minimum over three ways to code them: one by one, as constant runs, as runs of constant slope (interpolation)."""
    moves = np.flatnonzero(changes)
    held = np.diff(moves, prepend=-1)
    turns = np.flatnonzero(np.diff(changes)) + 1
    sloping = np.diff(turns, prepend=0)
    return min(_entropy(changes), _entropy(held) + _entropy(changes[moves]), _entropy(sloping) + _entropy(changes[turns]))


def _entropy(symbols: np.ndarray) -> float:
    """m times the collision entropy of (m,) whole numbers, estimated from the share of equal pairs (plus one pair).

    Where no two are equal, the spacing estimate (Vasicek 1976) is used if it is larger: the pairs cannot measure that much.
    """
    m = len(symbols)
    if m < 2:
        return 0.0
    ordered = np.sort(symbols)
    spacings = np.diff(ordered)
    counts = np.diff(np.flatnonzero(np.concatenate([[True], spacings > 0, [True]]))).astype(np.float64)
    equal, pairs = float((counts * (counts - 1)).sum() / 2), m * (m - 1) / 2
    entropy = -np.log2((equal + 1) / (pairs + 1))
    if not equal:
        entropy = max(entropy, float(np.log2(m * spacings).mean()))
    return float(m * entropy)
