"""All splits for cohorts of many sizes, and encoders disjoint from all test subjects of a fold."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from orchestrator.cohort.cohort import CROSS, OWN, OWN_TRAIN, OWN_VALIDATION, Person
from orchestrator.cohort.lineage import check_roles
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.plan.folds import make_plan


def people(n, first=0, key="p", cohort="made", held_out=()):
    return [Person(first + i, f"{key}{i}", "fm"[i % 2], 20 + i % 40, cohort, frozenset(held_out)) for i in range(n)]


@cache  # a configuration cannot be changed, and takes longer to compose than a plan
def config(split, *words):
    return compose("synthetic", [f"split={split}", *words])


def sound(plan, cohort, leaky=False):
    """Conditions for every plan and split."""
    identity = {p.index: (p.cohort, p.pseudonym) for p in cohort}
    for fold in plan.folds:
        check_roles(fold.test, fold.train, fold.val, leaky)
        tested = {identity[s] for s in fold.test}
        assert fold.test and fold.train and len(tested) == len(fold.test)
        assert not tested & {identity[s] for s in fold.train}
        if not leaky:
            assert not tested & {identity[s] for s in fold.val}
        if fold.group is not None and not leaky:
            seen = set(plan.groups[fold.group].subjects)
            assert not tested & {identity[s] for s in seen}, "the encoder was pretrained on a test subject"
            assert not seen & set(fold.val), "the encoder was pretrained on a validation subject"
    assert [f.index for f in plan.folds if f.seed == plan.folds[0].seed] == list(range(len({f.index for f in plan.folds})))


@pytest.mark.parametrize("n", [10, 13, 19, 20, 30, 87])  # what depends on the number changes at 20
@pytest.mark.parametrize(("split", "words"), [("lnso", ["split.n=2"]), ("lnso", ["split.n=3"]), ("kfold", []),
                                              ("kfold", ["split.k=3"]), ("kfold", ["split.k=10"])])
def test_blocks_test_each_subject_once_with_a_disjoint_encoder(n, split, words):
    cohort, asked = people(n), config(split, *words)
    plan = make_plan(asked, cohort)
    sound(plan, cohort)
    assert Counter(s for fold in plan.folds for s in fold.test) == dict.fromkeys(range(n), 1)
    size = int(0.4 * n) if n < 20 else round(0.2 * n)
    assert 1 <= len(plan.groups) <= 3 and {len(g.subjects) for g in plan.groups} == {size}
    if split == "kfold":
        sizes = {len(fold.test) for fold in plan.folds}
        assert len(plan.folds) == asked.split.k and max(sizes) - min(sizes) <= 1
    else:
        assert {len(fold.test) for fold in plan.folds[:-1]} == {asked.split.n}


def test_the_blocks_follow_number_and_seed_alone():
    def tests(cohort, *words):
        return [fold.test for fold in make_plan(config("kfold", *words), cohort).folds]

    assert tests(people(20)) == tests(people(20, key="q")) != tests(people(20), "split.seed=1")
    assert tests(people(20), "max_folds=2") == tests(people(20))[:2]


def test_two_halves_use_each_others_encoder():
    plan = make_plan(config("kfold", "split.k=2"), people(40))
    assert [set(plan.groups[fold.group].subjects) <= set(fold.train) for fold in plan.folds] == [True, True]
    assert len(plan.groups) == 2


def test_biovid_b_by_seed_is_five_draws_of_17():
    cohort = people(86)
    plan = make_plan(config("fixed"), cohort)
    sound(plan, cohort)
    assert [len(fold.test) for fold in plan.folds] == [17] * 5 and len({fold.test for fold in plan.folds}) == 5
    assert all(len(fold.train) + len(fold.val) == 69 for fold in plan.folds)
    assert [len(g.subjects) for g in plan.groups] == [17] * len(plan.groups)
    assert make_plan(config("fixed", "split.repeats=1"), cohort).folds[0].test == plan.folds[0].test


def test_the_data_sets_own_split_is_taken_where_there_is_one():
    cohort = people(41) + people(12, 41, "v", held_out=[OWN])
    plan = make_plan(config("fixed"), cohort)
    sound(plan, cohort)
    (fold,) = plan.folds
    assert fold.test == tuple(range(41, 53)) and len(fold.train) + len(fold.val) == 41 and len(fold.val) == 4
    assert len(plan.groups) == 1 and max(plan.groups[0].subjects) < 41
    assert len(make_plan(config("fixed", "split.list=random"), cohort).folds) == 5


@pytest.mark.parametrize("words", [["split.list=own"], ["split.list=hold_out_26"], ["split.test_subjects=12"]])
def test_a_fixed_split_that_cannot_be_is_refused(words):
    with pytest.raises(UserError, match="split.list|split.test_subjects"):
        make_plan(config("fixed", *words), people(12))


@pytest.mark.parametrize(("split", "words"), [("lnso", ["split.n=7"]), ("kfold", ["split.k=13"])])
def test_more_than_there_are_is_refused(split, words):
    with pytest.raises(UserError, match="smaller split"):
        make_plan(config(split, *words), people(12))


def test_an_encoder_that_cannot_be_had_is_refused():
    with pytest.raises(UserError, match="pretrain.fraction.*pretrain=none"):
        make_plan(config("fixed", "split.test_subjects=8", "pretrain.fraction=0.45"), people(12))
    with pytest.raises(UserError, match="outside the encoder's group"):
        make_plan(config("lnso", "split.n=6", "pretrain.fraction=0.45"), people(12))
    sound(make_plan(config("lnso", "split.n=6", "pretrain=none"), people(12)), people(12))


def test_a_given_group_is_used_where_possible_and_others_are_drawn():
    cohort = people(20)
    plan = make_plan(config("kfold", "pretrain.subjects=[0,1,2]"), cohort)
    sound(plan, cohort)
    assert plan.groups[0].subjects == (0, 1, 2)
    for fold in plan.folds:
        assert (fold.group == 0) == (not {0, 1, 2} & set(fold.test))


@pytest.mark.parametrize("split", ["lnso", "kfold", "fixed"])
def test_the_other_protocols(split):
    cohort = people(20)
    paper = make_plan(config(split, "protocol=as_paper"), cohort)
    sound(paper, cohort, leaky=True)
    assert paper.leaky and all(fold.val == fold.test and fold.group == 0 for fold in paper.folds)
    without = make_plan(config(split, "protocol=exclude_pretrain"), cohort)
    sound(without, cohort)
    assert len(without.groups) == 1


def test_subjects_only_in_the_other_data_set_are_one_fold():
    cohort = people(12) + people(5, 12, "q", "other", [CROSS])
    plan = make_plan(config("cross_dataset"), cohort)
    sound(plan, cohort)
    (fold,) = plan.folds
    assert fold.test == (12, 13, 14, 15, 16) and {*fold.train, *fold.val} == set(range(12))
    assert max(plan.groups[0].subjects) < 12 and plan.n_subjects == 17


def test_subjects_in_both_data_sets_are_not_trained_on_in_their_fold():
    cohort = people(12) + [replace(p, index=p.index + 12, held_out=frozenset([CROSS])) for p in people(12)]
    plan = make_plan(config("cross_dataset", "split.k=4"), cohort)
    sound(plan, cohort)
    assert Counter(s for fold in plan.folds for s in fold.test) == dict.fromkeys(range(12, 24), 1)
    assert len(plan.folds) == 4 and plan.n_subjects == 12
    for fold in plan.folds:
        assert not {s - 12 for s in fold.test} & {*fold.train, *fold.val}
    with pytest.raises(UserError, match="protocol=clean"):
        make_plan(config("cross_dataset", "protocol=exclude_pretrain"), cohort)


@pytest.mark.parametrize(("n_train", "n_val", "n_test"), [(10, 2, 1), (8, 1, 5), (25, 6, 3)])
@pytest.mark.parametrize("words", [["pretrain=none"], ["pretrain=none", "protocol.val=fixed_epochs"], [],
                                   ["protocol=as_paper"]])
def test_own_validation_subjects_validate_or_train_if_no_epoch_is_chosen(n_train, n_val, n_test, words):
    cohort = (people(n_train, 0, "a", held_out=[OWN_TRAIN]) + people(n_val, n_train, "b", held_out=[OWN_VALIDATION])
              + people(n_test, n_train + n_val, "c", held_out=[OWN]))
    plan = make_plan(config("fixed", *words), cohort)
    sound(plan, cohort, plan.leaky)
    (fold,) = plan.folds
    assert fold.test == tuple(range(n_train + n_val, n_train + n_val + n_test))
    chooses = not plan.leaky and "protocol.val=fixed_epochs" not in words
    assert fold.train == tuple(range(n_train if chooses else n_train + n_val))
    assert fold.val == (fold.test if plan.leaky else tuple(range(n_train, n_train + n_val)) if chooses else ())


def test_an_own_split_is_never_replaced_by_a_random_draw():
    everybody_trains = people(12, held_out=[OWN_TRAIN])
    with pytest.raises(UserError, match="split.list=own has 0 test subjects of 12"):
        make_plan(config("fixed"), everybody_trains)
    assert len(make_plan(config("fixed", "split.list=random"), everybody_trains).folds) == 5
    nobody = people(8, held_out=[OWN]) + people(4, 8, "v", held_out=[OWN_VALIDATION])
    with pytest.raises(UserError, match="leaves none for training"):
        make_plan(config("fixed", "pretrain=none"), nobody)


@pytest.mark.parametrize("word", ["split.test_subjects=3", "split.repeats=2", "split.seed=1"])
def test_options_of_a_draw_with_a_list_are_an_error(word):
    cohort = people(12, held_out=[OWN_TRAIN]) + people(4, 12, "v", held_out=[OWN])
    with pytest.raises(UserError, match=f"{word.partition('=')[0]} is for a random draw"):
        make_plan(config("fixed", word), cohort)
    named = cohort + people(2, 16, "w", held_out=[OWN_VALIDATION])
    with pytest.raises(UserError, match="protocol.val_subjects"):
        make_plan(config("fixed", "protocol.val_subjects=2"), named)
