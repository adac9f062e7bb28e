"""What a stage asks of whatever does its work. Everything here is free of Ray.

Three kinds of work and no more: items that are independent of each other (clips, tokens), workers that train one network
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
    """Of a traceback, without this machine's paths: it stands in the report."""
    lines = text.strip().splitlines()
    return lines[-1].replace(str(config.store_dir), "store")[:300] if lines else ""


class Work(Protocol):
    """What the trials of a grid share; with Ray it is put into the object store once and read without copies."""

    def run(self, name: str) -> dict:
        """One trial, in this process: fit, score, write. Returns {"accuracy": -1 where there is none}."""


Training = Callable[[Mapping[str, Any], Seat, Callable[[Row], None]], None]  # (settings, seat, report)


class Executor(Protocol):
    """`run.executor`. It chooses where work is done and never what: artefacts are the same to the last byte."""

    def start(self, config: Config) -> None:
        """Make ready; called again it does nothing. Raises UserError where the machine does not allow it."""

    def gpus(self) -> int:
        """GPUs that work is shared out over; 0 where none is handed out."""

    def room(self, config: Config) -> tuple[int, str]:
        """How many workers can train together, and what they are, for a sentence: (2, "cores there are")."""

    def each(self, config: Config, worker: type, settings: Mapping[str, Any], items: Sequence[Any], *, gpu: bool = False,
             one_by_one: bool = False) -> Iterator[Row]:
        """worker(**settings)({"item": item}) of every item, in any order.

        gpu: a worker takes a GPU where there are any. one_by_one: no item waits behind another while a worker is idle.
        """

    def train(self, config: Config, work: Training, settings: Mapping[str, Any], workers: int, on_row: Callable[[Row], None],
              scratch: Path) -> None:
        """Run work(settings, seat, report) on every seat; what the first one reports goes to on_row.

        settings: plain values alone. scratch: a folder of this call. Raises UserError with what a worker says to the user.
        """

    def trials(self, config: Config, names: Sequence[str], work: Work, scratch: Path, share: GpuShare,
               on_done: Callable[[str, float | None], None]) -> dict[str, Failure]:
        """One try of every name. Returns what happened, by name, to those that were not done.

        on_done: told the name and the accuracy of what was. Raises UserError for a user's mistake.
        """
