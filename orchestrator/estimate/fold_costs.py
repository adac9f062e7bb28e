"""Estimated time and disk of a run's folds: fits with refit and seeds, the audit's fits, the run folder. Part of costs.py.

Everything is counted in clips that pass a training step, or in the rows that an estimator is fitted on.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.registry import find
from orchestrator.config.configuration import Config, with_protocol
from orchestrator.config.model_inputs import VIDEO, is_estimator, needs
from orchestrator.estimate import flops
from orchestrator.estimate.data_fingerprint import Fingerprint
from orchestrator.evaluation.audit import Canary, planned
from orchestrator.plan.folds import Fold, Plan

if TYPE_CHECKING:
    from orchestrator.estimate.costs import Cost, Speed

FOLD_SECONDS = 0.3  # per fold: Tune's own time, the fold's arrays, building the model, writing the entry
# Estimators, from fits on 500 and 2,000 windows (200 x 6) of `watch` on one core, 2026-11-27: seconds per value for a window's
# statistics, and seconds per unit of the growth term of each fit with n rows of f statistics
STATISTIC_SECONDS = 8e-8
FOREST_SECONDS = 9e-8  # a tree, n log2(n) sqrt(f); with hashing the trees
SVM_SECONDS, RIDGE_SECONDS, TREE_SECONDS = 1e-9, 7e-9, 7e-7  # n^2 f; n f^2; n log2(n)
STATISTICS_A_CHANNEL = 10
LEAST_RATE, PLATEAU_PATIENCE = 1e-6, 7  # as in models/classifier/training.py, which imports torch; tested to agree
# Bytes in the run folder: per prediction (ledger and table), per class of it, per epoch of a history, per entry, the report
PREDICTION_BYTES, CLASS_BYTES, EPOCH_BYTES, ENTRY_BYTES, REPORT_BYTES = 160, 24, 170, 1500, 150_000


def folds(config: Config, data: Fingerprint, plan: Plan, speed: "Speed", done: frozenset[str], named: bool) -> list["Cost"]:
    """Fits, audit and report of one protocol's run. done: names of folds in the ledger, and "audit"."""
    from orchestrator.estimate.costs import REPORT_SECONDS, TORCH_START, Cost, interval

    if config.protocol.name == "both":
        config = with_protocol(config, "as_paper" if plan.leaky else "clean")
    left = [fold for fold in plan.folds if fold.name not in done]
    protocol = (" (as_paper)" if plan.leaky else " (clean)") if named else ""
    rows = []
    if left:
        words = [f"{len(left)} folds of {config.model.name}{protocol}"]
        if len({fold.seed for fold in left}) > 1:
            words.append(f"{len({fold.seed for fold in left})} seeds")
        if plan.refit and not is_estimator(config.model.name):
            words.append("each fitted twice (refit)")
        rows.append(Cost("loso", ", ".join(words), _with_start(seconds_of(config, data, left, plan.refit, speed), TORCH_START),
                         run_bytes(config, data, left, plan)))
    extra = audited(config, data, plan) if config.audit and not plan.leaky and "audit" not in done else []
    if extra:
        codes = [fit.fold for fit in extra if fit.kind == "coded"]
        others = [fit.fold for fit in extra if fit.kind != "coded"]
        plain = seconds_of(config, data, others, plan.refit, speed)
        coded = seconds_of(config, data, codes, False, speed, every_epoch=True)
        seconds = (plain[0] + coded[0], plain[1] + coded[1])
        rows.append(Cost("audit", f"{len(extra)} fits of the canaries{protocol}", _with_start(seconds, TORCH_START),
                         run_bytes(config, data, [*others, *codes], plan)))
    return [*rows, Cost("report", f"figures and tables{protocol}", interval(REPORT_SECONDS), REPORT_BYTES)]


def audited(config: Config, data: Fingerprint, plan: Plan) -> list[Canary]:
    """The fits of the canaries. Those on codes have no validation subjects and no refit; the others train as the run does."""
    first = [fold for fold in plan.folds if fold.seed == plan.folds[0].seed]
    n_clips = data.task_clips / max(1, data.subjects) * sum(len(fold.test) for fold in first)
    asked = config.canaries
    return planned(plan.folds, n_clips, len(config.task.classes), asked.repeats, asked.points) if first else []


def seconds_of(config: Config, data: Fingerprint, folds: Sequence[Fold], refit: bool, speed: "Speed",
               every_epoch: bool = False) -> tuple[float, float]:
    """(least, most) on all workers. Least: every fold stops as early as possible; most: it uses every epoch."""
    each = data.task_clips / max(1, data.subjects)
    workers = max(1, min(speed.workers, len(folds)))
    fixed = FOLD_SECONDS * len(folds) / workers
    if is_estimator(config.model.name):
        spent = sum(estimator(config, data, each * len({*fold.train, *fold.val} - set(fold.test)), each * len(fold.test))
                    for fold in folds) / workers + fixed
        return spent / 1.5, spent * 1.5
    clip = clip_seconds(config, data, speed)
    least, most = epochs(config, every_epoch)
    low = high = fixed
    for fold in folds:
        watched = 0 if every_epoch else len(fold.val)
        one = clip * each * (len(fold.train) + watched / 3)
        again = clip * each * (len(fold.train) + len(fold.val)) if refit and not every_epoch else 0.0
        tested = clip * each * len(fold.test) / 3
        # the refit goes on for the chosen number of epochs, which is the first one at the earliest
        low += (one * least + again + tested) / workers
        high += (one * most + again * most + tested) / workers
    return low, high


def epochs(config: Config, every_epoch: bool = False) -> tuple[int, int]:
    """Fewest and most epochs of a fit: it ends `patience` after the best one, as_paper when its rate has come down to where
    the released code stops, or either when the epochs are used up."""
    paper = config.protocol.name == "as_paper"
    most = config.protocol.as_paper_epochs if paper else int(config.train.get("max_epochs", 200))
    if every_epoch or (config.protocol.val == "fixed_epochs" and not paper):
        return most, most
    if not paper and config.train.get("stop", "patience") == "patience":
        return min(most, int(config.train.get("patience", 10)) + 1), most
    rate = max(float(config.train.get("lr", 1e-3)), float(config.train.get("lr_signal") or 0.0))
    halvings = max(0, math.ceil(math.log2(rate / LEAST_RATE) - 1e-9))
    return min(most, 1 + halvings * (PLATEAU_PATIENCE + 1)), most


def clip_seconds(config: Config, data: Fingerprint, speed: "Speed") -> float:
    """One clip in a training step: as timed, else from its operations; with decoding if the model reads pixels."""
    from orchestrator.estimate.costs import DECODE_SECONDS

    decoded = DECODE_SECONDS if needs(config) & VIDEO else 0.0
    if speed.clip is not None:
        return speed.clip + decoded
    work = flops.classifier(config, data.n_channels, len(config.task.classes))
    return 3 * work / (find(config.model.name).share * speed.rate) + decoded


def estimator(config: Config, data: Fingerprint, n: float, tested: float) -> float:
    """Seconds of one fit on n clips and of predicting `tested`."""
    values, f = int(config.signal.get("length", 400)) * data.n_channels, STATISTICS_A_CHANNEL * max(1, data.n_channels)
    grown = n * math.log2(n + 1)
    name = config.model.name
    if name == "one_number":
        return TREE_SECONDS * grown
    fit = {"random_forest": FOREST_SECONDS * int(config.model.options().get("trees", 300)) * grown * math.sqrt(f),
           "svm": SVM_SECONDS * n * n * f, "ridge": RIDGE_SECONDS * n * f * f}[name]
    return fit + STATISTIC_SECONDS * (n + tested) * values


def run_bytes(config: Config, data: Fingerprint, folds: Sequence[Fold], plan: Plan) -> float:
    """Ledger and tables of these folds."""
    each = data.task_clips / max(1, data.subjects)
    predictions = each * sum(len(fold.test) for fold in folds)
    history = 0 if is_estimator(config.model.name) else sum(epochs(config)) / 2
    return (predictions * (PREDICTION_BYTES + CLASS_BYTES * len(config.task.classes))
            + len(folds) * (ENTRY_BYTES + 20 * plan.n_subjects + EPOCH_BYTES * history))


def _with_start(seconds: tuple[float, float], start: float) -> tuple[float, float]:
    return seconds[0] + start / 1.5, seconds[1] + start * 1.5
