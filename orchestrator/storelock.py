"""One writer a store: commands that share a store make its artefacts one after the other, and run folds side by side."""

from contextlib import AbstractContextManager
from functools import partial

from orchestrator import progress
from orchestrator.config import Config
from orchestrator.storage import exclusive


def writing(config: Config, stage: str) -> AbstractContextManager[None]:
    """Hold the store while `stage` makes what is missing; waits, and says so, where another command holds it.

    Look again for what is missing once inside: the other command may have made it.
    """
    note = partial(progress.say, stage, "waiting for another command that is working on this store")
    return exclusive(config.store_dir / ".lock", note)
