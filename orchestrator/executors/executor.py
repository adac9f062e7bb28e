"""The interface between a stage and the executor that does its work. Nothing here imports Ray.

There are three kinds of work: items that are independent of each other (clips, tokens), workers that train one network
together (encoders), and named trials of which each may fail alone (folds).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.config.configuration import Config
from orchestrator.runtime.gpu_sharing import GpuShare

Row = dict[str, Any]


@dataclass(frozen=True)
class Seat:
    """One worker among those that train together. device: a torch.device."""

    rank: int
    world: int
    device: Any


@dataclass(frozen=True)
class Failure:
    """again: whether another try could help."""

    reason: str
    again: bool = True


def last_line(text: str, config: Config) -> str:
    """The last line of a traceback, without this machine's paths, for the report."""
    lines = text.strip().splitlines()
    return lines[-1].replace(str(config.store_dir), "store")[:300] if lines else ""


class Work(Protocol):
    """What the trials of a grid share; with Ray it is put into the object store once and read without copies."""

    def run(self, name: str) -> dict:
        """One trial, in this process: fit, score, write. Returns {"accuracy": -1 where there is none}."""


Training = Callable[[Mapping[str, Any], Seat, Callable[[Row], None]], None]  # (settings, seat, report)


class Executor(Protocol):
    """`run.executor`. It decides where work is done and never what is computed: artefacts are byte-identical."""

    def start(self, config: Config) -> None:
        """Prepare; a second call does nothing. Raises UserError if this machine does not allow it."""

    def gpus(self) -> int:
        """GPUs over which the work is distributed; 0 if it assigns none."""

    def capacity(self, config: Config) -> tuple[int, str]:
        """How many workers can train together, and their name in a message: (2, "available cores")."""

    def each(self, config: Config, worker: type, settings: Mapping[str, Any], items: Sequence[Any], *, gpu: bool = False,
             one_by_one: bool = False) -> Iterator[Row]:
        """worker(**settings)({"item": item}) of every item, in any order.

        gpu: a worker takes a GPU where there are any. one_by_one: no item waits behind another while a worker is idle.
        """

    def train(self, config: Config, work: Training, settings: Mapping[str, Any], workers: int, on_row: Callable[[Row], None],
              scratch: Path) -> None:
        """Run work(settings, seat, report) on every seat; on_row gets what the first one reports.

        settings: plain values only. scratch: a folder for this call. Raises UserError with the message of a worker.
        """

    def trials(self, config: Config, names: Sequence[str], work: Work, scratch: Path, share: GpuShare,
               on_done: Callable[[str, float | None], None]) -> dict[str, Failure]:
        """Run every trial once. Returns the failures, by name.

        on_done gets the name and the accuracy of every finished trial. Raises UserError for a user's mistake.
        """
