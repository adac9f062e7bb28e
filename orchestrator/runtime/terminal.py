"""Printing must never end a command: a terminal that lacks a character, a closed pipe, a full disk behind `>`."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# What is printed, for terminals that only know ASCII or another small set; anything else becomes its escape.
PLAIN = {"±": "+-", "µ": "u", "μ": "u", "Ω": "Ohm", "·": "-", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x",
         "→": "->", "≥": ">=", "≤": "<=", "°": " deg", "²": "2", "³": "3", "’": "'", "“": '"', "”": '"', "\xa0": " ",
         "│": "|", "┃": "|", "─": "-", "━": "-", "═": "="}


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start:error.end]
    escaped = (PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs)
    return "".join(escaped), error.end


codecs.register_error("dualpain-plain", _plain)


class SafeStream:
    """A text stream that continues after a write error: it reports it once on stderr, and writes no more."""

    def __init__(self, stream: TextIO, name: str):
        self._stream, self._name, self._lost = stream, name, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if self._lost:
            return
        self._lost = True
        try:  # buffered text is dropped, so that the interpreter's last flush succeeds
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()
        except (OSError, ValueError):
            pass
        if self._name == "stdout" and sys.stderr is not None:
            print(f"the output cannot be written any more ({error.strerror or error}): the command continues without it",
                  file=sys.stderr)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Wrap both streams for the block. Closed ones (`>&-`) go to /dev/null, so that no other file gets their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            held = os.open(os.devnull, os.O_RDWR)
            if held != number:
                os.dup2(held, number)
                os.close(held)
    before = sys.stdout, sys.stderr
    made = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="dualpain-plain")
        made.append(SafeStream(stream, name))
    sys.stdout, sys.stderr = made  # type: ignore[assignment]
    try:
        yield
    finally:
        for stream in made:
            stream.flush()
        if sys.stdout is made[0]:
            sys.stdout = before[0]
        if sys.stderr is made[1]:
            sys.stderr = before[1]


def needs_utf8() -> bool:
    """Whether file names, and files without a given encoding, are not read as UTF-8 here."""
    import locale

    return not sys.flags.utf8_mode and codecs.lookup(locale.getpreferredencoding(False)).name not in ("utf-8", "utf8")


def start_again_in_utf8() -> None:
    """The same command in Python's UTF-8 mode, for `LC_ALL=C`; does not return. The terminal keeps its encoding."""
    os.environ["PYTHONUTF8"] = "1"
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and "PYTHONIOENCODING" not in os.environ:
            os.environ["PYTHONIOENCODING"] = stream.encoding
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
