"""The fold plan: test, training and validation subjects and the encoder of each fold. Made before anything runs.

It depends only on the subjects and the configuration, never on which clips were excluded in preprocessing, so that a
subject's recordings cannot change the role of any subject.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.cohort.cohort import Person
from orchestrator.cohort.lineage import subject_key
from orchestrator.config.configuration import Config, with_pretrain_seed
from orchestrator.config.model_inputs import chooses_epoch, reads_encoder
from orchestrator.errors import LineageError, UserError
from orchestrator.plan.pretrain_groups import SMALLEST_COHORT, Group, adopted, draw, draw_for, draw_given, only_used, serves
from orchestrator.plan.splits import SubjectSplit, make_splits, trainable

if TYPE_CHECKING:
    from orchestrator.stores.origin import Origin

SHOWN = 20  # subjects that an error message names
SEED_STEP = 1000  # of a run with several pretrainings: its seed is protocol seed + SEED_STEP x number of the pretraining


@dataclass(frozen=True)
class Fold:
    """One evaluation: indices of subjects, ascending. `group` is the encoder's group, None without pretraining.

    seed: the run's own number, which names the ledger entry. It equals the protocol seed unless the run has several
    pretrain seeds; then drawn: the protocol seed, used for all random choices in the fold; pretrain_seed: of its encoder.
    """

    index: int
    seed: int
    test: tuple[int, ...]
    train: tuple[int, ...]
    val: tuple[int, ...]
    group: int | None
    drawn: int | None = None
    pretrain_seed: int | None = None

    @property
    def protocol_seed(self) -> int:
        return self.seed if self.drawn is None else self.drawn

    @property
    def name(self) -> str:
        return f"fold-{self.index:03d}-seed-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    folds: tuple[Fold, ...]
    groups: tuple[Group, ...]
    n_subjects: int
    n_val: int
    refit: bool
    leaky: bool
    n_not_asked: int = 0  # test folds of the split beyond max_folds
    by_pretrain_seed: tuple[tuple[int, "Plan"], ...] = ()  # for pretrain.seeds > 1: folds and groups of each seed

    def parts(self, config: Config) -> list[tuple[Config, "Plan"]]:
        """The plan of each pretrain seed with its configuration; the plan itself if there is only one seed."""
        return [(with_pretrain_seed(config, seed), plan) for seed, plan in self.by_pretrain_seed] or [(config, self)]

    def seeds(self) -> list[int]:
        """Seeds of the run, ascending; folds and predictions are sorted by them."""
        return sorted({fold.seed for fold in self.folds})

    def text(self) -> str:
        """The sizes in words, printed before anything runs."""
        tested = {fold.test for fold in self.folds}
        lines = [f"{self.n_subjects} subjects, {len(tested)} test fold{'s' * (len(tested) != 1)}, "
                 f"{len(self.folds)} fits (folds x seeds)"]
        lines += self._pretraining()
        lines.append(f"each fold: {_sizes(f.train for f in self.folds)} train, "
                     f"{'0' if self.leaky else _sizes(f.val for f in self.folds)} inner validation, "
                     f"{_sizes(f.test for f in self.folds)} test"
                     + ("; then refit on training and validation subjects" if self.refit else "")
                     + ("; the epoch is chosen on the test subjects" if self.leaky and any(f.val for f in self.folds) else ""))
        return "\n".join(lines)

    def _pretraining(self) -> list[str]:
        if not self.groups:
            return ["no pretraining"]
        if self.groups[0].origin is None:
            more = f", drawn for each of {len(self.by_pretrain_seed)} pretrain seeds" if self.by_pretrain_seed else ""
            return ["pretraining groups: " + ", ".join(str(len(group.subjects)) for group in self.groups) + f" subjects{more}"]
        origins = list({group.origin.folder: group.origin for group in self.groups if group.origin}.values())
        known = "; ".join(f"{origin.name} on {origin.n_people} subjects, {len(origin.subjects)} of them in this cohort"
                          for origin in origins)
        if not origins[0].trains_signal:
            return [f"already pretrained: {known}"]
        return [f"already pretrained: {known}", f"signal MAE pretrained here ({origins[0].why_not_signal}) on groups of "
                + ", ".join(str(len(group.own)) for group in self.groups) + " subjects"]


def _sizes(parts: Iterable[tuple[int, ...]]) -> str:
    found = sorted({len(part) for part in parts})
    return "0" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def validation_size(n_subjects: int, wanted: int | None = None) -> int:
    return wanted if wanted is not None else max(2, round(0.1 * (n_subjects - 1)))


def make_plan(config: Config, subjects: Sequence[Person], origins: "Sequence[Origin]" = ()) -> Plan:
    """The folds of config.split over `subjects`. Raises UserError if the cohort is too small for the configuration.

    origins: the encoders of pretrain.from (origin.read). Raises LineageError, before anything runs, if all of them were
    pretrained on test subjects of a fold.
    """
    first = config.pretrain.seed
    if config.pretrain.seeds == 1:
        return _one_pretraining(config, subjects, origins)
    if config.protocol.name == "exclude_pretrain" and config.pretrain.subjects is None:
        raise UserError("protocol=exclude_pretrain does not test the subjects of one pretraining group, but pretrain.seeds "
                        "draws another group for each seed: fix it with pretrain.subjects, or use protocol=clean.")
    if max(config.protocol.seeds) >= SEED_STEP:
        raise UserError(f"protocol.seeds={max(config.protocol.seeds)} with pretrain.seeds={config.pretrain.seeds}: each "
                        f"pair of the two gets its own number, so use protocol seeds below {SEED_STEP}.")
    plans = []
    for number in range(config.pretrain.seeds):
        plan = _one_pretraining(with_pretrain_seed(config, first + number), subjects, origins)
        folds = tuple(replace(fold, seed=fold.seed + number * SEED_STEP, drawn=fold.seed, pretrain_seed=first + number)
                      for fold in plan.folds)
        plans.append(replace(plan, folds=folds, groups=tuple(replace(g, seed=first + number) for g in plan.groups)))
    return replace(plans[0], folds=tuple(fold for plan in plans for fold in plan.folds),
                   by_pretrain_seed=tuple((first + number, plan) for number, plan in enumerate(plans)))


def seed_of(plan: Plan) -> dict[str, dict[str, int]]:
    """Seed of the run -> its protocol and pretrain seed; empty if the run's seeds are the protocol seeds."""
    return {str(fold.seed): {"protocol": fold.protocol_seed, "pretrain": fold.pretrain_seed} for fold in plan.folds
            if fold.pretrain_seed is not None}


def _one_pretraining(config: Config, subjects: Sequence[Person], origins: "Sequence[Origin]") -> Plan:
    protocol, pool = config.protocol, trainable(subjects)
    if protocol.name == "both":
        raise ValueError("plan clean and as_paper each on its own")
    pretrained, n = config.pretrain.name == "mae" and reads_encoder(config), len(pool)
    inner = protocol.val == "inner" and chooses_epoch(config)  # an estimator is fitted once, on all other subjects
    if n < SMALLEST_COHORT and (pretrained or inner):
        raise UserError(f"{n} subjects are too few for inner validation and pretraining groups (at least "
                        f"{SMALLEST_COHORT}): add subjects, or use pretrain=none protocol.val=fixed_epochs.")
    if n < 2:
        more = "use a larger synthetic.subjects" if config.dataset == "synthetic" else \
            "add subjects, or check data.root and how it names subjects if there are more"
        raise UserError(f"--dataset {config.dataset} has {n} subject{'s' * (n != 1)}, too few to train and test on different "
                        f"subjects (at least 2): {more}.")
    if config.split.name == "cross_dataset" and protocol.name == "exclude_pretrain":
        raise UserError("protocol=exclude_pretrain does not test the pretraining subjects, but split=cross_dataset tests "
                        "another data set: use protocol=clean.")
    leaky, splits = protocol.name == "as_paper", make_splits(config, subjects)
    groups = _groups(config, splits, pool, subjects, origins) if pretrained else ()
    refit = (protocol.refit if protocol.refit is not None else n < 20) and inner and not leaky
    if protocol.name == "exclude_pretrain" and groups:
        seen = set(groups[0].subjects)
        splits = tuple(SubjectSplit(left, split.others, split.val) for split in splits
                       if (left := tuple(s for s in split.test if s not in seen)))
        if not splits:
            raise UserError("protocol=exclude_pretrain leaves no test subject, because the encoder was pretrained on all: use "
                            "fewer pretrain.subjects, or an encoder pretrained on fewer subjects.")
    by_index = {p.index: p for p in subjects}
    folds = [_fold(number, seed, split, by_index, groups, config)
             for number, split in enumerate(splits[: config.max_folds]) for seed in protocol.seeds]
    n_val = 0 if leaky else max((len(fold.val) for fold in folds), default=0)
    return Plan(folds=tuple(folds), groups=groups, n_subjects=len({(p.cohort, p.pseudonym) for p in subjects}), n_val=n_val,
                refit=refit, leaky=leaky, n_not_asked=max(0, len(splits) - (config.max_folds or len(splits))))


def _groups(config: Config, splits: Sequence[SubjectSplit], pool: Sequence[int], subjects: Sequence[Person],
            origins: "Sequence[Origin]") -> tuple[Group, ...]:
    """Groups drawn at random, or those of existing encoders; LineageError if none of these may be used for some fold."""
    if not origins:
        assert config.pretrain.given is None, "the encoders of pretrain.from have not been read"
        return _drawn(config, splits, pool)
    drawn = _drawn(config, splits, pool) if any(origin.trains_signal for origin in origins) else ()
    if config.protocol.name != "clean":
        return tuple(adopted(origins[:1], drawn, pool, config.pretrain.fraction)[:1])
    groups = adopted(origins, drawn, pool, config.pretrain.fraction)
    unserved = [split for split in splits[: config.max_folds] if not any(serves(group, split) for group in groups)]
    if unserved:
        by_index, seen = {p.index: p for p in subjects}, [set(origin.subjects) for origin in origins]
        leaked = sorted({subject_key(by_index[s].cohort, by_index[s].pseudonym)
                         for split in unserved for s in (*split.test, *split.val) if any(s in one for one in seen)})
        named = ", ".join(leaked[:SHOWN]) + (f" and {len(leaked) - SHOWN} more" if len(leaked) > SHOWN else "")
        which = "the encoder" if len(origins) == 1 else "each of the encoders"
        tests = "1 fold tests" if len(unserved) == 1 else f"{len(unserved)} folds test"
        raise LineageError(f"{tests} subjects on whom {which} of pretrain.from={config.pretrain.given} was pretrained "
                           f"({named}): use protocol=exclude_pretrain, which does not test these subjects, or encoders that "
                           "were pretrained on other subjects.")
    return only_used(groups, splits)


def _drawn(config: Config, splits: Sequence[SubjectSplit], pool: Sequence[int]) -> tuple[Group, ...]:
    """Two groups for leave-one-subject-out (cross-fitting), one if the protocol uses one, else as many as the folds need."""
    pretrain, clean = config.pretrain, config.protocol.name == "clean"
    if config.split.name == "loso" or config.protocol.name == "as_paper":
        wanted = [pool.index(s) for s in draw_given(pretrain.subjects, pool)] if pretrain.subjects is not None else None
        drawn = draw(len(pool), 2 if clean else 1, pretrain.seed, pretrain.fraction, wanted)
        return tuple(Group(group.index, tuple(pool[i] for i in group.subjects)) for group in drawn)
    drawn = draw_for(splits, pool, pretrain.seed, pretrain.fraction, pretrain.subjects)
    return drawn if clean else drawn[:1]


def check_classes(folds: Sequence[Fold], counts: Mapping[int, Mapping[int, int]], class_names: Sequence[str],
                  with_val: bool) -> None:
    """Raises UserError if the training subjects of a fold have no clip of some class. counts: subject -> class -> clips.

    with_val: whether the model is also fitted on the inner validation subjects.
    """
    for fold in folds:
        known = {*fold.train, *(fold.val if with_val else ())} - set(fold.test)
        present = {c for subject in known for c, n in counts.get(subject, {}).items() if n}
        for c, name in enumerate(class_names):
            if c not in present:
                raise UserError(f"No training subject of fold {fold.index} has a usable clip of class {name}: complete the "
                                "data, choose another task, or see the table of excluded clips (quarantine.parquet in the "
                                "store).")


def _fold(number: int, seed: int, split: SubjectSplit, subjects: Mapping[int, Person], groups: tuple[Group, ...],
          config: Config) -> Fold:
    protocol = config.protocol
    if protocol.name == "as_paper":  # as in the paper's code: one encoder, and the epoch is chosen on the test subjects
        train = tuple(sorted((*split.others, *split.val)))  # no inner validation here
        chooser = split.test if chooses_epoch(config) else ()
        return Fold(number, seed, split.test, train, chooser, 0 if groups else None)
    inner = protocol.val == "inner" and chooses_epoch(config)
    group = next((g for g in groups if serves(g, split) or protocol.name == "exclude_pretrain"), None)
    if split.val:  # the data set's own split names the validation subjects
        if protocol.val_subjects is not None:
            raise UserError("protocol.val_subjects is the number of validation subjects to draw, but the data set's own split "
                            "names them: leave it out, or use split.list=random.")
        if not inner:  # no epoch is chosen, so they are used for training
            train = tuple(sorted((*split.others, *split.val)))
            return Fold(number, seed, split.test, train, (), group.index if group else None)
        return Fold(number, seed, split.test, split.others, split.val, group.index if group else None)
    n_val = validation_size(len(split.others) + 1, protocol.val_subjects) if inner else 0
    seen = set(group.subjects) if group else set()
    candidates = [subjects[s] for s in split.others if s not in seen]
    if len(candidates) < n_val or len(split.others) - n_val < 1:
        raise UserError(f"Only {len(candidates)} subjects are outside the encoder's group, but inner validation needs "
                        f"{n_val}: lower protocol.val_subjects or pretrain.fraction.")
    # seeded with [seed, *test subjects], not [seed, number]: the draw does not depend on which other folds are run
    val = choose_validation(candidates, n_val, np.random.default_rng([seed, *split.test]))
    return Fold(number, seed, split.test, tuple(s for s in split.others if s not in val), val, group.index if group else None)


def choose_validation(candidates: Sequence[Person], n_val: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A random choice, stratified by sex and age (below or above the median) if at least 4 are chosen."""
    order = [candidates[i] for i in rng.permutation(len(candidates))]
    if n_val >= 4:
        ages = sorted(p.age for p in candidates if p.age is not None)
        median = ages[len(ages) // 2] if ages else 0
        strata = defaultdict(list)
        for person in order:
            strata[person.sex, None if person.age is None else person.age >= median].append(person)
        # Sorting by the rank within the stratum, divided by its size, keeps the proportions.
        ranked = [((rank + 0.5) / len(stratum), position, person) for position, stratum in enumerate(strata.values())
                  for rank, person in enumerate(stratum)]
        order = [person for _, _, person in sorted(ranked, key=lambda entry: entry[:2])]
    return tuple(sorted(person.index for person in order[:n_val]))
