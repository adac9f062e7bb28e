"""How much a recording holds, in bits: ten heart rates in whole beats are soon equal by chance, a second of ECG never is.

Two recordings of one kind are equal by chance with a probability of about 2^-bits, where bits sums the collision entropy
(Renyi 1961, order 2: -log2 of the probability that two draws are equal) of what is new in each value.
"""

from collections.abc import Sequence

import numpy as np

# 100,000 clips are 5e9 = 2^32 pairs, so that 60 bits leave one chance in 2^28 that any two of them are equal by chance.
LEAST_BITS = 60.0
BEGIN = 512  # values of a channel that are looked at first, as they mostly suffice
FEWEST = 16  # values a channel keeps where only every 2nd, 4th ... is looked at


def holds_enough(channels: Sequence[np.ndarray], tolerance: float, rounding: float, least: float = LEAST_BITS) -> bool:
    """Whether channels (n,), each of its own length, hold at least `least` bits together; one that repeats another adds none.

    tolerance (of a standard deviation) + rounding (of the mean's size): what the comparison takes as equal.
    """
    return any(_total(channels, tolerance, rounding, length, least) >= least for length in (BEGIN, None))


def _total(channels: Sequence[np.ndarray], tolerance: float, rounding: float, length: int | None, least: float) -> float:
    total, seen = 0.0, set()
    for channel in channels:
        values = np.asarray(channel, np.float64)
        if not values.size or not np.isfinite(values).all():
            continue
        apart = 2 * (tolerance * float(values.std()) + rounding * abs(float(values.mean())))
        if not apart:
            continue
        steps = np.rint(np.diff(values[:length]) / apart)
        if (key := np.abs(steps).astype(np.float32).tobytes()) not in seen:  # left and right of one device, or one upside down
            seen.add(key)
            total += bits(values[:length], apart)
        if total >= least:
            break
    return total


def bits(values: np.ndarray, apart: float) -> float:
    """(n,) to the bits of its changes from value to value; changes that differ by less than `apart` are equal.

    Values that move by less than `apart` are looked at in wider steps as well: the most of them counts.
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
    """The step all values (n,) are whole multiples of from one another, where it is above `apart`; else `apart`."""
    levels = np.unique(values)
    gaps = np.diff(levels)
    gaps = gaps[gaps > apart / 4]
    if not gaps.size or gaps.min() <= apart:
        return apart
    places = (levels - levels[0]) / gaps.min()
    return float(gaps.min()) if np.abs(places - np.rint(places)).max() < 0.1 else apart


def _of_changes(changes: np.ndarray) -> float:
    """The least of three ways to write them: one by one, as values that are held, as slopes that are held (interpolation)."""
    moves = np.flatnonzero(changes)
    held = np.diff(moves, prepend=-1)
    turns = np.flatnonzero(np.diff(changes)) + 1
    sloping = np.diff(turns, prepend=0)
    return min(_entropy(changes), _entropy(held) + _entropy(changes[moves]), _entropy(sloping) + _entropy(changes[turns]))


def _entropy(symbols: np.ndarray) -> float:
    """(m,) whole numbers to m times their collision entropy, from the share of pairs that are equal (one more is added).

    Where no two are equal it is as well the entropy by their spacings (Vasicek 1976), which bits by pairs cannot reach.
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
