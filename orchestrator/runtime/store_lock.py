"""One writer a store: commands that share a store make its artefacts one after the other, and run folds side by side."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.files.storage import exclusive, read_json, read_sealed, sweep_temporaries, write_json
from orchestrator.runtime import progress

KEYS = 2  # how content keys are made: 1 hashed files of sources, 2 the code that is reached
ARTEFACTS = ("clips", "encoders", "tokens")


@contextmanager
def writing(config: Config, stage: str) -> Iterator[None]:
    """Hold the store while `stage` makes what is missing; waits, and says so, where another command holds it.

    Look again for what is missing once inside: the other command may have made it. Raises UserError for a store whose keys
    another version made: nothing in it would be found again.
    """
    note = partial(progress.say, stage, "waiting for another command that is working on this store")
    with exclusive(config.store_dir / ".lock", note):
        check_keys(config.store_dir)
        yield


def check_keys(store: Path) -> None:
    """Mark a new store with the kind of its keys; refuse one of another kind."""
    mark = store / "store.json"
    if (read_json(mark) or {}).get("keys") == KEYS:
        return
    if found := [name for name in ARTEFACTS if any((store / name).glob("*"))]:
        raise UserError(f"The store {store} was made by another version of dualpain, whose artefacts this one cannot tell "
                        f"apart: name another store=, or remove its {' and '.join(found)} (keep private, its pseudonym key). A "
                        "copy of this version's needs its file store.json.")
    write_json(mark, {"keys": KEYS})


def sweep_store(config: Config) -> None:
    """Remove what killed commands left anywhere in the store; not while another command is making its artefacts."""
    if not config.store_dir.is_dir():
        return
    try:
        with exclusive(config.store_dir / ".lock"):
            for folder in (config.store_dir, *config.store_dir.glob("[!.]*/"), *config.store_dir.glob("[!.]*/[!.]*/")):
                if folder.is_dir():
                    sweep_temporaries(folder)
            _sweep_trained(config.store_dir / "encoders")
    except (UserError, OSError):  # it is held, or may not be written: whoever comes next will
        pass


def _sweep_trained(encoders: Path) -> None:
    """Trainings of encoders that are whole: their command was killed just before it removed them."""
    for folder in encoders.glob("*.partial"):
        if read_sealed(folder.with_suffix("") / "encoder.json") is not None:
            shutil.rmtree(folder, ignore_errors=True)
