"""What was done to a clip, or could not be done, and its owner should know: gathered from warnings, counted, and told.

Code of preprocessing says `note("...")`, libraries say `warnings.warn`; both arrive in `gathered()`. A note is a stable
sentence without names, paths or numbers of one clip, so that equal notes can be counted over a cohort.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

SILENT = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)  # for developers, not for owners
MOST = 200  # letters of a library's words


class Note(UserWarning):
    """A sentence of ours about one clip."""


def note(text: str) -> None:
    """Say `text` of the clip in hand. The same text twice for one clip counts once."""
    warnings.warn(Note(text), stacklevel=2)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """Yield a list that holds, once the block has ended, what was said in it: every text once, in order."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield said
        finally:
            said.extend(dict.fromkeys(words(w) for w in caught if not issubclass(w.category, SILENT)))


def words(warning: warnings.WarningMessage) -> str:
    """The text of a note; of a library's warning its kind and words, without whatever looks like a path or an address in
    memory, which differ between two runs."""
    text = str(warning.message)
    if issubclass(warning.category, Note):
        return text
    line = re.sub(r"0x[0-9a-fA-F]+|\S*[/\\]\S*", "...", " ".join(text.split()))
    return f"{warning.category.__name__}: {line[:MOST]}"
