"""The 468-point face mesh of one region of one frame (Kartynnik et al. 2019)."""

import math

import cv2
import numpy as np

from .frames import Frame
from .landmarks import N_MESH
from .resample import halvings, to_halved
from .roi import Roi
from .runtime import Model

FACE_MESH = "face_landmark.tflite"
SIDE = 192


class FaceMesh:
    def __init__(self, model: Model):
        self.model = model
        self._input = np.empty((1, SIDE, SIDE, 3), np.float32)

    def find(self, frame: Frame, roi: Roi) -> tuple[np.ndarray, float]:
        """Points (468, 2) float64 in pixels of the frame, and the probability that the region shows a face."""
        times = halvings(roi.side, SIDE)
        image, x0, y0 = frame.region(_inflate(roi.bounds), times)
        if image.size == 0:
            return np.full((N_MESH, 2), np.nan), 0.0
        to_image = roi.to_image(SIDE)
        to_part = to_halved(to_image - np.array([[0, 0, x0], [0, 0, y0]]), times)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(image, to_part, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_CONSTANT)
        np.multiply(cv2.cvtColor(patch, cv2.COLOR_RGBA2RGB), np.float32(1 / 255), out=self._input[0])
        outputs = self.model(self._input)
        raw = outputs[3 * N_MESH].reshape(N_MESH, 3)[:, :2].astype(np.float64)
        score = 1 / (1 + math.exp(-min(max(float(outputs[1][0]), -100.0), 100.0)))
        return (to_image[:, :2] @ raw.T + to_image[:, 2:]).T, score


def _inflate(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Room for the neighbours that bilinear sampling reads, up to three halvings deep."""
    left, top, right, bottom = bounds
    return left - 16, top - 16, right + 16, bottom + 16
