"""One atomic file a fold: complete or absent. The only thing results are computed from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.folds import Fold
from orchestrator.storage import exclusive, read_json, read_sealed, seal, sweep_temporaries, write_json


class Ledger:
    """The folder run.dir/ledger. A file counts only with a matching checksum and content key."""

    def __init__(self, run_dir: Path, content_key: str):
        self.folder = Path(run_dir) / "ledger"
        self.content_key = content_key

    def path(self, fold: Fold) -> Path:
        return self.folder / f"{fold.name}.json"

    def write(self, fold: Fold, entry: dict) -> None:
        """Write a finished fold. A fold that is already there stays as it is: late and double completions are harmless."""
        if self.read(fold) is None:
            write_json(self.path(fold), seal({**entry, "content_key": self.content_key}))

    def read(self, fold: Fold) -> dict | None:
        """The finished fold, or None where it is absent, damaged or another run's."""
        entry = read_sealed(self.path(fold))
        return entry if entry and entry.get("content_key") == self.content_key else None

    def missing(self, folds: list[Fold]) -> list[Fold]:
        return [fold for fold in folds if self.read(fold) is None]

    def sweep(self) -> None:
        for folder in (self.folder, self.folder.parent):
            sweep_temporaries(folder)


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """The run's folder, held against other commands; gone again if nothing was written into it."""
    lock = folder / ".lock"
    with exclusive(lock):
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [lock.name]:
                lock.unlink()
                folder.rmdir()


def claim(run_dir: Path, content_key: str) -> None:
    """Refuse a run folder that holds another run: its lineage.json, or any finished fold. Raises UserError."""
    lineage = read_json(Path(run_dir) / "lineage.json")
    theirs = isinstance(lineage, dict) and lineage.get("content_key") != content_key
    entries = (read_sealed(path) for path in sorted((Path(run_dir) / "ledger").glob("fold-*.json")))
    if theirs or any(entry is not None and entry.get("content_key") != content_key for entry in entries):
        raise UserError(f"{run_dir} holds another run (its data, configuration, split or code differ): choose another "
                        "run.dir, or remove that folder.")
