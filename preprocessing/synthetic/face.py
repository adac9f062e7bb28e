"""The one real face behind all synthetic subjects, and how its parts move.

The image is scikit-image's astronaut (Eileen Collins, NASA, public domain). Coordinates here are its pixels:
x right, y down, the face about 97 wide around (225, 120). Displacements are *backward*: the target position of a pixel
plus the displacement is its source position.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from skimage.data import astronaut

CENTRE = (225.0, 118.0)  # of the face
FACE_WIDTH = 97.0
# the eyes: centre of the axis through the corners, its slope, half width, height of the lid above and below it
EYES = ((202.8, 101.9, 0.10, 11.5, 5.0, 3.7), (248.0, 104.8, 0.0, 12.5, 5.2, 2.9))
BROW_GAP, CHEEK_GAP = 12.0, 15.0  # how far above and below the axis of the eye the skin moves with the lids
MOUTH = (224.5, 140.2, 0.042, 22.5)  # centre of the line through the corners, slope, half width

# facial actions that are sums of Gaussian pushes: (x, y, sigma_x, sigma_y, how far right, how far down), in pixels
ACTIONS: dict[str, tuple[tuple[float, float, float, float, float, float], ...]] = {
    # AU4: both brows go down and together
    "brow_lower": ((210, 92, 10, 7, 1.6, 4.2), (238, 93, 10, 7, -1.6, 4.2),
                   (196, 90, 9, 6, 0.8, 2.6), (254, 92, 9, 6, -0.8, 2.6)),
    # AU6/7: cheeks rise under the eyes
    "orbit": ((201, 116, 14, 8, 0.6, -3.6), (249, 118, 14, 8, -0.6, -3.6),
              (190, 104, 6, 8, 1.2, 0), (262, 107, 6, 8, -1.2, 0)),
    # AU9/10: the wings of the nose and the upper lip rise
    "levator": ((209, 127, 8, 8, -0.6, -3.4), (239, 129, 8, 8, 0.6, -3.4),
                (224, 139, 13, 5, 0, -2.8), (223, 120, 9, 10, 0, -1.2)),
    "brow_raise": ((206, 90, 16, 8, 0, -3.2), (244, 91, 16, 8, 0, -3.2)),
    "smile": ((202, 141, 9, 8, -3.2, -2.8), (247, 143, 9, 8, 3.2, -2.8),
              (194, 128, 10, 9, -0.8, -1.5), (254, 130, 10, 9, 0.8, -1.5)),
    "pucker": ((204, 142, 10, 8, 3.4, 0.4), (245, 144, 10, 8, -3.4, 0.4), (224, 150, 10, 6, 0, -0.8)),
    "jaw": ((223, 162, 22, 14, 0, 3.6), (224, 150, 14, 6, 0, 1.6)),
}  # fmt: skip
Field = tuple[np.ndarray, np.ndarray]


def action(name: str, x: np.ndarray, y: np.ndarray) -> Field:
    """Backward displacement of one facial action at full strength, at the places (x, y)."""
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    for cx, cy, sx, sy, right, down in ACTIONS[name]:
        push = np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
        dx -= right * push
        dy -= down * push
    return dx, dy


def close_eyes(x: np.ndarray, y: np.ndarray, closure: float) -> np.ndarray:
    """Vertical displacement with the lids closed by `closure` in [0, 1]: the lids move over a fixed eyeball."""
    dy = np.zeros_like(y)
    for cx, cy, slope, half, above, below in EYES:
        arch = np.clip(1 - ((x - cx) / half) ** 2, 0, 1)
        axis = cy + slope * (x - cx)
        upper, lower = axis - above * arch, axis + below * arch
        meet = axis + 0.6 * below * arch
        top, bottom = axis - BROW_GAP, axis + CHEEK_GAP
        lid_u, lid_l = upper + closure * (meet - upper), lower + closure * (meet - lower)
        skin_above = top + (y - top) * (upper - top) / (lid_u - top)
        skin_below = bottom - (bottom - y) * (bottom - lower) / (bottom - lid_l)
        source = np.where(y < lid_u, skin_above, np.where(y > lid_l, skin_below, y))
        inside = (np.abs(x - cx) < half) & (y > top) & (y < bottom)
        dy = np.where(inside, source - y, dy)
    return dy


def _close_mouth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Vertical displacement that slides the lower lip up over the teeth."""
    cx, cy, slope, half = MOUTH
    arch = np.clip(1 - ((x - cx) / half) ** 2, 0, 1)
    line = cy + slope * (x - cx)
    upper, lower, chin = line + 3.2 * arch, line + 9.8 * arch, line + 30.0
    inside = (y > upper) & (y < chin) & (arch > 0)
    return np.where(inside, (lower - upper) * (chin - y) / (chin - upper), 0.0)


@cache
def neutral() -> np.ndarray:
    """The image without the smile: mouth closed, its corners lower and closer, folds next to the nose softer. RGB."""
    picture = astronaut()
    soft = cv2.GaussianBlur(picture, (0, 0), 3.5)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    folds = np.zeros_like(x)
    for cx, cy in ((199, 134), (204, 128), (208, 123), (245, 130), (249, 135), (250, 140)):
        folds = np.maximum(folds, 0.75 * np.exp(-0.5 * (((x - cx) ** 2 + (y - cy) ** 2) / 3.5**2)))
    folds = folds[:, :, None]
    picture = (picture * (1 - folds) + soft * folds).astype(np.uint8)
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    for cx, cy, right, down in ((203, 140, 3.0, 4.2), (246, 142, -3.0, 4.2)):
        push = np.exp(-0.5 * (((x - cx) / 10) ** 2 + ((y - cy) / 9) ** 2))
        dx -= right * push
        dy -= down * push
    moved_y = y + dy
    moved_y = moved_y + _close_mouth(x + dx, moved_y)
    out = cv2.remap(picture, x + dx, moved_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    mx, my, slope, half = MOUTH  # a thin shadow between the lips
    arch = np.clip(1 - ((x + dx - mx) / half) ** 2, 0, 1)
    seam = np.exp(-0.5 * ((y + dy - (my + slope * (x + dx - mx) + 3.2 * arch)) / 0.8) ** 2) * (arch > 0)
    return (out * (1 - 0.45 * seam * np.sqrt(arch))[:, :, None]).astype(np.uint8)


def wrinkles(x: np.ndarray, y: np.ndarray, which: str) -> np.ndarray:
    """How much darker the image gets at (x, y), in [0, 1]: "brow" folds, "cheek" folds next to nose and eyes, or
    "eyes", the shadow of closing lids."""
    strokes: tuple[tuple[float, float, float, float, float], ...]
    if which == "eyes":
        shade = np.zeros_like(x)
        for cx, cy, slope, half, above, below in EYES:
            arch = np.clip(1 - ((x - cx) / half) ** 2, 0, 1)
            down = y - cy - slope * (x - cx)
            shade = np.maximum(shade, np.clip(np.minimum(down + above * arch, below * arch - down), 0, 1))
        return shade
    if which == "brow":  # two upright folds between the brows, one across the root of the nose
        strokes = ((220, 89, 219, 98, 1.4), (229, 89, 230, 98, 1.4), (219, 101.5, 230, 102, 2.0))
    else:
        strokes = (
            (209, 122, 197, 139, 2.0), (240, 123, 251, 141, 2.0),  # beside the nose
            (194, 109, 211, 110, 1.6), (239, 111, 258, 111, 1.6),  # under the eyes
            (184, 101, 190, 102, 0.9), (185, 106, 190, 104.5, 0.9),
            (262, 105, 268, 104, 0.9), (262, 107, 268, 109, 0.9),
        )  # fmt: skip
    dark = np.zeros_like(x)
    for x0, y0, x1, y1, width in strokes:
        length = np.hypot(x1 - x0, y1 - y0)
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length
        across = ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        fade = np.clip(np.minimum(along, length - along) / 3 + 0.7, 0, 1)
        dark = np.maximum(dark, fade * np.exp(-0.5 * (across / width) ** 2))
    return dark


def shape_bumps(rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], Field]:
    """The individual face of a subject: backward displacement that widens or narrows jaw, cheeks, nose, eyes, mouth, brow."""
    jaw, cheeks, nose, eyes, mouth, brow, chin, forehead = rng.uniform(-1, 1, 8)
    pushes = [
        (196, 158, 16, 16, -4.5 * jaw, 0), (252, 160, 16, 16, 4.5 * jaw, 0),
        (185, 125, 14, 18, -3.5 * cheeks, 0), (265, 127, 14, 18, 3.5 * cheeks, 0),
        (212, 126, 7, 9, -2.2 * nose, 0), (236, 127, 7, 9, 2.2 * nose, 0),
        (223, 132, 9, 8, 0, 2.5 * rng.uniform(-1, 1)),
        (203, 94, 12, 6, 0, -1.6 * eyes), (248, 96, 12, 6, 0, -1.6 * eyes),
        (190, 102, 7, 7, -2.0 * eyes, 0), (260, 105, 7, 7, 2.0 * eyes, 0),
        (204, 142, 8, 8, -2.6 * mouth, 0), (245, 144, 8, 8, 2.6 * mouth, 0),
        (204, 88, 16, 6, 0, -1.6 * brow), (246, 89, 16, 6, 0, -1.6 * brow),
        (222, 172, 22, 12, 0, 4.5 * chin), (226, 60, 50, 22, 0, -6 * forehead),
    ]  # fmt: skip

    def field(x: np.ndarray, y: np.ndarray) -> Field:
        dx, dy = np.zeros_like(x), np.zeros_like(y)
        for cx, cy, sx, sy, right, down in pushes:
            push = np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
            dx -= right * push
            dy -= down * push
        return dx, dy

    return field
