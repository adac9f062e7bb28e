"""Per-channel moments that can be merged (Chan et al. 1983), and the scaler, which is fitted on given subjects only.

C channels, L samples, n clips. The scaler of a fold merges the moments of the *training* subjects in ascending order of
their index. It never subtracts the test subject from a total: that would leave rounding errors that depend on the test
subject. `fit_scaler` takes subject indices; `Scaler.apply` takes any data.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

KINDS = ("train_z", "train_minmax", "clip_minmax", "subject_z")
# A standard deviation below this fraction of the mean, or of the training subjects' standard deviation, is rounding noise.
# It is relative, so that volts and microvolts give the same result.
FLOOR = 1e-8
# The square of anything smaller is 0 in float32, in which signals are stored and models compute: such a standard deviation
# (BioVid's gated EMG: 1e-22) is numerical noise in any unit.
LEAST_STD = float(np.sqrt(np.finfo(np.float32).tiny))


@dataclass(frozen=True, eq=False)
class Moments:
    """count (C,) int64, mean (C,), m2 (C,) float64: number, mean and sum of squared deviations of each channel.

    low, high (C,) float64: extrema, for the min-max options; None where they were not kept.
    """

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Moments of x (n,L,C) or (L,C), computed in float64 in two passes. ValueError for an empty or non-finite x."""
        if x.ndim < 2 or x.size == 0:
            raise ValueError(f"moments need a filled (n,L,C) array, not shape {x.shape}")
        flat = np.asarray(x, dtype=np.float64).reshape(-1, x.shape[-1])
        if not np.isfinite(flat).all():
            raise ValueError("moments of values that are not finite")
        mean = flat.mean(axis=0)
        deviation = flat - mean
        # The second term removes what rounding left in the mean (corrected two-pass algorithm).
        m2 = (deviation**2).sum(axis=0) - deviation.sum(axis=0) ** 2 / len(flat)
        count = np.full(flat.shape[1], len(flat), dtype=np.int64)
        return cls(count, mean, np.maximum(m2, 0.0), flat.min(axis=0), flat.max(axis=0))

    @property
    def std(self) -> np.ndarray:
        """(C,) standard deviation, ddof 0."""
        return np.sqrt(self.m2 / self.count)

    def to_json(self) -> dict[str, list]:
        """Plain lists; floats survive a JSON round trip bit for bit."""
        arrays = {"count": self.count, "mean": self.mean, "m2": self.m2, "low": self.low, "high": self.high}
        return {name: array.tolist() for name, array in arrays.items() if array is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Moments":
        """Inverse of `to_json`."""
        names = [name for name in ("mean", "m2", "low", "high") if name in data]
        floats = {name: np.array(data[name], dtype=np.float64) for name in names}
        return cls(np.array(data["count"], dtype=np.int64), **floats)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of both sets together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"cannot merge moments of {a.mean.size} and {b.mean.size} channels")
    count = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    m2 = a.m2 + b.m2 + delta**2 * (a.count * (b.count / count))
    low = None if a.low is None or b.low is None else np.minimum(a.low, b.low)
    high = None if a.high is None or b.high is None else np.maximum(a.high, b.high)
    return Moments(count, mean, m2, low, high)


def merge_all(parts: Iterable[Moments]) -> Moments:
    """Left-to-right merge in the given order; ValueError if there is nothing to merge."""
    total = None
    for part in parts:
        total = part if total is None else merge(total, part)
    if total is None:
        raise ValueError("no moments to merge")
    return total


def leave_one_out(moments_by_subject: Mapping[int, Moments]) -> dict[int, Moments]:
    """For every subject the moments of all other subjects, with O(n) merges.

    merge(prefix up to s-1, suffix from s+1): both are built without subject s, so the result does not depend on a single
    bit of the data of s. It may differ in the last digit from `merge_all` over the same subjects: the order of sums differs.
    """
    subjects = sorted(moments_by_subject)
    if len(subjects) < 2:
        raise ValueError("leaving one subject out needs two subjects")
    before: list[Moments | None] = [None]
    for subject in subjects[:-1]:
        before.append(_join(before[-1], moments_by_subject[subject]))
    after: list[Moments | None] = [None]
    for subject in reversed(subjects[1:]):
        after.append(_join(moments_by_subject[subject], after[-1]))
    after.reverse()
    return {s: _some(_join(before[i], after[i])) for i, s in enumerate(subjects)}


def _join(a: Moments | None, b: Moments | None) -> Moments | None:
    if a is None or b is None:
        return a if b is None else b
    return merge(a, b)


def _some(moments: Moments | None) -> Moments:
    assert moments is not None
    return moments


@dataclass(frozen=True, eq=False)
class Scaler:
    """The normalisation of signals, fitted on the training subjects.

    subjects: the indices it was fitted on, ascending. mean, std (C,) float64; for train_minmax the middle and half the width
    of the range. A channel whose std is below `floor` times |mean| (or below LEAST_STD) becomes 0 everywhere; with subject_z
    also where the subject's own std is below `floor` times that of the training subjects. kind:
    train_z: z-score, clip to +-clip, divide by clip (Eq. 5 with bounds +-clip).
    train_minmax: Eq. 5 with the extrema of the training subjects.
    clip_minmax: every clip by its own range, as the released code does; a range that is negligible against std gives 0.
    subject_z: as train_z, with the moments of the clip's own subject. It uses all clips of a test subject (transductive).
    """

    subjects: tuple[int, ...]
    mean: np.ndarray
    std: np.ndarray
    clip: float = 5.0
    floor: float = FLOOR
    kind: str = "train_z"

    def apply(self, x: np.ndarray, own: Moments | None = None) -> np.ndarray:
        """x (...,C) -> float32 in [-1,1], same shape; computed in float64. own: moments of the subject, needed by subject_z.

        ValueError for another number of channels, or subject_z without `own`.
        """
        if x.shape[-1] != self.mean.size:
            raise ValueError(f"the scaler was fitted on {self.mean.size} channels, the data has {x.shape[-1]}")
        if self.kind == "clip_minmax":
            return clip_minmax(x, self.std, self.floor)
        if self.kind == "subject_z":
            if own is None:
                raise ValueError("subject_z needs the moments of the subject of these clips")
            moved = own.std >= self.floor * self.std  # else numerical noise compared with the training subjects
            return replace(self, kind="train_z", mean=own.mean, std=np.where(moved, own.std, 0.0)).apply(x)
        alive = self.std >= np.maximum(self.floor * np.abs(self.mean), LEAST_STD)
        gain = np.where(alive, 1.0 / np.where(alive, self.std * self.clip, 1.0), 0.0)
        return np.clip((x.astype(np.float64) - self.mean) * gain, -1.0, 1.0).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain values; exact under a JSON round trip."""
        return {"subjects": list(self.subjects), "mean": self.mean.tolist(), "std": self.std.tolist(),
                "clip": self.clip, "floor": self.floor, "kind": self.kind}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scaler":
        """Inverse of `to_json`."""
        mean, std = (np.array(data[name], dtype=np.float64) for name in ("mean", "std"))
        return cls(tuple(int(s) for s in data["subjects"]), mean, std, float(data["clip"]), float(data["floor"]),
                   data["kind"])

    def sha256(self) -> str:
        """Hash of all fields, including the subjects."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def fit_scaler(
    moments_by_subject: Mapping[int, Moments],
    subjects: Iterable[int],
    clip: float = 5.0,
    floor: float = FLOOR,
    kind: str = "train_z",
) -> Scaler:
    """The scaler of these subjects only: their moments are merged in ascending order of index.

    kind: one of KINDS, explained at Scaler; train_minmax ignores `clip`.
    ValueError for no subject, a repeated one, or one without moments.
    """
    chosen = sorted(subjects)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError("a scaler needs at least one subject, and no subject twice")
    absent = [s for s in chosen if s not in moments_by_subject]
    if absent:
        raise ValueError(f"no moments for the subjects {absent}")
    total = merge_all(moments_by_subject[s] for s in chosen)
    if kind in ("train_z", "clip_minmax", "subject_z"):
        return Scaler(tuple(chosen), total.mean, total.std, clip, floor, kind)
    if kind != "train_minmax" or total.low is None or total.high is None:
        raise ValueError(f"cannot fit a scaler of kind {kind!r} on these moments")
    # Min-max to [-1,1] is the same affine map: centre of the range, half its width, clipped at 1.
    return Scaler(tuple(chosen), (total.low + total.high) / 2, (total.high - total.low) / 2, 1.0, floor, kind)


def clip_minmax(x: np.ndarray, train_std: np.ndarray | None = None, floor: float = FLOOR) -> np.ndarray:
    """Eq. 5 per clip and channel, as the released code does: x (n,L,C) or (L,C) -> float32 in [-1,1].

    0 where the clip's range is below `floor` times its largest magnitude, 1e-6 train_std, or LEAST_STD: otherwise numerical
    noise would become +-1.
    """
    x = x.astype(np.float64)
    low, high = x.min(axis=-2, keepdims=True), x.max(axis=-2, keepdims=True)
    least = np.maximum(floor * np.maximum(np.abs(low), np.abs(high)), LEAST_STD)
    if train_std is not None:
        least = np.maximum(least, 1e-6 * train_std)
    alive = high - low >= least
    scaled = 2 * (x - low) / np.where(alive, high - low, 1.0) - 1
    return np.where(alive, np.clip(scaled, -1.0, 1.0), 0.0).astype(np.float32)
