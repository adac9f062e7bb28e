"""The 468-point face mesh of one region of one frame (Kartynnik et al. 2019)."""

import math

import cv2
import numpy as np

from preprocessing.face.landmarks import N_MESH
from preprocessing.face.litert import Model
from preprocessing.face.roi import Roi
from preprocessing.video.frames import Bounds, Frame
from preprocessing.video.resample import halvings, to_halved

FACE_MESH = "face_landmark.tflite"
SIDE = 192


class FaceMesh:
    def __init__(self, model: Model):
        self.model = model
        self._input = np.empty((1, SIDE, SIDE, 3), np.float32)
        self._roi: Roi | None = None  # the last one, and its matrix: a region is used for many frames
        self._to_image = np.zeros((2, 3))

    def expect(self, frame: Frame, roi: Roi) -> None:
        """`find` will probably be called for this region of the frame."""
        frame.expect(*_needs(roi))

    def find(self, frame: Frame, roi: Roi) -> tuple[np.ndarray, float]:
        """Points (468, 2) float64 in pixels of the frame, and the probability that the region shows a face."""
        bounds, times = _needs(roi)
        part = frame.pixels(bounds, times)
        if part.values.size == 0:
            return np.full((N_MESH, 2), np.nan), 0.0
        if roi is not self._roi:
            self._roi, self._to_image = roi, roi.to_image(SIDE)
        to_image = self._to_image
        to_part = to_image.copy()
        to_part[:, 2] -= part.left, part.top
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(part.four(), to_halved(to_part, times), (SIDE, SIDE), flags=flags,
                               borderMode=cv2.BORDER_CONSTANT, borderValue=part.black)  # fmt: skip
        np.multiply(part.rgb(patch), np.float32(1 / 255), out=self._input[0])
        outputs = self.model(self._input)
        raw = outputs[3 * N_MESH].reshape(N_MESH, 1, 3)[:, :, :2].astype(np.float64)
        score = 1 / (1 + math.exp(-min(max(float(outputs[1][0]), -100.0), 100.0)))
        return cv2.transform(raw, to_image)[:, 0], score


def _needs(roi: Roi) -> tuple[Bounds, int]:
    """The part of a frame from which the region is sampled, and how often it is halved before.

    It includes the neighbouring pixels that bilinear sampling reads.
    """
    times = halvings(roi.side, SIDE)
    room = 2 << times
    left, top, right, bottom = roi.bounds
    return (left - room, top - room, right + room, bottom + room), times
