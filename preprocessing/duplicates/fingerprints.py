"""Fingerprints of decoded recordings: two recordings whose fingerprints agree are duplicates, whatever files they are in.

The fingerprint of signals does not depend on their unit (gain) nor on the digits that a text table or float32 drops; that of
a video does not depend on the container, nor on the one or two grey levels that a lossless coding in another colour space
changes. Signals with so little information that they could be equal by chance get no fingerprint (`is_distinctive`).
L samples, C channels.
"""

import base64
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from preprocessing.duplicates.information import holds_enough

DIRECTIONS = 16
SIGNAL_TOLERANCE = 1e-3  # of a standard deviation; two different recordings differ by about 1, in 16 directions
ROUNDING = 2e-7  # relative to the mean: float32 rounds by up to 6e-8, and a projection sums the rounding of both recordings
VIDEO_TOLERANCE = 2.0  # grey levels of 255, for the mean over a patch; see tests/preprocessing/duplicates/test_fingerprints.py
CROPS, SIDE = 3, 12
HOLDS_LITTLE = ("the signals hold too little information (few, coarse or constant values) to detect duplicates in other "
                "subjects, and are not compared.")


def is_distinctive(channels: Sequence[np.ndarray], exactly: bool = False) -> bool:
    """Whether channels (n,) as recorded hold so much information that they cannot equal another recording by chance.

    exactly: for a bitwise comparison, whose tolerance does not grow with a single outlier.
    """
    return holds_enough(channels, *((1e-9, 1e-15) if exactly else (SIGNAL_TOLERANCE, ROUNDING)))


def signal_fingerprint(signal: np.ndarray) -> list[float] | None:
    """(L, C) to 16 projections of the standardised channels and C ratios of mean to standard deviation; None if constant."""
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


def video_fingerprint(crops: Sequence[bytes]) -> str | None:
    """Three of the encoded face crops, evenly spaced, as 12 x 12 grey patches; None for no crops or uniform ones."""
    if not crops:
        return None
    chosen = [crops[i] for i in np.linspace(0, len(crops) - 1, CROPS).round().astype(int)]
    images = []
    for data in chosen:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if image is None:
            return None
        images.append(image)
    patches = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])
    return base64.b64encode(patches.tobytes()).decode() if patches.std() > 2 else None


def same_signals(prints: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (i < j) of fingerprints of equal shape that belong to duplicates."""
    found = []
    for length in {len(p) for p in prints}:
        place = [i for i, p in enumerate(prints) if len(p) == length]
        values = np.array([prints[i] for i in place])
        ratios = np.abs(values[:, DIRECTIONS:])
        rounded = SIGNAL_TOLERANCE + ROUNDING * ratios.max(1, initial=0.0)
        allowed = np.concatenate([np.repeat(rounded[:, None], DIRECTIONS, axis=1), SIGNAL_TOLERANCE * (1 + ratios)], axis=1)
        found += [(place[i], place[j]) for i, j in _near(values, allowed)]
    return sorted(found)


def same_videos(prints: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (i < j) of fingerprints that belong to duplicates."""
    if not prints:
        return []
    values = np.stack([np.frombuffer(base64.b64decode(p), np.uint8) for p in prints]).astype(np.float32)
    means = values.mean(1, keepdims=True)
    columns = np.concatenate([means, values], axis=1)
    return sorted(_near(columns, np.broadcast_to(np.float32(VIDEO_TOLERANCE), columns.shape)))


def _near(values: np.ndarray, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that differ nowhere by more than either allows. Rows are compared in the order of their first value."""
    order = np.argsort(values[:, 0], kind="stable")
    first, widest, pairs = values[order, 0], float(allowed[:, 0].max(initial=0.0)), []
    for step in range(1, len(order)):
        close = np.flatnonzero(first[step:] - first[:-step] <= widest)
        if not close.size:
            break
        a, b = order[close], order[close + step]
        for column in range(1, min(4, values.shape[1])):  # a few values distinguish most pairs
            kept = np.abs(values[a, column] - values[b, column]) <= np.maximum(allowed[a, column], allowed[b, column])
            a, b = a[kept], b[kept]
        if a.size:
            kept = (np.abs(values[a] - values[b]) <= np.maximum(allowed[a], allowed[b])).all(1)
            pairs += [(min(i, j), max(i, j)) for i, j in zip(a[kept].tolist(), b[kept].tolist(), strict=True)]
    return pairs
