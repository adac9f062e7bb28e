"""The splits: which subjects are tested together, and which may then be used for training.

All later steps (encoders, inner validation, scaler, ledger, statistics, report) are the same for all splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.cohort.cohort import CROSS, OWN, OWN_TRAIN, OWN_VALIDATION, Person
from orchestrator.config.configuration import Config
from orchestrator.config.split_register import SPLITS, register
from orchestrator.errors import UserError

BIOVID_B_SHARE = 17 / 86  # size of the paper's fixed test set of Part B; the 17 subjects are not published


@dataclass(frozen=True)
class SubjectSplit:
    """test: the test subjects of one fold; others: subjects for its pretraining, training and validation. Ascending indices.

    val: validation subjects named by the data set's own split, in neither of these; () if they are drawn from the others.
    """

    test: tuple[int, ...]
    others: tuple[int, ...]
    val: tuple[int, ...] = ()


def make_splits(config: Config, subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    """One SubjectSplit per fold, in the order of fold numbers. Raises UserError if the subjects do not allow this split."""
    return SPLITS[config.split.name].make(config, subjects)


def trainable(subjects: Sequence[Person]) -> list[int]:
    """Indices of subjects that may be used for training in some fold: all but those of a data set that is only tested."""
    return [p.index for p in subjects if CROSS not in p.held_out]


@register(name="loso", about="one subject is left out at a time (paper, Table 9)")
def loso(config: Config, subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    return each_block([[p.index] for p in subjects], subjects)


@register(name="lnso", about="several subjects are left out at a time, each of them once")
def lnso(config: Config, subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    """Random blocks of split.n subjects, each subject in one block; the last block may be smaller."""
    size, order = config.split.n, shuffled(config.split.seed, subjects)
    if 2 * size > len(subjects):
        raise UserError(f"split=lnso split.n={size} of {len(subjects)} subjects leaves fewer training than test subjects: use "
                        "a smaller split.n.")
    return each_block([order[i : i + size] for i in range(0, len(order), size)], subjects)


@register(name="kfold", about="grouped k-fold: all clips of a subject are in the same fold")
def kfold(config: Config, subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    """split.k random blocks of subjects of about equal size; all clips of a subject are in the same block."""
    k, order = config.split.k, shuffled(config.split.seed, subjects)
    if k > len(subjects):
        raise UserError(f"split=kfold split.k={k} needs at least {k} subjects, but there are {len(subjects)}: use a smaller "
                        "split.k.")
    return each_block([block.tolist() for block in np.array_split(np.array(order), k)], subjects)


@register(name="fixed", about="one test set given by a list, or seeded random test sets (paper, Tables 5 to 8)")
def fixed(config: Config, subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    """One test set given by a list, or split.repeats seeded random ones; the others are used for training."""
    name: str = config.split.list
    if name == "auto":
        name = OWN if any({OWN, OWN_TRAIN, OWN_VALIDATION} & p.held_out for p in subjects) else "random"
    if name != "random":
        _check_not_drawn(config, name)
        test = [p.index for p in subjects if name in p.held_out]
        if not 0 < len(test) < len(subjects):
            raise UserError(f"split.list={name} has {len(test)} test subjects of {len(subjects)} here, but it needs both test "
                            "and training subjects: use split.list=random, or check data.root and data.subjects.")
        val = tuple(p.index for p in subjects if OWN_VALIDATION in p.held_out) if name == OWN else ()
        others = tuple(p.index for p in subjects if p.index not in {*test, *val})
        if not others:
            raise UserError(f"split.list={name} has {len(test)} test and {len(val)} validation subjects, which leaves none for "
                            "training: give some subjects the split train, or use split.list=random.")
        return (SubjectSplit(tuple(test), others, val),)
    wanted = config.split.test_subjects
    size = max(1, round(BIOVID_B_SHARE * len(subjects))) if wanted is None else wanted
    if size >= len(subjects):
        raise UserError(f"split.test_subjects={size} of {len(subjects)} subjects leaves none for training: use a "
                        "smaller number.")
    return each_block([shuffled(config.split.seed, subjects, draw)[:size] for draw in range(config.split.repeats)], subjects)


def _check_not_drawn(config: Config, name: str) -> None:
    """UserError for options of a random draw if a list names the test subjects."""
    split = config.split
    for word, given in (("test_subjects", split.test_subjects is not None), ("repeats", split.repeats != 5),
                        ("seed", split.seed != 0)):
        if given:
            raise UserError(f"split.{word} is for a random draw, but split.list={name} names the test subjects: leave it out, "
                            "or use split.list=random.")


@register(name="cross_dataset", about="trained on one data set, tested on another")
def cross_dataset(config: Config, subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    """Subjects of the other data set are tested with models trained on this one.

    Subjects that are only in the other data set make one fold. Subjects in both (BioVid A and B share subjects) are tested
    in split.k folds, and are not used for training in their own fold.
    """
    here = {(p.cohort, p.pseudonym): p.index for p in subjects if CROSS not in p.held_out}
    there = [p for p in subjects if CROSS in p.held_out]
    only_there = [p.index for p in there if (p.cohort, p.pseudonym) not in here]
    both = [p for p in there if (p.cohort, p.pseudonym) in here]
    blocks = [only_there] if only_there else []
    if both:
        order = np.random.default_rng([config.split.seed, len(both)]).permutation(len(both))
        shared = np.array_split(order, min(config.split.k, len(both)))
        blocks += [[both[i].index for i in block] for block in shared]
    same = {p.index: here[p.cohort, p.pseudonym] for p in both}
    return tuple(SubjectSplit(tuple(sorted(block)),
                              tuple(i for i in sorted(here.values()) if i not in {same.get(t) for t in block}))
                 for block in blocks)


def each_block(blocks: Sequence[Sequence[int]], subjects: Sequence[Person]) -> tuple[SubjectSplit, ...]:
    """One SubjectSplit per block of indices: its subjects are tested, and all others may be used for training."""
    everyone = [p.index for p in subjects]
    return tuple(SubjectSplit(tuple(sorted(block)), tuple(i for i in everyone if i not in set(block))) for block in blocks)


def shuffled(seed: int, subjects: Sequence[Person], draw: int | None = None) -> list[int]:
    """Indices in random order, which depends only on their number and the seed."""
    rng = np.random.default_rng([seed, len(subjects)] if draw is None else [seed, len(subjects), draw])
    return [subjects[i].index for i in rng.permutation(len(subjects))]
