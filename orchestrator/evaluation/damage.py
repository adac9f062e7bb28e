"""What was there and is not what it was: told, then made again."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.evaluation.ledger import ResultFiles
from orchestrator.files.storage import read_checked, read_json
from orchestrator.plan.folds import Fold
from orchestrator.runtime import progress

FACTS = ("lineage.json", "facts.json", "summary.json", "audit.json", "search.json")


def is_damaged(side: Path, key: str) -> bool:
    """Of an artefact that is not current: whether it was finished under this key. A side file is written last, so one that
    cannot be read, or that has the right key beside other bytes, was cut or changed afterwards."""
    if not side.exists():
        return False  # never finished
    found = read_checked(side)
    return found is None or found.get("key") == key


def tell(stage: str, what: str, damaged: Iterable[bool]) -> None:
    if n := sum(damaged):
        progress.say(stage, f"damaged in the store (cut, lost or changed by hand) and made again: {n} {what}", logging.WARNING)


def entries(stage: str, ledger: ResultFiles, folds: Sequence[Fold], where: str = "") -> list[str]:
    """Sentences for the report, said on the terminal too: entries of these folds that are there and not valid."""
    said = [f"The ledger entry of fold {fold.index} seed {fold.seed}{where} was there and is not valid ({why}): the fold ran "
            "again." for fold, why in ledger.invalid(folds)]
    for text in said:
        progress.say(stage, text.replace("ran again", "runs again"), logging.WARNING)
    return said


def facts(stage: str, folder: Path) -> list[str]:
    """The same of a run's other files that are read again."""
    said = [f"{name} of this run was damaged and was written anew." for name in FACTS
            if (folder / name).exists() and read_json(folder / name) is None]
    for text in said:
        progress.say(stage, text.replace("was written", "is written"), logging.WARNING)
    return said
