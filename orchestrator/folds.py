"""The fold plan: who is tested, who trains, who validates, which encoder serves. Made before anything runs.

It depends on the people and the configuration alone, never on which clips survived preprocessing, so that nothing
about a person's recordings can move anybody between roles.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.cohort import Person
from orchestrator.config import Config
from orchestrator.errors import UserError
from orchestrator.groups import SMALLEST_COHORT, Group, draw


@dataclass(frozen=True)
class Fold:
    """One evaluation: indices of people, ascending. `group` is the encoder's group, None without pretraining."""

    index: int
    seed: int
    test: tuple[int, ...]
    train: tuple[int, ...]
    val: tuple[int, ...]
    group: int | None

    @property
    def name(self) -> str:
        return f"fold-{self.index:03d}-seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    folds: tuple[Fold, ...]
    groups: tuple[Group, ...]
    n_subjects: int
    n_val: int
    refit: bool
    leaky: bool

    def text(self) -> str:
        """The sizes, for people, before anything runs."""
        people = {fold.test for fold in self.folds}
        lines = [f"{self.n_subjects} people, {len(people)} test folds, {len(self.folds)} runs with seeds"]
        sizes = ", ".join(str(len(group.subjects)) for group in self.groups)
        lines.append(f"pretraining groups: {sizes} people" if self.groups else "no pretraining")
        first = self.folds[0]
        lines.append(f"each fold: {len(first.train)} train, {self.n_val} inner validation, {len(first.test)} test"
                     + ("; then refit on everybody else" if self.refit else ""))
        return "\n".join(lines)


def validation_size(n_subjects: int, wanted: int | None = None) -> int:
    return wanted if wanted is not None else max(2, round(0.1 * (n_subjects - 1)))


def make_plan(config: Config, people: Sequence[Person]) -> Plan:
    """Leave-one-subject-out over `people`. Raises UserError where the cohort is too small for what is asked."""
    protocol, n = config.protocol, len(people)
    if config.split.name != "loso":
        raise UserError(f"split={config.split.name} is not built yet: use split=loso.")
    if protocol.name == "both":
        raise ValueError("plan clean and as_paper each on its own")
    pretrained = config.pretrain.name == "mae"
    if n < SMALLEST_COHORT and (pretrained or protocol.val == "inner"):
        raise UserError(f"{n} people are too few for inner validation and pretraining groups (at least "
                        f"{SMALLEST_COHORT}): add people, or use pretrain=none protocol.val=fixed_epochs.")
    if n < 2:
        raise UserError("Leave-one-subject-out needs at least 2 people.")
    leaky = protocol.name == "as_paper"
    n_groups = (2 if protocol.name == "clean" else 1) if pretrained else 0
    groups = draw(n, n_groups, config.pretrain.seed, config.pretrain.fraction, config.pretrain.subjects)
    n_val = validation_size(n, protocol.val_subjects) if protocol.val == "inner" and not leaky else 0
    refit = (protocol.refit if protocol.refit is not None else n < 20) and protocol.val == "inner" and not leaky

    folds = []
    tested = [p.index for p in people]
    if protocol.name == "exclude_pretrain" and groups:
        tested = [s for s in tested if s not in groups[0].subjects]
    for number, subject in enumerate(tested[: config.max_folds]):
        for seed in protocol.seeds:
            folds.append(_fold(number, seed, subject, people, groups, n_val, leaky))
    return Plan(tuple(folds), groups, n, n_val, refit, leaky)


def check_classes(folds: Sequence[Fold], counts: Mapping[int, Mapping[int, int]], class_names: Sequence[str],
                  with_val: bool) -> None:
    """Refuse a plan in which a fold's training people have no clip of some class (counts: person -> class -> clips).

    with_val: the model is fitted on the inner validation people as well. Raises UserError.
    """
    for fold in folds:
        known = {*fold.train, *(fold.val if with_val else ())} - set(fold.test)
        present = {c for subject in known for c, n in counts.get(subject, {}).items() if n}
        for c, name in enumerate(class_names):
            if c not in present:
                raise UserError(f"No training person of fold {fold.index} has a usable clip of class {name}: complete the "
                                "data, choose another task, or look at the quarantine table.")


def _fold(number: int, seed: int, subject: int, people: Sequence[Person], groups: tuple[Group, ...], n_val: int,
          leaky: bool) -> Fold:
    group = None
    if groups:
        group = 0 if leaky or subject not in groups[0].subjects else 1
    others = [p for p in people if p.index != subject]
    if leaky:  # the published way: the held-out person chooses the epoch
        return Fold(number, seed, (subject,), tuple(p.index for p in others), (subject,), group)
    seen = set(groups[group].subjects) if group is not None else set()
    candidates = [p for p in others if p.index not in seen]
    if len(candidates) < n_val or len(others) - n_val < 1:
        raise UserError(f"Only {len(candidates)} people are outside the encoder's group, {n_val} are wanted for inner "
                        "validation: lower protocol.val_subjects or pretrain.fraction.")
    # [seed, subject], not [seed, number]: leaving people out of the test folds does not move the others' draws
    val = choose_validation(candidates, n_val, np.random.default_rng([seed, subject]))
    train = tuple(p.index for p in others if p.index not in val)
    return Fold(number, seed, (subject,), train, val, group)


def choose_validation(candidates: Sequence[Person], n_val: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A random choice, spread over sex and age halves where at least 4 are chosen."""
    order = [candidates[i] for i in rng.permutation(len(candidates))]
    if n_val >= 4:
        ages = sorted(p.age for p in candidates if p.age is not None)
        median = ages[len(ages) // 2] if ages else 0
        strata = defaultdict(list)
        for person in order:
            strata[person.sex, None if person.age is None else person.age >= median].append(person)
        # Rank within the stratum over the stratum's size: taking the lowest keeps the proportions.
        ranked = [((rank + 0.5) / len(stratum), position, person) for position, stratum in enumerate(strata.values())
                  for rank, person in enumerate(stratum)]
        order = [person for _, _, person in sorted(ranked, key=lambda entry: entry[:2])]
    return tuple(sorted(person.index for person in order[:n_val]))
