"""Folders that a command needs while it runs: named after their owner, and removed when the command ends.

What SIGKILL leaves behind is removed by the next command that uses the folder (storage.remove_temporaries).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.files.owners import tag

_open: set[Path] = set()


@contextmanager
def scratch(place: Path, what: str) -> Iterator[str]:
    """A new folder .<what>.<owner>.<number>.tmp in `place`."""
    folder = Path(place) / f".{what}.{tag()}.{os.urandom(4).hex()}.tmp"
    folder.mkdir()
    _open.add(folder)
    try:
        yield str(folder)
    finally:
        _remove(folder)


def remove_all() -> None:
    """For a command that has to end at once."""
    for folder in list(_open):
        _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # Ray's own threads may still write: the next command cleans up
    _open.discard(folder)
