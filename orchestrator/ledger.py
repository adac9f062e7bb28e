"""One atomic file a fold: complete or absent. The only thing results are computed from."""

from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.folds import Fold
from orchestrator.storage import key_of, read_json, sweep_temporaries, write_json


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
        entry = read_json(self.path(fold))
        if not isinstance(entry, dict) or not intact(entry) or entry.get("content_key") != self.content_key:
            return None
        return entry

    def missing(self, folds: list[Fold]) -> list[Fold]:
        return [fold for fold in folds if self.read(fold) is None]

    def sweep(self) -> None:
        if self.folder.exists():
            sweep_temporaries(self.folder)


def seal(entry: dict) -> dict:
    body = {name: value for name, value in entry.items() if name != "checksum"}
    return {**body, "checksum": key_of(body, 64)}


def intact(entry: dict) -> bool:
    return entry.get("checksum") == seal(entry)["checksum"]


def claim(run_dir: Path, content_key: str) -> None:
    """Refuse a run folder that holds another run. Raises UserError."""
    lineage = read_json(Path(run_dir) / "lineage.json")
    if lineage is None:
        if list(Path(run_dir).glob("ledger/fold-*.json")):
            raise UserError(f"{run_dir} holds folds but no readable lineage.json, so they cannot be told from another "
                            "run's: choose another run.dir.")
        return
    if lineage.get("content_key") != content_key:
        raise UserError(f"{run_dir} holds another run (its data, configuration, split or code differ): choose another "
                        "run.dir, or remove that folder.")
