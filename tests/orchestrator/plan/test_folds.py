"""The fold plan: roles, documented sizes, and what it may depend on."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from orchestrator.cohort.cohort import Person
from orchestrator.cohort.lineage import check_roles
from orchestrator.config.configuration import compose, with_protocol
from orchestrator.errors import UserError
from orchestrator.plan.folds import check_classes, choose_validation, make_plan, validation_size

# max(2, round(0.1 (n - 1))) by hand
VALIDATION = {7: 2, 8: 2, 10: 2, 15: 2, 16: 2, 19: 2, 20: 2, 25: 2, 27: 3, 30: 3, 37: 4, 67: 7, 86: 8, 87: 9}


def people(n, key="k"):
    return [Person(i, f"{key}{i}", "fm"[i % 2], 20 + i % 40) for i in range(n)]


@pytest.fixture(scope="module")
def clean():
    return compose("synthetic", [])


@pytest.fixture(scope="module")
def unpretrained():
    return compose("synthetic", ["pretrain=none", "protocol.val=fixed_epochs"])


@cache  # a configuration cannot be changed, and takes longer to compose than a plan
def with_model(model, *words):
    return compose("synthetic", [f"model={model}", *words])


def varied(config, **protocol):
    return config.model_copy(update={"protocol": config.protocol.model_copy(update=protocol)})


@pytest.mark.parametrize("n", [*range(7, 31), 87])
def test_clean_plans_of_every_size(clean, n):
    plan = make_plan(clean, people(n))
    wanted = VALIDATION.get(n, 2 if n <= 26 else 3)
    size = int(0.4 * n) if n < 20 else round(0.2 * n)
    assert [len(g.subjects) for g in plan.groups] == [size, size] and plan.n_val == wanted
    assert plan.refit == (n < 20) and not plan.leaky
    assert [f.test for f in plan.folds] == [(i,) for i in range(n)]
    for fold in plan.folds:
        check_roles(fold.test, fold.train, fold.val, leaky=False)
        assert len(fold.val) == wanted and {*fold.test, *fold.train, *fold.val} == set(range(n))
        seen = set(plan.groups[fold.group].subjects)
        assert not seen & set(fold.test), "the encoder was pretrained on the test subject"
        assert not seen & set(fold.val), "the encoder was pretrained on a validation subject"
        assert list(fold.train) == sorted(fold.train) and list(fold.val) == sorted(fold.val)
    served = Counter(f.group for f in plan.folds)
    assert served == {0: n - size, 1: size}


@pytest.mark.parametrize("n", [*VALIDATION])
def test_validation_sizes(n):
    assert validation_size(n) == VALIDATION[n] and validation_size(n, 5) == 5


@pytest.mark.parametrize("n", range(7))
def test_fewer_than_seven_people_get_an_offer(clean, n):
    with pytest.raises(UserError, match=rf"^{n} subjects are too few.*pretrain=none protocol.val=fixed_epochs"):
        make_plan(clean, people(n))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_offer_is_good(unpretrained, n):
    plan = make_plan(unpretrained, people(n))
    assert len(plan.folds) == n and plan.groups == () and plan.n_val == 0 and not plan.refit
    assert all(f.val == () and len(f.train) == n - 1 and f.group is None for f in plan.folds)


@pytest.mark.parametrize("model", ["ridge", "svm", "random_forest", "one_number"])
@pytest.mark.parametrize("n", [2, 3, 5, 7, 23])
def test_an_estimator_asks_for_nobody_to_choose_by_and_for_no_encoder(model, n):
    for words in ([], ["protocol.val=fixed_epochs"], ["pretrain=none"], ["protocol.refit=true"]):
        plan = make_plan(with_model(model, *words), people(n))
        assert plan.groups == () and plan.n_val == 0 and not plan.refit and len(plan.folds) == n
        assert all(f.val == () and len(f.train) == n - 1 and f.group is None for f in plan.folds)
    text = plan.text()
    assert "no pretraining" in text and f"{n - 1} train, 0 inner validation, 1 test" in text and "refit" not in text


@pytest.mark.parametrize("model", ["lstm", "resnet3d", "convtran"])
def test_a_network_without_an_encoder_is_not_pretrained_and_still_chooses_its_epoch(model):
    config = compose("synthetic", [f"model={model}"])
    plan = make_plan(config, people(9))
    assert plan.groups == () and plan.n_val == 2 and "no pretraining" in plan.text()
    with pytest.raises(UserError, match="too few"):
        make_plan(config, people(6))
    assert len(make_plan(varied(config, val="fixed_epochs"), people(6)).folds) == 6


def test_one_person_cannot_be_left_out(unpretrained):
    with pytest.raises(UserError, match="^--dataset synthetic has 1 subject, too few.*at least 2.*larger synthetic.subjects"):
        make_plan(unpretrained, people(1))
    with pytest.raises(UserError, match="^--dataset watch has 0 subjects, too few.*add subjects, or check data.root"):
        make_plan(compose("watch", ["model=ridge"]), people(0))


def test_the_text_names_the_sizes(clean):
    text = make_plan(clean, people(8)).text()
    assert "8 subjects, 8 test folds" in text and "groups: 3, 3 subjects" in text
    assert "5 train, 2 inner validation, 1 test" in text and "refit" in text


def test_another_pseudonym_key_is_the_same_plan(clean):
    assert make_plan(clean, people(24, "a")).folds == make_plan(clean, people(24, "b")).folds


def test_fewer_folds_are_the_first_of_all(clean):
    few = make_plan(clean.model_copy(update={"max_folds": 3}), people(9))
    assert few.folds == make_plan(clean, people(9)).folds[:3] and few.groups == make_plan(clean, people(9)).groups
    assert (few.n_not_asked, make_plan(clean, people(9)).n_not_asked) == (6, 0)


def test_seeds_draw_their_own_validation_people(clean):
    plan = make_plan(varied(clean, seeds=[0, 1, 5]), people(12))
    assert [(f.index, f.seed) for f in plan.folds[:4]] == [(0, 0), (0, 1), (0, 5), (1, 0)]
    by_seed = {seed: [f.val for f in plan.folds if f.seed == seed] for seed in (0, 1, 5)}
    assert by_seed[0] == [f.val for f in make_plan(clean, people(12)).folds]
    assert by_seed[0] != by_seed[1] != by_seed[5]


def test_everybody_validates_now_and_then(clean):
    plan = make_plan(varied(clean, seeds=list(range(20))), people(7))
    for person in range(7):
        tested = [f for f in plan.folds if f.test == (person,)]
        free = set(range(7)) - {person} - set(plan.groups[tested[0].group].subjects)
        assert {v for f in tested for v in f.val} == free


def test_strata_are_kept_where_four_or_more_validate():
    cohort = [Person(i, str(i), "f" if i < 20 else "m", 20 if i % 2 else 60) for i in range(40)]
    for seed in range(30):
        chosen = choose_validation(cohort, 4, np.random.default_rng(seed))
        assert Counter((i < 20, i % 2) for i in chosen) == dict.fromkeys([(a, b) for a in (True, False) for b in (0, 1)], 1)
    pairs = {tuple(i < 20 for i in choose_validation(cohort, 2, np.random.default_rng(s))) for s in range(40)}
    assert (True, True) in pairs  # two subjects are drawn without strata


def test_unknown_sex_and_age_are_strata_too():
    cohort = [Person(i, str(i)) for i in range(30)]
    assert len(choose_validation(cohort, 5, np.random.default_rng(0))) == 5


def test_as_paper_is_leaky_on_purpose_and_says_so(clean):
    plan = make_plan(with_protocol(clean, "as_paper"), people(10))
    assert plan.leaky and not plan.refit and len(plan.groups) == 1
    assert all(f.val == f.test and f.test[0] not in f.train and len(f.train) == 9 and f.group == 0 for f in plan.folds)


@pytest.mark.parametrize("model", ["ridge", "random_forest"])
def test_as_paper_without_epochs_has_no_validation_subjects(model):
    plan = make_plan(compose("synthetic", [f"model={model}", "protocol=as_paper"]), people(10))
    assert plan.leaky and all(f.val == () and len(f.train) == 9 for f in plan.folds)
    assert "choose the epoch" not in plan.text()


def test_clean_with_as_paper_is_refitted_so_that_both_fit_on_the_same_subjects():
    both = compose("synthetic", ["protocol=both"])
    clean, paper = (make_plan(with_protocol(both, name), people(30)) for name in ("clean", "as_paper"))
    assert clean.refit and not paper.refit and not make_plan(compose("synthetic", []), people(30)).refit
    for ours, theirs in zip(clean.folds, paper.folds, strict=True):
        assert {*ours.train, *ours.val} == set(theirs.train) and theirs.val == theirs.test
    declined = compose("synthetic", ["protocol=both", "protocol.refit=false"])
    assert not make_plan(with_protocol(declined, "clean"), people(30)).refit
    assert "the epoch is chosen on the test subjects" in paper.text() and "chosen on the test" not in clean.text()


def test_exclude_pretrain_tests_nobody_the_encoder_saw(clean):
    plan = make_plan(with_protocol(clean, "exclude_pretrain"), people(10))
    assert len(plan.groups) == 1 and len(plan.folds) == 6 and [f.index for f in plan.folds] == list(range(6))
    assert all(f.group == 0 and f.test[0] not in plan.groups[0].subjects for f in plan.folds)


def test_both_is_planned_as_two(clean):
    with pytest.raises(ValueError):
        make_plan(with_protocol(clean, "both"), people(10))


def test_too_many_validation_subjects_are_an_error(clean):
    with pytest.raises(UserError, match="lower protocol.val_subjects"):
        make_plan(varied(clean, val_subjects=6), people(8))
    assert make_plan(varied(clean, val_subjects=4), people(8)).n_val == 4


def test_a_class_without_training_subjects_is_named(clean):
    plan = make_plan(clean, people(7))
    counts = {i: Counter({0: 2, 1: 2}) for i in range(7)}
    check_classes(plan.folds, counts, ("BL1", "PA4"), with_val=False)
    counts = {i: Counter({0: 2, 1: 2 * (i == 3)}) for i in range(7)}
    with pytest.raises(UserError, match=r"No training subject of fold \d has a usable clip of class PA4"):
        check_classes(plan.folds, counts, ("BL1", "PA4"), with_val=True)


def test_a_class_that_only_validation_subjects_have(unpretrained):
    plan = make_plan(compose("synthetic", ["pretrain=none"]), people(7))
    fold = plan.folds[0]
    counts = {i: Counter({0: 2, 1: 2 * (i in (*fold.val, *fold.test))}) for i in range(7)}
    check_classes([fold], counts, ("BL1", "PA4"), with_val=True)
    with pytest.raises(UserError):
        check_classes([fold], counts, ("BL1", "PA4"), with_val=False)
