"""Checkpoints of an unfinished training: rank 0 writes them, and all ranks resume from the one that rank 0 chose.

They are in the encoder's `.partial` folder. Its name holds the encoder's key, so they are never used with another
configuration, other subjects or other code. A checkpoint is <stage>-<steps done>.safetensors and, written last, .json.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from models.mae import training_state
from orchestrator.errors import UserError
from orchestrator.files.storage import disk_is_full

KEPT = 2  # the last two
OWNER = "owner"


@dataclass(frozen=True)
class Every:
    """How often a checkpoint is written; the first that applies; None: never. seconds: at the first step after this time."""

    epochs: int | None = 1
    steps: int | None = None
    seconds: float | None = 300


class Checkpoints:
    """Of one stage (video or signal). owner: the command that trains here now; workers of an older one may still run."""

    def __init__(self, folder: Path, stage: str, every: Every, owner: str = ""):
        self.folder, self.stage, self.every, self.owner = folder, stage, every, owner
        self.saved_at = time.monotonic()

    def steps(self) -> list[int]:
        """Numbers of steps of all checkpoints, ascending; their content is not verified."""
        return sorted(int(p.stem.rpartition("-")[2]) for p in self.folder.glob(f"{self.stage}-*.json"))

    def newest(self) -> int | None:
        """Number of steps of the newest checkpoint that is complete and undamaged."""
        return next((n for n in reversed(self.steps()) if self.load(n) is not None), None)

    def load(self, steps_done: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return training_state.load(self._path(steps_done))

    def due(self, steps_done: int, per_epoch: int) -> bool:
        every = self.every
        epochs, rest = divmod(steps_done, per_epoch)
        return bool((every.epochs and not rest and epochs % every.epochs == 0)
                    or (every.steps and steps_done % every.steps == 0)
                    or (every.seconds and time.monotonic() - self.saved_at > every.seconds))

    def save(self, steps_done: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Raises UserError if the disk is full, RuntimeError if another command has taken over."""
        if self.owner and (self.folder / OWNER).read_text() != self.owner:
            raise RuntimeError("another command is training this encoder now")
        try:
            training_state.save(self._path(steps_done), tensors, facts)
        except Exception as error:
            if not disk_is_full(error):
                raise
            raise UserError(f"The disk of {self.folder} is full: free some space and run the same command again; it resumes "
                            f"{self.last_good()}.") from error
        self.saved_at = time.monotonic()
        self._remove(self.steps()[:-KEPT])

    def forget_after(self, steps_done: int) -> None:
        """Remove checkpoints newer than the one a run resumes from: they are damaged or have another batch size."""
        self._remove([n for n in self.steps() if n > steps_done])

    def _remove(self, numbers: list[int]) -> None:
        for path in map(self._path, numbers):
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def last_good(self) -> str:
        newest = self.newest()
        return "from the beginning" if newest is None else f"from the last good checkpoint, {self._path(newest).name}"

    def _path(self, steps_done: int) -> Path:
        return self.folder / f"{self.stage}-{steps_done:08d}.safetensors"
