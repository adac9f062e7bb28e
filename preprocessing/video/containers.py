"""Open video files: used by all code that decodes them or only reads their duration."""

import math
from pathlib import Path
from typing import Any

import av

from preprocessing.inputs.limits import Limits

# Containers of a single file. Playlists and concatenations could name other files or hosts; single images are not videos.
OPEN = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,avi,matroska,webm,mpeg,mpegts,mpegvideo,asf,ogg,flv,h264,hevc,m4v,mjpeg,gif,mxf,wtv,"
    "wav,mp3,flac,aac",  # audio formats, so that an audio file gets its own error message
}


def open_container(path: Path, limits: Limits) -> Any:
    """An av.container.InputContainer, to be closed. Raises av.FFmpegError, OSError or ValueError if it is not a video."""
    return av.open(f"file:{path}", options=OPEN | decoder_options(limits))


def decoder_options(limits: Limits) -> dict[str, str]:
    """Limits the memory that a decoder allocates. It counts whole blocks, so a few more pixels are allowed."""
    most = limits.max_pixels
    return {"max_pixels": str(most + 252 * math.isqrt(most) + 4000)}
