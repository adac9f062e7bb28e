"""One upright frame; only the parts that are used are converted to RGB.

Pixels have four channels, RGB and an unused one: with four, OpenCV warps two and a half times as fast as with three.
Coordinates are pixels of the upright frame: x right, y down. h, w: a region's size after shrinking.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from preprocessing.video.resample import halve

_SUBSAMPLING = {  # pixel format -> chroma subsampling (x, y)
    "yuv420p": (2, 2), "yuvj420p": (2, 2), "yuv422p": (2, 1), "yuvj422p": (2, 1), "yuv444p": (1, 1), "yuvj444p": (1, 1),
}  # fmt: skip
_TILE = 32  # regions are rounded up to multiples, so that their size, and the set-up of the converter, seldom changes

# luma weights of red and blue by the number of the colour space (ITU-T H.273); others, and unspecified, count as BT.601
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)
_FULL_RANGE = 2

Bounds = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Pixels:
    """A part of a frame in the colour space that is fastest to get, as often few of its pixels are needed as RGB.

    values: (h, w, 4) uint8 RGB and an unused channel, or with a `matrix` (3, 4) to RGB, (h, w, 3) uint8 Y, U, V.
    left, top: position in the frame. black: the value of pixels outside of the frame, in this colour space.
    """

    values: np.ndarray
    left: int
    top: int
    matrix: np.ndarray | None = None
    black: tuple[int, int, int, int] = (0, 0, 0, 0)

    def rgb(self, values: np.ndarray) -> np.ndarray:
        """(h, w, 3) RGB of pixels that were resampled from `values`, with three channels or four."""
        three = values if values.shape[2] == 3 else cv2.cvtColor(values, cv2.COLOR_RGBA2RGB)
        return three if self.matrix is None else cv2.transform(three, self.matrix)

    def four(self) -> np.ndarray:
        """`values` with four channels, for warping."""
        return self.values if self.values.shape[2] == 4 else cv2.cvtColor(self.values, cv2.COLOR_RGB2RGBA)


class Frame:
    """`index` counts from the first frame of the file, or of the window where the reader may seek."""

    def __init__(self, index: int, time_s: float, size: tuple[int, int]):
        self.index, self.time_s = index, time_s
        self.height, self.width = size

    def rgba(self) -> np.ndarray:
        """The whole frame, (H, W, 4) uint8."""
        raise NotImplementedError

    def rgb(self) -> np.ndarray:
        """The whole frame, (H, W, 3) uint8."""
        return cv2.cvtColor(self.rgba(), cv2.COLOR_RGBA2RGB)

    def region(self, bounds: Bounds, halvings: int = 0) -> tuple[np.ndarray, int, int]:
        """`pixels` as RGB, (h, w, 4) uint8, and the x and y in the frame of the first one."""
        part = self.pixels(bounds, halvings)
        if part.matrix is None:
            return part.values, part.left, part.top
        return cv2.cvtColor(part.rgb(part.values), cv2.COLOR_RGB2RGBA), part.left, part.top

    def pixels(self, bounds: Bounds, halvings: int = 0) -> Pixels:
        """At least the part within bounds, downscaled by 2**halvings. Bounds are clipped: the part may be empty."""
        x0, x1 = _clip(bounds[0], bounds[2], self.width)
        y0, y1 = _clip(bounds[1], bounds[3], self.height)
        return Pixels(halve(self.rgba()[y0:y1, x0:x1], halvings), x0, y0)

    def expect(self, bounds: Bounds, halvings: int = 0) -> None:
        """`pixels` will probably be called with these bounds later: a decoder's frame prepares them."""

    def keep(self, bounds: Bounds, halvings: int = 0) -> "Frame":
        """A frame that keeps only a part in memory; its `pixels` works within these bounds and with at least
        these halvings."""
        part = self.pixels(bounds, halvings)
        return _Part(self, replace(part, values=part.values.copy()), halvings)

    @property
    def nbytes(self) -> int:
        """Memory of its pixels in bytes."""
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
    """The part that Frame.keep returns."""

    def __init__(self, frame: Frame, part: Pixels, halvings: int):
        super().__init__(frame.index, frame.time_s, (frame.height, frame.width))
        self._part, self._halvings = part, halvings

    def pixels(self, bounds: Bounds, halvings: int = 0) -> Pixels:
        assert halvings >= self._halvings, "a part that was kept smaller"
        tile = 1 << self._halvings
        x0, x1 = _clip(bounds[0], bounds[2], self.width, tile)
        y0, y1 = _clip(bounds[1], bounds[3], self.height, tile)
        part = _within(self._part, self._halvings, x0, x1, y0, y1)
        assert part is not None, "a part that was not kept"
        return replace(part, values=halve(part.values, halvings - self._halvings))

    @property
    def nbytes(self) -> int:
        values = self._part.values
        return values.nbytes if values.base is None else values.base.nbytes


class DecodedFrame(Frame):
    """A decoder's frame, or a part of one: converting a region costs in proportion to it.

    Regions at full size equal `rgba()`. Others are downscaled in the format of the decoder, where the colour planes have a
    quarter of the pixels, and converted last: equal within the rounding of the converter.
    """

    def __init__(
        self,
        index: int,
        time_s: float,
        frame: av.VideoFrame,
        turns: int,
        reformatter: VideoReformatter,
        part_of: tuple[int, int, int, int] | None = None,
        mirrored: bool = False,
    ):
        """turns: quarter turns to the left that make it upright, after mirroring it left to right if `mirrored`.
        part_of: (left, top) in, and size (H, W) of, the whole frame."""
        size = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
        self._left, self._top, *whole = part_of or (0, 0, *size)
        super().__init__(index, time_s, (whole[0], whole[1]))
        self._frame, self._turns, self._mirrored, self._reformatter = frame, turns, mirrored, reformatter
        self._rgba: np.ndarray | None = None
        self._last: tuple[Pixels, int] | None = None  # and its halvings: the crop is mostly inside the region of the mesh
        steps = _SUBSAMPLING.get(frame.format.name)
        odd = self.width % 2 or self.height % 2  # then the converter rounds differently
        self._steps = None if odd or turns or mirrored else steps

    def rgba(self) -> np.ndarray:
        assert (self._left, self._top) == (0, 0), "a part has no whole frame"
        if self._rgba is None:
            pixels = _convert(self._frame, self._reformatter)
            pixels = pixels[:, ::-1] if self._mirrored else pixels
            self._rgba = np.ascontiguousarray(np.rot90(pixels, self._turns)) if self._turns or self._mirrored else pixels
        return self._rgba

    def pixels(self, bounds: Bounds, halvings: int = 0) -> Pixels:
        if self._steps is None:
            return super().pixels(bounds, halvings)
        planar = halvings > 0 and self._steps == (2, 2)
        x0, x1, y0, y1 = self._tiled(bounds, 1 << halvings if planar else _TILE)
        if x0 >= x1 or y0 >= y1:
            return Pixels(np.empty((0, 0, 4), np.uint8), x0, y0)
        if self._last is not None and self._last[1] == halvings:
            part = _within(self._last[0], halvings, x0, x1, y0, y1)
            if part is not None:
                return part
        if planar:
            part = self._shrink(x0, x1, y0, y1, halvings)
        else:
            part = Pixels(halve(_convert(self._cut(x0, x1, y0, y1), self._reformatter), halvings), x0, y0)
        self._last = part, halvings
        return part

    def expect(self, bounds: Bounds, halvings: int = 0) -> None:
        if self._steps is not None:
            self.pixels(bounds, halvings)  # stays in _last

    def keep(self, bounds: Bounds, halvings: int = 0) -> Frame:
        if halvings and self._steps == (2, 2):  # no copy: the region of the mesh has its own memory
            return _Part(self, self.pixels(bounds, halvings), halvings)
        x0, x1, y0, y1 = self._tiled(bounds)
        if self._steps is None or x0 >= x1 or y0 >= y1:
            return super().keep(bounds, halvings)
        part_of = (x0, y0, self.height, self.width)
        return DecodedFrame(self.index, self.time_s, self._cut(x0, x1, y0, y1), 0, self._reformatter, part_of)

    @property
    def nbytes(self) -> int:
        return sum(plane.buffer_size for plane in self._frame.planes)

    def _tiled(self, bounds: Bounds, tile: int = _TILE) -> tuple[int, int, int, int]:
        """x0, x1, y0, y1."""
        return *_clip(bounds[0], bounds[2], self.width, tile), *_clip(bounds[1], bounds[3], self.height, tile)

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

    def _shrink(self, x0: int, x1: int, y0: int, y1: int, halvings: int) -> Pixels:
        """A part of a 4:2:0 frame, downscaled: U and V have half the size of Y already."""
        y, u, v = self._planes(x0, x1, y0, y1)
        y, u, v = halve(y, halvings), halve(u, halvings - 1), halve(v, halvings - 1)
        full = self._frame.format.name == "yuvj420p" or self._frame.color_range == _FULL_RANGE
        matrix, black = to_rgb(int(self._frame.colorspace), full), (0 if full else 16, 128, 128, 0)
        values = cv2.merge((y, u, v)) if y.size else np.empty((0, 0, 3), np.uint8)
        return Pixels(values, x0, y0, matrix, black)


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
    """(h, w, 4). The direct conversion to four channels leaves the last columns empty if the width is not a multiple of 16."""
    channels = 3 if frame.width % 16 else 4
    plane = reformatter.reformat(frame, format="rgb24" if channels == 3 else "rgba").planes[0]
    pixels = _plane(plane)[:, : channels * plane.width].reshape(plane.height, plane.width, channels)
    return pixels if channels == 4 else cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)


def _within(part: Pixels, halvings: int, x0: int, x1: int, y0: int, y1: int) -> Pixels | None:
    """The pixels x0..x1, y0..y1 of the frame from a part downscaled by 2**halvings; None if it does not hold all of them."""
    left, top = (x0 - part.left) >> halvings, (y0 - part.top) >> halvings
    width, height = (x1 - x0) >> halvings, (y1 - y0) >> halvings
    if left < 0 or top < 0 or top + height > part.values.shape[0] or left + width > part.values.shape[1]:
        return None
    return replace(part, values=part.values[top : top + height, left : left + width], left=x0, top=y0)


def _plane(plane) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _clip(low: float, high: float, size: int, tile: int = 1) -> tuple[int, int]:
    """Integer bounds within 0..size that contain low..high, their ends multiples of `tile` or `size`."""
    start = max(0, math.floor(low / tile) * tile)
    end = min(size, math.ceil(high / tile) * tile)
    return start, max(start, end)
