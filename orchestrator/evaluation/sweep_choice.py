"""Settings that a sweep chose, read by loso with everybody they have seen: a fold takes one that never met its test people.

A sweep over two halves of the people leaves two choices, each for the folds of the other half. A plain sweep leaves one,
which has usually met everybody: then the folds refuse.
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
    """One chosen setting; lineage: whoever trained or validated in the sweep, and the encoders it compared."""

    name: str
    encoder: str
    mask_ratio: float
    lineage: Lineage

    def applied(self, config: Config, overrides: Sequence[str]) -> Config:
        """The run's configuration with the chosen scale and mask ratio."""
        own = compose(config.dataset, [*overrides, f"encoder={self.encoder}", f"pretrain.video.mask_ratio={self.mask_ratio}"])
        seeds = {"seed": config.pretrain.seed, "seeds": config.pretrain.seeds}
        return own.model_copy(update={"run": config.run, "protocol": config.protocol,
                                      "pretrain": own.pretrain.model_copy(update=seeds)})


@dataclass(frozen=True)
class Part:
    """Folds that share a configuration. choice: None where no sweep chose it."""

    config: Config
    folds: tuple[Fold, ...]
    choice: Choice | None = None

    @property
    def lineages(self) -> tuple[Lineage, ...]:
        return (self.choice.lineage,) if self.choice else ()


def parts(config: Config, overrides: Sequence[str], plan: Plan, people: Cohort) -> list[Part]:
    """The plan's folds by what serves them: all together, or by the sweep's choices.

    Raises LineageError for a fold whose test people every choice has met, naming the way in; UserError for a file that
    holds no choice of this data set.
    """
    if config.sweep.read is None:
        return [Part(config, plan.folds)]
    given = [word for word in overrides if word.partition("=")[0] in ("encoder", "pretrain.video.mask_ratio")]
    if given:
        raise UserError(f"sweep.read takes scale and mask ratio from the sweep: leave {given[0]} out.")
    choices = read(config, people)[: 1 if plan.leaky else None]
    served: dict[int, list[Fold]] = {i: [] for i in range(len(choices))}  # a choice without folds yet is part of the run's key
    for fold in plan.folds:
        served[_serving(fold, choices, people, plan.leaky)].append(fold)
    return [Part(choices[i].applied(config, overrides), tuple(folds), choices[i]) for i, folds in sorted(served.items())]


def read(config: Config, people: Cohort) -> list[Choice]:
    """What <sweep.read>/sweep.json chose."""
    path = Path(config.sweep.read or "").expanduser()
    found = read_checked(path / "sweep.json" if path.is_dir() else path)
    if found is None or "dataset" not in found:
        raise UserError(f"sweep.read={path} holds no sweep, or one that was changed since: give the folder (or sweep.json) "
                        "that orchestrator.sweep wrote.")
    for name, ours in (("dataset", config.dataset), ("task", config.task.name), ("model", config.model.name),
                       ("key_fingerprint", people.key_fingerprint)):
        if found.get(name) != ours:
            raise UserError(f"sweep.read={path} chose for {name}={found.get(name)}, this run has {ours}: sweep again for this "
                            "run, or leave sweep.read out.")
    results = found.get("halves") or [found]
    if any(result["chosen"] is None for result in results):
        raise UserError(f"sweep.read={path} has chosen nothing yet, because folds are missing: run the sweep again.")
    choices = []
    for number, result in enumerate(results):
        row = next(row for row in result["points"] if row["name"] == result["chosen"])
        half = f", half {number + 1}" if found.get("halves") else ""
        seen = Lineage.from_json(result["lineage"])
        choices.append(Choice(row["name"], row["encoder"], row["mask_ratio"], Lineage(
            f"the setting {row['name']} chosen by a sweep{half}", seen.people, seen.parents, seen.proven)))
    return choices


def _serving(fold: Fold, choices: Sequence[Choice], people: Cohort, leaky: bool) -> int:
    """The first choice that has not met the fold's test people."""
    refused: LineageError | None = None
    for number, choice in enumerate(choices):
        try:
            if not leaky:
                guard(people.keys(fold.test), [choice.lineage])
            return number
        except LineageError as error:
            refused = refused or error
    assert refused is not None
    raise LineageError(f"{refused} A sweep over two halves of the people (sweep.halves=true) leaves a choice for each half.")


def notes(found: Sequence[Part]) -> list[str]:
    """For the report: whose setting each fold had."""
    return [f"The setting {part.choice.name} of {len(part.folds)} folds was chosen by a sweep in which "
            f"{len(part.choice.lineage.everyone())} people took part, nobody of whom these folds test."
            for part in found if part.choice and part.folds]
