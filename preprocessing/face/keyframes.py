"""Keyframes by landmark movement (paper, Fig. 1) and the 16-frame window of a clip.

F frames of the clip, P landmarks, K keyframes.
"""

from dataclasses import dataclass

import numpy as np

from preprocessing.face.landmarks import interocular
from preprocessing.inputs.checks import check_number

NORMS = ("interocular", "rms", "none")
REFS = ("last_keyframe", "previous_frame")


@dataclass(frozen=True)
class KeyframeOptions:
    """The threshold is lowered until there are enough keyframes.

    t_init: first threshold of the distance. step: by how much the threshold is lowered each time. k_min: number of keyframes
    that is enough. t_min: last threshold that is tried.
    norm: unit of the distance d, the L2 norm of the difference of two frames' landmark vectors:
        "interocular" d / distance between the outer eye corners, "rms" d / (sqrt(P) * that distance), "none" pixels.
    ref: the frame a distance is measured from: the last keyframe (paper) or the previous frame with a face
        (the authors' released code).
    k_max: reduce to that many, uniformly spaced; None keeps all. The first and the last keyframe are always kept.
    """

    t_init: float = 1.0
    step: float = 0.05
    k_min: int = 16
    t_min: float = 0.05
    norm: str = "interocular"
    ref: str = "last_keyframe"
    k_max: int | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS or self.ref not in REFS:
            raise ValueError(f"norm is one of {NORMS} and ref one of {REFS}, not {self.norm!r} and {self.ref!r}")
        for name in ("t_init", "step", "t_min"):
            check_number(name, getattr(self, name))
        check_number("k_min", self.k_min, least=1, whole=True)
        if self.k_max is not None:
            check_number("k_max", self.k_max, least=1, whole=True)
        if not (self.t_init >= self.t_min >= 0 and self.step > 0):
            raise ValueError(f"t_init={self.t_init:g}, t_min={self.t_min:g} and step={self.step:g} need t_init >= t_min >= 0 "
                             "and step > 0")
        if self.k_max is not None and self.k_max < self.k_min:
            raise ValueError(f"k_max {self.k_max} is below k_min {self.k_min}")

    @classmethod
    def preset(cls, name: str) -> "KeyframeOptions":
        """ "default": interocular units, t_min 0.05 (below it, detector noise gives keyframes).
        "paper": pixels, t_init 15, step 4 (the only values in the authors' code), down to T = 0."""
        if name == "default":
            return cls()
        if name == "paper":
            return cls(t_init=15.0, step=4.0, t_min=0.0, norm="none")
        raise ValueError(f"unknown keyframe preset {name!r}: default or paper")


@dataclass(frozen=True)
class Keyframes:
    """index (K,) int32 ascending; threshold: the last one tried; padded: filled up because too few frames showed movement.

    distance (F,) float32, in the unit of `norm`: each frame's distance to its reference in the last pass,
    NaN where there is no face and 0 at the first frame that has one.
    """

    index: np.ndarray
    threshold: float
    padded: bool
    distance: np.ndarray


def select_keyframes(landmarks: np.ndarray, options: KeyframeOptions | None = None) -> Keyframes:
    """Select keyframes of landmarks (F, P, 2), NaN where no face was found.

    The first frame with a face is always one. Then, for T = t_init, t_init - step, .. and t_min last: a frame is a
    keyframe where its distance exceeds T. |K| need not fall as T rises, so every T is tried in order.
    Fewer than k_min at the end: uniformly spaced frames with a face are added, and `padded` is set.
    The index is empty if no frame has a face.
    """
    options = options or KeyframeOptions()
    if landmarks.ndim != 3 or landmarks.shape[2] != 2:
        raise ValueError(f"landmarks must be (F, P, 2), not {landmarks.shape}")
    n_frames = len(landmarks)
    valid = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    distance = np.full(n_frames, np.nan, np.float32)
    if len(valid) == 0:
        return Keyframes(np.empty(0, np.int32), options.t_min, True, distance)

    points = landmarks[valid].astype(np.float64).reshape(len(valid), -1) / _unit(landmarks, options.norm)
    picks = _PASSES[options.ref](points)
    threshold = options.t_init
    n_passes = 0
    while True:
        chosen, moved = picks(threshold)
        if len(chosen) >= options.k_min or threshold <= options.t_min:
            break
        n_passes += 1  # multiply, do not subtract repeatedly: 1.0 - 19 * 0.05 must be 0.05
        threshold = max(options.t_init - n_passes * options.step, options.t_min)
        if threshold - options.t_min < 1e-9 * options.t_init:
            threshold = options.t_min

    distance[valid] = moved
    padded = len(chosen) < options.k_min
    if padded:
        chosen = _fill(chosen, len(valid), options.k_min)
    elif options.k_max is not None and len(chosen) > options.k_max:
        chosen = chosen[spread(len(chosen), options.k_max)]
    return Keyframes(valid[chosen].astype(np.int32), float(threshold), padded, distance)


def spread(n: int, k: int) -> np.ndarray:
    """k of the positions 0..n-1, uniformly spaced, both ends included (the middle for k = 1). k <= n."""
    if k == 1:
        return np.array([(n - 1) // 2])
    return (np.arange(k) * (n - 1) + (k - 1) // 2) // (k - 1)  # rounded in integers: the same on every machine


def window(n_keyframes: int, n: int = 16, rate: int = 16, start: int | np.random.Generator | None = None) -> np.ndarray:
    """Positions (n,) int64 of a clip's n frames in its list of keyframes.

    Stride max(1, min(rate, n_keyframes // n)); start: None centres the window (evaluation), a generator draws it
    (training), a number is the start itself. Fewer keyframes than n: all of them, then the last one repeated.
    """
    if n_keyframes < 1:
        raise ValueError("a window needs at least one keyframe")
    stride = max(1, min(rate, n_keyframes // n))
    last_start = max(0, n_keyframes - ((n - 1) * stride + 1))
    if start is None:
        start = last_start // 2
    elif isinstance(start, np.random.Generator):
        start = int(start.integers(0, last_start + 1))
    elif not 0 <= start <= last_start:
        raise ValueError(f"start {start} is outside 0..{last_start}")
    return np.minimum(start + stride * np.arange(n, dtype=np.int64), n_keyframes - 1)


def _unit(landmarks: np.ndarray, norm: str) -> float:
    if norm == "none":
        return 1.0
    eyes = interocular(landmarks)
    if not eyes > 0:
        raise ValueError("the outer eye corners coincide, so these are not face landmarks: check them")
    return eyes if norm == "interocular" else eyes * float(np.sqrt(landmarks.shape[1]))


def _from_last_keyframe(points: np.ndarray):
    """A pass over frames (F, 2P): each is compared with the last keyframe before it."""
    rows: dict[int, np.ndarray] = {}  # reference -> distances of all later frames, shared by the passes

    def one_pass(threshold: float) -> tuple[np.ndarray, np.ndarray]:
        chosen, moved = [0], np.zeros(len(points))
        while True:
            last = chosen[-1]
            if last not in rows:
                rows[last] = np.linalg.norm(points[last + 1 :] - points[last], axis=1)
            beyond = rows[last] > threshold
            step = int(beyond.argmax()) + 1 if beyond.any() else len(points)
            moved[last + 1 : last + 1 + step] = rows[last][:step]
            if last + step >= len(points):
                return np.array(chosen), moved
            chosen.append(last + step)

    return one_pass


def _from_previous_frame(points: np.ndarray):
    """A pass over frames (F, 2P): each is compared with the frame before it, whether that was chosen or not."""
    moved = np.concatenate([[0.0], np.linalg.norm(np.diff(points, axis=0), axis=1)])

    def one_pass(threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([[0], 1 + np.flatnonzero(moved[1:] > threshold)]), moved

    return one_pass


_PASSES = {"last_keyframe": _from_last_keyframe, "previous_frame": _from_previous_frame}


def _fill(chosen: np.ndarray, n: int, k_min: int) -> np.ndarray:
    """Add uniformly spaced frames that were not chosen, until there are min(k_min, n)."""
    rest = np.setdiff1d(np.arange(n), chosen)
    missing = min(k_min - len(chosen), len(rest))
    return np.sort(np.concatenate([chosen, rest[spread(len(rest), missing)]])) if missing else chosen
