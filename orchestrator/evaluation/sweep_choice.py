"""Settings chosen by a sweep, with their lineage: a fold uses settings that were not chosen on its test subjects.

A sweep with cross-fitting (two disjoint halves of the subjects) gives two choices, each for the folds that test the other
half. A plain sweep gives one choice, which usually depends on all subjects; then the folds stop with an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lineage import Lineage, guard
from orchestrator.config.configuration import Config, compose
from orchestrator.errors import LineageError, UserError
from orchestrator.files.storage import read_checked
from orchestrator.plan.folds import Fold, Plan


@dataclass(frozen=True)
class Choice:
    """One chosen setting. lineage: the training and validation subjects of the sweep, and the encoders it compared."""

    name: str
    encoder: str
    mask_ratio: float
    lineage: Lineage

    def applied(self, config: Config, overrides: Sequence[str]) -> Config:
        """The run's configuration with the chosen encoder and mask ratio."""
        own = compose(config.dataset, [*overrides, f"encoder={self.encoder}", f"pretrain.video.mask_ratio={self.mask_ratio}"])
        seeds = {"seed": config.pretrain.seed, "seeds": config.pretrain.seeds}
        return own.model_copy(update={"run": config.run, "protocol": config.protocol,
                                      "pretrain": own.pretrain.model_copy(update=seeds)})


@dataclass(frozen=True)
class Part:
    """Folds that share a configuration. choice: None if no sweep chose it."""

    config: Config
    folds: tuple[Fold, ...]
    choice: Choice | None = None

    @property
    def lineages(self) -> tuple[Lineage, ...]:
        return (self.choice.lineage,) if self.choice else ()


def parts(config: Config, overrides: Sequence[str], plan: Plan, cohort: Cohort) -> list[Part]:
    """The plan's folds grouped by their settings: one group, or one for each choice of the sweep.

    Raises LineageError if all choices depend on the test subjects of a fold; the message shows how they leaked in. Raises
    UserError for a file without a choice for this data set.
    """
    if config.sweep.read is None:
        return [Part(config, plan.folds)]
    given = [word for word in overrides if word.partition("=")[0] in ("encoder", "pretrain.video.mask_ratio")]
    if given:
        raise UserError(f"sweep.read takes encoder and mask ratio from the sweep: leave out {given[0]}.")
    choices = read(config, cohort)[: 1 if plan.leaky else None]
    served: dict[int, list[Fold]] = {i: [] for i in range(len(choices))}  # a choice without folds is part of the run's key, too
    for fold in plan.folds:
        served[_choice_for(fold, choices, cohort, plan.leaky)].append(fold)
    return [Part(choices[i].applied(config, overrides), tuple(folds), choices[i]) for i, folds in sorted(served.items())]


def read(config: Config, cohort: Cohort) -> list[Choice]:
    """The choices in <sweep.read>/sweep.json."""
    path = Path(config.sweep.read or "").expanduser()
    found = read_checked(path / "sweep.json" if path.is_dir() else path)
    if found is None or "dataset" not in found:
        raise UserError(f"sweep.read={path} holds no sweep, or its file was edited: give the folder (or sweep.json) "
                        "that orchestrator.sweep wrote.")
    for name, ours in (("dataset", config.dataset), ("task", config.task.name), ("model", config.model.name),
                       ("key_fingerprint", cohort.key_fingerprint)):
        if found.get(name) != ours:
            raise UserError(f"sweep.read={path} was made for {name}={found.get(name)}, this run has {ours}: sweep again for "
                            "this run, or leave sweep.read out.")
    results = found.get("halves") or [found]
    if any(result["chosen"] is None for result in results):
        raise UserError(f"sweep.read={path} has no choice yet, because folds are missing: run the same sweep command again.")
    choices = []
    for number, result in enumerate(results):
        row = next(row for row in result["points"] if row["name"] == result["chosen"])
        half = f", half {number + 1}" if found.get("halves") else ""
        seen = Lineage.from_json(result["lineage"])
        choices.append(Choice(row["name"], row["encoder"], row["mask_ratio"], Lineage(
            f"the setting {row['name']} chosen by a sweep{half}", seen.people, seen.parents, seen.proven)))
    return choices


def _choice_for(fold: Fold, choices: Sequence[Choice], cohort: Cohort, leaky: bool) -> int:
    """The number of the first choice that does not depend on the fold's test subjects."""
    refused: LineageError | None = None
    for number, choice in enumerate(choices):
        try:
            if not leaky:
                guard(cohort.keys(fold.test), [choice.lineage])
            return number
        except LineageError as error:
            refused = refused or error
    assert refused is not None
    raise LineageError(f"{refused} A sweep with cross-fitting (sweep.halves=true) gives a separate choice for each half of the "
                       "subjects.")


def notes(found: Sequence[Part]) -> list[str]:
    """For the report: how the settings of the folds were chosen."""
    return [f"The setting {part.choice.name} of {len(part.folds)} folds was chosen by a sweep over "
            f"{len(part.choice.lineage.everyone())} subjects; these folds test none of them."
            for part in found if part.choice and part.folds]
