"""Pretraining groups: sizes by the rules for small cohorts, disjoint, and dependent only on number and seed."""

import pytest

from orchestrator.errors import UserError
from orchestrator.plan.pretrain_groups import draw, group_size

# The documented rule by hand: floor(0.4 n) below 20 subjects, 20 % each from 20 on.
SIZES = {7: 2, 8: 3, 9: 3, 10: 4, 11: 4, 12: 4, 13: 5, 14: 5, 15: 6, 16: 6, 17: 6, 18: 7, 19: 7,
         20: 4, 21: 4, 22: 4, 23: 5, 24: 5, 25: 5, 26: 5, 27: 5, 28: 6, 29: 6, 30: 6, 86: 17, 87: 17}


@pytest.mark.parametrize(("n", "size"), SIZES.items())
def test_sizes_of_the_contract(n, size):
    assert group_size(n) == size
    one, two = draw(n, 2, seed=0)
    assert len(one.subjects) == len(two.subjects) == size
    assert not set(one.subjects) & set(two.subjects)
    assert set(one.subjects) | set(two.subjects) <= set(range(n))
    assert list(one.subjects) == sorted(one.subjects) and (one.index, two.index) == (0, 1)


def test_number_and_seed_alone_decide():
    assert draw(30, 2, seed=3) == draw(30, 2, seed=3)
    assert draw(30, 2, seed=3) != draw(30, 2, seed=4)
    assert draw(30, 1, seed=3)[0] == draw(30, 2, seed=3)[0]


def test_every_subject_is_drawn_sometimes():
    seen = {s for seed in range(60) for s in draw(9, 1, seed)[0].subjects}
    assert seen == set(range(9))


def test_a_given_group_is_taken_and_the_other_drawn_beside_it():
    one, two = draw(10, 2, seed=0, subjects=[7, 1, 1])
    assert one.subjects == (1, 7) and len(two.subjects) == 4 and not {1, 7} & set(two.subjects)


def test_a_fraction_is_a_share_of_the_subjects():
    assert len(draw(40, 1, 0, fraction=0.1)[0].subjects) == 4
    assert len(draw(8, 1, 0, fraction=0.01)[0].subjects) == 1


@pytest.mark.parametrize("words", [{"subjects": [0, 10]}, {"subjects": [-1]}, {"subjects": []},
                                   {"subjects": list(range(8))}])
def test_groups_that_cannot_be_are_refused(words):
    with pytest.raises(UserError, match="pretrain"):
        draw(10, 2, 0, **words)


def test_no_groups_without_pretraining():
    assert draw(3, 0, 0) == ()
