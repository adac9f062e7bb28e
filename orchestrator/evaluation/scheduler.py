"""Ray Tune over the folds the ledger lacks: one trial a fold and seed. Tune only schedules; the ledger is the truth."""

import faulthandler
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.errors import ModelError
from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import ESTIMATORS
from orchestrator.errors import FoldError, UserError
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder, fit_fold
from orchestrator.evaluation.fold_data import used_encoder
from orchestrator.evaluation.ledger import Ledger
from orchestrator.files.scratch import scratch as own_folder
from orchestrator.plan.folds import Fold
from orchestrator.runtime import progress, ray_session
from orchestrator.runtime.gauges import FoldGauges
from orchestrator.runtime.gpu_sharing import GpuShare, memory
from orchestrator.runtime.lost_workers import causes, kernel_kills, low_on_memory
from orchestrator.stores.encoder_store import Encoder
from preprocessing.errors import InputError

CHUNK = 100  # Tune's driver grows with the number of trials it has seen
TRIES = 3


class Work(Protocol):
    """What the trials of a grid share, put into Ray's object store once and read without copies."""

    def run(self, name: str) -> dict:
        """One trial, in this process: fit, score, write. Returns {"accuracy": -1 where there is none}."""


@dataclass(frozen=True)
class FoldWork:
    """The folds of one run."""

    folds: dict[str, Fold]
    data: FoldData
    recipe: FoldRecipe
    encoders: dict[int | None, UsedEncoder | None]
    ledger: Ledger
    lineages: tuple[Lineage, ...] = ()  # of whatever else the folds use, such as chosen settings

    def run(self, name: str) -> dict:
        fold = self.folds[name]
        entry = fit_fold(fold, self.data, self.recipe, self.encoders[fold.group], self.lineages)
        self.ledger.write(fold, entry)
        right = [p.y_true == p.y_pred for p in entry.predictions]
        return {"accuracy": sum(right) / len(right) if right else -1.0}


def run_missing(config: Config, folds: Sequence[Fold], data: FoldData, recipe: FoldRecipe, encoders: Sequence[Encoder],
                ledger: Ledger, lineages: tuple[Lineage, ...] = ()) -> dict[str, str]:
    """Fit what the ledger lacks. Returns reasons by name for folds that failed every time."""
    missing = {fold.name: fold for fold in ledger.missing(list(folds))}
    if not missing:
        progress.say("loso", f"{len(folds)} folds are in the ledger already")
        return {}
    used = {group: used_encoder(encoders, group) for group in {fold.group for fold in missing.values()}}

    def work(names: list[str]) -> FoldWork:
        return FoldWork({name: missing[name] for name in names}, data, recipe, used, ledger, lineages)

    return run_grid(config, "loso", ledger.run_dir.name, names=list(missing), planned=len(folds), work=work,
                    scratch=ledger.run_dir)


def run_grid(config: Config, stage: str, run: str, names: list[str], planned: int,
             work: Callable[[list[str]], Work], scratch: Path) -> dict[str, str]:
    """One trial a name, on Tune. planned: with those that are finished already. Returns reasons by name of failures.

    A name that fails is tried again after the others, three times in all, unless its clips make it impossible. Tune's own
    retries are not used: it gives a trial up at the first failure when a reused worker dies between two trials.
    scratch: a folder this command holds alone; Tune's own state goes there, of no use to anybody after the grid.
    """
    ray_session.start(config)
    gauges = FoldGauges(run, planned, planned - len(names))
    share = GpuShare(config.resources.folds_per_gpu, 0 if config.model.name in ESTIMATORS else ray_session.gpus())
    failed: dict[str, str] = {}
    tries: Counter[str] = Counter()
    waiting = list(names)
    with progress.bar(stage, len(names), "folds") as tick:
        while waiting:
            size = 1 if share.measuring else CHUNK
            chunk, waiting = waiting[:size], waiting[size:]
            for name, failure in _run_chunk(config, chunk, work=work(chunk), scratch=scratch, tick=tick, gauges=gauges,
                                            share=share).items():
                tries[name] += 1
                if failure.again and tries[name] < TRIES:
                    waiting.append(name)
                else:
                    failed[name] = failure.reason
    return failed


def _trial(settings: dict, work: Work, limit_s: float) -> None:
    """The trainable. A user's mistake is reported, not raised: trying it again would not help."""
    from ray import tune

    # A fold that hangs takes its worker with it, and is tried again in another. This clock needs no turn of the
    # interpreter, so that it also ends a library that never gives it back; 2: whatever stands for stderr in a worker.
    faulthandler.dump_traceback_later(limit_s, exit=True, file=2)
    try:
        time.sleep(float(os.environ.get("DUALPAIN_TEST_FOLD_PAUSE_S", "0")))  # lets the kill tests hit a fold's middle
        done = work.run(settings["name"])
        tune.report({"user_error": "", **done, **memory()})
    except FoldError as error:
        tune.report({"accuracy": -1.0, "user_error": "", "impossible": str(error)})
    except (UserError, InputError, ModelError) as error:
        tune.report({"accuracy": -1.0, "user_error": str(error)})
    finally:
        faulthandler.cancel_dump_traceback_later()


@dataclass(frozen=True)
class Failure:
    """again: whether another try could help."""

    reason: str
    again: bool = True


def _run_chunk(config: Config, names: list[str], work: Work, scratch: Path, tick,
               gauges: FoldGauges, share: GpuShare) -> dict[str, Failure]:
    """One try of every name. Returns what happened, by name, to those that were not done."""
    from ray import tune

    ray_session.quiet()
    limit_s, kills = config.resources.fold_timeout_s, kernel_kills()
    with own_folder(scratch, "tune") as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trial, work=work, limit_s=limit_s), {"cpu": 1, "gpu": share.fraction}),
            param_space={"name": tune.grid_search(names)},
            tune_config=tune.TuneConfig(reuse_actors=True, trial_name_creator=_trial_name,
                                        trial_dirname_creator=_trial_name,
                                        max_concurrent_trials=ray_session.cpus(config)),
            run_config=tune.RunConfig(name="folds", storage_path=storage, verbose=0, callbacks=[_callback(tick, gauges)],
                                      failure_config=tune.FailureConfig(max_failures=0),
                                      checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)))
        results = tuner.fit()
    failed = dict.fromkeys(names, Failure("its worker died"))
    for result in results:  # type: ignore[attr-defined]
        name, said = result.config["name"] if result.config else "", result.metrics or {}
        share.learn(said)
        if said.get("user_error"):
            raise UserError(said["user_error"])
        if said.get("impossible"):
            failed[name] = Failure(said["impossible"], again=False)
        elif "user_error" in said:  # it was done; whatever happened to its worker afterwards
            failed.pop(name, None)
        elif result.error is not None and name:
            failed[name] = Failure(_reason(result.error, config, kernel_kills() - kills))
    return failed


def _reason(error: BaseException, config: Config, kernel_kills: int = 0) -> str:
    """The last line of what went wrong, without this machine's paths: it stands in the report.

    kernel_kills: processes of this machine that the kernel ended for lack of memory meanwhile.
    """
    if any(map(low_on_memory, causes(error))):
        return ("the machine ran low on memory and Ray ended its worker: fewer folds at once with resources.cpus, or a smaller "
                "train.batch_size")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = lines[-1].replace(str(config.store_dir), "store")[:300]
    if "died" in str(error):
        text += f" (killed, out of memory, or over resources.fold_timeout_s={config.resources.fold_timeout_s:g})"
        if kernel_kills > 0:
            text += f"; the kernel ended {kernel_kills} processes of this machine for lack of memory meanwhile"
    return text


def _trial_name(trial) -> str:
    return trial.config["name"]


def _callback(tick, gauges: FoldGauges):
    from ray.tune import Callback

    class Done(Callback):
        """Tune pickles whatever it is given: a bar on a terminal holds locks, and nothing of this is needed elsewhere."""

        def __init__(self, tick, gauges: FoldGauges):
            self.tick, self.gauges = tick, gauges

        def __getstate__(self) -> dict:
            return {}

        def __deepcopy__(self, memo):
            return self

        def on_trial_result(self, iteration, trials, trial, result, **info):
            failed = result.get("user_error") or result.get("impossible")
            if not failed and not result.get("done") and "accuracy" in result:
                accuracy = result["accuracy"] if result["accuracy"] >= 0 else None
                self.gauges.fold(accuracy)
                self.tick(1, trial.config["name"])

    return Done(tick, gauges)
