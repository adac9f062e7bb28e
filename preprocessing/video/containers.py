"""Which files may be opened as films, and how: one way in for everything that decodes them or only asks how long they are."""

import math
from pathlib import Path
from typing import Any

import av

from preprocessing.limits import Limits

# Containers of one file. Play lists and concatenations could name other files or hosts; a picture is no film.
OPEN = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,avi,matroska,webm,mpeg,mpegts,mpegvideo,asf,ogg,flv,h264,hevc,m4v,mjpeg,gif,mxf,wtv,"
    "wav,mp3,flac,aac",  # audio formats, so that a sound file is told apart from rubbish
}


def open_container(path: Path, limits: Limits) -> Any:
    """An av.container.InputContainer, to be closed. Raises av.FFmpegError, OSError or ValueError for what is no film."""
    return av.open(f"file:{path}", options=OPEN | decoder_options(limits))


def decoder_options(limits: Limits) -> dict[str, str]:
    """What a decoder allocates before it has refused; it counts in whole blocks, so it may have a few pixels more."""
    most = limits.max_pixels
    return {"max_pixels": str(most + 252 * math.isqrt(most) + 4000)}
