"""Damaged files of the store and of runs: a warning is given, then they are made again."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.evaluation.ledger import ResultFiles
from orchestrator.files.storage import read_checked, read_json
from orchestrator.plan.folds import Fold
from orchestrator.runtime import progress

FACTS = ("lineage.json", "facts.json", "summary.json", "audit.json", "search.json")


def is_damaged(sidecar: Path, key: str) -> bool:
    """Of an artefact that is not valid: whether it was once finished under this key. The sidecar is written last. If it
    cannot be read, or has the right key but the artefact has other bytes, something was truncated or changed later."""
    if not sidecar.exists():
        return False  # never finished
    found = read_checked(sidecar)
    return found is None or found.get("key") == key


def warn(stage: str, what: str, damaged: Iterable[bool]) -> None:
    if n := sum(damaged):
        progress.say(stage, f"damaged in the store (truncated, missing or edited) and made again: {n} {what}", logging.WARNING)


def entries(stage: str, ledger: ResultFiles, folds: Sequence[Fold], where: str = "") -> list[str]:
    """Warnings for the report, also printed on the terminal: entries of these folds that exist but are not valid."""
    said = [f"The ledger entry of fold {fold.index} seed {fold.seed}{where} is not valid ({why}): the fold ran "
            "again." for fold, why in ledger.invalid(folds)]
    for text in said:
        progress.say(stage, text.replace("ran again", "runs again"), logging.WARNING)
    return said


def facts(stage: str, folder: Path) -> list[str]:
    """The same for a run's other files."""
    said = [f"{name} of this run was damaged and was written again." for name in FACTS
            if (folder / name).exists() and read_json(folder / name) is None]
    for text in said:
        progress.say(stage, text.replace("was written", "is written"), logging.WARNING)
    return said
