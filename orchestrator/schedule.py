"""Ray Tune over the folds the ledger lacks: one trial a fold and seed. Tune only schedules; the ledger is the truth."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator import progress, session
from orchestrator.config import Config
from orchestrator.encoders import Encoder
from orchestrator.errors import UserError
from orchestrator.folddata import used_encoder
from orchestrator.foldfit import FoldData, FoldRecipe, UsedEncoder, fit_fold
from orchestrator.folds import Fold
from orchestrator.gauges import FoldGauges
from orchestrator.ledger import Ledger

CHUNK = 100  # Tune's driver grows with the number of trials it has seen
TRIES = 3


@dataclass(frozen=True)
class Work:
    """What every trial shares, put into Ray's object store once and read without copies."""

    folds: dict[str, Fold]
    data: FoldData
    recipe: FoldRecipe
    encoders: dict[int | None, UsedEncoder | None]
    ledger: Ledger


def run_missing(config: Config, folds: Sequence[Fold], data: FoldData, recipe: FoldRecipe, encoders: Sequence[Encoder],
                ledger: Ledger) -> dict[str, str]:
    """Fit what the ledger lacks. Returns reasons by name for folds that failed every time."""
    missing = ledger.missing(list(folds))
    if not missing:
        progress.say("loso", f"{len(folds)} folds are in the ledger already")
        return {}
    session.start(config)
    used = {group: used_encoder(encoders, group) for group in {fold.group for fold in missing}}
    gauges = FoldGauges(Path(ledger.folder).parent.name, len(folds), len(folds) - len(missing))
    failed: dict[str, str] = {}
    with progress.bar("loso", len(missing), "folds") as tick:
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            work = Work({fold.name: fold for fold in chunk}, data, recipe, used, ledger)
            failed |= _run_chunk(config, work, tick, gauges)
    return failed


def run_one(work: Work, name: str) -> dict:
    """One fold, in this process: fit, score, write. What a trial does."""
    fold = work.folds[name]
    entry = fit_fold(fold, work.data, work.recipe, work.encoders[fold.group])
    work.ledger.write(fold, entry)
    right = [p["y_true"] == p["y_pred"] for p in entry["predictions"]]
    return {"accuracy": sum(right) / len(right) if right else -1.0, "user_error": ""}


def _trial(settings: dict, work: Work) -> None:
    """The trainable. A user's mistake is reported, not raised: trying it again would not help."""
    from ray import tune

    pause = float(os.environ.get("DUALPAIN_TEST_FOLD_PAUSE_S", "0"))  # lets the kill tests hit a fold in its middle
    time.sleep(pause)
    try:
        tune.report(run_one(work, settings["name"]))
    except UserError as error:
        tune.report({"accuracy": -1.0, "user_error": str(error)})


def _run_chunk(config: Config, work: Work, tick, gauges: FoldGauges) -> dict[str, str]:
    from ray import tune

    session.quiet()
    gpu = 0.5 if session.gpus() else 0
    with TemporaryDirectory(prefix=".tune.", suffix=".tmp", dir=config.store_dir) as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trial, work=work), {"cpu": 1, "gpu": gpu}),
            param_space={"name": tune.grid_search(list(work.folds))},
            tune_config=tune.TuneConfig(reuse_actors=True, trial_name_creator=_trial_name,
                                        trial_dirname_creator=_trial_name, time_budget_s=None,
                                        max_concurrent_trials=session.cpus(config)),
            run_config=tune.RunConfig(name="folds", storage_path=storage, verbose=0, callbacks=[_callback(tick, gauges)],
                                      failure_config=tune.FailureConfig(max_failures=TRIES - 1),
                                      checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)))
        results = tuner.fit()
    failed = {}
    for result in results:
        name = result.config["name"] if result.config else ""
        if result.metrics and result.metrics.get("user_error"):
            raise UserError(result.metrics["user_error"])
        if result.error is not None:
            failed[name] = str(result.error).strip().splitlines()[-1][:300]
    return failed


def _trial_name(trial) -> str:
    return trial.config["name"]


def _callback(tick, gauges: FoldGauges):
    from ray.tune import Callback

    class Done(Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            if not result.get("user_error") and not result.get("done") and "accuracy" in result:
                accuracy = result["accuracy"] if result["accuracy"] >= 0 else None
                gauges.fold(accuracy)
                tick(1, trial.config["name"])

    return Done()
