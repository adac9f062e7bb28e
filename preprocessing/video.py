"""Decoding: the upright frames of a VideoRef, one after the other, with their times.

A video file is decoded once, on one thread, and always closed. Times are seconds from the file's first frame and come
from its time stamps (a variable frame rate is therefore right); `VideoRef.fps` is used where a file or a folder of
images has none. Coordinates everywhere are pixels of the upright frame: x right, y down.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from .errors import ClipError
from .frames import DecodedFrame, Frame, ImageFrame
from .paths import is_file, is_folder
from .recordings import VideoRef

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}
TRUNCATED_BELOW = 0.9  # of the duration that the header promises
SHORTFALL = 0.05  # a window may lack this share at the video's end, as in signals.py; more would tell clips apart by length
CORRUPT_ABOVE = 0.1  # share of packets or frames that do not decode cleanly
SEEK_FROM_S = 2.0  # below it, decoding from the start is as fast
TIME_SLACK_S = 1e-4

# What may be opened: containers of one file. Play lists and concatenations could name other files or hosts.
_OPEN = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,avi,matroska,webm,mpeg,mpegts,mpegvideo,asf,ogg,flv,h264,hevc,m4v,mjpeg,gif,mxf,wtv,"
    "wav,mp3,flac,aac",  # audio formats, so that a sound file is told apart from rubbish
}
_MAGIC = ((4, b"ftyp"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"))  # mp4/mov, avi, mkv/webm


class Video:
    """The frames of `ref` within its window; a context manager, iterated once.

    `fps` is 0.0 where it is unknown (a folder of images without VideoRef.fps). After the iteration it is the measured
    mean rate wherever that differs from the header's. Raises ClipError(stage="video").
    """

    def __init__(self, ref: VideoRef, may_seek: bool = True):
        self.ref, self.may_seek = ref, may_seek
        self.fps = ref.fps if ref.fps and ref.fps > 0 and math.isfinite(ref.fps) else 0.0
        self._container: av.container.InputContainer | None = None
        self._images: list[Path] = []
        self._went_beyond = False  # there is a frame after the window
        self.n_frames: int | None = None  # of the whole file, once it was read from its first frame to its last
        if is_folder(ref.path):
            self._images = _image_files(ref.path)
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
        last_s = 0.0
        for frame in self._decode() if self._container is not None else self._read_images():
            if size is not None and (frame.height, frame.width) != size:
                raise ClipError("video", "mixed_sizes", "the frames differ in size: export them with one resolution")
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

    def _refuse_short_window(self, last_s: float) -> None:
        if self.ref.end_s is None or not self.fps or self._went_beyond:
            return
        wanted = self.ref.end_s - (self.ref.start_s or 0.0)
        lacking = self.ref.end_s - (last_s + 1 / self.fps)
        if lacking > SHORTFALL * wanted + TIME_SLACK_S:
            fix = f"the video ends {lacking:.1f} s before its window of {wanted:.1f} s does: correct it or drop the clip"
            raise ClipError("video", "short_window", fix)

    # ------------------------------------------------------------------ files

    def _open_file(self) -> None:
        path = self.ref.path
        if not is_file(path):
            raise ClipError("video", "missing", "the video file does not exist: restore it or drop the row")
        if path.stat().st_size == 0:
            raise ClipError("video", "empty", "the video file has no bytes: copy it again from its source")
        try:
            self._container = av.open(f"file:{path}", options=dict(_OPEN))
        except (av.FFmpegError, OSError, ValueError):
            try:
                with path.open("rb") as file:
                    head = file.read(16)
            except OSError as error:
                fix = f"the video file cannot be read ({error.strerror}): give this account the right to"
                raise ClipError("video", "unreadable", fix) from None
            if any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
                fix = "the video file is cut off or damaged: copy it again from its source"
                raise ClipError("video", "truncated", fix) from None
            fix = "the file's content is not a video, whatever its name ends in: replace it"
            raise ClipError("video", "not_a_video", fix) from None
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams:
            self._container.close()
            raise ClipError("video", "no_video_stream", "the file holds sound but no picture: replace it")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise ClipError("video", "unknown_codec", "no decoder for the video's codec: export it again as H.264")
        self._stream.codec_context.thread_count = 1
        if not self.fps:
            self.fps = float(self._stream.average_rate or 0)

    def _decode(self) -> Iterator[Frame]:
        assert self._container is not None
        stream, reformatter = self._stream, VideoReformatter()
        start_s = self.ref.start_s or 0.0
        end_s = math.inf if self.ref.end_s is None else self.ref.end_s
        base = float(stream.time_base or 0)
        origin = (stream.start_time or 0) * base
        sought = False
        if self.may_seek and start_s > SEEK_FROM_S and base:
            try:
                sought = True
                self._container.seek(int((origin + start_s) / base), stream=stream, backward=True)
            except av.FFmpegError:
                pass  # no index in this file: decode from its start
        turns: int | None = None
        times: list[float] = []
        n_bad = 0
        for frame, bad in _frames(self._container, stream):
            n_bad += bad
            if frame is None:
                continue
            turns = round(frame.rotation / 90) % 4 if turns is None else turns
            time_s = -1.0 if frame.time is None else frame.time - origin
            if frame.time is None or (self.ref.fps and times and time_s <= times[-1]):
                time_s = len(times) / self.fps if self.fps else 0.0
            times.append(time_s)
            if time_s >= end_s - TIME_SLACK_S:
                self._went_beyond = True
                break
            if time_s >= start_s - TIME_SLACK_S:
                yield DecodedFrame(len(times) - 1, time_s, frame, turns, reformatter)
        if not (sought or self._went_beyond):
            self.n_frames = len(times)
        self._judge(np.array(times), n_bad, end_s)

    def _judge(self, times: np.ndarray, n_bad: int, end_s: float) -> None:
        """What only shows after decoding: no rate, damage, a file that ends before its header says."""
        n = len(times)
        last = float(times[-1]) if n else 0.0
        if n > 1 and not last > times[0]:
            if not (self.ref.fps and self.ref.fps > 0):
                fix = "the file has no frame rate (0 fps): give fps in the manifest, or export it again"
                raise ClipError("video", "no_frame_rate", fix)
            last = float(times[0]) + (n - 1) / self.fps
        elif n > 1:
            usual = 1 / max(float(np.median(np.diff(times))), 1e-9)
            if not self.fps or abs(usual / self.fps - 1) > 0.01:
                self.fps = (n - 1) / (last - float(times[0]))  # the rate varies, or the header is wrong
        until = min(self._promised(), end_s)
        if n and self.fps and last + 1 / self.fps < TRUNCATED_BELOW * until:
            fix = f"the video ends after {last:.1f} s of {until:.1f} s: copy it again from its source"
            raise ClipError("video", "truncated", fix)
        if n_bad > CORRUPT_ABOVE * (n + n_bad):
            fix = f"{n_bad} of {n + n_bad} pieces of the video are damaged: copy it again from its source"
            raise ClipError("video", "corrupt", fix)

    def _promised(self) -> float:
        """Seconds that the header says the pictures last; 0 where it does not."""
        assert self._container is not None
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
        for index, path in enumerate(self._images):
            time_s = index / self.fps if self.fps else float(index)
            if time_s >= end_s - TIME_SLACK_S:
                self._went_beyond = True
                break
            if time_s < (self.ref.start_s or 0.0) - TIME_SLACK_S:
                continue
            image = _read_image(path)
            if image is None:
                raise ClipError("video", "bad_frame", f"image {index + 1} of the folder is unreadable: replace it")
            yield ImageFrame(index, time_s, cv2.cvtColor(image, cv2.COLOR_BGR2RGBA))


def _frames(container, stream) -> Iterator[tuple[av.VideoFrame | None, int]]:
    """(frame, 1 if damaged) and (None, 1) for a packet that does not decode; ends quietly where the file does."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            yield None, 1
            return
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            yield None, 1
            continue
        for frame in decoded:
            yield frame, int(bool(frame.is_corrupt))


def _read_image(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 BGR; None for what is no image: rubbish, a folder, a link to nothing, a size nobody can hold."""
    try:
        return cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None


def _image_files(folder: Path) -> list[Path]:
    """Images of a folder in natural order: img_2 before img_10."""
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        fix = f"the folder of frames cannot be read ({error.strerror}): give this account the right to"
        raise ClipError("video", "unreadable", fix) from None
    if not files:
        raise ClipError("video", "empty", "the folder holds no images (png, jpg, bmp, tif, webp): fill it")

    def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"(\d+)", path.name)
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name

    return sorted(files, key=natural)
