"""Decoding: the upright frames of a VideoRef, one after the other, with their times.

A video file is decoded once, on one thread, and always closed. Times are seconds from the first frame that is shown
and come from the time stamps (so a variable frame rate is correct); see clock.py for files without time stamps. For a window,
the reader seeks only where the decoded frames are provably the same (access.py); else it decodes from the start of the file.
Coordinates everywhere are pixels of the upright frame with square pixels: x right, y down.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits
from preprocessing.inputs.paths import is_file, is_folder
from preprocessing.notes import note
from preprocessing.recordings import VideoRef
from preprocessing.video.access import AccessPoints
from preprocessing.video.clock import BARE, BY_INDEX, Clock, named_rate, varies, video_streams
from preprocessing.video.containers import decoder_options, open_container
from preprocessing.video.frames import DecodedFrame, Frame, ImageFrame
from preprocessing.video.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from preprocessing.video.images import image_files, read_image, too_large
from preprocessing.video.orientation import Squared, deinterlaced, upright
from preprocessing.video.wholeness import CHECKED, is_whole

TRUNCATED_BELOW = 0.9  # of the duration given in the header
SHORTFALL = 0.05  # largest missing share at the end of a window, as in signals.py; more could reveal a class by the length
CORRUPT_ABOVE = 0.1  # share of packets or frames that do not decode cleanly
SEEK_FROM_S = 2.0  # for earlier starts, decoding from the start is as fast
TIME_SLACK_S = 1e-4

_PROMISING = {"mov", "matroska", "avi", "flv", "asf", "mxf"}  # containers whose header gives the duration of the video
_MAGIC = ((4, b"ftyp"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"))  # mp4/mov, avi, mkv/webm


Piece = tuple[av.VideoFrame | None, int]  # a frame, and 1 if it is damaged; None for a packet that cannot be decoded


class Video:
    """The frames of `ref` within its window; a context manager, iterated once.

    may_seek: `index` of the frames counts from the first frame of the window, else from that of the file. No frame beyond
    limits.max_pixels is decoded.

    `fps` is 0.0 where it is unknown (a folder of images without VideoRef.fps). After the iteration it is the measured
    mean rate if that differs from the rate in the header. Raises ClipError(stage="video").
    """

    def __init__(self, ref: VideoRef, may_seek: bool = True, limits: Limits | None = None):
        self.ref, self.may_seek, self.limits = ref, may_seek, limits or Limits()
        self.fps = ref.fps if ref.fps and ref.fps > 0 and math.isfinite(ref.fps) else 0.0
        self._container: av.container.InputContainer | None = None
        self._images: list[Path] = []
        self._went_beyond = False  # there is a frame after the window
        self._shown_until = 0.0  # end of the last frame, from the file
        self.seconds = 0.0  # total duration of the frames, after all were read; 0.0 where unknown
        self.n_frames: int | None = None  # of the whole file, after all its frames were read
        if is_folder(ref.path):
            self._images = image_files(ref.path)
            self.n_frames = len(self._images)
        else:
            self._open_file()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *error: object) -> None:
        if self._container is not None:
            self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        first_s = last_s = 0.0
        for frame in self._decode() if self._container is not None else self._read_images():
            if size is not None and (frame.height, frame.width) != size:
                raise _mixed_sizes()
            if size is None:
                first_s = frame.time_s
            size = (frame.height, frame.width)
            last_s = frame.time_s
            yield frame
        if size is None:
            if self.ref.start_s is not None or self.ref.end_s is not None:
                raise ClipError(
                    "video", "window_outside", "no frame lies between start_s and end_s: correct the window"
                )
            raise ClipError("video", "no_frames", "no frame could be decoded: copy the recording again from its source")
        self._refuse_short_window(last_s)
        self.seconds = self._lasts(first_s, last_s)

    def _lasts(self, first_s: float, last_s: float) -> float:
        """Seconds from the start of the window to its end, or to the end of its last frame."""
        if not self.fps:
            return 0.0
        end = math.inf if self.ref.end_s is None else self.ref.end_s
        shown = end if self._went_beyond else min(max(last_s + 1 / self.fps, self._shown_until), end)
        return shown - (first_s if self.ref.start_s is None else self.ref.start_s)

    def _refuse_short_window(self, last_s: float) -> None:
        if self.ref.end_s is None or not self.fps or self._went_beyond:
            return
        wanted = self.ref.end_s - (self.ref.start_s or 0.0)
        lacking = self.ref.end_s - max(last_s + 1 / self.fps, self._shown_until)
        if lacking > SHORTFALL * wanted + TIME_SLACK_S:
            fix = (f"the video ends {lacking:.1f} s before the end of its window of {wanted:.1f} s: correct the window, or "
                   "remove the clip")
            raise ClipError("video", "short_window", fix)

    # ------------------------------------------------------------------ files

    def _open_file(self) -> None:
        path = self.ref.path
        if not is_file(path):
            raise ClipError("video", "missing", "the video file does not exist: restore it or remove the row")
        if path.stat().st_size == 0:
            raise ClipError("video", "empty", "the video file is empty: copy it again from its source")
        try:
            self._container = open_container(path, self.limits)
        except (av.FFmpegError, OSError, ValueError):
            try:
                with path.open("rb") as file:
                    head = file.read(16)
            except OSError as error:
                fix = f"the video file cannot be read ({error.strerror}): give this account read access"
                raise ClipError("video", "unreadable", fix) from None
            if any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
                fix = "the video file is truncated or damaged: copy it again from its source"
                raise ClipError("video", "truncated", fix) from None
            fix = "the content of the file is not a video, despite its name: replace it"
            raise ClipError("video", "not_a_video", fix) from None
        streams = video_streams(self._container)
        if not streams:
            self._container.close()
            raise ClipError("video", "no_video_stream", "the file holds audio but no video: replace it")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise ClipError("video", "unknown_codec", "no decoder for the video's codec: export it again as H.264")
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.options = decoder_options(self.limits)
        self._refuse_large(codec.width, codec.height)
        self._kind = self._container.format.name.split(",")[0]
        if not self.fps:
            self.fps = named_rate(self._stream) if self._kind in BARE else float(self._stream.average_rate or 0)

    def _refuse_large(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            if self._container is not None:
                self._container.close()
            raise too_large(self.limits, width * height)

    def _decode(self) -> Iterator[Frame]:
        start_s = self.ref.start_s or 0.0
        end_s = math.inf if self.ref.end_s is None else self.ref.end_s
        if self._kind in BARE and not self.fps:
            if self.ref.start_s is not None or self.ref.end_s is not None:
                fix = "a window in seconds of a bare stream needs its frame rate: give video_fps in the manifest"
                raise ClipError("video", "no_frame_rate", fix)
            note("the video is a bare stream without a frame rate: its frames have numbers, but no times")
        clock = self._clock()
        pieces = self._sought(clock, start_s) if self.may_seek and start_s > SEEK_FROM_S else None
        has_seeked = pieces is not None
        if pieces is None:
            clock = self._clock()
            pieces = self._pieces(clock)
        reformatter, squared = VideoReformatter(), Squared(self._stream)
        times: list[float] = []
        turns, mirrored, index, self._n_bad = 0, False, 0, 0
        for frame, time_s in deinterlaced(self._timed(pieces, clock)):
            if not times:
                turns, mirrored = upright(frame)
                self._refuse_large(squared.width(frame.width), frame.height)
            times.append(time_s)
            if time_s >= end_s - TIME_SLACK_S:
                self._went_beyond = True
                break
            if time_s >= start_s - TIME_SLACK_S:
                number = index if self.may_seek else len(times) - 1
                index += 1
                yield DecodedFrame(number, time_s, squared(frame), turns, reformatter, mirrored=mirrored)
        if not (has_seeked or self._went_beyond):
            self.n_frames = len(times)
        self._judge(np.array(times), start_s, end_s, clock)

    def _clock(self) -> Clock:
        return Clock(self._kind, self._stream, self.fps, bool(self.ref.fps and self.ref.fps > 0))

    def _timed(self, pieces: Iterable[Piece], clock: Clock) -> Iterator[tuple[av.VideoFrame, float]]:
        size: tuple[int, int] | None = None
        for frame, bad in pieces:
            self._n_bad += bad
            if frame is None:
                continue
            if size != (frame.width, frame.height):
                self._refuse_large(frame.width, frame.height)
                if size is not None:
                    raise _mixed_sizes()
                size = (frame.width, frame.height)
            yield frame, clock.time_of(frame)

    def _sought(self, clock: Clock, start_s: float) -> Iterator[Piece] | None:
        """The pieces from a point before start_s on, if decoding may provably start there; else None, and the file is open
        at its start."""
        pieces = None
        if self._kind in BY_INDEX and self._stream.time_base:
            try:
                pieces = self._jumped(clock, start_s)
            except av.FFmpegError:
                pass
        if pieces is None:
            assert self._container is not None
            self._container.close()
            self._open_file()
        return pieces

    def _jumped(self, clock: Clock, start_s: float) -> Iterator[Piece] | None:
        assert self._container is not None
        first: list[float] = []
        for frame, bad in self._pieces(clock):  # the time of the first frame, and whether times increase
            if bad or frame is None or frame.pts is None or frame.interlaced_frame:
                return None
            first.append(clock.time_of(frame))
            if len(first) == 2:
                break
        if len(first) < 2 or not first[0] < first[1] < start_s:
            return None
        access = AccessPoints(self._stream)
        self._container.seek(clock.stamp_at(start_s), stream=self._stream, backward=True)
        packets = self._container.demux(self._stream)
        packet = next(packets, None)
        begin = None if packet is None else packet.pts
        if packet is None or begin is None or not access.may_begin(packet):
            return None
        if not first[1] < clock.seconds(begin) <= start_s + TIME_SLACK_S:
            return None
        clock.has_seeked = True
        pieces = self._pieces(clock, chain([packet], packets))
        for frame, bad in pieces:
            if bad or frame is None or frame.pts is None:
                return None
            if frame.pts < begin:  # shown before it, and predicted from earlier frames
                continue
            if frame.interlaced_frame or not access.did_begin(begin, frame):
                return None
            return chain([(frame, 0)], pieces)
        return None

    def _pieces(self, clock: Clock, packets: Iterator[av.Packet] | None = None) -> Iterator[Piece]:
        """Yield frames and undecodable packets until the end of the file."""
        assert self._container is not None
        codec = self._stream.codec_context
        packets = self._container.demux(self._stream) if packets is None else packets
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:
                yield None, 1
                return
            clock.saw(packet)
            try:
                decoded = packet.decode()
            except av.ArgumentError:
                if not codec.width:  # the state after a decoder rejected a size
                    raise too_large(self.limits) from None
                yield None, 1
                continue
            except av.FFmpegError:
                yield None, 1
                continue
            clock.decoded(packet)
            for frame in decoded:
                yield frame, int(bool(frame.is_corrupt))

    def _judge(self, times: np.ndarray, start_s: float, end_s: float, clock: Clock) -> None:
        """Checks after decoding: missing frame rate, damage, a file shorter than its header says."""
        n, n_bad = len(times), self._n_bad
        last = float(times[-1]) if n else 0.0
        if n > 1 and not last > times[0]:
            fix = "the file has no frame rate (0 fps): give fps in the manifest, or export it again"
            raise ClipError("video", "no_frame_rate", fix)
        # of the window only: which other frames were decoded depends on where decoding started
        own = times[(times >= start_s - TIME_SLACK_S) & (times < end_s - TIME_SLACK_S)]
        if len(own) > 1 and own[-1] > own[0] and self.fps + (self._kind not in BARE):
            usual = 1 / max(float(np.median(np.diff(own))), 1e-9)
            varied = varies(own, 1 / usual, clock.base)
            if varied or not self.fps or abs(usual / self.fps - 1) > 0.01:
                self.fps = (len(own) - 1) / float(own[-1] - own[0])  # the rate varies, or the header is wrong
            if varied:
                note("the frame rate varies: the time stamps of the frames were used")
        if n_bad > CORRUPT_ABOVE * (n + n_bad):
            if not n and self._refuses_size():
                raise too_large(self.limits)
            self._refuse_truncated(last, end_s, clock)
            fix = f"{n_bad} of {n + n_bad} packets or frames of the video are damaged: copy it again from its source"
            raise ClipError("video", "corrupt", fix)
        if n and self.fps:
            self._refuse_truncated(last, end_s, clock)
        if clock.ran_back:
            fix = "the time stamps run backwards, so the times are unknown: export it again, or give video_fps"
            raise ClipError("video", "time_runs_back", fix)
        if n_bad:
            note("some frames of the video are damaged: they were left out, or used as far as they could be decoded")

    def _refuses_size(self) -> bool:
        """Whether the decoder rejected the frame size: some decoders report that only as a log message."""
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture() as logs, open_container(self.ref.path, self.limits):
                pass
        except (av.FFmpegError, OSError, ValueError):
            pass
        finally:
            av.logging.set_level(level)
        return any("max pixel count" in text for _, _, text in logs)

    def _refuse_truncated(self, last: float, end_s: float, clock: Clock) -> None:
        """The last frame may be shown longer, and the sound may continue after it: such files are not truncated."""
        assert self._container is not None
        if not self.fps:
            return
        shown = last + 1 / self.fps
        held = max(shown, clock.end_s)
        promised = self._promised()
        if self._kind in CHECKED:
            if is_whole(self.ref.path, self._kind):
                held = max(held, promised)
            else:
                promised = max(promised, (self._container.duration or 0) / 1e6)
        if held < TRUNCATED_BELOW * min(promised, end_s):
            fix = f"the video ends after {last:.1f} s of {min(promised, end_s):.1f} s: copy it again from its source"
            raise ClipError("video", "truncated", fix)
        if self._went_beyond:
            return
        self._shown_until = held
        if held > shown + 1.5 / self.fps:
            note("the last frame is shown longer than the others: it was used once")
        if self._kind in BY_INDEX and held < TRUNCATED_BELOW * min((self._container.duration or 0) / 1e6, end_s):
            note("the video stream ends before the audio stream")

    def _promised(self) -> float:
        """Duration of the video stream in the header; 0 where it has none, or only an estimate from the file size."""
        assert self._container is not None
        if self._kind not in _PROMISING:
            return 0.0
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / 1e6
        return 0.0

    # ------------------------------------------------------------------ folders of images

    def _read_images(self) -> Iterator[Frame]:
        windowed = self.ref.start_s is not None or self.ref.end_s is not None
        if windowed and not self.fps:
            fix = "a window in seconds of a folder of images needs their frame rate: give fps in the manifest"
            raise ClipError("video", "no_frame_rate", fix)
        end_s = math.inf if self.ref.end_s is None else self.ref.end_s
        first: int | None = None
        for index, path in enumerate(self._images):
            time_s = index / self.fps if self.fps else float(index)
            if time_s >= end_s - TIME_SLACK_S:
                self._went_beyond = True
                break
            if time_s < (self.ref.start_s or 0.0) - TIME_SLACK_S:
                continue
            if first is None and self.may_seek:
                first = index
            image = read_image(path, index, self.limits)
            number = index if first is None else index - first
            yield ImageFrame(number, time_s, cv2.cvtColor(image, cv2.COLOR_BGR2RGBA))


def _mixed_sizes() -> ClipError:
    return ClipError("video", "mixed_sizes", "the frames differ in size: export them with one resolution")
