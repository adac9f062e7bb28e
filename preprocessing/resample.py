"""Shrinking an image without aliasing, cheaply: average pixels in pairs while there are too many, then interpolate.

Interpolating between four of the many pixels under one output pixel keeps their noise: with sensor noise of sigma 3, a
mesh read from a region three times its size jitters half as much again as one read from averaged pixels.
"""

import cv2
import numpy as np


def halve(image: np.ndarray, side: float, size: int) -> tuple[np.ndarray, int]:
    """The image (H, W, 3) at half its size, as often as `side` pixels of it are still at least twice `size`, and how
    often that was. An odd last row or column is dropped."""
    times = 0
    while side >= 2 * size and min(image.shape[:2]) >= 2:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        side, times = side / 2, times + 1
    return image, times


def to_shrunk(matrix: np.ndarray, times: int) -> np.ndarray:
    """A (2, 3) matrix whose results are pixels of an image, for the image after `times` halvings.

    Pixel i of the halved image lies between pixels 2 i and 2 i + 1, at 2 i + 0.5.
    """
    scale = 0.5**times
    return matrix * scale - np.array([[0, 0, 0.5 - 0.5 * scale]])
