"""Ray: started once a command, on loopback, or joined where a cluster is named by RAY_ADDRESS."""

import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from typing import Any

from orchestrator import raywatch
from orchestrator.config import Config

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS is not deterministic
    # glibc gives every freed tensor of some megabytes back to the kernel and asks for it again at the next step: those
    # page faults are an eighth of a small model's training. Keep up to 256 MB, in one arena; other C libraries ignore this.
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


def start(config: Config) -> None:
    """Start or join Ray unless this process already has. Every later call of the same command shares it."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # the dashboard's Train page
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # an interrupt ends the command: the ledger is the state
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # CSV, JSON and TensorBoard files a trial, read by nobody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else the driver prints notes about Ray's own actors
    # Ray lowers its workers' priority by 15 steps, and on a busy machine a run gets what the others leave. A command runs
    # at the priority at which it was started: who wants a lower one says `nice`.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if os.environ.get("RAY_ADDRESS"):
        # workers too must be told the address: Ray's own actors would ask the first cluster they find on the machine
        named = {} if os.environ["RAY_ADDRESS"] == "auto" else {"RAY_ADDRESS": os.environ["RAY_ADDRESS"]}
        settings |= {"address": "auto", "runtime_env": {"env_vars": {**WORKER_ENVIRONMENT, **named}}}
    else:
        for name, value in WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # inherited: a runtime environment would cost every worker its own start
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # an actor; nobody takes this machine away
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # the end of training is seen as late as this
        # "local": without it Ray would look for a cluster that somebody else has started on this machine
        settings |= {"address": "local", "num_cpus": config.resources.cpus, "include_dashboard": config.resources.dashboard,
                     "dashboard_host": "127.0.0.1", "_node_ip_address": "127.0.0.1"}
    raywatch.mark()
    with _held_stderr():
        ray.init(**settings)
    raywatch.watch()


@contextmanager
def _held_stderr():
    """Ray's C++ side greets on stderr whatever its log level; what it wrote is shown only if starting fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def stop() -> None:
    if running():
        raywatch.settle()
        sys.modules["ray"].shutdown()


@contextmanager
def session(config: Config):
    """Ray for as long as the block runs, started by the first stage that needs it. One that ran before is left alone."""
    theirs = running()
    try:
        yield
    finally:
        if not theirs:
            stop()


def quiet() -> None:
    """Ray Data without its own bars and lines: every stage shows its own progress."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def trainer() -> type:
    """TorchTrainer, for a Ray that this command started without Train's cleaner of placement groups: they end with it.

    The cleaner asks the first Ray it finds on the machine whether our training lives; another's says no, and our workers
    are killed.
    """
    from ray.train.torch import TorchTrainer

    if os.environ.get("RAY_ADDRESS"):
        return TorchTrainer

    class OwnTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list:
            made = super()._create_default_callbacks()  # type: ignore[misc]
            return [c for c in made if type(c).__name__ != "PlacementGroupCleanerCallback"]

    return OwnTrainer


def cpus(config: Config) -> int:
    """Cores that stages may use; asked of Ray where it runs, so that a cluster counts whole."""
    if running():
        return max(1, int(sys.modules["ray"].cluster_resources().get("CPU", 1)))
    return config.resources.cpus or os.cpu_count() or 1


def gpus() -> int:
    return int(sys.modules["ray"].cluster_resources().get("GPU", 0)) if running() else 0
