"""The duration of a video from its packets, without decoding. For videos that belong to signals but that no model uses."""

from pathlib import Path

import av

from preprocessing.inputs.limits import Limits
from preprocessing.inputs.paths import is_file
from preprocessing.video.clock import BARE, BY_PACKET, WRAP, video_streams
from preprocessing.video.containers import open_container

UNKNOWN = BARE | {"mpeg"}  # program streams have time stamps for some frames only


def video_duration(path: Path, limits: Limits | None = None) -> tuple[float, float]:
    """(seconds from the start of the first frame to the end of the last one, frames per second); (0.0, 0.0) where that is
    unknown: a folder of images, a bare or a program stream, time stamps that wrapped around, a file that is missing, damaged,
    beyond limits.max_pixels or not a video: whatever `video.Video` would not open. Frames that an edit list skips
    (`ffmpeg -ss` with `-c copy` keeps those before the cut in the file) do not count."""
    limits = limits or Limits()
    if not is_file(path):
        return 0.0, 0.0
    try:
        with open_container(path, limits) as container:
            kind = container.format.name.split(",")[0]
            stream = next(iter(video_streams(container)), None)
            if stream is None or kind in UNKNOWN or not stream.time_base or not stream.average_rate:
                return 0.0, 0.0
            codec = stream.codec_context
            if codec is None or codec.width * codec.height > limits.max_pixels:
                return 0.0, 0.0
            usual = 1 / (stream.average_rate * stream.time_base)
            begin, end = None, 0.0
            for packet in container.demux(stream):
                stamp = packet.dts if kind in BY_PACKET else packet.pts
                if stamp is None or not packet.size or packet.is_discard:
                    continue
                begin = stamp if begin is None else min(begin, stamp)
                end = max(end, stamp + float(packet.duration or usual))
            if begin is None or end - begin > WRAP / 2:
                return 0.0, 0.0
            return float((end - begin) * stream.time_base), float(stream.average_rate)
    except (av.FFmpegError, OSError, ValueError, ZeroDivisionError):
        return 0.0, 0.0
