"""Ray: started once per command, on loopback, or joined if RAY_ADDRESS names a cluster."""

import atexit
import logging
import os
import secrets
import sys
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.runtime import cluster_address, loopback, progress, ray_folder, ray_watch, surroundings, terminal
from orchestrator.runtime.finding import STOP
from preprocessing.allotment import memory_bytes, usable_cores

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS is not deterministic
    # glibc gives every freed tensor of some megabytes back to the kernel and asks for it again at the next step: those
    # page faults are an eighth of a small model's training. Keep up to 256 MB, in one arena; other C libraries ignore this.
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


# Limits for actors of Ray Data, which would otherwise restart them for ever: one that always fails ends the command.
RESTARTS: dict[str, Any] = {"max_restarts": 3, "max_task_retries": 3}
SHARE = 0.3  # of the memory, for Ray's objects: Ray's own rule, which ignores a container's limit
_private: ray_folder.Private | None = None  # of the Ray that runs


def mapped(dataset: Any, worker: type, **options: Any) -> Any:
    """A Ray data set mapped by actors that are started again RESTARTS times at most. options: of Dataset.map."""
    with warnings.catch_warnings():
        # Ray will replace these options by named parameters, but has none for this one yet
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map(worker, **options, **RESTARTS)


def start(config: Config) -> None:
    """Start or join Ray unless this process already has. Every later call of the same command shares it.

    Raises UserError if it cannot be started on this machine.
    """
    environment()
    import ray

    if ray.is_initialized():
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address := cluster_address.named():
        # workers need the address too: Ray's own actors would else connect to the first cluster they find on the machine
        told = {} if address == "auto" else {"RAY_ADDRESS": address}
        settings |= {"address": "auto", "runtime_env": {"env_vars": {**WORKER_ENVIRONMENT, **told}}}
    else:
        settings |= _own(config)
    ray_watch.mark()
    try:
        with _held_stderr():
            ray.init(**settings)
    except Exception as error:
        _clear()
        raise UserError(_refused(config, error)) from error
    except BaseException:
        _clear()
        raise
    ray_watch.watch(_clear)


def environment() -> None:
    """What Ray reads from the environment when it is imported and when it starts."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # the dashboard's Train page
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # an interrupt ends the command: the ledger is the state
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # CSV, JSON and TensorBoard files per trial, never used
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else the driver prints notes about Ray's own actors
    # Ray lowers its workers' priority by 15 steps, so that a run gets little time on a busy machine. A command runs at the
    # priority at which it was started: use `nice` for a lower one.
    os.environ.setdefault("RAY_worker_niceness", "0")
    if not cluster_address.named():
        loopback.environment()


def _own(config: Config) -> dict[str, Any]:
    """The settings to start a new Ray; creates its private folder if the usual one cannot be used."""
    global _private
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # inherited: a runtime environment would cost every worker its own start
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # an actor; this machine is not preemptible
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # delay until the end of training is noticed
    # "local": without it Ray would look for a cluster that another user has started on this machine
    settings: dict[str, Any] = {"address": "local", "num_cpus": usable_cores(config.resources.cpus),
                                "include_dashboard": config.resources.dashboard,
                                "dashboard_host": loopback.ADDRESS, "_node_ip_address": loopback.ADDRESS}
    total, _ = memory_bytes()
    if total < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        settings["object_store_memory"] = max(80 << 20, int(SHARE * total))
    place, homeless = ray_folder.choose(), surroundings.home_trouble()
    if place.nowhere:
        raise UserError(surroundings.temporary().sentence())
    if place.root is not None:
        _private = ray_folder.Private(place)
        settings["_temp_dir"] = str(_private.folder)
        if _private.spill:
            settings["object_spilling_directory"] = _private.spill
    if homeless:  # Ray would write its token there
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        _cached(place)
    if surroundings.nameless():
        os.environ["LOGNAME"] = f"account-{os.geteuid()}"
    atexit.register(_clear)
    return settings


def _cached(place: ray_folder.Place) -> None:
    """Caches of libraries go to a folder that can be written, while the command runs."""
    global _private
    if _private is None:
        _private = ray_folder.Private(ray_folder.Place(place.usual, place.root or place.usual.parent))
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        if name not in os.environ:
            _private.set(name, str(_private.folder / "cache"))
    with suppress(RuntimeError):
        if Path.home().is_dir():
            return
    _private.set("HOME", str(_private.folder))


def _clear() -> None:
    """Remove the private folder with the Ray that used it."""
    global _private
    if _private is not None:
        _private.remove()
        _private = None


def _refused(config: Config, error: Exception) -> str:
    """One sentence on a Ray that did not start: a check of the machine that fails now, else the end of Ray's own error."""
    for finding in surroundings.check(config):
        if finding.state == STOP:
            return finding.sentence()
    said = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
    what = "could not be joined" if cluster_address.named() else "could not be started"
    return (f"Ray {what} ({type(error).__name__}: {said}): run the same command again, or python -m orchestrator.doctor with "
            "the same arguments to see what is missing on this machine.")


@contextmanager
def _held_stderr():
    """Ray's C++ code prints a greeting on stderr at any log level; its output is shown only if starting fails.

    What Python writes there meanwhile, such as a warning of another thread, is shown.
    """
    sys.stderr.flush()
    ours = sys.stderr
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.__stderr__.encoding,
                                                     errors=sys.__stderr__.errors) as stderr:
        os.dup2(held.fileno(), 2)
        if ours is sys.__stderr__ or isinstance(ours, terminal.SafeStream):
            sys.stderr = terminal.SafeStream(stderr, "stderr")
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr.fileno(), held.read())
            raise
        finally:
            sys.stderr = ours
            os.dup2(stderr.fileno(), 2)


def running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def stop() -> None:
    """End Ray. An error here is reported and changes nothing: what a run has finished is on disk."""
    if running():
        ray_watch.settle()
        try:
            sys.modules["ray"].shutdown()
        except Exception as error:
            progress.say("ray", f"did not end cleanly ({type(error).__name__}: {str(error).strip()[:200]}); finished work "
                                "is kept")
    _clear()


@contextmanager
def session(config: Config, folders: Iterable[Path] = ()):
    """Ray while the block runs, started by the first stage that needs it. A Ray that ran before is left alone, and
    run.executor=inline starts none.

    folders: what the block writes in addition to the store. Raises UserError at the start if a check of this machine fails.
    """
    ours = config.run.executor == "ray" and not running()
    if ours:
        environment()
    surroundings.require_and_warn(config, folders, ray=ours)
    with progress.inline() if config.run.executor == "inline" else nullcontext():
        try:
            yield
        finally:
            if ours:
                stop()


def quiet() -> None:
    """Ray Data without its own bars and lines: every stage shows its own progress."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def trainer() -> type:
    """TorchTrainer; for a Ray that this command started, on loopback and without Train's cleaner of placement groups.

    The groups end with that Ray. The cleaner asks the first Ray it finds on the machine whether our training is
    alive; a Ray of another command answers no, and our workers are killed.
    """
    from ray.train.torch import TorchTrainer

    if cluster_address.named():
        return TorchTrainer

    class OwnTrainer(TorchTrainer):
        def __init__(self, *arguments: Any, **words: Any):
            super().__init__(*arguments, **{"torch_config": loopback.torch_config(), **words})

        def _create_default_callbacks(self) -> list:
            made = super()._create_default_callbacks()  # type: ignore[misc]
            return [c for c in made if type(c).__name__ != "PlacementGroupCleanerCallback"]

    return OwnTrainer


def cpus(config: Config) -> int:
    """Cores that stages may use: 1 with run.executor=inline; if Ray is running, all cores of its cluster."""
    if config.run.executor == "inline":
        return 1
    if running():
        return max(1, int(sys.modules["ray"].cluster_resources().get("CPU", 1)))
    return usable_cores(config.resources.cpus)


def gpus() -> int:
    return int(sys.modules["ray"].cluster_resources().get("GPU", 0)) if running() else 0
