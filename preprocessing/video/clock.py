"""The presentation time of each video frame, in seconds since the first frame that is shown.

Most containers give each frame its presentation time stamp. AVI gives time stamps to packets, in decoding order and at a
fixed rate: there the n-th frame gets the time of the n-th packet. Bare streams (raw H.264, H.265, MPEG video) have no time
stamps: there the frames are counted from the start, at the frame rate that the stream gives.
"""

import math
from typing import Any

import av
import numpy as np

BARE = {"h264", "hevc", "m4v", "mpegvideo", "mjpeg"}
BY_PACKET = {"avi"}
BY_INDEX = {"mov", "matroska"}  # an index of the key frames, with their presentation times
WRAP = 1 << 33  # MPEG's time stamps wrap around to 0 after 26.5 hours
_WRAPS = {"mpegts", "mpeg"}
_SPARSE = "mpeg"  # program streams stamp only some frames, and where several frames share a packet, possibly a neighbouring one
_SPARSE_SLACK = 4.0  # largest error of such a time stamp, in frames
_FASTEST = 1000.0  # frames per second: a larger value is the tick rate of a clock
_COARSE_S = 2e-4  # time stamps rounded more coarsely than this are corrected to multiples of the frame period


def video_streams(container: Any) -> list[Any]:
    """The video streams, without cover images."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


class Clock:
    """One per decoding. `rate`: frames per second where frames are counted, 0.0 where unknown; `given`: whether the user set
    it; then it is used where time stamps do not increase. `end_s`: end of presentation of the packets decoded so far."""

    def __init__(self, kind: str, stream: Any, rate: float, given: bool):
        self.rate, self.given, self.n = rate, given, 0
        self.base = float(stream.time_base or 0)
        self.has_seeked = False
        self.ran_back = False  # a time stamp was earlier than that of the previous frame
        self.end_s = 0.0
        self._stream, self._kind = stream, kind
        self._counts = kind in BARE or not self.base
        self._origin: int | None = None
        self._last_stamp = 0
        self._last_s = -math.inf
        self._dts: list[int] = []
        self._anchor = (0, 0.0)  # index and time of a frame
        grid = named_rate(stream) or float(stream.guessed_rate or 0)
        coarse = _COARSE_S < self.base < 0.25 / (grid or math.inf)
        self._grid = grid if coarse or kind == _SPARSE else 0.0

    def saw(self, packet: av.Packet) -> None:
        """Called with every packet before it is decoded."""
        stamp = packet.dts if self._kind in BY_PACKET else packet.pts
        if self._counts or stamp is None:
            return
        if packet.size:
            self._dts.append(stamp)

    def decoded(self, packet: av.Packet) -> None:
        """Called for a decoded packet: its frames are shown until its end, unless an edit list skips it."""
        if packet.is_discard:
            return
        stamp = packet.dts if self._kind in BY_PACKET else packet.pts
        if not self._counts and stamp is not None and self._origin is not None:
            self.end_s = max(self.end_s, (self._unwrapped(stamp) + (packet.duration or 0) - self._origin) * self.base)

    def time_of(self, frame: av.VideoFrame) -> float:
        """Time of the next frame in seconds; called once per frame, in the order of the decoder."""
        time_s = self._counted() if self._counts else self._stamped(frame)
        if time_s <= self._last_s:
            if self.given and not self.has_seeked:  # set by the user, because these time stamps are useless
                self._counts = True
                time_s = self._counted()
            elif time_s < self._last_s or self.has_seeked:
                self.ran_back = True
        self.n, self._last_s = self.n + 1, time_s
        return time_s

    def stamp_at(self, time_s: float) -> int:
        """The time stamp of the stream at a time in seconds, after the first frame."""
        return int(self._origin or 0) + math.ceil(time_s / self.base)

    def seconds(self, stamp: int) -> float:
        """The time in seconds of a time stamp, after the first frame."""
        time_s = (self._unwrapped(stamp) - (self._origin or 0)) * self.base
        if self._grid:
            on_grid = round(time_s * self._grid) / self._grid
            time_s = on_grid if abs(on_grid - time_s) <= self.base else time_s
        return time_s

    def _counted(self) -> float:
        return self.n / self.rate if self.rate else float(self.n)

    def _stamped(self, frame: av.VideoFrame) -> float:
        stamp = self._by_packet(frame) if self._kind in BY_PACKET else frame.pts
        if stamp is None:
            return self._next()
        self._last_stamp = stamp = self._unwrapped(stamp)
        if self._origin is None:
            before = self.n / self.rate if self.rate else 0.0
            self._origin = stamp - round(before / self.base)
        time_s = self.seconds(stamp)
        if self._kind == _SPARSE and self.n and self._grid and abs(time_s - self._next()) < _SPARSE_SLACK / self._grid:
            return self._next()
        self._anchor = self.n, time_s
        return time_s

    def _next(self) -> float:
        """Counted from the last frame whose time stamp was used."""
        rate = self._grid or self.rate
        return self._anchor[1] + (self.n - self._anchor[0]) / rate if rate else 0.0

    def _unwrapped(self, stamp: int) -> int:
        if self._kind not in _WRAPS or self._origin is None:
            return stamp
        return stamp + WRAP * round((self._last_stamp - stamp) / WRAP)

    def _by_packet(self, frame: av.VideoFrame) -> int | None:
        """A decoder that reorders frames returns them later than their packets, but the same number."""
        if not self._stream.codec_context.has_b_frames and frame.dts is not None:
            return frame.dts
        return self._dts[self.n] if self.n < len(self._dts) else None


def named_rate(stream: Any) -> float:
    """Frames per second given in the bit stream itself; 0.0 where it gives none. In MPEG-4 that is a tick rate."""
    codec = stream.codec_context
    rate = stream.guessed_rate if codec.codec.canonical_name == "mpeg4" else codec.framerate
    return float(rate or 0) if float(rate or 0) <= _FASTEST else 0.0


def varies(times: np.ndarray, usual_s: float, base: float) -> bool:
    """Whether some frames are shown longer or shorter than usual, by more than rounding explains."""
    return bool((np.abs(np.diff(times) - usual_s) > 0.1 * usual_s + 2 * base).any())
