"""Notes on clips: what preprocessing did to a clip, or could not do, and the user should know.

Preprocessing calls `note("...")`, libraries call `warnings.warn`; `gathered()` collects both. A note is a fixed sentence
without names, paths or numbers of a single clip, so that equal notes can be counted over a cohort.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

SILENT = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)  # for developers, not for users
MOST = 200  # characters kept of a library's warning


class Note(UserWarning):
    """A note of preprocessing on one clip."""


def note(text: str) -> None:
    """Add a note on the current clip. The same text twice for one clip counts once."""
    warnings.warn(Note(text), stacklevel=2)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """Yield a list that holds, after the block has ended, all notes made in it: every text once, in order."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield found
        finally:
            found.extend(dict.fromkeys(words(w) for w in caught if not issubclass(w.category, SILENT)))


def words(warning: warnings.WarningMessage) -> str:
    """The text of a note; for a library's warning its class and message, without anything that looks like a path or a memory
    address, which would differ between two runs."""
    text = str(warning.message)
    if issubclass(warning.category, Note):
        return text
    line = re.sub(r"0x[0-9a-fA-F]+|\S*[/\\]\S*", "...", " ".join(text.split()))
    return f"{warning.category.__name__}: {line[:MOST]}"
