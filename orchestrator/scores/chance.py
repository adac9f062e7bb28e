"""The level of chance, and whether a run is above it: which metric is tested, the test over subjects, and its wording.

P subjects, K classes. If a subject is left out, the labels of this subject become rarer in training, so the majority baseline
(always predicting the training majority) can be far below 1/K. A run is therefore compared with the better of the two. The
metric of the test depends only on the labels, not on predictions:

- labels are about balanced: accuracy, compared with the best of 1/K, the majority baseline and the best constant prediction;
- a constant prediction is correct much more often than 1/K, and most subjects have clips of several classes: AUROC of each
  subject, compared with 1/2. Accuracy may then equal the majority baseline even if the model ranks clips well; AUROC within
  a subject does not depend on class frequencies;
- the same, but each subject has one class only: accuracy as above, because AUROC within a subject is undefined. (AUROC over
  the pooled clips of all subjects does not help: scores of different folds have different scales and are biased against the
  left-out subject.)

The test is a one-sided t test over subjects, because subjects were sampled, not clips. Subjects that are in each other's
training sets are not independent, even on pure noise (see `inflation`); a test that assumes independence would call up to
12 % of runs on noise "above chance" instead of 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy  # which imports its parts when they are used
from numpy.typing import ArrayLike

from orchestrator.scores import metrics
from orchestrator.scores.results import Clips, Fold, Run, SubjectScores, accuracies_of, in_order

ALPHA = 0.05
FEWEST = 5  # subjects; with fewer, even if all are above chance, p > ALPHA (2^-4 = 0.0625)
UNBALANCED = 0.1  # how far from 1/K to 1 the accuracy of a constant prediction may be


def majority_baseline(run: Run, folds: Sequence[Fold]) -> float | None:
    """Accuracy of always predicting the training majority of each fold (with ties, the lower class).

    Seeds are averaged within a subject, then subjects weigh equally. Label counts are in the fold, or by fold in `run`.
    """
    constant = []
    for fold in folds:
        counts = fold.train_label_counts or run["train_label_counts"][fold.fold]
        majority = int(np.argmax(counts))
        constant.append(replace(fold, predictions=tuple(replace(row, y_pred=majority) for row in fold.predictions)))
    return metrics.mean_std(list(accuracies_of(in_order(constant), len(run["class_names"])).values()))[0]


def label_shares(clips: Clips, n_classes: int) -> np.ndarray:
    """(P, K): the share of each class in each subject's clips; subjects sorted by name."""
    return np.array([np.bincount(clips.y_true[clips.subject == name], minlength=n_classes) / (clips.subject == name).sum()
                     for name in sorted(set(clips.subject))], dtype=float).reshape(-1, n_classes)


def level(shares: np.ndarray, majority: float | None) -> float:
    """Chance for accuracy: the best of 1/K, the majority baseline and the best constant prediction here."""
    return max(1 / shares.shape[1], majority or 0.0, float(shares.mean(axis=0).max()))


def verdict_metric(shares: np.ndarray, majority: float | None) -> str:
    """"accuracy" or "auroc", depending only on the labels. shares (P, K)."""
    uniform = 1 / shares.shape[1]
    several = int(((shares > 0).sum(axis=1) > 1).sum())
    unbalanced = level(shares, majority) - uniform > UNBALANCED * (1 - uniform) + 1e-9
    return "auroc" if unbalanced and several >= FEWEST and 2 * several >= len(shares) else "accuracy"


def inflation(folds: Sequence[Fold]) -> float:
    """Variance of a mean over subjects on pure noise, relative to that of independent subjects; from 1 to about 2.

    Two subjects are dependent if each is in the training set of the fold that tests the other: both scores contain the same
    product of their recordings. On noise with n training subjects their correlation is 1/n (the mean is a U-statistic of
    pairs), so leave-one-subject-out gives 1 + 1: the correction n_test / n_train of Nadeau and Bengio (2003), here summed over
    the dependent pairs. A fixed split has no such pairs and gives 1.
    """
    names = sorted({name for fold in folds for name in fold.subjects})
    at = {name: i for i, name in enumerate(names)}
    weight, times = np.zeros((len(names), len(names))), np.zeros(len(names))  # (test subject, training subject)
    for fold in folds:
        known = {*fold.train_subjects, *fold.val_subjects}
        training = [at[name] for name in known if name in at]
        for name in fold.subjects:
            weight[at[name], training] += len(known) ** -0.5
            times[at[name]] += 1
    weight /= times[:, None]
    return 1 + float((weight * weight.T).sum() / len(names)) if names else 1.0


def p_greater(d: ArrayLike, inflated: float) -> float:
    """p of the one-sided t test of mean d <= 0 against > 0. d (P,): by subject; the variance is multiplied by `inflated`.

    Never below 2^-P, the p of a sign test if all P subjects agree: without variance between subjects, t has no bound.
    """
    found = np.round(np.asarray(d, dtype=float), 12)
    mean, error = found.mean(), found.std(ddof=1) * np.sqrt(inflated / found.size)
    p = float(scipy.stats.t.sf(mean / error, found.size - 1)) if error > 0 else float(mean <= 0)
    return max(p, 0.5**found.size)


def values_of(subjects: Sequence[SubjectScores], metric: str) -> list[float]:
    """The metric by subject, seeds averaged. Balanced accuracy and AUROC need subjects with clips of several classes."""
    defined = subjects if metric == "accuracy" else [p for p in subjects if p.mean("auroc") is not None]
    return [value for subject in defined if (value := subject.mean(metric)) is not None]


def verdict(run: Run, folds: Sequence[Fold], subjects: Sequence[SubjectScores], clips: Clips,
            majority: float | None) -> dict[str, Any]:
    """{metric, above_chance, p} for summary.json. above_chance and p are null if the protocol uses the test subject in
    training, or with fewer than 5 subjects."""
    n_classes = len(run["class_names"])
    if not subjects:
        return {"metric": None, "above_chance": None, "p": None}
    shares = label_shares(clips, n_classes)
    metric = verdict_metric(shares, majority)
    values = np.array(values_of(subjects, metric))
    if run["leaky"] or len(values) < FEWEST:
        return {"metric": metric, "above_chance": None, "p": None}
    p = p_greater(values - (level(shares, majority) if metric == "accuracy" else 0.5), inflation(folds))
    return {"metric": metric, "above_chance": p < ALPHA, "p": p}


def expected_by_guessing(n_clips: Sequence[int], chance: float) -> tuple[float, float]:
    """(above, at): expected number of subjects above, and exactly at, `chance` if each clip is correct independently with this
    probability: sums of binomial probabilities over subjects."""
    n = np.asarray(n_clips, dtype=int)
    hit = n * chance
    whole = np.round(hit)
    tie = np.where(np.abs(hit - whole) < 1e-6, scipy.stats.binom.pmf(whole, n, chance), 0.0)
    above = scipy.stats.binom.sf(np.floor(hit + 1e-6), n, chance)
    return float(above.sum()), float(tie.sum())


def p_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verdict_words(summary: Mapping[str, Any]) -> str:
    """The verdict in a few words, for a line on the terminal."""
    found = summary.get("verdict") or {}
    if found.get("metric") is None:
        return "no verdict: no clip was scored"
    name = {"accuracy": "accuracy", "auroc": "AUROC"}[found["metric"]]
    if found["above_chance"] is None:
        return "no verdict: this protocol uses the test subject in training" if summary.get("leaky") else \
            f"no verdict: fewer than {FEWEST} subjects have a value of {name}"
    return f"{'above chance' if found['above_chance'] else 'not shown to be above chance'} ({name}, {p_words(found['p'])})"
