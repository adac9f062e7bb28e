"""Who is tested together, and who may then train: the one thing in which the splits differ.

Everything after it (encoders, inner validation, scaler, ledger, statistics, report) is the same for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.cohort.cohort import CROSS, OWN, OWN_TRAIN, OWN_VALIDATION, Person
from orchestrator.config.configuration import Config
from orchestrator.config.split_register import SPLITS, register
from orchestrator.errors import UserError

BIOVID_B_SHARE = 17 / 86  # the paper's fixed test set of Part B; who the 17 were is not published


@dataclass(frozen=True)
class Cut:
    """test: the people of one fold; others: everybody who may pretrain, train or validate for it. Indices, ascending.

    val: whom the data set's own split names for validation, who are in neither; () where they are drawn from the others.
    """

    test: tuple[int, ...]
    others: tuple[int, ...]
    val: tuple[int, ...] = ()


def make_cuts(config: Config, people: Sequence[Person]) -> tuple[Cut, ...]:
    """The cuts of this split in the order of their fold numbers. Raises UserError where the people do not allow it."""
    return SPLITS[config.split.name].make(config, people)


def trainable(people: Sequence[Person]) -> list[int]:
    """Indices of those who may train in some fold: everybody but a data set that is only tested."""
    return [p.index for p in people if CROSS not in p.held_out]


@register(name="loso", about="one subject is left out at a time (paper, Table 9)")
def loso(config: Config, people: Sequence[Person]) -> tuple[Cut, ...]:
    return each_block([[p.index] for p in people], people)


@register(name="lnso", about="several subjects are left out at a time, each subject once")
def lnso(config: Config, people: Sequence[Person]) -> tuple[Cut, ...]:
    """Blocks of split.n people at random, everybody in one; the last may be smaller."""
    size, order = config.split.n, shuffled(config.split.seed, people)
    if 2 * size > len(people):
        raise UserError(f"split=lnso split.n={size} of {len(people)} people leaves fewer to train than are tested: use a "
                        "smaller split.n.")
    return each_block([order[i : i + size] for i in range(0, len(order), size)], people)


@register(name="kfold", about="grouped k-fold: all clips of a subject are in one fold")
def kfold(config: Config, people: Sequence[Person]) -> tuple[Cut, ...]:
    """split.k blocks of people at random, as equal as can be; nobody's clips are divided."""
    k, order = config.split.k, shuffled(config.split.seed, people)
    if k > len(people):
        raise UserError(f"split=kfold split.k={k} needs at least {k} people, there are {len(people)}: use a smaller split.k.")
    return each_block([block.tolist() for block in np.array_split(np.array(order), k)], people)


@register(name="fixed", about="one test set from a list, or random test sets drawn by seed (paper, Tables 5 to 8)")
def fixed(config: Config, people: Sequence[Person]) -> tuple[Cut, ...]:
    """One test set that a list names, or split.repeats seeded random ones; the others train."""
    name: str = config.split.list
    if name == "auto":
        name = OWN if any({OWN, OWN_TRAIN, OWN_VALIDATION} & p.held_out for p in people) else "random"
    if name != "random":
        _check_not_drawn(config, name)
        test = [p.index for p in people if name in p.held_out]
        if not 0 < len(test) < len(people):
            raise UserError(f"split.list={name} holds out {len(test)} of {len(people)} people here: it needs some to test and "
                            "some to train; use split.list=random, or check data.root and data.subjects.")
        val = tuple(p.index for p in people if OWN_VALIDATION in p.held_out) if name == OWN else ()
        others = tuple(p.index for p in people if p.index not in {*test, *val})
        if not others:
            raise UserError(f"split.list={name} tests {len(test)} people and validates on {len(val)}, which leaves nobody to "
                            "train: give some people the split train, or use split.list=random.")
        return (Cut(tuple(test), others, val),)
    wanted = config.split.test_subjects
    size = max(1, round(BIOVID_B_SHARE * len(people))) if wanted is None else wanted
    if size >= len(people):
        raise UserError(f"split.test_subjects={size} leaves nobody to train of {len(people)} people: use a smaller number.")
    return each_block([shuffled(config.split.seed, people, draw)[:size] for draw in range(config.split.repeats)], people)


def _check_not_drawn(config: Config, name: str) -> None:
    """UserError for words on a random draw where a list says who is tested."""
    split = config.split
    for word, given in (("test_subjects", split.test_subjects is not None), ("repeats", split.repeats != 5),
                        ("seed", split.seed != 0)):
        if given:
            raise UserError(f"split.{word} is about a random draw, and split.list={name} names who is tested: leave it out, or "
                            "use split.list=random.")


@register(name="cross_dataset", about="trained on one data set, tested on another")
def cross_dataset(config: Config, people: Sequence[Person]) -> tuple[Cut, ...]:
    """The other data set's people, tested by what was trained on this one's.

    Strangers to this data set make one fold. Whoever is in both (BioVid A and B are the same people) is tested in one
    of split.k folds, for which nobody of that fold trains.
    """
    here = {(p.cohort, p.pseudonym): p.index for p in people if CROSS not in p.held_out}
    there = [p for p in people if CROSS in p.held_out]
    strangers = [p.index for p in there if (p.cohort, p.pseudonym) not in here]
    both = [p for p in there if (p.cohort, p.pseudonym) in here]
    blocks = [strangers] if strangers else []
    if both:
        order = np.random.default_rng([config.split.seed, len(both)]).permutation(len(both))
        shared = np.array_split(order, min(config.split.k, len(both)))
        blocks += [[both[i].index for i in block] for block in shared]
    twin = {p.index: here[p.cohort, p.pseudonym] for p in both}
    return tuple(Cut(tuple(sorted(block)), tuple(i for i in sorted(here.values()) if i not in {twin.get(t) for t in block}))
                 for block in blocks)


def each_block(blocks: Sequence[Sequence[int]], people: Sequence[Person]) -> tuple[Cut, ...]:
    """A cut a block of indices: its persons are tested, everybody else may train."""
    everybody = [p.index for p in people]
    return tuple(Cut(tuple(sorted(block)), tuple(i for i in everybody if i not in set(block))) for block in blocks)


def shuffled(seed: int, people: Sequence[Person], draw: int | None = None) -> list[int]:
    """Indices in an order that depends on their number and the seed alone."""
    rng = np.random.default_rng([seed, len(people)] if draw is None else [seed, len(people), draw])
    return [people[i].index for i in rng.permutation(len(people))]
