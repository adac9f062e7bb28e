"""From a video to face crops, landmarks and keyframes.

F frames of the clip, K kept frames, P landmarks. One `FaceEngine` per worker process: it holds the models.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from os.path import expanduser
from pathlib import Path

import cv2
import numpy as np

from preprocessing.errors import ClipError
from preprocessing.face import landmarks as points_of
from preprocessing.face.detector import FULL_RANGE, SHORT_RANGE, BlazeFace
from preprocessing.face.keyframes import KeyframeOptions, select_keyframes
from preprocessing.face.litert import Model, load_model
from preprocessing.face.mesh import FACE_MESH, FaceMesh
from preprocessing.face.precomputed import PrecomputedTracker
from preprocessing.face.roi import Hysteresis, Roi, square_around
from preprocessing.face.tracking import FaceTracker, Tracker
from preprocessing.face.weights import weight_file
from preprocessing.inputs.checks import check_number
from preprocessing.inputs.limits import Limits
from preprocessing.recordings import VideoRef
from preprocessing.video.frames import Bounds, Frame, Pixels
from preprocessing.video.resample import halvings
from preprocessing.video.video import Video

PROVIDERS = ("litert", "opencv", "precomputed", "cropped")
IMAGES = ("png", "jpeg")
_FACE_OVER_92_POINTS = 1.4  # extent of all mesh points over that of eyes, brows and lips; the centres are equal
_AHEAD = 8  # frames: 17 MB at 1388 x 1038
_BLACK_BELOW = 16.0  # mean of 0..255; 16 is the black of limited-range video


@dataclass(frozen=True)
class FaceOptions:
    """provider: where landmarks come from. litert | opencv: detector and mesh on that runtime; precomputed: files
    next to the videos (see precomputed.py); cropped: the frames are already face crops (as with VideoRef.kind).

    size: side of the crops in pixels. image: how they are stored, png (lossless) or jpeg. quality: that of the jpeg, from
    1 to 100.
    weights_dir: folder with the three model files; None = those that the set-up installed.
    score: minimum probability of a detection and of a mesh. margin: the crop's square is wider than the face by this
    fraction. shift: how far the face moves before the regions follow, as a fraction of a region's side. zoom: the same for
    its size. turn: the same for its angle, in radians.
    recount: frames after which the faces are counted again while one is tracked (50 = 2 s at 25 frames per second); 0 = never.
    max_lost: a clip is excluded if a larger fraction of its frames has no face. min_frames: a clip with fewer frames is
    excluded.
    hold_mb: memory in MB for the face region of all frames until the keyframes are known; clips that need more are decoded a
    second time. precomputed_dir: folder of the precomputed landmarks or boxes; None = beside the videos.
    precomputed_root: folder of the videos; below precomputed_dir a file then has the video's path relative to this folder.
    """

    size: int = 224
    image: str = "png"
    quality: int = 95
    provider: str = "litert"
    weights_dir: Path | None = None
    score: float = 0.5
    margin: float = 0.25
    shift: float = 0.05
    zoom: float = 0.05
    turn: float = 0.1
    recount: int = 50
    max_lost: float = 0.5
    min_frames: int = 2
    hold_mb: float = 128.0
    precomputed_dir: Path | None = None
    precomputed_root: Path | None = None

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise ValueError(f"unknown face provider {self.provider!r}: one of {PROVIDERS}")
        if self.image not in IMAGES:
            raise ValueError(f"image is one of {IMAGES}, not {self.image!r}")
        check_number("size", self.size, least=1, whole=True)
        check_number("quality", self.quality, least=1, most=100, whole=True)
        check_number("recount", self.recount, least=0, whole=True)
        check_number("min_frames", self.min_frames, least=1, whole=True)
        for name, most in (("score", 1), ("max_lost", 1), ("zoom", 0.9), ("shift", None), ("turn", None), ("margin", None),
                           ("hold_mb", None)):
            check_number(name, getattr(self, name), least=0, most=most)
        for name in ("weights_dir", "precomputed_dir", "precomputed_root"):  # text in a configuration
            value = getattr(self, name)
            object.__setattr__(self, name, None if value in (None, "") else Path(expanduser(value)))

    @property
    def hysteresis(self) -> Hysteresis:
        return Hysteresis(self.shift, self.zoom, self.turn)


@dataclass(frozen=True, kw_only=True)
class FaceClip:
    """frames (K, size, size, 3) uint8 RGB of the video frames frame_index (K,) int32; landmarks (F, 92, 2) float32 in
    pixels of the upright frame, NaN where no face was found; keyframes int32: which of the F frames are keyframes
    (equal to frame_index where frames="keyframes"); threshold and padded as in keyframes.Keyframes; distance (F,).

    fps: 0.0 where unknown. n_lost: frames without a face; max_faces: in one frame; scores (F,): of the mesh, 0..1.
    """

    frames: np.ndarray
    frame_index: np.ndarray
    landmarks: np.ndarray
    n_frames: int
    fps: float
    padded: bool
    n_lost: int
    max_faces: int
    scores: np.ndarray
    keyframes: np.ndarray
    threshold: float
    distance: np.ndarray
    seconds: float = 0.0  # total duration of the frames, including that of the last one; 0.0 where unknown


class FaceEngine:
    def __init__(self, options: FaceOptions | None = None):
        self.options = options or FaceOptions()
        self._hysteresis = self.options.hysteresis
        if self.options.provider != "precomputed":  # so that missing models are reported now, not at the first clip
            _ = self._mesh, self._detectors

    @cached_property
    def _mesh(self) -> FaceMesh:
        return FaceMesh(self._load(FACE_MESH))

    @cached_property
    def _detectors(self) -> list[BlazeFace]:
        """Full-range first; short-range for faces that fill the frame, where the first finds none."""
        return [BlazeFace(self._load(name), name, self.options.score) for name in (FULL_RANGE, SHORT_RANGE)]

    def _load(self, name: str) -> Model:
        runtime = "opencv" if self.options.provider == "opencv" else "litert"
        return load_model(weight_file(name, self.options.weights_dir), runtime)

    def process(
        self, ref: VideoRef, keyframe_options: KeyframeOptions | None = None, frames: str = "keyframes",
        limits: Limits | None = None,
    ) -> FaceClip:
        """Crops of the keyframes, or with frames="all" of every frame from the first one with a face (where the face is
        lost later, the last region is cropped). Raises ClipError with stage "video", "face" or "keyframes"."""
        if frames not in ("keyframes", "all"):
            raise ValueError(f"frames is 'keyframes' or 'all', not {frames!r}")
        limits = limits or Limits()
        track = self._track(ref, frames == "all", limits)
        n_frames, n_lost = len(track.points), sum(points is None for points in track.points)
        self._refuse(n_frames, n_lost, track.brightest)
        landmarks = track.landmarks()
        try:
            chosen = select_keyframes(landmarks, keyframe_options)
        except ValueError as error:
            raise ClipError("keyframes", "bad_landmarks", f"{error}") from error
        index = chosen.index
        if frames == "all":
            index = np.array(sorted(track.crops), np.int32)
            crops = track.crops
        else:
            crops = self._crops(ref, track, set(index.tolist()), limits)
        return FaceClip(
            frames=np.stack([crops[i] for i in index.tolist()]),
            frame_index=index,
            landmarks=landmarks,
            n_frames=n_frames,
            fps=track.fps,
            padded=chosen.padded,
            n_lost=n_lost,
            max_faces=track.max_faces,
            scores=np.array(track.scores, np.float32),
            keyframes=chosen.index,
            threshold=chosen.threshold,
            distance=chosen.distance,
            seconds=track.seconds,
        )

    def _track(self, ref: VideoRef, every_crop: bool, limits: Limits | None = None) -> "_Track":
        options = self.options
        cropped = options.provider == "cropped" or ref.kind == "cropped"
        tracker = self._tracker(ref, cropped)
        track = _Track()
        room = 0 if every_crop else int(options.hold_mb * 1e6)
        with self._open(ref, limits) as video:
            square: Roi | None = None
            for n, frame in enumerate(_ahead(video, tracker)):
                points, score = tracker.step(frame)
                if points is not None:
                    square = _whole(frame) if cropped else self._follow(track, square, points)
                    points = points[points_of.POINTS] if len(points) == points_of.N_MESH else points
                track.points.append(points)
                track.scores.append(score)
                track.squares.append(square)
                if square is not None and every_crop:
                    track.crops[n] = crop(frame, square, options.size)
                elif points is not None and square is not None and room > 0:
                    cut = _Square.of(square, options.size)
                    track.parts[n] = frame.keep(cut.bounds, cut.halvings)
                    room -= track.parts[n].nbytes
            tracker.finish(video.n_frames)
            track.fps, track.seconds = video.fps, video.seconds
        track.max_faces, track.brightest = tracker.max_faces, tracker.brightest
        return track

    def _open(self, ref: VideoRef, limits: Limits | None) -> Video:
        return Video(ref, self.options.provider != "precomputed", limits)

    def _follow(self, track: "_Track", old: Roi | None, points: np.ndarray) -> Roi:
        whole_face = 1.0 if len(points) == points_of.N_MESH else _FACE_OVER_92_POINTS
        new = square_around(points, (1 + self.options.margin) * whole_face - 1)
        lost = old is None or track.points[-1] is None
        return new if old is None or lost else self._hysteresis.drag(old, new)

    def _tracker(self, ref: VideoRef, cropped: bool) -> Tracker:
        options = self.options
        if options.provider == "precomputed":
            return PrecomputedTracker.beside(ref.path, options.precomputed_dir, options.precomputed_root, lambda: self._mesh,
                                             options.score)
        return FaceTracker(self._detectors, self._mesh, options.score, self._hysteresis, cropped, options.recount)

    def _crops(self, ref: VideoRef, track: "_Track", wanted: set[int], limits: Limits) -> dict[int, np.ndarray]:
        """Crops of the frames `wanted`, from the parts kept in memory, or else from a second decoding."""
        if wanted <= track.parts.keys():
            return {n: self._crop(track.parts[n], track.squares[n]) for n in wanted}
        with self._open(ref, limits) as video:
            return {n: self._crop(frame, track.squares[n]) for n, frame in enumerate(video) if n in wanted}

    def _crop(self, frame: Frame, square: Roi | None) -> np.ndarray:
        assert square is not None, "a keyframe has a face"
        return crop(frame, square, self.options.size)

    def _refuse(self, n_frames: int, n_lost: int, brightest: float) -> None:
        if n_frames < self.options.min_frames:
            fix = f"the clip has {n_frames} frame(s), fewer than {self.options.min_frames}: record or export a longer clip"
            raise ClipError("video", "too_few_frames", fix)
        if n_lost == n_frames and brightest < _BLACK_BELOW:
            raise ClipError("video", "black_video", "every frame is black: copy the recording again, or remove the clip")
        if n_lost > self.options.max_lost * n_frames:
            fix = f"no face in {n_lost} of {n_frames} frames: check the recording, or give precomputed landmarks or boxes"
            raise ClipError("face", "no_face", fix)


def crop(frame: Frame, square: Roi, size: int) -> np.ndarray:
    """The square of the frame as (size, size, 3) uint8 RGB; black where it reaches beyond the frame."""
    cut = _Square.of(square, size)
    part = frame.pixels(cut.bounds, cut.halvings)
    pixels = _cut_or_pad(part, (cut.x - part.left) >> cut.halvings, (cut.y - part.top) >> cut.halvings, cut.shrunk)
    return part.rgb(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True)
class _Square:
    """A square in whole pixels, its corner and side multiples of 2**halvings; `shrunk` is its side after these."""

    x: int
    y: int
    side: int
    halvings: int

    @classmethod
    def of(cls, square: Roi, size: int) -> "_Square":
        side = max(1, round(square.side))
        times = halvings(side, size)
        x, y = round(square.x - (side - 1) / 2), round(square.y - (side - 1) / 2)
        return cls(x >> times << times, y >> times << times, side >> times << times, times)

    @property
    def bounds(self) -> Bounds:
        return self.x, self.y, self.x + self.side, self.y + self.side

    @property
    def shrunk(self) -> int:
        return self.side >> self.halvings


def _cut_or_pad(part: Pixels, x: int, y: int, side: int) -> np.ndarray:
    """The square of the pixels (h, w, channels) whose corner is x, y, black where it lies outside."""
    image = part.values
    height, width, channels = image.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if (x0, y0, x1, y1) == (x, y, x + side, y + side):
        return image[y:y1, x:x1]
    padded = np.empty((side, side, channels), np.uint8)
    padded[:] = part.black[:channels]
    if x0 < x1 and y0 < y1:
        padded[y0 - y : y1 - y, x0 - x : x1 - x] = image[y0:y1, x0:x1]
    return padded


@dataclass
class _Track:
    """What one pass over a video collects, one entry per frame; crops, or parts to crop later, by frame."""

    points: list[np.ndarray | None] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    squares: list[Roi | None] = field(default_factory=list)
    crops: dict[int, np.ndarray] = field(default_factory=dict)
    parts: dict[int, Frame] = field(default_factory=dict)
    fps: float = 0.0
    seconds: float = 0.0
    max_faces: int = 0
    brightest: float = 0.0

    def landmarks(self) -> np.ndarray:
        """(F, 92, 2) float32."""
        nowhere = np.full((points_of.N_POINTS, 2), np.nan)
        return np.stack([nowhere if points is None else points for points in self.points]).astype(np.float32)


def _ahead(frames: Iterable[Frame], tracker: Tracker) -> Iterator[Frame]:
    """The same frames, decoded and downscaled in blocks, ahead of the mesh.

    If decoder and mesh alternate frame by frame, each evicts the other from the CPU caches: 5 % of the time of both.
    """
    block: list[Frame] = []
    for frame in frames:
        tracker.expect(frame)
        block.append(frame)
        if len(block) == _AHEAD:
            yield from block
            block.clear()
    yield from block


def _whole(frame: Frame) -> Roi:
    return Roi((frame.width - 1) / 2, (frame.height - 1) / 2, float(max(frame.width, frame.height)))
