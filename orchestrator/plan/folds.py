"""The fold plan: who is tested, who trains, who validates, which encoder serves. Made before anything runs.

It depends on the people and the configuration alone, never on which clips survived preprocessing, so that nothing
about a person's recordings can move anybody between roles.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.cohort.cohort import Person
from orchestrator.cohort.lineage import person_key
from orchestrator.config.configuration import Config, with_pretrain_seed
from orchestrator.config.model_inputs import chooses_epoch, reads_encoder
from orchestrator.errors import LineageError, UserError
from orchestrator.plan.pretrain_groups import SMALLEST_COHORT, Group, adopted, draw, draw_for, draw_given, serves, used_alone
from orchestrator.plan.splits import Cut, make_cuts, trainable

if TYPE_CHECKING:
    from orchestrator.stores.origin import Origin

SHOWN = 20  # people that a refusal names
SEED_STEP = 1000  # of a run with several pretrainings: its seed is protocol seed + SEED_STEP x number of the pretraining


@dataclass(frozen=True)
class Fold:
    """One evaluation: indices of people, ascending. `group` is the encoder's group, None without pretraining.

    seed: of the run, which names the entry in the ledger; drawn: the protocol seed, by which everything in the fold is
    drawn, where a run has several pretrain seeds and so counts its own; pretrain_seed: that of the fold's encoder there.
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
    by_pretrain_seed: tuple[tuple[int, "Plan"], ...] = ()  # of pretrain.seeds > 1: each one's own folds and groups

    def parts(self, config: Config) -> list[tuple[Config, "Plan"]]:
        """The plan by pretrain seed, each with the configuration that pretrains for it; the plan itself where there is one."""
        return [(with_pretrain_seed(config, seed), plan) for seed, plan in self.by_pretrain_seed] or [(config, self)]

    def seeds(self) -> list[int]:
        """Of the run, in ascending order: what the folds and predictions are sorted by."""
        return sorted({fold.seed for fold in self.folds})

    def text(self) -> str:
        """The sizes, for people, before anything runs."""
        people = {fold.test for fold in self.folds}
        lines = [f"{self.n_subjects} people, {len(people)} test fold{'s' * (len(people) != 1)}, "
                 f"{len(self.folds)} runs with seeds"]
        lines += self._pretraining()
        lines.append(f"each fold: {_sizes(f.train for f in self.folds)} train, "
                     f"{'0' if self.leaky else _sizes(f.val for f in self.folds)} inner validation, "
                     f"{_sizes(f.test for f in self.folds)} test" + ("; then refit on everybody else" if self.refit else "")
                     + ("; the test people choose the epoch" if self.leaky and any(f.val for f in self.folds) else ""))
        return "\n".join(lines)

    def _pretraining(self) -> list[str]:
        if not self.groups:
            return ["no pretraining"]
        if self.groups[0].origin is None:
            more = f", drawn for each of {len(self.by_pretrain_seed)} pretrain seeds" if self.by_pretrain_seed else ""
            return ["pretraining groups: " + ", ".join(str(len(group.subjects)) for group in self.groups) + f" people{more}"]
        origins = list({group.origin.folder: group.origin for group in self.groups if group.origin}.values())
        said = "; ".join(f"{origin.name} has seen {origin.n_people} people, {len(origin.subjects)} of these"
                         for origin in origins)
        if not origins[0].trains_signal:
            return [f"pretrained already: {said}"]
        return [f"pretrained already: {said}", f"signal MAE pretrained here ({origins[0].why_not_signal}) on groups of "
                + ", ".join(str(len(group.own)) for group in self.groups) + " people"]


def _sizes(parts: Iterable[tuple[int, ...]]) -> str:
    found = sorted({len(part) for part in parts})
    return "0" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def validation_size(n_subjects: int, wanted: int | None = None) -> int:
    return wanted if wanted is not None else max(2, round(0.1 * (n_subjects - 1)))


def make_plan(config: Config, people: Sequence[Person], origins: "Sequence[Origin]" = ()) -> Plan:
    """The folds of config.split over `people`. Raises UserError where the cohort is too small for what is asked.

    origins: the encoders that pretrain.from names (origin.read). LineageError, before anything runs, where all of them have
    seen people whom a fold tests.
    """
    first = config.pretrain.seed
    if config.pretrain.seeds == 1:
        return _one_pretraining(config, people, origins)
    if config.protocol.name == "exclude_pretrain" and config.pretrain.subjects is None:
        raise UserError("protocol=exclude_pretrain leaves the people of one pretraining group untested, and pretrain.seeds "
                        "draws that group anew each time: name it with pretrain.subjects, or use protocol=clean.")
    if max(config.protocol.seeds) >= SEED_STEP:
        raise UserError(f"protocol.seeds={max(config.protocol.seeds)} beside pretrain.seeds={config.pretrain.seeds}: every "
                        f"pair of the two has a number of its own, so use protocol seeds below {SEED_STEP}.")
    plans = []
    for number in range(config.pretrain.seeds):
        plan = _one_pretraining(with_pretrain_seed(config, first + number), people, origins)
        folds = tuple(replace(fold, seed=fold.seed + number * SEED_STEP, drawn=fold.seed, pretrain_seed=first + number)
                      for fold in plan.folds)
        plans.append(replace(plan, folds=folds, groups=tuple(replace(g, seed=first + number) for g in plan.groups)))
    return replace(plans[0], folds=tuple(fold for plan in plans for fold in plan.folds),
                   by_pretrain_seed=tuple((first + number, plan) for number, plan in enumerate(plans)))


def seed_of(plan: Plan) -> dict[str, dict[str, int]]:
    """Seed of the run -> {"protocol", "pretrain"}: what was drawn by which; empty where the run's seeds are the protocol's."""
    return {str(fold.seed): {"protocol": fold.protocol_seed, "pretrain": fold.pretrain_seed} for fold in plan.folds
            if fold.pretrain_seed is not None}


def _one_pretraining(config: Config, people: Sequence[Person], origins: "Sequence[Origin]") -> Plan:
    protocol, pool = config.protocol, trainable(people)
    if protocol.name == "both":
        raise ValueError("plan clean and as_paper each on its own")
    pretrained, n = config.pretrain.name == "mae" and reads_encoder(config), len(pool)
    inner = protocol.val == "inner" and chooses_epoch(config)  # an estimator is fitted on everybody else, once
    if n < SMALLEST_COHORT and (pretrained or inner):
        raise UserError(f"{n} people are too few for inner validation and pretraining groups (at least "
                        f"{SMALLEST_COHORT}): add people, or use pretrain=none protocol.val=fixed_epochs.")
    if n < 2:
        raise UserError("Leaving people out needs at least 2 people.")
    if config.split.name == "cross_dataset" and protocol.name == "exclude_pretrain":
        raise UserError("protocol=exclude_pretrain leaves pretraining people out of the test, who are another data set's in "
                        "split=cross_dataset: use protocol=clean.")
    leaky, cuts = protocol.name == "as_paper", make_cuts(config, people)
    groups = _groups(config, cuts, pool, people, origins) if pretrained else ()
    refit = (protocol.refit if protocol.refit is not None else n < 20) and inner and not leaky
    if protocol.name == "exclude_pretrain" and groups:
        seen = set(groups[0].subjects)
        cuts = tuple(Cut(left, cut.others, cut.val) for cut in cuts if (left := tuple(s for s in cut.test if s not in seen)))
        if not cuts:
            raise UserError("protocol=exclude_pretrain leaves nobody to test, for the encoder has seen everybody: name fewer "
                            "people with pretrain.subjects, or use an encoder that has seen fewer.")
    by_index = {p.index: p for p in people}
    folds = [_fold(number, seed, cut, by_index, groups, config)
             for number, cut in enumerate(cuts[: config.max_folds]) for seed in protocol.seeds]
    n_val = 0 if leaky else max((len(fold.val) for fold in folds), default=0)
    return Plan(folds=tuple(folds), groups=groups, n_subjects=len({(p.cohort, p.pseudonym) for p in people}), n_val=n_val,
                refit=refit, leaky=leaky, n_not_asked=max(0, len(cuts) - (config.max_folds or len(cuts))))


def _groups(config: Config, cuts: Sequence[Cut], pool: Sequence[int], people: Sequence[Person],
            origins: "Sequence[Origin]") -> tuple[Group, ...]:
    """As drawn; or those of the encoders that are there already, of which one serves every fold (LineageError if none can)."""
    if not origins:
        assert config.pretrain.given is None, "the encoders of pretrain.from have not been read"
        return _drawn(config, cuts, pool)
    drawn = _drawn(config, cuts, pool) if any(origin.trains_signal for origin in origins) else ()
    if config.protocol.name != "clean":
        return tuple(adopted(origins[:1], drawn, pool, config.pretrain.fraction)[:1])
    groups = adopted(origins, drawn, pool, config.pretrain.fraction)
    lost = [cut for cut in cuts[: config.max_folds] if not any(serves(group, cut) for group in groups)]
    if lost:
        by_index, seen = {p.index: p for p in people}, [set(origin.subjects) for origin in origins]
        met = sorted({person_key(by_index[s].cohort, by_index[s].pseudonym) for cut in lost for s in (*cut.test, *cut.val)
                      if any(s in one for one in seen)})
        named = ", ".join(met[:SHOWN]) + (f" and {len(met) - SHOWN} more" if len(met) > SHOWN else "")
        whom = "the encoder" if len(origins) == 1 else "each of the encoders"
        tests = "1 fold tests" if len(lost) == 1 else f"{len(lost)} folds test"
        raise LineageError(f"{tests} people whom {whom} of pretrain.from={config.pretrain.given} has seen "
                           f"({named}): use protocol=exclude_pretrain, which leaves untested whom the encoder saw, or pretrain "
                           "there on people who are not tested together here.")
    return used_alone(groups, cuts)


def _drawn(config: Config, cuts: Sequence[Cut], pool: Sequence[int]) -> tuple[Group, ...]:
    """Two for leaving one out (cross-fit), one where the protocol wants one, else as many as the folds need."""
    pretrain, clean = config.pretrain, config.protocol.name == "clean"
    if config.split.name == "loso" or config.protocol.name == "as_paper":
        wanted = [pool.index(s) for s in draw_given(pretrain.subjects, pool)] if pretrain.subjects is not None else None
        drawn = draw(len(pool), 2 if clean else 1, pretrain.seed, pretrain.fraction, wanted)
        return tuple(Group(group.index, tuple(pool[i] for i in group.subjects)) for group in drawn)
    drawn = draw_for(cuts, pool, pretrain.seed, pretrain.fraction, pretrain.subjects)
    return drawn if clean else drawn[:1]


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


def _fold(number: int, seed: int, cut: Cut, people: Mapping[int, Person], groups: tuple[Group, ...],
          config: Config) -> Fold:
    protocol = config.protocol
    if protocol.name == "as_paper":  # the published way: one encoder, and the held-out people choose the epoch
        train = tuple(sorted((*cut.others, *cut.val)))  # the own split's validation people choose nothing here
        chooser = cut.test if chooses_epoch(config) else ()
        return Fold(number, seed, cut.test, train, chooser, 0 if groups else None)
    inner = protocol.val == "inner" and chooses_epoch(config)
    group = next((g for g in groups if serves(g, cut) or protocol.name == "exclude_pretrain"), None)
    if cut.val:  # the data set's own split says who validates
        if protocol.val_subjects is not None:
            raise UserError("protocol.val_subjects says how many people are drawn for validation, and the data set's own split "
                            "names them: leave it out, or use split.list=random.")
        if not inner:  # nothing is chosen on them, so they train
            return Fold(number, seed, cut.test, tuple(sorted((*cut.others, *cut.val))), (), group.index if group else None)
        return Fold(number, seed, cut.test, cut.others, cut.val, group.index if group else None)
    n_val = validation_size(len(cut.others) + 1, protocol.val_subjects) if inner else 0
    seen = set(group.subjects) if group else set()
    candidates = [people[s] for s in cut.others if s not in seen]
    if len(candidates) < n_val or len(cut.others) - n_val < 1:
        raise UserError(f"Only {len(candidates)} people are outside the encoder's group, {n_val} are wanted for inner "
                        "validation: lower protocol.val_subjects or pretrain.fraction.")
    # [seed, people], not [seed, number]: leaving people out of the test folds does not move the others' draws
    val = choose_validation(candidates, n_val, np.random.default_rng([seed, *cut.test]))
    return Fold(number, seed, cut.test, tuple(s for s in cut.others if s not in val), val, group.index if group else None)


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
