"""Run the folds that are missing in the ledger: one trial per fold and seed. Results are read from the ledger only."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import is_estimator
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder, fit_fold
from orchestrator.evaluation.fold_data import used_encoder
from orchestrator.evaluation.ledger import Ledger
from orchestrator.executors import choice
from orchestrator.executors.executor import Work
from orchestrator.plan.folds import Fold
from orchestrator.runtime import progress
from orchestrator.runtime.gauges import FoldGauges
from orchestrator.runtime.gpu_sharing import GpuShare
from orchestrator.stores.encoder_store import Encoder

CHUNK = 100  # Tune's driver grows with the number of trials it has seen
TRIES = 3


@dataclass(frozen=True)
class FoldWork:
    """The folds of one run."""

    folds: dict[str, Fold]
    data: FoldData
    recipe: FoldRecipe
    encoders: dict[int | None, UsedEncoder | None]
    ledger: Ledger
    lineages: tuple[Lineage, ...] = ()  # of what else the folds use, for example settings chosen by a sweep

    def run(self, name: str) -> dict:
        fold = self.folds[name]
        entry = fit_fold(fold, self.data, self.recipe, self.encoders[fold.group], self.lineages)
        self.ledger.write(fold, entry)
        right = [p.y_true == p.y_pred for p in entry.predictions]
        return {"accuracy": sum(right) / len(right) if right else -1.0}


def run_missing(config: Config, folds: Sequence[Fold], data: FoldData, recipe: FoldRecipe, encoders: Sequence[Encoder],
                ledger: Ledger, lineages: tuple[Lineage, ...] = ()) -> dict[str, str]:
    """Fit the folds that are missing in the ledger. Returns the reasons, by name, of folds that failed in all attempts."""
    missing = {fold.name: fold for fold in ledger.missing(list(folds))}
    if not missing:
        progress.say("loso", f"all {len(folds)} folds are already in the ledger")
        return {}
    used = {group: used_encoder(encoders, group) for group in {fold.group for fold in missing.values()}}

    def work(names: list[str]) -> FoldWork:
        return FoldWork({name: missing[name] for name in names}, data, recipe, used, ledger, lineages)

    return run_grid(config, "loso", ledger.run_dir.name, names=list(missing), planned=len(folds), work=work,
                    scratch=ledger.run_dir)


def run_grid(config: Config, stage: str, run: str, names: list[str], planned: int,
             work: Callable[[list[str]], Work], scratch: Path) -> dict[str, str]:
    """One trial per name. planned: number of trials, including finished ones. Returns the reasons, by name, of failures.

    A failed trial is repeated after the others, at most three attempts, unless another attempt cannot help.
    scratch: a folder that only this command uses.
    """
    executor = choice.of(config)
    executor.start(config)
    gauges = FoldGauges(run, planned, planned - len(names))
    share = GpuShare(config.resources.folds_per_gpu, 0 if is_estimator(config.model.name) else executor.gpus())
    failed: dict[str, str] = {}
    tries: Counter[str] = Counter()
    waiting = list(names)
    with progress.bar(stage, len(names), "folds") as tick:
        def done(name: str, accuracy: float | None) -> None:
            gauges.fold(accuracy)
            tick(1, name)

        while waiting:
            size = 1 if share.measuring else CHUNK
            chunk, waiting = waiting[:size], waiting[size:]
            for name, failure in executor.trials(config, chunk, work(chunk), scratch, share, done).items():
                tries[name] += 1
                if failure.again and tries[name] < TRIES:
                    waiting.append(name)
                else:
                    failed[name] = failure.reason
    return failed
