"""Every stage in the command's own process, without Ray: for a debugger, and for tests.

No other process watches this one: a fold that hangs is not ended by resources.fold_timeout_s, and a kill ends the command,
which resumes when it is run again.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import ModelError
from orchestrator.config.configuration import Config
from orchestrator.errors import FoldError, UserError
from orchestrator.executors.executor import Failure, Row, Seat, Training, Work, last_line
from orchestrator.runtime.gpu_sharing import GpuShare
from orchestrator.runtime.ray_session import WORKER_ENVIRONMENT
from preprocessing.errors import InputError


class InlineExecutor:
    def start(self, config: Config) -> None:
        for name, value in WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)

    def gpus(self) -> int:
        return 0  # the one process uses whatever torch finds

    def capacity(self, config: Config) -> tuple[int, str]:
        return 1, "process of run.executor=inline"

    def each(self, config: Config, worker: type, settings: Mapping[str, Any], items: Sequence[Any], *, gpu: bool = False,
             one_by_one: bool = False) -> Iterator[Row]:
        self.start(config)
        made = worker(**settings)
        return (made({"item": item}) for item in items)

    def train(self, config: Config, work: Training, settings: Mapping[str, Any], workers: int, on_row: Callable[[Row], None],
              scratch: Path) -> None:
        import torch

        torch.set_num_threads(1)
        work(settings, Seat(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu")), on_row)

    def trials(self, config: Config, names: Sequence[str], work: Work, scratch: Path, share: GpuShare,
               on_done: Callable[[str, float | None], None]) -> dict[str, Failure]:
        """A fold that fails is recorded and the others continue, as with Ray; its traceback is on stderr. There is no retry:
        in the same process it would fail again."""
        failed: dict[str, Failure] = {}
        for name in names:
            try:
                with _torch_as_it_was():
                    accuracy = work.run(name)["accuracy"]
            except FoldError as error:
                failed[name] = Failure(str(error), again=False)
            except (UserError, InputError, ModelError):
                raise
            except Exception as error:
                traceback.print_exc()
                failed[name] = Failure(last_line("".join(traceback.format_exception_only(error)), config), again=False)
            else:
                on_done(name, accuracy if accuracy >= 0 else None)
        return failed


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """A fold on a GPU asks torch for deterministic kernels, which the stages of the next run did not ask for."""
    try:
        yield
    finally:
        if torch := sys.modules.get("torch"):
            torch.use_deterministic_algorithms(False)
