"""The pretraining groups: the pretraining subjects of each encoder, and which encoder is used in which fold (cross-fitting).

There are two disjoint groups of subjects and two encoders; a fold whose test subject is in the first group uses the second
encoder. Folds with several test subjects need an encoder that was pretrained on none of them: groups are then drawn from
the fold plan. Sizes follow the rules for small cohorts.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.errors import UserError
from orchestrator.plan.splits import SubjectSplit

if TYPE_CHECKING:  # a circular import otherwise
    from orchestrator.stores.origin import Origin

SMALLEST_COHORT = 7
MOST_GROUPS = 3


@dataclass(frozen=True)
class Group:
    """The subjects (indices, ascending) one encoder is pretrained on.

    origin: the encoder of pretrain.from, if given. Then `subjects` are those of this cohort that it was pretrained on, and
    `own` those on which a signal MAE is pretrained here, if it needs one. seed: the pretrain seed, if a run has several.
    """

    index: int
    subjects: tuple[int, ...]
    origin: "Origin | None" = None
    own: tuple[int, ...] = ()
    seed: int | None = None

    @property
    def trained_here(self) -> tuple[int, ...]:
        """The subjects of the pretraining that is done here."""
        return self.subjects if self.origin is None else self.own

    @property
    def training(self) -> Hashable:
        """A value that identifies one training, to count them in estimates."""
        return self.trained_here if self.seed is None else (self.seed, self.trained_here)


def group_size(n_subjects: int, fraction: float | None = None) -> int:
    """20 % of the subjects per group, or floor(0.4 n) with fewer than 20 subjects."""
    if fraction is not None:
        return max(1, round(fraction * n_subjects))
    return round(0.2 * n_subjects) if n_subjects >= 20 else int(0.4 * n_subjects)


def draw(n_subjects: int, n_groups: int, seed: int, fraction: float | None = None,
         subjects: Sequence[int] | None = None) -> tuple[Group, ...]:
    """Disjoint random groups; `subjects` defines the first one explicitly, and the second is drawn outside it.

    The draw depends only on the number of subjects and the seed.
    """
    size = group_size(n_subjects, fraction)
    left = np.random.default_rng([seed, n_subjects]).permutation(n_subjects)
    chosen: list[tuple[int, ...]] = []
    if subjects is not None:
        chosen.append(draw_given(subjects, range(n_subjects)))
        left = np.array([s for s in left if s not in chosen[0]])
    while len(chosen) < n_groups:
        taken, left = left[:size], left[size:]
        if len(taken) < size or size < 1:
            raise UserError(f"{n_subjects} subjects are too few for {n_groups} pretraining groups of {size}: use a "
                            "smaller pretrain.fraction or pretrain=none.")
        chosen.append(tuple(sorted(int(s) for s in taken)))
    return tuple(Group(i, own) for i, own in enumerate(chosen))


def draw_given(subjects: Sequence[int], pool: Sequence[int]) -> tuple[int, ...]:
    """The explicit group. Raises UserError if it is empty or has subjects that are never used for training."""
    if not subjects or set(subjects) - set(pool):
        raise UserError(f"pretrain.subjects={list(subjects)} names subjects outside {min(pool)}..{max(pool)}: give indices "
                        "from that range.")
    return tuple(sorted(set(subjects)))


def draw_for(splits: Sequence[SubjectSplit], pool: Sequence[int], seed: int, fraction: float | None = None,
             subjects: Sequence[int] | None = None) -> tuple[Group, ...]:
    """Groups such that each split has one inside its `others`: a greedy choice of few groups, at most three.

    pool: subjects that may be used for training; `subjects` defines the first group explicitly. Each further group is drawn
    so that it can be used for as many of the remaining splits as possible. Raises UserError if three are not enough.
    """
    size, rng = group_size(len(pool), fraction), np.random.default_rng([seed, len(pool)])
    order = [pool[i] for i in rng.permutation(len(pool))]
    groups = [Group(0, draw_given(subjects, pool))] if subjects is not None else []
    unserved = [splits[i] for i in rng.permutation(len(splits)) if not any(serves(group, splits[i]) for group in groups)]
    while unserved:
        free, served = set(pool), 0
        for split in unserved:
            left = free & set(split.others)
            if len(left) >= size:
                free, served = left, served + 1
        if not served or len(groups) == MOST_GROUPS or size < 1:
            raise UserError(f"With {MOST_GROUPS} pretraining groups of {size} of {len(pool)} subjects, some fold would "
                            "still test pretraining subjects of its encoder: use a smaller pretrain.fraction, test fewer "
                            "subjects per fold, or use pretrain=none.")
        groups.append(Group(len(groups), tuple(sorted([i for i in order if i in free][:size]))))
        unserved = [split for split in unserved if not serves(groups[-1], split)]
    return tuple(groups)


def serves(group: Group, split: SubjectSplit) -> bool:
    """Whether the group's encoder was pretrained on no test subject (and no fixed validation subject) of the split."""
    if group.origin is None:
        return set(group.subjects) <= set(split.others)
    return not set(group.subjects) & {*split.test, *split.val} and set(group.own) <= set(split.others)


def adopted(origins: "Sequence[Origin]", drawn: Sequence[Group], pool: Sequence[int], fraction: float | None) -> list[Group]:
    """The groups of the encoders of pretrain.from. drawn: the groups that would be used without it.

    If such an encoder needs a signal MAE, it is pretrained on the same subjects if enough of them are in this cohort, else
    on each drawn group.
    """
    found: list[Group] = []
    for origin in origins:
        here = tuple(s for s in origin.subjects if s in set(pool))
        size = group_size(len(pool), fraction)
        groups = [()] if not origin.trains_signal else [here] if len(here) >= size else [g.subjects for g in drawn]
        for own in groups:
            found.append(Group(len(found), tuple(sorted({*origin.subjects, *own})), origin, tuple(own)))
    return found


def only_used(groups: Sequence[Group], splits: Sequence[SubjectSplit]) -> tuple[Group, ...]:
    """The groups that are used for some split (the first possible group is used), renumbered."""
    first = [next((group.index for group in groups if serves(group, split)), None) for split in splits]
    kept = [group for group in groups if group.index in first] or list(groups[:1])
    return tuple(replace(group, index=number) for number, group in enumerate(kept))
