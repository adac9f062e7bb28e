"""Whether a Matroska or WebM file is as long as it says: only that tells a film that was cut off from one whose last frame
is held, or whose sound goes on."""

from pathlib import Path

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def is_whole(path: Path) -> bool:
    """False where bytes of the file's one segment are missing, or where its length cannot be read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:4] != _EBML:
        return False
    at, length = _number(head, 4)
    at += length
    if head[at : at + 4] != _SEGMENT:
        return False
    at, length = _number(head, at + 4)
    return at + length <= size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """(where it ends, value) of the length at this place: the first bit that is set tells how many bytes it has. A length of
    ones alone is unknown, as in a recording that was never finished: it counts as endless."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return at + 8, 1 << 62
    value = int.from_bytes(data[at : at + width], "big") - (1 << 7 * width)
    return at + width, (1 << 62) if value == (1 << 7 * width) - 1 else value
