"""How long a film is shown, by its packets: none is decoded. For films that lie beside signals and that no model looks at."""

from pathlib import Path

import av

from preprocessing.clock import BARE, BY_PACKET
from preprocessing.paths import is_file


def film_length(path: Path) -> tuple[float, float]:
    """(seconds from the first picture's presentation to the end of the last one's, pictures a second); (0.0, 0.0) where that
    cannot be told: a folder of images, a bare stream, a file that is absent, damaged or no film."""
    if not is_file(path):
        return 0.0, 0.0
    try:
        with av.open(f"file:{path}") as container:
            kind = container.format.name.split(",")[0]
            stream = next(iter(container.streams.video), None)
            if stream is None or kind in BARE or not stream.time_base or not stream.average_rate:
                return 0.0, 0.0
            usual = 1 / (stream.average_rate * stream.time_base)
            begin, end = None, 0.0
            for packet in container.demux(stream):
                stamp = packet.dts if kind in BY_PACKET else packet.pts
                if stamp is None or not packet.size:
                    continue
                begin = stamp if begin is None else min(begin, stamp)
                end = max(end, stamp + float(packet.duration or usual))
            return (float((end - begin) * stream.time_base), float(stream.average_rate)) if begin is not None else (0.0, 0.0)
    except (av.FFmpegError, OSError, ValueError, ZeroDivisionError):
        return 0.0, 0.0
