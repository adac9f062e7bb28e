"""How long a film is shown, by its packets: none is decoded. For films that lie beside signals and that no model looks at."""

from pathlib import Path

import av

from preprocessing.clock import BARE, BY_PACKET, WRAP, film_streams
from preprocessing.paths import is_file

UNTOLD = BARE | {"mpeg"}  # program streams stamp one picture of many


def film_length(path: Path) -> tuple[float, float]:
    """(seconds from the first picture's presentation to the end of the last one's, pictures a second); (0.0, 0.0) where that
    cannot be told: a folder of images, a bare or a program stream, stamps that started again, a file that is absent, damaged or
    no film."""
    if not is_file(path):
        return 0.0, 0.0
    try:
        with av.open(f"file:{path}") as container:
            kind = container.format.name.split(",")[0]
            stream = next(iter(film_streams(container)), None)
            if stream is None or kind in UNTOLD or not stream.time_base or not stream.average_rate:
                return 0.0, 0.0
            usual = 1 / (stream.average_rate * stream.time_base)
            begin, end = None, 0.0
            for packet in container.demux(stream):
                stamp = packet.dts if kind in BY_PACKET else packet.pts
                if stamp is None or not packet.size:
                    continue
                begin = stamp if begin is None else min(begin, stamp)
                end = max(end, stamp + float(packet.duration or usual))
            if begin is None or end - begin > WRAP / 2:
                return 0.0, 0.0
            return float((end - begin) * stream.time_base), float(stream.average_rate)
    except (av.FFmpegError, OSError, ValueError, ZeroDivisionError):
        return 0.0, 0.0
