"""The pretraining groups: who an encoder learns from, and which encoder serves which fold (spec: cross-fit).

Two disjoint groups of people, two encoders; a fold whose test person is in the first group is served by the second
encoder. Sizes follow the rules for small cohorts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import UserError

SMALLEST_COHORT = 7


@dataclass(frozen=True)
class Group:
    """The people (indices, ascending) one encoder is pretrained on."""

    index: int
    subjects: tuple[int, ...]


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
        wrong = [s for s in subjects if not 0 <= s < n_subjects]
        if wrong or not subjects:
            raise UserError(f"pretrain.subjects={list(subjects)} names people outside 0..{n_subjects - 1}: give indices "
                            "from that range.")
        chosen.append(tuple(sorted(set(subjects))))
        everybody = np.array([s for s in everybody if s not in chosen[0]])
    while len(chosen) < n_groups:
        taken, everybody = everybody[:size], everybody[size:]
        if len(taken) < size or size < 1:
            raise UserError(f"{n_subjects} people are too few for {n_groups} pretraining groups of {size}: use a smaller "
                            "pretrain.fraction or pretrain=none.")
        chosen.append(tuple(sorted(int(s) for s in taken)))
    return tuple(Group(i, people) for i, people in enumerate(chosen))
