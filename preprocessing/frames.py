"""One upright frame, of which only what somebody looks at is converted to RGB.

Pixels have four channels, RGB and one to ignore: with them OpenCV warps two and a half times as fast as with three.
Coordinates are pixels of the upright frame: x right, y down. h, w: a region's size after shrinking.
"""

import math
from functools import cache

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from .resample import halve

_SUBSAMPLING = {  # pixel format -> chroma subsampling (x, y)
    "yuv420p": (2, 2), "yuvj420p": (2, 2), "yuv422p": (2, 1), "yuvj422p": (2, 1), "yuv444p": (1, 1), "yuvj444p": (1, 1),
}  # fmt: skip
_TILE = 32  # regions are rounded up to it, so that their size, and with it the converter's set-up, seldom changes

# luma weights of red and blue by the number of the colour space (ITU-T H.273); others count as BT.601, like unmarked
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)
_FULL_RANGE = 2


class Frame:
    """`index` counts from the file's first frame, or from a window's where the reader could seek."""

    def __init__(self, index: int, time_s: float, size: tuple[int, int]):
        self.index, self.time_s = index, time_s
        self.height, self.width = size

    def rgba(self) -> np.ndarray:
        """The whole frame, (H, W, 4) uint8."""
        raise NotImplementedError

    def rgb(self) -> np.ndarray:
        """The whole frame, (H, W, 3) uint8."""
        return cv2.cvtColor(self.rgba(), cv2.COLOR_RGBA2RGB)

    def region(
        self, bounds: tuple[float, float, float, float], halvings: int = 0
    ) -> tuple[np.ndarray, int, int]:
        """At least the part within bounds (left, top, right, bottom), (h, w, 4) uint8, shrunk by 2**halvings, and
        the x and y in the frame of its first pixel. Bounds are clipped to the frame: the part may be empty."""
        x0, x1 = _clip(bounds[0], bounds[2], self.width)
        y0, y1 = _clip(bounds[1], bounds[3], self.height)
        return halve(self.rgba()[y0:y1, x0:x1], halvings), x0, y0

    def keep(self, bounds: tuple[float, float, float, float]) -> "Frame":
        """A frame that holds the memory of a part only; its `region` answers within these bounds."""
        part, x0, y0 = self.region(bounds)
        return _Part(self, part.copy(), x0, y0)

    @property
    def nbytes(self) -> int:
        """Memory that its pixels take."""
        raise NotImplementedError


class ImageFrame(Frame):
    """A frame that is in memory, as RGB or RGBA."""

    def __init__(self, index: int, time_s: float, image: np.ndarray):
        super().__init__(index, time_s, image.shape[:2])
        self._image = image if image.shape[2] == 4 else cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)

    def rgba(self) -> np.ndarray:
        return self._image

    @property
    def nbytes(self) -> int:
        return self._image.nbytes


class _Part(Frame):
    """What Frame.keep kept, as pixels."""

    def __init__(self, frame: Frame, image: np.ndarray, left: int, top: int):
        super().__init__(frame.index, frame.time_s, (frame.height, frame.width))
        self._image, self._left, self._top = image, left, top

    def region(
        self, bounds: tuple[float, float, float, float], halvings: int = 0
    ) -> tuple[np.ndarray, int, int]:
        x0, x1 = _clip(bounds[0], bounds[2], self.width)
        y0, y1 = _clip(bounds[1], bounds[3], self.height)
        part = self._image[y0 - self._top : y1 - self._top, x0 - self._left : x1 - self._left]
        return halve(part, halvings), x0, y0

    @property
    def nbytes(self) -> int:
        return self._image.nbytes


class DecodedFrame(Frame):
    """A decoder's frame, or a part of one: converting a region costs in proportion to it.

    Unshrunk regions have the bytes of `rgba()`. Shrunk ones are shrunk in the decoder's format, where the colour has a
    quarter of the pixels anyhow, and converted then: twice as fast, and within the converter's rounding the same.
    """

    def __init__(
        self,
        index: int,
        time_s: float,
        frame: av.VideoFrame,
        turns: int,
        reformatter: VideoReformatter,
        part_of: tuple[int, int, int, int] | None = None,
    ):
        """turns: quarter turns to the left that make it upright. part_of: (left, top) and size (H, W) of the whole."""
        size = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
        self._left, self._top, *whole = part_of or (0, 0, *size)
        super().__init__(index, time_s, (whole[0], whole[1]))
        self._frame, self._turns, self._reformatter = frame, turns, reformatter
        self._rgba: np.ndarray | None = None
        self._last: tuple[np.ndarray, int, int, int] | None = None  # the crop mostly lies within the mesh's region
        steps = _SUBSAMPLING.get(frame.format.name)
        odd = self.width % 2 or self.height % 2  # the converter then takes another path, with other roundings
        self._steps = None if odd or turns else steps

    def rgba(self) -> np.ndarray:
        assert (self._left, self._top) == (0, 0), "a part has no whole frame"
        if self._rgba is None:
            pixels = _convert(self._frame, self._reformatter)
            self._rgba = np.ascontiguousarray(np.rot90(pixels, self._turns)) if self._turns else pixels
        return self._rgba

    def region(
        self, bounds: tuple[float, float, float, float], halvings: int = 0
    ) -> tuple[np.ndarray, int, int]:
        if self._steps is None:
            return super().region(bounds, halvings)
        x0, x1, y0, y1 = self._tiled(bounds)
        if x0 >= x1 or y0 >= y1:
            return np.empty((0, 0, 4), np.uint8), x0, y0
        if self._last is not None and self._last[3] == halvings:
            image, left, top, _ = self._last
            part = image[(y0 - top) >> halvings : (y1 - top) >> halvings, (x0 - left) >> halvings : (x1 - left) >> halvings]
            if x0 >= left and y0 >= top and part.shape[:2] == ((y1 - y0) >> halvings, (x1 - x0) >> halvings):
                return part, x0, y0
        if halvings and self._steps == (2, 2):
            image = self._shrink(x0, x1, y0, y1, halvings)
        else:
            image = halve(_convert(self._cut(x0, x1, y0, y1), self._reformatter), halvings)
        self._last = image, x0, y0, halvings
        return image, x0, y0

    def keep(self, bounds: tuple[float, float, float, float]) -> Frame:
        x0, x1, y0, y1 = self._tiled(bounds)
        if self._steps is None or x0 >= x1 or y0 >= y1:
            return super().keep(bounds)
        part_of = (x0, y0, self.height, self.width)
        return DecodedFrame(self.index, self.time_s, self._cut(x0, x1, y0, y1), 0, self._reformatter, part_of)

    @property
    def nbytes(self) -> int:
        return sum(plane.buffer_size for plane in self._frame.planes)

    def _tiled(self, bounds: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
        """x0, x1, y0, y1."""
        return *_clip(bounds[0], bounds[2], self.width, _TILE), *_clip(bounds[1], bounds[3], self.height, _TILE)

    def _planes(self, x0: int, x1: int, y0: int, y1: int) -> list[np.ndarray]:
        """Views of the part in Y, U and V."""
        assert self._steps is not None
        x0, x1, y0, y1 = x0 - self._left, x1 - self._left, y0 - self._top, y1 - self._top
        views = []
        for number, plane in enumerate(self._frame.planes):
            sx, sy = self._steps if number else (1, 1)
            views.append(_plane(plane)[y0 // sy : y1 // sy, x0 // sx : x1 // sx])
        return views

    def _cut(self, x0: int, x1: int, y0: int, y1: int) -> av.VideoFrame:
        """A part of the frame, still in the decoder's format."""
        part = av.VideoFrame(x1 - x0, y1 - y0, self._frame.format.name)
        part.colorspace, part.color_range = self._frame.colorspace, self._frame.color_range
        for source, target in zip(self._planes(x0, x1, y0, y1), part.planes, strict=True):
            _plane(target)[: source.shape[0], : source.shape[1]] = source
        return part

    def _shrink(self, x0: int, x1: int, y0: int, y1: int, halvings: int) -> np.ndarray:
        """A part of a 4:2:0 frame, shrunk and converted: U and V have half the size of Y to begin with."""
        y, u, v = self._planes(x0, x1, y0, y1)
        y, u, v = halve(y, halvings), halve(u, halvings - 1), halve(v, halvings - 1)
        full = self._frame.format.name == "yuvj420p" or self._frame.color_range == _FULL_RANGE
        rgb = cv2.transform(cv2.merge((y, u, v)), to_rgb(int(self._frame.colorspace), full))
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA)


@cache
def to_rgb(colour_space: int, full_range: bool) -> np.ndarray:
    """(3, 4) matrix from (Y, U, V, 1), 8 bit, to RGB in 0..255 (ITU-T H.273, 8.3)."""
    red, blue = _LUMA.get(colour_space, _BT601)
    green = 1 - red - blue
    y_scale, c_scale, y_low = (1.0, 1.0, 0) if full_range else (255 / 219, 255 / 224, 16)
    u, v = 2 * (1 - blue) * c_scale, 2 * (1 - red) * c_scale
    matrix = np.array([[y_scale, 0, v], [y_scale, -u * blue / green, -v * red / green], [y_scale, u, 0]])
    return np.column_stack([matrix, -matrix @ [y_low, 128, 128]]).astype(np.float32)


def _convert(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """(h, w, 4). The fast way to four channels leaves the last columns of an odd width (by 16) unwritten."""
    channels = 3 if frame.width % 16 else 4
    plane = reformatter.reformat(frame, format="rgb24" if channels == 3 else "rgba").planes[0]
    pixels = _plane(plane)[:, : channels * plane.width].reshape(plane.height, plane.width, channels)
    return pixels if channels == 4 else cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)


def _plane(plane) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _clip(low: float, high: float, size: int, tile: int = 1) -> tuple[int, int]:
    """Integer bounds within 0..size that contain low..high, their ends multiples of `tile` or `size`."""
    start = max(0, math.floor(low / tile) * tile)
    end = min(size, math.ceil(high / tile) * tile)
    return start, max(start, end)
