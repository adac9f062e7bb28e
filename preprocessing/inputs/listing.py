"""Read the text of a table from the user (a manifest, samples.csv): UTF-8, else an error that names the encoding found."""

from pathlib import Path

from preprocessing.errors import InputError

OTHERS = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas"}


def read_text(path: Path) -> str:
    """The file as text without a byte order mark. InputError where it is not UTF-8, with the encoding that it seems to have."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); give the account read access to it.") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:200].count(0) * 3 > len(data[:200]):
        raise InputError(f"{path} is UTF-16 text, not UTF-8; save it as CSV in UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} line {line} holds a byte that is not UTF-8 (0x{data[error.start]:02x}); the file is probably "
                         "Latin-1 or Windows-1252: save it as CSV in UTF-8.") from None


def other_separator(text: str, wanted: str) -> str | None:
    """The name of the separator that the first line seems to use instead of `wanted`; None if it uses `wanted`."""
    first = text.splitlines()[0] if text else ""
    counts = {sep: first.count(sep) for sep in OTHERS}
    most = max(counts, key=lambda sep: counts[sep])
    return OTHERS[most] if most != wanted and counts[most] > counts[wanted] else None


def blank_note(name: str, count: int) -> list[str]:
    """A note on the blank lines; empty where there are none."""
    return [f"{count} blank lines of {name} were skipped."] if count else []
