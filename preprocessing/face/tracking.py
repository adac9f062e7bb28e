"""Tracking one face through a video.

`step(frame)` of a tracker returns the mesh points (P, 2) in pixels of the frame, or None where no face is found.
"""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from preprocessing.face.detector import BlazeFace, Detection
from preprocessing.face.mesh import FaceMesh
from preprocessing.face.roi import Hysteresis, Roi, roi_of_detection, roi_of_mesh
from preprocessing.video.frames import Frame
from preprocessing.video.resample import halvings

_SETTLE_STEPS = 5  # runs of the mesh on the frame of a detection, until the region agrees with its own landmarks
_CANDIDATES = 2  # the detector has false positives: the mesh decides, the largest box first


class Tracker(Protocol):
    max_faces: int  # the most seen in one frame
    brightest: float  # mean of the brightest frame given to the detector, 0..255

    def expect(self, frame: Frame) -> None:
        """`step` will be called for this frame later: prepare what is known already."""
        ...

    def step(self, frame: Frame) -> tuple[np.ndarray | None, float]:
        """(points or None, score in 0..1)."""
        ...

    def finish(self, n_frames: int | None) -> None:
        """Called after the last frame. n_frames: of the whole file, None where it was not read to its end."""
        ...


class FaceTracker:
    """Detect once, then follow the landmarks; detect again in every frame where the mesh's score falls below `gate`.

    `detectors` are tried in order until one finds a face. The largest face is used; `max_faces` is the largest number found
    in one detection. `whole_frame`: where nothing is detected, try the whole frame, for videos that are already cropped
    to the face. Every `recount` frames the faces are counted again; 0: never. The tracked face stays the same, so that no
    keyframe results from a change to another face.
    """

    def __init__(
        self,
        detectors: Sequence[BlazeFace],
        mesh: FaceMesh,
        gate: float = 0.5,
        hysteresis: Hysteresis | None = None,
        whole_frame: bool = False,
        recount: int = 0,
    ):
        self.recount, self._since_count = recount, 0
        self.detectors, self.mesh, self.gate, self.whole_frame = detectors, mesh, gate, whole_frame
        self.hysteresis = hysteresis or Hysteresis()
        self.roi: Roi | None = None
        self.max_faces = 0
        self.brightest = 0.0

    def expect(self, frame: Frame) -> None:
        if self.roi is not None:  # the region seldom changes
            self.mesh.expect(frame, self.roi)

    def finish(self, n_frames: int | None) -> None:
        pass

    def step(self, frame: Frame) -> tuple[np.ndarray | None, float]:
        score = 0.0
        if self.roi is not None:
            points, score = self.mesh.find(frame, self.roi)
            if score >= self.gate:
                self.roi = self.hysteresis.keep_or_follow(self.roi, roi_of_mesh(points))
                self._since_count += 1
                if self.recount and self._since_count >= self.recount:
                    self._detect(frame)
                return points, score
            self.roi = None
        return self._acquire(frame, score)

    def _acquire(self, frame: Frame, score: float) -> tuple[np.ndarray | None, float]:
        faces = self._detect(frame)
        regions = [roi_of_detection(face) for face in faces[:_CANDIDATES] if _is_sane(face)]
        if self.whole_frame:
            regions.append(Roi((frame.width - 1) / 2, (frame.height - 1) / 2, 1.25 * max(frame.width, frame.height)))
        for roi in regions:
            points, score = self._settle(frame, roi)
            if points is not None:
                self.max_faces = max(self.max_faces, 1)
                return points, score
        return None, score

    def _detect(self, frame: Frame) -> list[Detection]:
        """The faces of the first detector that finds any, largest first; updates max_faces."""
        image, scale = _small(frame, max(detector.side for detector in self.detectors))
        self.brightest = max(self.brightest, float(image.mean()))
        faces = next((found for detector in self.detectors if (found := detector.detect(image))), [])
        self.max_faces, self._since_count = max(self.max_faces, len(faces)), 0
        return [face.scaled(scale) for face in faces]

    def _settle(self, frame: Frame, roi: Roi) -> tuple[np.ndarray | None, float]:
        for _ in range(_SETTLE_STEPS):
            points, score = self.mesh.find(frame, roi)
            if score < self.gate:
                return None, score
            new = roi_of_mesh(points)
            if self.hysteresis.settled(roi, new):
                break
            roi = new
        self.roi = roi
        return points, score


def _small(frame: Frame, side: int) -> tuple[np.ndarray, int]:
    """The whole frame as RGB, (h, w, 3), halved while it has `side` pixels, and the scale factor."""
    times = min(halvings(max(frame.width, frame.height), side), halvings(min(frame.width, frame.height), 1))
    image, _, _ = frame.region((0, 0, frame.width, frame.height), times)
    return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB), 1 << times


def _is_sane(face: Detection) -> bool:
    return bool(np.isfinite(face.box).all() and np.isfinite(face.keypoints).all() and face.area > 0)
