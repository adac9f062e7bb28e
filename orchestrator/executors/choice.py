"""Which executor does the work of a command: `run.executor`."""

from collections.abc import Callable

from orchestrator.config.configuration import Config
from orchestrator.executors.executor import Executor
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.on_ray import RayExecutor

KINDS: dict[str, Callable[[], Executor]] = {"ray": RayExecutor, "inline": InlineExecutor}


def of(config: Config) -> Executor:
    return KINDS[config.run.executor]()
