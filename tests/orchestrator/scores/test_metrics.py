"""Each number compared with scikit-learn, scipy, a published table, or a value computed by hand."""

import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from orchestrator.scores import metrics as statistics
from orchestrator.scores import paired_tests


def clips(n=200, K=3, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(K, size=n)
    prob = rng.dirichlet(np.ones(K), size=n) + 0.3 * np.eye(K)[truth]
    prob /= prob.sum(axis=1, keepdims=True)
    return truth, prob.argmax(axis=1), prob


@pytest.mark.parametrize("K", [2, 3, 5])
def test_scores_equal_scikit_learn(K):
    truth, predicted, prob = clips(K=K)
    got = statistics.score(truth, predicted, prob)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, predicted, average="macro")
    assert got.n == 200
    assert got.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert got.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert (got.precision, got.recall, got.f1) == pytest.approx((precision, recall, f1))
    area = metrics.roc_auc_score(truth, prob[:, 1] if K == 2 else prob, multi_class="ovr")
    assert got.auroc == pytest.approx(area)
    np.testing.assert_array_equal(statistics.confusion(truth, predicted, K), metrics.confusion_matrix(truth, predicted))


def test_auroc_counts_ties_half_as_scikit_learn_does():
    prob = np.round(clips(K=2)[2], 1)
    truth = clips(K=2)[0]
    assert len(np.unique(prob)) <= 11
    assert statistics.auroc(truth, prob) == pytest.approx(metrics.roc_auc_score(truth, prob[:, 1]))
    assert statistics.auroc([0, 1, 1], np.full((3, 2), 0.5)) == 0.5


def test_brier_by_hand():
    prob = np.array([[0.8, 0.2], [0.4, 0.6]])
    assert statistics.brier([0, 0], prob) == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    truth, _, prob = clips(K=2)
    assert statistics.brier(truth, prob) == pytest.approx(2 * metrics.brier_score_loss(truth, prob[:, 1]))


def test_a_missing_class_leaves_auroc_undefined_and_the_rest_defined():
    prob = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    got = statistics.score([0, 0, 0], [0, 0, 1], prob)
    assert got.auroc is None
    assert got.balanced_accuracy == pytest.approx(2 / 3)  # the only class in the labels
    assert got.f1 == pytest.approx((2 * 2 / 5 + 0) / 2)  # class 1 was predicted, so it counts
    assert got.f1 == pytest.approx(metrics.f1_score([0, 0, 0], [0, 0, 1], average="macro"))


def test_auroc_of_several_classes_is_over_those_there_are():
    """AUROC needs two classes, not all of them, among a subject's clips."""
    truth, _, prob = clips(K=3)
    left = truth != 2
    areas = [metrics.roc_auc_score(truth[left] == k, prob[left, k]) for k in (0, 1)]
    assert statistics.auroc(truth[left], prob[left]) == pytest.approx(np.mean(areas))
    assert statistics.auroc(truth[truth == 1], prob[truth == 1]) is None


def test_weights_equal_scikit_learn():
    truth, predicted, prob = clips(K=3)
    weight = np.random.default_rng(0).choice([1, 0.5, 1 / 3], truth.size)
    got = statistics.score(truth, predicted, prob, weight)
    assert got.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted, sample_weight=weight))
    assert got.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, predicted, sample_weight=weight))
    expected = metrics.precision_recall_fscore_support(truth, predicted, average="macro", sample_weight=weight)[:3]
    assert (got.precision, got.recall, got.f1) == pytest.approx(expected)
    twice = statistics.reliability(np.repeat(truth, 2), np.repeat(prob, 2, axis=0), weight=np.full(400, 0.5))
    once = statistics.reliability(truth, prob)
    np.testing.assert_allclose(twice.count, once.count)
    assert twice.ece == pytest.approx(once.ece)


@st.composite
def scored(draw):
    """(truth, predicted, prob, weight) of 1 to 12 clips, possibly without some classes, probabilities with ties."""
    K, n = draw(st.integers(2, 4)), draw(st.integers(1, 12))
    classes = st.lists(st.integers(0, K - 1), min_size=n, max_size=n)
    prob = np.array(draw(st.lists(st.lists(st.integers(1, 5), min_size=K, max_size=K), min_size=n, max_size=n)), dtype=float)
    weight = draw(st.none() | st.lists(st.sampled_from([1, 0.5, 0.25]), min_size=n, max_size=n))
    return np.array(draw(classes)), np.array(draw(classes)), prob / prob.sum(axis=1, keepdims=True), \
        None if weight is None else np.array(weight)


@given(scored())
def test_scores_equal_their_definitions_whatever_is_missing(found):
    """Counted by clip and by pair; a class without clips gives no warning."""
    truth, predicted, prob, weight = found
    w = np.ones(len(truth)) if weight is None else weight
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = statistics.score(truth, predicted, prob, weight)
        counts = statistics.confusion(truth, predicted, prob.shape[1], weight)

    def share(hit, of):
        return w[hit & of].sum() / w[of].sum() if of.any() else 0.0

    there, used = sorted(set(truth)), sorted({*truth, *predicted})
    precision = [share(truth == k, predicted == k) for k in used]
    recall = [share(predicted == k, truth == k) for k in used]
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    assert got.accuracy == pytest.approx(share(truth == predicted, truth == truth))
    assert got.balanced_accuracy == pytest.approx(np.mean([share(predicted == k, truth == k) for k in there]))
    assert (got.precision, got.recall, got.f1) == pytest.approx([np.mean(precision), np.mean(recall), np.mean(f1)])
    for i, j in product(range(prob.shape[1]), repeat=2):
        assert counts[i, j] == pytest.approx(w[(truth == i) & (predicted == j)].sum())
    if len(there) < 2:
        assert got.auroc is None
        return
    areas = []
    for k in [1] if prob.shape[1] == 2 else there:
        gaps = prob[truth == k, k][:, None] - prob[truth != k, k]
        areas.append(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    assert got.auroc == pytest.approx(np.mean(areas))


def test_no_clips_no_numbers():
    got = statistics.score([], [], np.empty((0, 2)))
    np.testing.assert_array_equal(statistics.confusion([], [], 2), np.zeros((2, 2)))
    assert got == statistics.Scores(n=0, accuracy=None, balanced_accuracy=None, precision=None, recall=None, f1=None,
                                    brier=None, auroc=None)
    assert statistics.mean_std([]) == (None, None)
    assert statistics.mean_std([0.5]) == (0.5, None)
    assert statistics.student_interval([0.5]) is None and statistics.bootstrap_interval([0.5]) is None


def test_calibration_by_hand():
    prob = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.3, 0.7]])
    got = statistics.reliability([0, 1, 1, 1], prob)
    # bin (0.9, 1.0]: 2 clips, confidence 0.95, half correct; bin (0.6, 0.7]: 2 clips, confidence 0.675, all correct
    np.testing.assert_array_equal(got.count, [0, 0, 0, 0, 0, 0, 2, 0, 0, 2])
    assert got.ece == pytest.approx((2 * 0.45 + 2 * 0.325) / 4)
    assert got.accuracy[9] == pytest.approx(0.5) and np.isnan(got.accuracy[0])


def test_calibration_uses_the_label_the_probabilities_name():
    got = statistics.reliability([0, 1], np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert got.ece == 0 and got.count.sum() == 2


def test_student_interval_equals_scipy():
    values = np.random.default_rng(1).uniform(0.5, 1, 10)
    expected = stats.t.interval(0.95, 9, loc=values.mean(), scale=stats.sem(values))
    assert statistics.student_interval(values) == pytest.approx(expected)


def test_bootstrap_equals_scipy_and_repeats():
    values = np.random.default_rng(2).uniform(0.5, 1, 40)
    got = statistics.bootstrap_interval(values)
    assert got == statistics.bootstrap_interval(values)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=3).confidence_interval
    assert got == pytest.approx((expected.low, expected.high), abs=0.004)


def test_variance_parts_by_hand():
    table = np.array([[0.6, 0.8], [0.8, 1.0], [np.nan, 0.1]])
    got = statistics.variance_parts(table)
    # within: each pair differs by 0.2, variance 0.02
    assert got.seed_within_person == pytest.approx(0.02**0.5)
    assert got.seed_of_mean == pytest.approx(np.std([0.7, 0.9], ddof=1))
    assert (got.n_people, got.n_seeds) == (2, 2)
    assert got.between_people is None, "accuracies alone do not say how much of it is which clips were sampled"
    one = statistics.variance_parts(np.array([[0.5], [1.0], [0.75]]), [
        statistics.CorrectClips(np.array([[1, 0, 1, 0]]), np.array([0, 0, 1, 1])),
        statistics.CorrectClips(np.array([[1, 1, 1, 1]]), np.array([0, 0, 1, 1])),
        statistics.CorrectClips(np.array([[1, 1, 1, 0]]), np.array([0, 0, 1, 1]))])
    # sampling: by class 1/4 of (variance over 2); subject 0: 2 x 0.5 / 8; subject 1: 0; subject 2: 0.5 / 8
    sampling = np.mean([0.125, 0, 0.0625])
    assert one.clips_within_person == pytest.approx(sampling**0.5)
    assert one.between_people == pytest.approx(max(0, np.var([0.5, 1, 0.75], ddof=1) - sampling) ** 0.5)
    assert one.seed_within_person is None and one.p_between == pytest.approx(stats.f.sf(0.0625 / sampling, 2, 6))


def made_answers(n_people=300, n_clips=40, n_seeds=5, spread=0.0, recalls=(0.7, 0.7), seed_spread=0.0, seed=0):
    """Correct predictions by clip: each clip has its own difficulty, so predictions of seeds are correlated.

    spread, seed_spread: standard deviations of a subject's accuracy, and of the same subject's with another seed.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n_clips) % 2
    rate = np.asarray(recalls)[labels] + spread * rng.choice([-1, 1], (n_people, 1))
    hard = rng.random((n_people, 1, n_clips))
    again = np.where(rng.random((n_people, n_seeds, n_clips)) < 0.7, hard, rng.random((n_people, n_seeds, n_clips)))
    right = again < rate[:, None] + seed_spread * rng.choice([-1, 1], (n_people, n_seeds, 1))
    return right.mean(axis=2), [statistics.CorrectClips(own.astype(float), labels) for own in right]


@pytest.mark.parametrize("n_seeds", [1, 5])
@pytest.mark.parametrize("recalls", [(0.7, 0.7), (0.9, 0.5)])
def test_equal_subjects_differ_by_nothing(n_seeds, recalls):
    """Clip sampling must not count as a difference between subjects: it was 5 to 7 points for equal subjects."""
    table, answers = made_answers(n_people=3000, n_seeds=n_seeds, recalls=recalls)
    assert table.mean(axis=1).std(ddof=1) > 0.045
    got = statistics.variance_parts(table, answers)
    assert got.between_people < 0.02 < 0.045 < got.clips_within_person


def test_p_of_equal_subjects_is_uniform():
    found = [statistics.variance_parts(*made_answers(n_people=20, seed=i)).p_between for i in range(200)]
    assert np.mean([p < 0.05 for p in found]) < 0.1
    assert statistics.variance_parts(*made_answers(n_people=20, spread=0.15)).p_between < 1e-3


@pytest.mark.parametrize("n_seeds", [1, 5])
@pytest.mark.parametrize("recalls", [(0.7, 0.7), (0.8, 0.4)])
def test_variance_parts_recover_what_made_them(n_seeds, recalls):
    table, answers = made_answers(n_people=2000, n_seeds=n_seeds, spread=0.1, recalls=recalls, seed_spread=0.05)
    got = statistics.variance_parts(table, answers)
    extra = 0.05**2 if n_seeds == 1 else 0.0  # with one seed it cannot be separated from the subject
    assert got.between_people == pytest.approx((0.1**2 + extra) ** 0.5, rel=0.06)
    assert (got.seed_within_person is None) == (n_seeds == 1)


def test_pretraining_seeds_are_separated_from_training_seeds():
    rng = np.random.default_rng(0)
    encoder, training = rng.normal(0, 0.04, (3000, 3, 1)), rng.normal(0, 0.02, (3000, 3, 2))
    table = 0.7 + (encoder + training).reshape(3000, 6)
    got = statistics.variance_parts(table, pretraining=[0, 0, 1, 1, 2, 2])
    assert got.seed_within_person == pytest.approx(0.02, rel=0.05)
    assert got.pretraining_within_person == pytest.approx(0.04, rel=0.05)
    only = statistics.variance_parts(table[:, ::2], pretraining=[0, 1, 2])
    assert only.seed_within_person is None, "nothing varied but the pretraining seed"
    assert only.pretraining_within_person == pytest.approx((0.04**2 + 0.02**2) ** 0.5, rel=0.05)


def test_sign_flip_by_hand():
    # of 8 patterns of 1, 2, 3 only +++ and --- reach |6|
    assert paired_tests.sign_flip([1, 2, 3]) == (0.25, "exact")
    # -1, 2, 3 sums to 4: reached by (-+ +), (+ + +), and their mirrors
    assert paired_tests.sign_flip([-1, 2, 3]) == (0.5, "exact")
    assert paired_tests.sign_flip([0, 0, 0]) == (1.0, "exact")


def test_sign_flip_equals_scipy():
    d = np.random.default_rng(4).normal(0.4, 1, 12)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    p, how = paired_tests.sign_flip(d)
    assert how == "exact" and p == pytest.approx(expected)


def test_sign_flip_monte_carlo_agrees_and_is_never_zero():
    d = np.random.default_rng(5).normal(0.4, 1, 30)
    p, how = paired_tests.sign_flip(d)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=99_999, rng=1).pvalue
    assert how == "monte carlo" and p == pytest.approx(expected, abs=0.005)
    assert paired_tests.sign_flip(np.ones(60)) == (1 / 100_001, "monte carlo")
    assert paired_tests.sign_flip(d) == paired_tests.sign_flip(d)


def test_rounding_dust_is_no_difference():
    d = [0.1 + 0.2 - 0.3, 0.7 - 0.6 - 0.1]
    assert paired_tests.sign_flip(d)[0] == 1.0 and paired_tests.wilcoxon(d) == 1.0 and paired_tests.cohen_dz(d) is None


def test_wilcoxon_by_hand():
    # five positive differences: the rank sum 0 has probability 2 / 2^5
    assert paired_tests.wilcoxon([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)


@pytest.mark.parametrize("d", [[1, 1, -1, 2, 2, 3], [0.5, 0, -0.25, 0.25, 0, 0.75], [0, 0, 1, 1, 1, -1, 2, -2, 4]])
def test_wilcoxon_with_ties_and_zeros_counts_every_pattern_of_signs(d):
    """Zeros dropped, mean ranks for ties: the share of the 2^m patterns whose rank sum is at least as far from the mean."""
    left = np.array([x for x in d if x])
    ranks = stats.rankdata(np.abs(left))
    middle = ranks.sum() / 2
    sums = [ranks[np.array(signs)].sum() for signs in product([False, True], repeat=len(left))]
    far = abs(ranks[left > 0].sum() - middle) - 1e-9
    assert paired_tests.wilcoxon(d) == pytest.approx(np.mean([abs(s - middle) >= far for s in sums]))


def test_holm_by_hand():
    # sorted 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, made to rise
    np.testing.assert_allclose(paired_tests.holm([0.03, 0.01, 0.04, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(paired_tests.holm([0.9, 0.8]), [1.0, 1.0])


def test_effect_size_and_power():
    d = [0.1, 0.2, 0.3]
    assert paired_tests.cohen_dz(d) == pytest.approx(2.0)
    # Cohen (1988): 34 pairs show dz = 0.5 with power 0.8; G*Power prints 0.8078
    assert paired_tests.power(0.5, 34) == pytest.approx(0.8078, abs=2e-4)
    assert paired_tests.power(paired_tests.smallest_dz(87), 87) == pytest.approx(0.8)
    seven = [*d, *d, 0.2]
    assert paired_tests.smallest_gap(seven) == pytest.approx(paired_tests.smallest_dz(7) * np.std(seven, ddof=1))
    assert paired_tests.smallest_gap(d) is None, "three sign flips cannot reach 0.05"
    assert paired_tests.smallest_gap([0.1] * 7) is None
    assert paired_tests.smallest_dz(2) is None


def test_power_by_simulation():
    rng = np.random.default_rng(6)
    d = rng.normal(paired_tests.smallest_dz(10), 1, (20_000, 10))
    hit = stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05
    assert hit.mean() == pytest.approx(0.8, abs=0.012)
