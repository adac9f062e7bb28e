"""Whether a file has the length that its header gives. In containers without frame durations, only this distinguishes a
truncated video from one whose last frame is shown longer, or whose sound continues."""

import os
from pathlib import Path

CHECKED = {"matroska", "flv"}
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def is_whole(path: Path, kind: str) -> bool:
    """False where bytes are missing at the end, or where that cannot be read. kind: one of CHECKED."""
    try:
        return _matroska(path) if kind == "matroska" else _flv(path)
    except OSError:
        return False


def _matroska(path: Path) -> bool:
    """The length of the single segment is within the file."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] != _EBML:
        return False
    at, length = _number(head, 4)
    at += length
    if head[at : at + 4] != _SEGMENT:
        return False
    at, length = _number(head, at + 4)
    return at + length <= path.stat().st_size


def _flv(path: Path) -> bool:
    """The file ends with the length of its last tag, and that tag gives the same length."""
    with path.open("rb") as file:
        end = file.seek(-4, os.SEEK_END)
        length = int.from_bytes(file.read(4), "big")
        if not 11 <= length <= end:
            return False
        file.seek(end - length)
        return int.from_bytes(file.read(4)[1:], "big") + 11 == length


def _number(data: bytes, at: int) -> tuple[int, int]:
    """(end position, value) of the length field at `at`: its first set bit gives the number of its bytes. A length with all
    bits set is unknown, as in an unfinished recording: it counts as infinite."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return at + 8, 1 << 62
    value = int.from_bytes(data[at : at + width], "big") - (1 << 7 * width)
    return at + width, (1 << 62) if value == (1 << 7 * width) - 1 else value
