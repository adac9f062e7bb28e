"""Apply the display settings in a video's header: deinterlacing, square pixels, upright orientation.

Each of them gives a note. Videos that need none of them are not changed.
"""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from preprocessing.notes import note

LARGEST_ASPECT = 4.0  # of one pixel; 1:2 to 2.2:1 occur in broadcasting
_OFF_DEGREES = 1.0

Shown = tuple[av.VideoFrame, float]  # a frame and its time


def deinterlaced(shown: Iterable[Shown]) -> Iterator[Shown]:
    """The same frames; interlaced ones (two fields recorded one after the other) are deinterlaced with the filter bwdif, which
    uses the neighbouring frames."""
    graph: av.filter.Graph | None = None
    before: Shown | None = None
    waiting: list[float] = []
    for frame, time_s in shown:
        if graph is None and frame.interlaced_frame:
            note("the video is interlaced: its frames were deinterlaced with the filter bwdif")
            graph = _graph(frame)
            for earlier in [] if before is None else [before]:  # already returned: only needed by the filter
                graph.push(earlier[0])
                waiting.append(-math.inf)
        before = frame, time_s
        if graph is None:
            yield frame, time_s
            continue
        graph.push(frame)
        waiting.append(time_s)
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, waiting)


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    time_base = frame.time_base or Fraction(1, 1000)
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base),
             graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph


def _pulled(graph: av.filter.Graph, waiting: list[float]) -> Iterator[Shown]:
    while waiting:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        time_s = waiting.pop(0)
        if math.isfinite(time_s):
            yield frame, time_s  # type: ignore[misc]


class Squared:
    """Frames with square pixels: where the pixels of a video are not square, its frames are made wider or narrower."""

    def __init__(self, stream: Any):
        self.aspect = _aspect(stream)
        self._reformatter, self._noted = VideoReformatter(), False

    def width(self, width: int) -> int:
        """Width with square pixels of a frame stored with this width."""
        wanted = 2 * round(width * self.aspect / 2)  # even, as the colour planes have half the columns
        return wanted if abs(wanted - width) > 1 else width

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        if self.aspect == 1.0:
            return frame
        width = self.width(frame.width)
        if width == frame.width:
            return frame
        if not self._noted:
            note("the pixels of the video are not square: its frames were resized to square pixels")
            self._noted = True
        wide = self._reformatter.reformat(frame, width=width, interpolation="BICUBIC")
        wide.colorspace, wide.color_range = frame.colorspace, frame.color_range
        return wide


def _aspect(stream: Any) -> float:
    aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    if 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        return aspect
    note("the video's header gives an impossible pixel aspect ratio: it was ignored")
    return 1.0


def upright(frame: av.VideoFrame) -> tuple[int, bool]:
    """(quarter turns to the left, whether the stored frame is mirrored left to right before them)."""
    side = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if side is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(side, np.int32)[:5].astype(float)  # x' = a x + c y, y' = b x + d y, y down
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = -math.degrees(math.atan2(b, a))
    turns = round(degrees / 90) % 4
    if abs(degrees - 90 * round(degrees / 90)) > _OFF_DEGREES:
        note("the video's header gives a rotation that is not a multiple of 90 degrees: it was ignored")
        return 0, False
    if mirrored:
        note("the video's frames are stored mirrored: they were mirrored back as its header says")
    if turns:
        note("the video's frames are stored rotated: they were rotated upright as its header says")
    return turns, mirrored
