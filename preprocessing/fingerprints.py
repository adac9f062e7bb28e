"""Prints of what was decoded: two recordings whose prints meet are one recording, whatever files they came from.

A signal's print does not know its unit (gain) nor the last bits that a text table or float32 leaves out; a film's not its
container, nor a step or two of brightness that a lossless coding in other colours costs. What holds so little that another
recording could be equal by chance is given no print (`tells`). L samples, C channels.
"""

import base64
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from preprocessing.information import holds_enough

DIRECTIONS = 16
SIGNAL_TOLERANCE = 1e-3  # of a standard deviation; what is not the same recording is about 1 apart, in 16 directions
ROUNDING = 2e-7  # of the mean's size: float32 rounds by up to 6e-8, and a projection sums what was rounded on both sides
FILM_TOLERANCE = 2.0  # grey levels of 255, of the mean over a patch; see tests/preprocessing/test_prints.py
CROPS, SIDE = 3, 12
HOLDS_LITTLE = ("the signals hold too little (few, coarse or constant values) to tell whether they are the same recording as "
                "somebody else's, and are not compared.")


def tells(channels: Sequence[np.ndarray], exactly: bool = False) -> bool:
    """Whether channels (n,) as recorded hold so much that equality with another recording's cannot be chance.

    exactly: equality to the last bit, which one outlying value does not blur.
    """
    return holds_enough(channels, *((1e-9, 1e-15) if exactly else (SIGNAL_TOLERANCE, ROUNDING)))


def signal_print(signal: np.ndarray) -> list[float] | None:
    """(L, C) to 16 projections of the standardised channels and C ratios of mean to deviation; None where nothing varies."""
    values = np.asarray(signal, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        return None
    mean, deviation = values.mean(0), values.std(0)
    varies = deviation > 1e-6 * np.abs(values).max(0)
    if not varies.any():
        return None
    safe = np.where(varies, deviation, 1.0)
    flat = np.where(varies, (values - mean) / safe, 0.0).ravel()
    ratios = np.where(varies, mean / safe, 0.0)
    return [round(float(x), 6) for x in (*_directions(flat.size) @ flat, *ratios)]


@lru_cache(maxsize=8)
def _directions(size: int) -> np.ndarray:
    return np.random.default_rng(size).standard_normal((DIRECTIONS, size)) / np.sqrt(size)


def film_print(crops: Sequence[bytes]) -> str | None:
    """Encoded face crops to three of them, evenly over the clip, as 12 x 12 grey patches; None for no or blank pictures."""
    if not crops:
        return None
    chosen = [crops[i] for i in np.linspace(0, len(crops) - 1, CROPS).round().astype(int)]
    pictures = []
    for data in chosen:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            return None
        pictures.append(picture)
    patches = np.stack([cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures])
    return base64.b64encode(patches.tobytes()).decode() if patches.std() > 2 else None


def same_signals(prints: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (i < j) of prints of equal shape that are one recording's."""
    found = []
    for length in {len(p) for p in prints}:
        place = [i for i, p in enumerate(prints) if len(p) == length]
        values = np.array([prints[i] for i in place])
        ratios = np.abs(values[:, DIRECTIONS:])
        rounded = SIGNAL_TOLERANCE + ROUNDING * ratios.max(1, initial=0.0)
        allowed = np.concatenate([np.repeat(rounded[:, None], DIRECTIONS, axis=1), SIGNAL_TOLERANCE * (1 + ratios)], axis=1)
        found += [(place[i], place[j]) for i, j in _near(values, allowed)]
    return sorted(found)


def same_films(prints: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (i < j) of prints that are one film's."""
    if not prints:
        return []
    values = np.stack([np.frombuffer(base64.b64decode(p), np.uint8) for p in prints]).astype(np.float32)
    means = values.mean(1, keepdims=True)
    columns = np.concatenate([means, values], axis=1)
    return sorted(_near(columns, np.broadcast_to(np.float32(FILM_TOLERANCE), columns.shape)))


def _near(values: np.ndarray, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that are nowhere further apart than either allows. Rows meet in the order of their first value."""
    order = np.argsort(values[:, 0], kind="stable")
    first, widest, pairs = values[order, 0], float(allowed[:, 0].max(initial=0.0)), []
    for step in range(1, len(order)):
        close = np.flatnonzero(first[step:] - first[:-step] <= widest)
        if not close.size:
            break
        a, b = order[close], order[close + step]
        for column in range(1, min(4, values.shape[1])):  # most are told apart by a few values
            kept = np.abs(values[a, column] - values[b, column]) <= np.maximum(allowed[a, column], allowed[b, column])
            a, b = a[kept], b[kept]
        if a.size:
            kept = (np.abs(values[a] - values[b]) <= np.maximum(allowed[a], allowed[b])).all(1)
            pairs += [(min(i, j), max(i, j)) for i, j in zip(a[kept].tolist(), b[kept].tolist(), strict=True)]
    return pairs
