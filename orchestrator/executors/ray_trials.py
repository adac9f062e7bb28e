"""Ray Tune over the trials of a grid: one trial per fold and seed. Tune only schedules; the results are in the ledger."""

import faulthandler
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from models.errors import ModelError
from orchestrator.config import plugins
from orchestrator.config.configuration import Config
from orchestrator.errors import FoldError, UserError
from orchestrator.executors.executor import Failure, Work, last_line
from orchestrator.files.scratch import scratch as own_folder
from orchestrator.runtime import ray_session
from orchestrator.runtime.gpu_sharing import GpuShare, memory
from orchestrator.runtime.lost_workers import causes, kernel_kills, low_on_memory
from preprocessing.errors import InputError

Done = Callable[[str, float | None], None]


def trial(settings: dict, work: Work, limit_s: float, files: tuple[str, ...] = (),
          hashes: tuple[str, ...] = ()) -> None:
    """The trainable; files, hashes: plugins. A user's mistake is reported, not raised: a retry would not help."""
    from ray import tune

    # A fold that hangs ends its worker, and is retried in another. This timer does not need the interpreter's lock, so that
    # it also ends a call into a library that never returns; 2: the worker's stderr.
    faulthandler.dump_traceback_later(limit_s, exit=True, file=2)
    try:
        time.sleep(float(os.environ.get("DUALPAIN_TEST_FOLD_PAUSE_S", "0")))  # lets the kill tests hit a fold's middle
        plugins.load(files, hashes)
        done = work.run(settings["name"])
        tune.report({"user_error": "", **done, **memory()})
    except FoldError as error:
        tune.report({"accuracy": -1.0, "user_error": "", "impossible": str(error)})
    except (UserError, InputError, ModelError) as error:
        tune.report({"accuracy": -1.0, "user_error": str(error)})
    finally:
        faulthandler.cancel_dump_traceback_later()


def run_trials(config: Config, names: Sequence[str], work: Work, scratch: Path, share: GpuShare,
               on_done: Done) -> dict[str, Failure]:
    """Executor.trials on Tune.

    Tune's own retries are not used: it gives a trial up at the first failure when a reused worker dies between two trials.
    scratch: a folder that only this command uses; Tune's own state goes there and is not needed afterwards.
    """
    from ray import tune

    ray_session.quiet()
    limit_s, kills = config.resources.fold_timeout_s, kernel_kills()
    with own_folder(scratch, "tune") as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(trial, work=work, limit_s=limit_s, files=plugins.named(),
                                                     hashes=plugins.hashes()),
                                {"cpu": 1, "gpu": share.fraction}),
            param_space={"name": tune.grid_search(list(names))},
            tune_config=tune.TuneConfig(reuse_actors=True, trial_name_creator=_trial_name,
                                        trial_dirname_creator=_trial_name,
                                        max_concurrent_trials=ray_session.cpus(config)),
            run_config=tune.RunConfig(name="folds", storage_path=storage, verbose=0, callbacks=[callback(on_done)],
                                      failure_config=tune.FailureConfig(max_failures=0),
                                      checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)))
        results = tuner.fit()
    failed = dict.fromkeys(names, Failure("its worker died"))
    for result in results:  # type: ignore[attr-defined]
        name, metrics = result.config["name"] if result.config else "", result.metrics or {}
        share.learn(metrics)
        if metrics.get("user_error"):
            raise UserError(metrics["user_error"])
        if metrics.get("impossible"):
            failed[name] = Failure(metrics["impossible"], again=False)
        elif "user_error" in metrics:  # it finished, even if its worker died afterwards
            failed.pop(name, None)
        elif result.error is not None and name:
            failed[name] = Failure(_reason(result.error, config, kernel_kills() - kills))
    return failed


def _reason(error: BaseException, config: Config, kernel_kills: int = 0) -> str:
    """kernel_kills: processes of this machine that the kernel ended for lack of memory meanwhile.
    """
    if any(map(low_on_memory, causes(error))):
        return ("the machine ran low on memory and Ray ended its worker: use a smaller resources.cpus for fewer folds at once, "
                "or a smaller train.batch_size")
    text = last_line(str(error), config) or type(error).__name__
    if "died" in str(error):
        text += f" (killed, out of memory, or over resources.fold_timeout_s={config.resources.fold_timeout_s:g})"
        if kernel_kills > 0:
            text += f"; the kernel ended {kernel_kills} processes of this machine for lack of memory meanwhile"
    return text


def _trial_name(trial) -> str:
    return trial.config["name"]


def callback(on_done: Done):
    """Tune's Callback that reports every finished trial."""
    from ray.tune import Callback

    class Report(Callback):
        """Tune pickles its callbacks: a progress bar holds locks, and other processes do not need it."""

        def __init__(self, on_done: Done):
            self.on_done = on_done

        def __getstate__(self) -> dict:
            return {}

        def __deepcopy__(self, memo):
            return self

        def on_trial_result(self, iteration, trials, trial, result, **info):
            failed = result.get("user_error") or result.get("impossible")
            if not failed and not result.get("done") and "accuracy" in result:
                self.on_done(trial.config["name"], result["accuracy"] if result["accuracy"] >= 0 else None)

    return Report(on_done)
