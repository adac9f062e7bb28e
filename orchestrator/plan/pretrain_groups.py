"""The pretraining groups: who an encoder learns from, and which encoder serves which fold (spec: cross-fit).

Two disjoint groups of people, two encoders; a fold whose test person is in the first group is served by the second
encoder. Folds of several people need an encoder that has seen none of them: groups are then drawn from the fold plan.
Sizes follow the rules for small cohorts.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.errors import UserError
from orchestrator.plan.splits import Cut

if TYPE_CHECKING:  # which stands on encoders, which stand on this
    from orchestrator.stores.origin import Origin

SMALLEST_COHORT = 7
MOST_GROUPS = 3


@dataclass(frozen=True)
class Group:
    """The people (indices, ascending) one encoder is pretrained on.

    origin: where pretrain.from gives the encoder; `subjects` are then those of these people whom it has seen, and `own`,
    those who pretrain a signal MAE of its own here, if it needs one. seed: the pretrain seed, where a run has several.
    """

    index: int
    subjects: tuple[int, ...]
    origin: "Origin | None" = None
    own: tuple[int, ...] = ()
    seed: int | None = None

    @property
    def learners(self) -> tuple[int, ...]:
        """Those whose recordings are trained on here."""
        return self.subjects if self.origin is None else self.own

    @property
    def training(self) -> Hashable:
        """One value for one training: costs count them."""
        return self.learners if self.seed is None else (self.seed, self.learners)


def group_size(n_subjects: int, fraction: float | None = None) -> int:
    """20 % of the people each, or floor(0.4 n) under 20 people."""
    if fraction is not None:
        return max(1, round(fraction * n_subjects))
    return round(0.2 * n_subjects) if n_subjects >= 20 else int(0.4 * n_subjects)


def draw(n_subjects: int, n_groups: int, seed: int, fraction: float | None = None,
         subjects: Sequence[int] | None = None) -> tuple[Group, ...]:
    """Disjoint random groups; `subjects` names the first one explicitly, the second is drawn outside it.

    Depends on the number of people and the seed alone.
    """
    size = group_size(n_subjects, fraction)
    everybody = np.random.default_rng([seed, n_subjects]).permutation(n_subjects)
    chosen: list[tuple[int, ...]] = []
    if subjects is not None:
        chosen.append(draw_given(subjects, range(n_subjects)))
        everybody = np.array([s for s in everybody if s not in chosen[0]])
    while len(chosen) < n_groups:
        taken, everybody = everybody[:size], everybody[size:]
        if len(taken) < size or size < 1:
            raise UserError(f"{n_subjects} people are too few for {n_groups} pretraining groups of {size}: use a smaller "
                            "pretrain.fraction or pretrain=none.")
        chosen.append(tuple(sorted(int(s) for s in taken)))
    return tuple(Group(i, people) for i, people in enumerate(chosen))


def draw_given(subjects: Sequence[int], pool: Sequence[int]) -> tuple[int, ...]:
    """The explicit group. Raises UserError for an empty one, or for somebody who never trains."""
    if not subjects or set(subjects) - set(pool):
        raise UserError(f"pretrain.subjects={list(subjects)} names people outside {min(pool)}..{max(pool)}: give indices from "
                        "that range.")
    return tuple(sorted(set(subjects)))


def draw_for(cuts: Sequence[Cut], pool: Sequence[int], seed: int, fraction: float | None = None,
             subjects: Sequence[int] | None = None) -> tuple[Group, ...]:
    """Groups so that every cut has one inside its `others`: as few as a greedy choice finds, at most three.

    pool: the people who may train; `subjects` names the first group explicitly. Each further group is drawn outside as
    many of the cuts that no group serves yet as leave enough people. Raises UserError where three are not enough.
    """
    size, rng = group_size(len(pool), fraction), np.random.default_rng([seed, len(pool)])
    order = [pool[i] for i in rng.permutation(len(pool))]
    groups = [Group(0, draw_given(subjects, pool))] if subjects is not None else []
    unserved = [cuts[i] for i in rng.permutation(len(cuts)) if not any(serves(group, cuts[i]) for group in groups)]
    while unserved:
        free, served = set(pool), 0
        for cut in unserved:
            left = free & set(cut.others)
            if len(left) >= size:
                free, served = left, served + 1
        if not served or len(groups) == MOST_GROUPS or size < 1:
            raise UserError(f"With {MOST_GROUPS} pretraining groups of {size} of {len(pool)} people some fold would still test "
                            "somebody its encoder has seen: use a smaller pretrain.fraction, test fewer people a fold, or "
                            "use pretrain=none.")
        groups.append(Group(len(groups), tuple(sorted([i for i in order if i in free][:size]))))
        unserved = [cut for cut in unserved if not serves(groups[-1], cut)]
    return tuple(groups)


def serves(group: Group, cut: Cut) -> bool:
    """Whether the group's encoder has seen nobody whom the cut tests (or its own split keeps for validation)."""
    if group.origin is None:
        return set(group.subjects) <= set(cut.others)
    return not set(group.subjects) & {*cut.test, *cut.val} and set(group.own) <= set(cut.others)


def adopted(origins: "Sequence[Origin]", drawn: Sequence[Group], pool: Sequence[int], fraction: float | None) -> list[Group]:
    """The groups of encoders that pretrain.from gives. drawn: groups as they would be without it.

    Where a signal MAE is to be pretrained beside one, by the same people if enough of them are here, else by each drawn group.
    """
    found: list[Group] = []
    for origin in origins:
        here = tuple(s for s in origin.subjects if s in set(pool))
        size = group_size(len(pool), fraction)
        learners = [()] if not origin.trains_signal else [here] if len(here) >= size else [g.subjects for g in drawn]
        for own in learners:
            found.append(Group(len(found), tuple(sorted({*origin.subjects, *own})), origin, tuple(own)))
    return found


def used_alone(groups: Sequence[Group], cuts: Sequence[Cut]) -> tuple[Group, ...]:
    """The groups that serve some cut as the first that can, numbered anew."""
    first = [next((group.index for group in groups if serves(group, cut)), None) for cut in cuts]
    kept = [group for group in groups if group.index in first] or list(groups[:1])
    return tuple(replace(group, index=number) for number, group in enumerate(kept))
