"""Whether "above chance" can be trusted: on noise at most 5 % of verdicts, with true effects found, whatever the labels.

Datasets are simulated with numpy; a nearest-centroid classifier leaves one subject out, as the folds of a run do.
"""

import copy

import numpy as np
import pytest
from scipy import stats

from orchestrator.reporting.findings import Report, plain_words, warnings
from orchestrator.reporting.summary import build_summary, headline
from orchestrator.scores import chance
from orchestrator.scores.fold_result import FoldResult
from orchestrator.scores.results import clips_of, subject_scores
from tests.helpers.made_runs import made_fold, made_run, pseudonym, results, takes_entries

pytestmark = pytest.mark.medium
Report, build_summary, clips_of, subject_scores = map(takes_entries, (
    Report, build_summary, clips_of, subject_scores))
N_DATASETS = 300


def labels_of(design, n_people, n_clips):
    """(P, n): labels of all clips."""
    if design == "balanced":
        return np.tile(np.arange(n_clips) % 2, (n_people, 1))
    if design == "one label a subject":
        return np.repeat(np.arange(n_people)[:, None] % 2, n_clips, axis=1)
    if design == "a third are patients":
        return np.repeat((np.arange(n_people) < n_people // 3)[:, None].astype(int), n_clips, axis=1)
    if design == "20 % positives":
        return np.tile((np.arange(n_clips) < n_clips // 5).astype(int), (n_people, 1))
    if design == "three classes":
        return np.tile(np.arange(n_clips) % 3, (n_people, 1))
    return np.tile(np.array([0, 0, 1, 2])[np.arange(n_clips) % 4], (n_people, 1))  # as AI4Pain: 50, 25, 25 %


def scored(y, features, blocks):
    """(P, n, K) scores of nearest centroids fitted on all subjects outside the block; NaN: not tested. features (P, n, d)"""
    n_people, n_clips, _ = features.shape
    n_classes = y.max() + 1
    scores = np.full((n_people, n_clips, n_classes), np.nan)
    for block in blocks:
        others = ~np.isin(np.arange(n_people), block)
        x, t = features[others].reshape(-1, features.shape[2]), y[others].ravel()
        centres = np.stack([x[t == k].mean(axis=0) for k in range(n_classes)])
        scores[block] = -((features[block][:, :, None] - centres) ** 2).sum(axis=-1)
    return scores


def leave_one_out(y, features):
    return scored(y, features, [[s] for s in range(len(y))])


def area(truth, score):
    a, b = score[truth][:, None], score[~truth]
    return (a > b).mean() + (a == b).mean() / 2


def folds_of(n_people, blocks=None):
    names = [pseudonym(i) for i in range(n_people)]
    tested = [[names[s] for s in block] for block in blocks or [[s] for s in range(n_people)]]
    return [{"fold": i, "seed": 0, "subjects": own, "train_subjects": [n for n in names if n not in own], "val_subjects": []}
            for i, own in enumerate(tested)]


def found_above(y, features, blocks=None):
    """(metric, p) of the verdict; blocks: subjects who are tested together, by default one at a time."""
    n_people, n_classes = len(y), y.max() + 1
    blocks = blocks or [[s] for s in range(n_people)]
    tested = sorted(s for block in blocks for s in block)
    scores = scored(y, features, blocks)[tested]
    answer = {s: np.bincount(y[~np.isin(np.arange(n_people), block)].ravel(), minlength=n_classes).argmax()
              for block in blocks for s in block}
    folds, y = folds_of(n_people, blocks), y[tested]
    shares = np.array([np.bincount(own, minlength=n_classes) / own.size for own in y])
    majority = float(np.mean([shares[i, answer[s]] for i, s in enumerate(tested)]))
    metric = chance.verdict_metric(shares, majority)
    if metric == "accuracy":
        values = (scores.argmax(axis=-1) == y).mean(axis=1) - chance.level(shares, majority)
    else:
        values = np.array([np.mean([area(y[s] == k, scores[s, :, k]) for k in ([1] if n_classes == 2 else range(n_classes))])
                           for s in range(len(y))]) - 0.5
    return metric, chance.p_greater(values, chance.inflation(results(folds)))


def datasets(design, n_people, n_clips, n_features, identity, effect, n, seed=0):
    y = labels_of(design, n_people, n_clips)
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        noise = rng.normal(size=(n_people, n_clips, n_features))
        if identity:  # clips of a subject are similar, as in real data
            noise = 0.3 * noise + 2 * rng.normal(size=(n_people, 1, n_features))
        noise[..., 0] += effect * y
        yield y, noise


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("n_features", [3, 60])
@pytest.mark.parametrize(("design", "n_people", "n_clips", "metric"), [
    ("balanced", 6, 8, "accuracy"), ("balanced", 14, 8, "accuracy"), ("three classes", 8, 9, "accuracy"),
    ("one label a subject", 12, 6, "accuracy"), ("one label a subject", 20, 4, "accuracy"),
    ("a third are patients", 12, 6, "accuracy"), ("20 % positives", 5, 10, "auroc"), ("20 % positives", 12, 10, "auroc"),
    ("50 25 25", 8, 8, "auroc")])
def test_on_noise_at_most_five_per_cent_are_above_chance(design, n_people, n_clips, metric, n_features, identity):
    found = [found_above(*data) for data in datasets(design, n_people, n_clips, n_features, identity, 0.0, N_DATASETS)]
    assert {name for name, _ in found} == {metric}
    rate = np.mean([p < chance.ALPHA for _, p in found])
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / N_DATASETS)


@pytest.mark.parametrize("design", ["balanced", "20 % positives"])
@pytest.mark.parametrize("blocks", [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
                                    [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]], [[0, 1, 2, 3, 4]]],
                         ids=["2 blocks", "3 blocks", "6 blocks", "fixed"])
def test_nor_where_several_are_left_out_together(blocks, design):
    found = [found_above(*data, blocks)[1] for data in datasets(design, 12, 10, 60, False, 0.0, N_DATASETS)]
    assert np.mean(np.array(found) < chance.ALPHA) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / N_DATASETS)


def test_without_the_correction_for_shared_training_it_would_be_twice_as_many():
    """The test above can fail."""
    y, bare = labels_of("balanced", 14, 8), []
    for _, features in datasets("balanced", 14, 8, 60, False, 0.0, N_DATASETS):
        values = (leave_one_out(y, features).argmax(axis=-1) == y).mean(axis=1) - 0.5
        bare.append(stats.ttest_1samp(values, 0, alternative="greater").pvalue < 0.05)
    assert np.mean(bare) > 0.08


@pytest.mark.parametrize(("design", "n_people", "n_clips"), [
    ("balanced", 6, 20), ("three classes", 8, 18), ("one label a subject", 12, 6), ("a third are patients", 12, 6),
    ("20 % positives", 5, 20), ("50 25 25", 8, 16)])
def test_true_effects_are_found(design, n_people, n_clips):
    found = [found_above(*data)[1] < chance.ALPHA for data in datasets(design, n_people, n_clips, 2, False, 3.0, 40)]
    assert np.mean(found) > 0.9


def test_dependence_of_subjects_in_leave_one_out():
    assert chance.inflation(results(folds_of(9))) == pytest.approx(2)
    fixed = [FoldResult(fold=0, seed=0, subjects=("a", "b"), train_subjects=("c", "d"), val_subjects=("e",))]
    assert chance.inflation(fixed) == 1
    half = [FoldResult(fold=0, seed=0, subjects=("a", "b"), train_subjects=("c", "d")),
            FoldResult(fold=1, seed=0, subjects=("c", "d"), train_subjects=("a", "b"))]
    assert chance.inflation(half) == pytest.approx(2)  # each depends on 2 subjects with weight 1/2
    assert chance.inflation([]) == 1


def test_the_test_equals_scipy_where_nothing_is_shared():
    d = np.random.default_rng(0).normal(0.2, 1, 9)
    assert chance.p_greater(d, 1.0) == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue)
    t = stats.ttest_1samp(d, 0).statistic / np.sqrt(2)
    assert chance.p_greater(d, 2.0) == pytest.approx(stats.t.sf(t, 8))


def test_equal_subjects_do_not_give_p_0():
    assert chance.p_greater([0.3] * 6, 2.0) == 2**-6
    assert chance.p_greater([0.0] * 6, 2.0) == 1.0 == chance.p_greater([-0.1] * 6, 2.0)


def test_the_metric_of_the_verdict_follows_from_the_labels():
    equal, skewed = np.full((8, 2), 0.5), np.tile([0.8, 0.2], (8, 1))
    assert chance.verdict_metric(equal, 0.5) == "accuracy" and chance.verdict_metric(skewed, 0.8) == "auroc"
    assert chance.verdict_metric(np.tile([0.54, 0.46], (8, 1)), 0.54) == "accuracy", "a few excluded clips change nothing"
    one_each = np.eye(2)[[0, 0, 0, 0, 0, 0, 1, 1]]
    assert chance.verdict_metric(one_each, 0.75) == "accuracy", "AUROC within a subject is undefined"
    assert chance.verdict_metric(np.concatenate([skewed, one_each]), 0.8) == "auroc"
    assert chance.verdict_metric(np.concatenate([skewed[:4], one_each]), 0.8) == "accuracy"
    assert chance.verdict_metric(np.tile([0.5, 0.25, 0.25], (8, 1)), 0.5) == "auroc"


def test_a_verdict_never_depends_on_results_for_its_metric():
    run, folds = made_run(n_people=7)
    worse = copy.deepcopy(folds)
    for fold in worse:
        for row in fold["predictions"]:
            row["y_pred"], row["prob"] = 0, [1.0, 0.0]
    assert build_summary(run, folds)["verdict"]["metric"] == build_summary(run, worse)["verdict"]["metric"] == "accuracy"


def cohort(labels, score, threshold=0.5, **more):
    """A run of len(labels) subjects: labels and scores (probability of class 1) by subject."""
    names = [pseudonym(i) for i in range(len(labels))]
    folds = []
    for i, (y, p) in enumerate(zip(labels, score, strict=True)):
        train = [name for name in names if name != names[i]]
        counts = np.bincount(np.concatenate([np.asarray(own) for j, own in enumerate(labels) if j != i]), minlength=2)
        prob = np.stack([1 - np.asarray(p), np.asarray(p)], axis=1)
        folds.append(made_fold(i, 0, names[i], y, np.asarray(p) > threshold, prob, train, [],
                               train_label_counts=counts.tolist()))
    return made_run(n_people=len(labels))[0] | more, folds


def test_a_rare_class_that_is_ranked_well_is_above_chance():
    """20 % positives, accuracy equal to the majority baseline, AUROC of all subjects far above 50: uses AUROC."""
    rng = np.random.default_rng(1)
    y = labels_of("20 % positives", 9, 20)
    run, folds = cohort(y, 0.2 + 0.15 * y + 0.05 * rng.normal(size=y.shape).clip(-2, 2))
    summary = build_summary(run, folds)
    assert summary["accuracy_mean"] == summary["majority_baseline"] == summary["chance"] == pytest.approx(0.8)
    assert summary["verdict"]["metric"] == "auroc" and summary["verdict"]["above_chance"] is True
    assert summary["auroc_mean"] > 0.9 and summary["auroc_ci95"][0] > 0.5 and summary["balanced_accuracy_mean"] == 0.5
    assert "AUROC" in headline(summary) and "above chance (AUROC, p" in headline(summary)
    said = " ".join(plain_words(Report(run, folds, summary)))
    for part in ("uses AUROC instead of accuracy", "is above chance, 50", "9 of 9 subjects have an AUROC above 50"):
        assert part in said


def test_noise_with_one_label_per_subject_is_never_below_guessing():
    """The training majority is always the other class: 0 %. 20 % correct is not "above chance"."""
    y = labels_of("one label a subject", 12, 6)
    run, folds = cohort(y, np.where(np.arange(6) == 0, y, 1 - y))
    summary = build_summary(run, folds)
    assert summary["majority_baseline"] == 0 and summary["chance"] == summary["chance_uniform"] == 0.5
    assert summary["verdict"] == {"metric": "accuracy", "above_chance": False, "p": pytest.approx(1)}
    assert summary["auroc_mean"] is summary["auroc_ci95"] is summary["balanced_accuracy_mean"] is None
    report = Report(run, folds, summary)
    assert "one label only" in " ".join(plain_words(report)) and "12 subjects of 12, whose clips" in " ".join(warnings(report))
    assert "chance 50.0 (uniform guessing 1/2), majority baseline 0.0" in headline(summary)


def test_the_majority_is_scored_as_accuracy_is():
    """Seeds averaged within a subject, subjects weigh equally for any number of clips."""
    run, folds = made_run(n_people=2, n_clips=4)
    folds[0]["train_label_counts"], folds[1]["train_label_counts"] = [9, 3], [3, 9]
    del folds[1]["predictions"][0]  # truth of fold 1 is now 0, 1, 1
    assert chance.majority_baseline(run, results(folds)) == pytest.approx((2 / 4 + 2 / 3) / 2)
    more = [*folds, {**folds[0], "seed": 1}, {**folds[0], "seed": 2}]
    assert chance.majority_baseline(run, results(more)) == pytest.approx((2 / 4 + 2 / 3) / 2)
    with pytest.raises(KeyError):
        chance.majority_baseline(run, results([{k: v for k, v in folds[0].items() if k != "train_label_counts"}]))


@pytest.mark.parametrize(("rate", "n"), [(0.5, 40), (1 / 3, 9), (0.8, 15), (0.55, 7)])
def test_how_many_guessing_puts_above_chance(rate, n):
    above, at = chance.expected_by_guessing([n] * 10, rate)
    right = np.random.default_rng(0).binomial(n, rate, 100_000) / n
    assert above == pytest.approx(10 * np.mean(right > rate + 1e-9), abs=0.05)
    assert at == pytest.approx(10 * np.mean(np.abs(right - rate) < 1e-9), abs=0.05)


def test_the_expected_number_for_guessing_is_reported():
    run, folds = made_run(n_people=10, skill=0.0)
    report = Report(run, folds, build_summary(run, folds))
    lucky, even = chance.expected_by_guessing([len(fold["predictions"]) for fold in folds], 0.5)
    assert f"would put {lucky:.1f} above and {even:.1f} exactly at it" in " ".join(plain_words(report))


def test_no_verdict_is_null_and_reported():
    few = build_summary(*made_run(n_people=4, skill=3.0))
    assert few["verdict"] == {"metric": "accuracy", "above_chance": None, "p": None} and "fewer than 5" in headline(few)
    leaky = build_summary(*made_run(leaky=True, skill=3.0))
    assert leaky["verdict"]["above_chance"] is None and "uses the test subject" in headline(leaky)
    run, folds = made_run(n_people=3)
    folds = [{**folds[0], "predictions": folds[0]["predictions"][:1]}]
    alone = build_summary(run, folds)
    assert alone["verdict"]["above_chance"] is None and alone["auroc_mean"] is None and alone["accuracy_ci95"] is None
    assert Report(run, folds, alone) and plain_words(Report(run, folds, alone))


def test_the_verdict_is_of_the_runs_own_folds():
    run, folds = made_run(n_people=9)
    summary, people = build_summary(run, folds), subject_scores(folds, 2)
    values = np.array([p.mean("accuracy") for p in people])
    assert summary["verdict"]["p"] == pytest.approx(chance.p_greater(values - 0.5, chance.inflation(results(folds))))
    assert chance.verdict(run, results(folds), people, clips_of(folds, 2), 0.5) == summary["verdict"]
