"""Workers that train one network together, on Ray Train.

The first of them appends one JSON line per row to a file, which the command follows.
"""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import ModelError
from orchestrator.errors import UserError
from orchestrator.executors.executor import Seat, Training
from orchestrator.files.storage import write_text
from orchestrator.runtime import ray_session

RESTARTS = 3


def train_together(work: Training, settings: Mapping[str, Any], workers: int, on_row: Callable[[dict], None],
                   scratch: Path) -> None:
    """Executor.train on Ray Train. If a worker or a node dies, it resumes from the last checkpoint, at most RESTARTS times."""
    ray_session.quiet()
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    rows, verdict, stopped = scratch / "rows.jsonl", scratch / "verdict", threading.Event()
    _reserve(verdict).write_bytes(bytes(1 << 16))
    watcher = threading.Thread(target=follow, args=(rows, on_row, stopped))
    watcher.start()
    try:
        trainer = ray_session.trainer()(
            _worker, train_loop_config={"work": work, "settings": settings, "rows": str(rows), "verdict": str(verdict)},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(ray_session.gpus())),
            # the storage folder is new each time: a run resumes from our own checkpoints, under the encoder's key
            run_config=RunConfig(name="mae", storage_path=str(scratch), failure_config=FailureConfig(max_failures=RESTARTS)))
        trainer.fit()
    except SystemExit as stop:  # Train's own answer to Ctrl-C
        raise KeyboardInterrupt from stop
    except Exception:
        if not verdict.exists():
            raise
    finally:
        stopped.set()
        watcher.join()
    if verdict.exists():
        raise UserError(verdict.read_text())


def _worker(given: dict) -> None:
    """The training function of every worker."""
    import torch
    from ray import train
    from ray.train.torch import get_device

    verdict = Path(given["verdict"])
    if verdict.exists():  # Train restarts workers after any error; this one would fail again
        return
    torch.set_num_threads(1)
    context = train.get_context()

    def report(row: dict) -> None:
        with open(given["rows"], "a") as handle:
            handle.write(json.dumps(row) + "\n")

    try:
        given["work"](given["settings"], Seat(context.get_world_rank(), context.get_world_size(), get_device()), report)
    except (UserError, ModelError) as error:
        _reserve(verdict).unlink(missing_ok=True)  # on a full disk, this frees space for the message
        write_text(verdict, str(error))
        raise


def _reserve(verdict: Path) -> Path:
    return verdict.with_name("reserve")


def follow(lines: Path, on_row: Callable[[dict], None], stopped: threading.Event) -> None:
    """Call on_row for every complete line that appears, until stopped and read to the end."""
    begun = 0
    while True:
        last = stopped.wait(0.3)
        if lines.exists():
            with open(lines, "rb") as handle:
                handle.seek(begun)
                whole = handle.read().rpartition(b"\n")[0]
            if whole:
                begun += len(whole) + 1
                for row in whole.splitlines():
                    on_row(json.loads(row))
        if last:
            return
