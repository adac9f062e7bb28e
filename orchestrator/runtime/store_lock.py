"""One writer per store: commands that share a store make its artefacts one after the other, and run folds in parallel."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.files.storage import exclusive, read_checked, read_json, remove_temporaries, write_json
from orchestrator.runtime import progress

KEYS = 2  # version of the content keys: 1 hashed whole source files, 2 hashes the code that is used
ARTEFACTS = ("clips", "encoders", "tokens")


@contextmanager
def writing(config: Config, stage: str) -> Iterator[None]:
    """Lock the store while `stage` makes what is missing; waits, with a message, if another command holds the lock.

    Check inside again what is missing: the other command may have made it. Raises UserError for a store whose keys another
    version made: none of its artefacts would be found.
    """
    note = partial(progress.say, stage, "waiting for another command that is working on this store")
    with exclusive(config.store_dir / ".lock", note):
        check_keys(config.store_dir)
        yield


def check_keys(store: Path) -> None:
    """Write the version of the keys into a new store; UserError for a store of another version."""
    mark = store / "store.json"
    if (read_json(mark) or {}).get("keys") == KEYS:
        return
    if found := [name for name in ARTEFACTS if any((store / name).glob("*"))]:
        raise UserError(f"The store {store} was made by another version of dualpain, whose artefacts this version cannot "
                        f"use: choose another store=DIR, or remove its {' and '.join(found)} (keep private, which holds the "
                        "pseudonym key). A copied store of this version needs its file store.json.")
    write_json(mark, {"keys": KEYS})


def clean_up_store(config: Config) -> None:
    """Remove temporary files of killed commands from the store, unless another command is writing to it."""
    if not config.store_dir.is_dir():
        return
    try:
        with exclusive(config.store_dir / ".lock"):
            for folder in (config.store_dir, *config.store_dir.glob("[!.]*/"), *config.store_dir.glob("[!.]*/[!.]*/")):
                if folder.is_dir():
                    remove_temporaries(folder)
            _remove_finished_trainings(config.store_dir / "encoders")
    except (UserError, OSError):  # locked, or not writable: a later command will do it
        pass


def _remove_finished_trainings(encoders: Path) -> None:
    """Remove training folders of finished encoders: their command was killed just before it removed them."""
    for folder in encoders.glob("*.partial"):
        if read_checked(folder.with_suffix("") / "encoder.json") is not None:
            shutil.rmtree(folder, ignore_errors=True)
