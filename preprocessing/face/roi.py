"""Regions of interest: the rotated square that is the input of the mesh, and the upright square that is cropped.

Both follow the face with hysteresis. If the landmarks of each frame directly gave the region of the next one, false motion
would appear: on a tilted still image without noise the landmarks then oscillate by 0.15 interocular distances per frame.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from preprocessing.face.detector import Detection
from preprocessing.face.landmarks import EYE_CORNERS

ROI_SCALE = 1.5  # side of the mesh's square divided by the longer side of the face's box


@dataclass(frozen=True)
class Roi:
    """A square: centre and side in pixels, clockwise angle of the eye line in radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the upright box around it."""
        half = self.side / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))
        return self.x - half, self.y - half, self.x + half, self.y + half

    def to_image(self, size: int) -> np.ndarray:
        """(2, 3) matrix from pixels of this square, resampled to size x size, to pixels of the image."""
        c, s = np.cos(self.angle) * self.side / size, np.sin(self.angle) * self.side / size
        half = (size - 1) / 2
        return np.array([[c, -s, self.x - (c - s) * half], [s, c, self.y - (s + c) * half]])


@dataclass(frozen=True)
class Hysteresis:
    """How far a face may move before its region follows: shift and zoom as fractions of the side, turn in radians."""

    shift: float = 0.05
    zoom: float = 0.05
    turn: float = 0.1

    def settled(self, old: Roi, new: Roi) -> bool:
        turned = abs((new.angle - old.angle + math.pi) % (2 * math.pi) - math.pi)
        return (
            math.hypot(new.x - old.x, new.y - old.y) <= self.shift * old.side
            and abs(new.side / old.side - 1) <= self.zoom
            and turned <= self.turn
        )

    def keep_or_follow(self, old: Roi, new: Roi) -> Roi:
        """For the mesh: the old region, or the new one if position, size or angle changed too much."""
        return old if self.settled(old, new) else new

    def drag(self, old: Roi, new: Roi) -> Roi:
        """For the crop: the old square, moved only as far as needed to stay within the bounds.

        Within the bounds it stands still; beyond them it moves smoothly: a jump of 5 % would look like motion to a video model.
        """
        side = min(max(old.side, new.side / (1 + self.zoom)), new.side / (1 - self.zoom))
        slack = self.shift * side
        x = min(max(old.x, new.x - slack), new.x + slack)
        y = min(max(old.y, new.y - slack), new.y + slack)
        return replace(old, x=x, y=y, side=side)


def roi_of_detection(face: Detection) -> Roi:
    right_eye, left_eye = face.keypoints[:2]
    return roi_of_box(face.box, float(np.arctan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])))


def roi_of_box(box: np.ndarray, angle: float = 0.0) -> Roi:
    """From left, top, right, bottom."""
    x, y = (box[:2] + box[2:]) / 2
    return Roi(float(x), float(y), ROI_SCALE * float(max(box[2] - box[0], box[3] - box[1])), angle)


def roi_of_mesh(points: np.ndarray) -> Roi:
    """From mesh points (468, 2): rotated so that the eye line is horizontal, then the square around all points."""
    right, left = points[EYE_CORNERS[0]], points[EYE_CORNERS[1]]
    angle = math.atan2(left[1] - right[1], left[0] - right[0])
    c, s = math.cos(angle), math.sin(angle)
    x, y = np.ascontiguousarray(points.T)
    level = c * x + s * y, c * y - s * x
    (u0, v0), (u1, v1) = (map(float, (line.min() for line in level)), map(float, (line.max() for line in level)))
    u, v = (u0 + u1) / 2, (v0 + v1) / 2
    return Roi(c * u - s * v, s * u + c * v, ROI_SCALE * max(u1 - u0, v1 - v0), angle)


def square_around(points: np.ndarray, margin: float) -> Roi:
    """The upright square around points (P, 2), wider than their longer extent by the fraction `margin`."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    return Roi(float(x), float(y), (1 + margin) * float((high - low).max()))
