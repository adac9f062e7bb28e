"""BlazeFace: boxes of the faces in one frame (Bazarevsky et al. 2019, the full-range and short-range models).

A anchors; box values are offsets from the centre of the anchor, in pixels of the square input.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.face.litert import Model

FULL_RANGE = "face_detection_full_range.tflite"
SHORT_RANGE = "face_detection_short_range.tflite"

# model -> input side, ((stride, anchors per cell), ...)
_LAYOUT = {FULL_RANGE: (192, ((4, 1),)), SHORT_RANGE: (128, ((8, 2), (16, 6)))}
_OVERLAP = 0.3  # boxes that overlap more (IoU) are one face


@dataclass(frozen=True)
class Detection:
    """box (4,) left, top, right, bottom; keypoints (6, 2): right eye, left eye, nose, mouth, right ear, left ear."""

    box: np.ndarray
    keypoints: np.ndarray
    score: float

    @property
    def area(self) -> float:
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    def scaled(self, by: float) -> "Detection":
        """The same face in an image that is `by` times as large."""
        return Detection(self.box * by, self.keypoints * by, self.score)


class BlazeFace:
    def __init__(self, model: Model, name: str = FULL_RANGE, threshold: float = 0.5):
        self.model, self.threshold = model, threshold
        self.side, layers = _LAYOUT[name]
        self.anchors = anchors(self.side, layers)  # (A, 2)

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces of an RGB image (H, W, 3) uint8, largest first, in pixels of that image."""
        height, width = image.shape[:2]
        scale = self.side / max(height, width)
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        square = np.zeros((1, self.side, self.side, 3), np.float32)  # 0 is mid-grey: the padding adds no strong edge
        top, left = (self.side - small.shape[0]) // 2, (self.side - small.shape[1]) // 2
        square[0, top : top + small.shape[0], left : left + small.shape[1]] = small * np.float32(1 / 127.5) - 1
        outputs = self.model(square)
        n = len(self.anchors)
        scores = 1 / (1 + np.exp(-outputs[n].astype(np.float64).clip(-100, 100)))
        keep = np.flatnonzero(scores >= self.threshold)
        raw = outputs[16 * n].reshape(n, 16)[keep].astype(np.float64)
        to_image = np.array([width / small.shape[1], height / small.shape[0]])
        offset = np.array([left, top])

        def image_points(points: np.ndarray) -> np.ndarray:
            return (points - offset) * to_image

        centre = raw[:, :2] + self.anchors[keep]
        boxes = np.concatenate([image_points(centre - raw[:, 2:4] / 2), image_points(centre + raw[:, 2:4] / 2)], axis=1)
        keypoints = image_points(raw[:, 4:].reshape(-1, 6, 2) + self.anchors[keep][:, None])
        faces = merge_overlapping(boxes, keypoints, scores[keep])
        return sorted(faces, key=lambda face: -face.area)


def anchors(side: int, layers: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Centres (A, 2) in input pixels, row by row, layer after layer."""
    centres = []
    for stride, per_cell in layers:
        line = (np.arange(side // stride) + 0.5) * stride
        y, x = np.meshgrid(line, line, indexing="ij")
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
    return np.concatenate(centres)


def merge_overlapping(boxes: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Non-maximum suppression with averaging: a face is the score-weighted mean of the boxes that overlap its best box."""
    left = np.argsort(-scores, kind="stable")
    faces = []
    while len(left):
        near = _iou(boxes[left[0]], boxes[left]) > _OVERLAP
        near[0] = True
        group = left[near]
        weights = scores[group] / scores[group].sum()
        box = weights @ boxes[group]
        faces.append(Detection(box, np.tensordot(weights, keypoints[group], axes=1), float(scores[left[0]])))
        left = left[~near]
    return faces


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    return shared / np.maximum((box[2:] - box[:2]).clip(0).prod() + areas - shared, 1e-9)
