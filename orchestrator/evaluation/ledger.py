"""One atomic file a fold: complete or absent. The only thing results are computed from."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.evaluation.ledger_files import LedgerFiles, LocalFiles, files_at
from orchestrator.files.storage import exclusive, read_json, remove_temporaries, with_checksum
from orchestrator.plan.folds import Fold
from orchestrator.scores.fold_result import FoldResult


class Result(Protocol):
    """What a fold gives, of a run or of a sweep."""

    def to_json(self) -> dict: ...

    @classmethod
    def from_json(cls, value: Mapping) -> Self: ...


R = TypeVar("R", bound=Result)


class ResultFiles(Generic[R]):
    """The files run.dir/ledger (or run.ledger). A file counts only with a matching checksum and content key."""

    kind: type[R]

    def __init__(self, run_dir: Path, content_key: str, files: LedgerFiles | None = None):
        self.run_dir = Path(run_dir)
        self.files = files if files is not None else LocalFiles(self.run_dir / "ledger")
        self.content_key = content_key

    @staticmethod
    def name(fold: Fold) -> str:
        return f"{fold.name}.json"

    def write(self, fold: Fold, result: R) -> None:
        """Write a finished fold. A fold that is already there stays as it is: late and double completions are harmless."""
        if self.read(fold) is None:
            self.files.write(self.name(fold), with_checksum({**result.to_json(), "content_key": self.content_key}))

    def read(self, fold: Fold) -> R | None:
        """The finished fold, or None where it is absent, damaged, another fold's or another run's."""
        entry = self.files.read(self.name(fold))
        if not entry or entry.get("content_key") != self.content_key or _of_another(entry, fold):
            return None
        return self.kind.from_json(entry)

    def invalid(self, folds: Iterable[Fold]) -> list[tuple[Fold, str]]:
        """Folds whose file is there and does not count, with the reason."""
        return [(fold, why) for fold in folds if (why := self._why_not(fold))]

    def _why_not(self, fold: Fold) -> str:
        name = self.name(fold)
        if not self.files.holds(name):
            return ""
        entry = self.files.read(name)
        if entry is None:
            return "cut, or changed since it was written"
        if entry.get("content_key") != self.content_key:
            return "another run's"
        return "another fold's" if _of_another(entry, fold) else ""

    def missing(self, folds: list[Fold]) -> list[Fold]:
        return [fold for fold in folds if self.read(fold) is None]

    def sweep(self) -> None:
        self.files.sweep()
        remove_temporaries(self.run_dir)


class Ledger(ResultFiles[FoldResult]):
    """Of a run."""

    kind = FoldResult


def _of_another(entry: Mapping, fold: Fold) -> bool:
    """Copied there by hand."""
    return (entry.get("fold", fold.index), entry.get("seed", fold.seed)) != (fold.index, fold.seed)


def open_ledger(config: Config, run_dir: Path, content_key: str) -> Ledger:
    """The ledger of a run: in its folder, or where run.ledger says. Raises UserError for a place that cannot be opened."""
    return Ledger(run_dir, content_key, files_at(config.run.ledger) if config.run.ledger else None)


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


def claim(ledger: Ledger, content: Mapping[str, str] | None = None) -> None:
    """Refuse a run folder that holds another run: its lineage.json, or any finished fold. Raises UserError.

    content: what this run is made of, as in that lineage.json, so that the refusal says what differs.
    """
    lineage = read_json(ledger.run_dir / "lineage.json")
    theirs = isinstance(lineage, dict) and lineage.get("content_key") != ledger.content_key
    entries = (ledger.files.read(name) for name in ledger.files.names())
    if theirs or any(entry is not None and entry.get("content_key") != ledger.content_key for entry in entries):
        there = lineage.get("content") if isinstance(lineage, dict) else None
        differ = [name for name, value in (content or {}).items() if isinstance(there, dict) and there.get(name) != value]
        raise UserError(f"{ledger.run_dir} holds another run (differing: {', '.join(differ) or 'data, configuration or code'}"
                        "): choose another run.dir (and run.ledger, where that is given), or remove that folder.")
