"""Ray Data for items, Ray Train for workers that train together, Ray Tune for trials."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.configuration import Config
from orchestrator.executors.executor import Failure, Row, Training, Work
from orchestrator.executors.ray_training import train_together
from orchestrator.executors.ray_trials import run_trials
from orchestrator.runtime import ray_session
from orchestrator.runtime.gpu_sharing import GpuShare


class RayExecutor:
    def start(self, config: Config) -> None:
        ray_session.start(config)

    def gpus(self) -> int:
        return ray_session.gpus()

    def capacity(self, config: Config) -> tuple[int, str]:
        gpus = ray_session.gpus()
        return (gpus, "available GPUs") if gpus else (ray_session.cpus(config), "available cores")

    def each(self, config: Config, worker: type, settings: Mapping[str, Any], items: Sequence[Any], *, gpu: bool = False,
             one_by_one: bool = False) -> Iterator[Row]:
        """One block per item, in as many actors as there are cores (or GPUs)."""
        ray_session.start(config)
        import ray

        ray_session.quiet()
        gpus = ray_session.gpus() if gpu else 0
        pool: dict[str, Any] = {"size": min(gpus or ray_session.cpus(config), len(items))}
        if one_by_one:
            pool["max_tasks_in_flight_per_actor"] = 1
        dataset = ray_session.mapped(
            ray.data.from_items(list(items), override_num_blocks=len(items)), worker,
            compute=ray.data.ActorPoolStrategy(**pool), num_cpus=1, num_gpus=1 if gpus else None,
            fn_constructor_kwargs=dict(settings))
        return dataset.iter_rows()

    def train(self, config: Config, work: Training, settings: Mapping[str, Any], workers: int, on_row: Callable[[Row], None],
              scratch: Path) -> None:
        train_together(work, settings, workers, on_row, scratch)

    def trials(self, config: Config, names: Sequence[str], work: Work, scratch: Path, share: GpuShare,
               on_done: Callable[[str, float | None], None]) -> dict[str, Failure]:
        return run_trials(config, names, work, scratch, share, on_done)
