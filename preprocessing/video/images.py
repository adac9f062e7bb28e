"""The images of a folder: their order, and a check of their size before they are decoded."""

import io
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}


def read_image(path: Path, index: int, limits: Limits) -> np.ndarray:
    """(H, W, 3) uint8 BGR, rotated as its EXIF says. Raises ClipError: bad_frame if it is not an image (other data, a folder,
    a broken link), too_large by its header."""
    bad = ClipError("video", "bad_frame", f"image {index + 1} of the folder is unreadable: replace it")
    try:
        data = path.read_bytes()
    except OSError:
        raise bad from None
    pixels = _pixels(data)
    if pixels is None:
        raise bad
    if pixels > limits.max_pixels:
        raise too_large(limits, pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        raise bad from None
    if image is None:
        raise bad
    return image


def too_large(limits: Limits, pixels: int | None = None) -> ClipError:
    """pixels: of one frame; None where only the decoder knows."""
    has = "more pixels than" if pixels is None else f"{pixels} pixels, more than"
    fix = f"a frame has {has} data.max_pixels={limits.max_pixels}: export it smaller, or raise data.max_pixels"
    return ClipError("video", "too_large", fix)


def _pixels(data: bytes) -> int | None:
    """Width times height by the header; None if it is not an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings on size: sizes are checked here
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.width * image.height
        except Image.DecompressionBombError as error:  # its message contains the number
            number = re.search(r"\d+", str(error))
            return int(number.group()) if number else 2**62
        except (OSError, ValueError, SyntaxError, TypeError, EOFError):
            return None


def image_files(folder: Path) -> list[Path]:
    """Images of a folder in natural order: img_2 before img_10."""
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        fix = f"the folder of frames cannot be read ({error.strerror}): give this account read access"
        raise ClipError("video", "unreadable", fix) from None
    if not files:
        raise ClipError("video", "empty", "the folder holds no images (png, jpg, bmp, tif, webp): fill it")

    def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"(\d+)", path.name)
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name

    return sorted(files, key=natural)
