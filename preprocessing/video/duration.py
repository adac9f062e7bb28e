"""How long a film is shown, by its packets: none is decoded. For films that lie beside signals and that no model looks at."""

from pathlib import Path

import av

from preprocessing.limits import Limits
from preprocessing.paths import is_file
from preprocessing.video.clock import BARE, BY_PACKET, WRAP, film_streams
from preprocessing.video.containers import open_container

UNTOLD = BARE | {"mpeg"}  # program streams stamp one picture of many


def film_length(path: Path, limits: Limits | None = None) -> tuple[float, float]:
    """(seconds from the first picture's presentation to the end of the last one's, pictures a second); (0.0, 0.0) where that
    cannot be told: a folder of images, a bare or a program stream, stamps that started again, a file that is absent, damaged,
    beyond limits.max_pixels or no film: whatever `video.Video` would refuse to open. Pictures that an edit list leaves out
    (`ffmpeg -ss` with `-c copy` keeps those before the cut in the file) are not shown."""
    limits = limits or Limits()
    if not is_file(path):
        return 0.0, 0.0
    try:
        with open_container(path, limits) as container:
            kind = container.format.name.split(",")[0]
            stream = next(iter(film_streams(container)), None)
            if stream is None or kind in UNTOLD or not stream.time_base or not stream.average_rate:
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
