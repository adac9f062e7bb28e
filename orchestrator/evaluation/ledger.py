"""One atomic file per fold: complete or absent. Results are computed from these files only."""

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
    """The result of a fold, in a run or in a sweep."""

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
        """Write a finished fold. An existing valid entry is not changed, so late and repeated completions are harmless."""
        if self.read(fold) is None:
            self.files.write(self.name(fold), with_checksum({**result.to_json(), "content_key": self.content_key}))

    def read(self, fold: Fold) -> R | None:
        """The finished fold, or None if it is absent, damaged, or belongs to another fold or run."""
        entry = self.files.read(self.name(fold))
        if not entry or entry.get("content_key") != self.content_key or _of_another(entry, fold):
            return None
        return self.kind.from_json(entry)

    def invalid(self, folds: Iterable[Fold]) -> list[tuple[Fold, str]]:
        """Folds whose file exists but is not valid, with the reason."""
        return [(fold, why) for fold in folds if (why := self._why_not(fold))]

    def _why_not(self, fold: Fold) -> str:
        name = self.name(fold)
        if not self.files.holds(name):
            return ""
        entry = self.files.read(name)
        if entry is None:
            return "truncated or edited"
        if entry.get("content_key") != self.content_key:
            return "it belongs to another run"
        return "it belongs to another fold" if _of_another(entry, fold) else ""

    def missing(self, folds: list[Fold]) -> list[Fold]:
        return [fold for fold in folds if self.read(fold) is None]

    def clean_up(self) -> None:
        self.files.clean_up()
        remove_temporaries(self.run_dir)


class Ledger(ResultFiles[FoldResult]):
    """The ledger of a run."""

    kind = FoldResult


def _of_another(entry: Mapping, fold: Fold) -> bool:
    """Whether the entry is a copy from another fold."""
    return (entry.get("fold", fold.index), entry.get("seed", fold.seed)) != (fold.index, fold.seed)


def open_ledger(config: Config, run_dir: Path, content_key: str) -> Ledger:
    """The ledger of a run: in its folder, or at run.ledger. Raises UserError if that cannot be opened."""
    return Ledger(run_dir, content_key, files_at(config.run.ledger) if config.run.ledger else None)


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """The run's folder, locked against other commands; removed again if nothing was written into it."""
    lock = folder / ".lock"
    with exclusive(lock):
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [lock.name]:
                lock.unlink()
                folder.rmdir()


def claim(ledger: Ledger, content: Mapping[str, str] | None = None) -> None:
    """Raises UserError if the folder holds another run: by its lineage.json or any finished fold.

    content: what this run is made of, as in that lineage.json, so that the message says what differs.
    """
    lineage = read_json(ledger.run_dir / "lineage.json")
    theirs = isinstance(lineage, dict) and lineage.get("content_key") != ledger.content_key
    entries = (ledger.files.read(name) for name in ledger.files.names())
    if theirs or any(entry is not None and entry.get("content_key") != ledger.content_key for entry in entries):
        there = lineage.get("content") if isinstance(lineage, dict) else None
        differ = [name for name, value in (content or {}).items() if isinstance(there, dict) and there.get(name) != value]
        raise UserError(f"{ledger.run_dir} holds another run (differing: {', '.join(differ) or 'data, configuration or code'}"
                        "): choose another run.dir (and run.ledger, where that is given), or remove that folder.")
