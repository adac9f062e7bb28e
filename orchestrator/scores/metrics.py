"""Scores of a set of clips, and means and intervals over subjects.

Pure functions of arrays. n clips, K classes, P subjects, S seeds. An undefined score (no clips, a missing class for AUROC) is
None, never a neutral number such as 0.5. Wrappers check this before they call scikit-learn, which would return 0 or NaN with a
warning. scikit-learn is imported inside functions, because the import takes half a second that `--help` and folds do not need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # which imports its parts when they are used
from numpy.typing import ArrayLike

T_BELOW = 30  # subjects; with fewer, the interval is Student's t


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one set of clips; None where undefined."""

    n: int
    accuracy: float | None
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    brier: float | None
    auroc: float | None


@dataclass(frozen=True)
class Reliability:
    """Top-label calibration in equal-width bins of confidence; empty bins hold NaN."""

    edges: np.ndarray  # (bins + 1,)
    count: np.ndarray  # (bins,)
    confidence: np.ndarray  # (bins,) mean confidence
    accuracy: np.ndarray  # (bins,)
    ece: float | None


@dataclass(frozen=True, kw_only=True)
class Variance:
    """Variance components of accuracy, as standard deviations; None where they cannot be estimated.

    pretraining_*: like seed_*, for pretraining seeds; the variance of training seeds is subtracted from the first.
    """

    between_people: float | None  # between subjects, without clip sampling and seeds
    seed_within_person: float | None  # same subject, another training seed
    seed_of_mean: float | None  # mean of the run, another training seed
    n_people: int
    n_seeds: int
    clips_within_person: float | None = None  # same subject, other clips of the same classes
    p_between: float | None = None  # p value of no difference between subjects (F test)
    pretraining_within_person: float | None = None
    pretraining_of_mean: float | None = None


@dataclass(frozen=True)
class CorrectClips:
    """Clips of one subject. correct (S, n): share of correct predictions by seed, averaged over test sets; labels (n,)."""

    correct: np.ndarray
    labels: np.ndarray


def confusion(y_true: ArrayLike, y_pred: ArrayLike, n_classes: int, weight: np.ndarray | None = None) -> np.ndarray:
    """(K, K) counts, truth in rows, prediction in columns; sums of weights (n,) where these are given."""
    from sklearn.metrics import confusion_matrix

    truth = np.asarray(y_true, dtype=int)
    if not len(truth):
        return np.zeros((n_classes, n_classes), dtype=np.int64 if weight is None else float)
    return confusion_matrix(truth, np.asarray(y_pred, dtype=int), labels=np.arange(n_classes), sample_weight=weight)


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, weight: np.ndarray | None = None) -> float | None:
    truth = np.asarray(y_true, dtype=int)
    return float(np.average(truth == np.asarray(y_pred, dtype=int), weights=weight)) if len(truth) else None


def macro_scores(y_true: ArrayLike, y_pred: ArrayLike, weight: np.ndarray | None = None) \
        -> tuple[float, float, float, float] | tuple[None, None, None, None]:
    """Macro precision, recall and F1 over the classes in labels or predictions (0/0 is 0), and balanced accuracy: mean recall
    of the classes in the labels."""
    from sklearn.metrics import precision_recall_fscore_support

    truth = np.asarray(y_true, dtype=int)
    if not len(truth):
        return None, None, None, None
    precision, recall, f1, support = precision_recall_fscore_support(truth, np.asarray(y_pred, dtype=int), average=None,
                                                                     sample_weight=weight, zero_division=0)
    return float(precision.mean()), float(recall.mean()), float(f1.mean()), float(recall[support > 0].mean())


def brier(y_true: ArrayLike, prob: np.ndarray, weight: np.ndarray | None = None) -> float | None:
    """Brier (1950): mean over clips of the squared distance to the one-hot truth, 0 to 2 for any K. prob (n, K).

    Not from scikit-learn, which halves it for two classes and supports more classes only since version 1.7.
    """
    truth = np.asarray(y_true, dtype=int)
    if not len(truth):
        return None
    squared = ((prob - np.eye(prob.shape[1])[truth]) ** 2).sum(axis=1)
    return float(squared.mean() if weight is None else np.average(squared, weights=weight))


def auroc(y_true: ArrayLike, prob: np.ndarray) -> float | None:
    """Area under the ROC curve; for K > 2, one against the rest, macro-averaged over the classes that occur. None if only
    one class occurs."""
    from sklearn.metrics import roc_auc_score

    truth, n_classes = np.asarray(y_true, dtype=int), prob.shape[1]
    present = np.unique(truth)
    if len(present) < 2:
        return None
    if n_classes == 2:
        return float(roc_auc_score(truth, prob[:, 1]))
    return float(roc_auc_score(truth[:, None] == present, prob[:, present]))  # (n, classes that occur), macro


def score(y_true: ArrayLike, y_pred: ArrayLike, prob: np.ndarray, weight: np.ndarray | None = None) -> Scores:
    """weight (n,): of each prediction, if clips have several; n is then their sum. AUROC is not weighted.

    A report scores the same clips several times, and scikit-learn's checks take 10 ms a call, so results are kept.
    """
    arrays = [np.asarray(y_true, dtype=int), np.asarray(y_pred, dtype=int), np.asarray(prob, dtype=float)]
    if weight is not None:
        arrays.append(np.asarray(weight, dtype=float))
    return _score(arrays[2].shape[1], *(array.tobytes() for array in arrays))


@lru_cache(maxsize=1024)
def _score(n_classes: int, *content: bytes) -> Scores:
    truth, prediction = (np.frombuffer(part, dtype=int) for part in content[:2])
    prob = np.frombuffer(content[2]).reshape(-1, n_classes)
    weight = np.frombuffer(content[3]) if content[3:] else None
    precision, recall, f1, balanced = macro_scores(truth, prediction, weight)
    return Scores(n=len(prob) if weight is None else int(round(weight.sum())), accuracy=accuracy(truth, prediction, weight),
                  balanced_accuracy=balanced, precision=precision, recall=recall, f1=f1, brier=brier(truth, prob, weight),
                  auroc=auroc(truth, prob))


def reliability(y_true: ArrayLike, prob: np.ndarray, n_bins: int = 10, weight: np.ndarray | None = None) -> Reliability:
    """Expected calibration error and its bins (Guo et al. 2017, eq. 3): sum over bins of n_b/n |acc_b - conf_b|.

    weight (n,): of each prediction, if clips have several; count then holds their sums.
    """
    truth = np.asarray(y_true, dtype=int)
    edges = np.linspace(0, 1, n_bins + 1)
    confidence = prob.max(axis=1) if len(truth) else np.empty(0)
    correct = (prob.argmax(axis=1) == truth).astype(float) if len(truth) else np.empty(0)
    which = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)  # bins are (lo, hi]
    of = np.ones(len(truth)) if weight is None else weight
    count = np.bincount(which, minlength=n_bins) if weight is None else np.bincount(which, weight, n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(which, confidence * of, n_bins) / count
        mean_accuracy = np.bincount(which, correct * of, n_bins) / count
    gaps = np.abs(mean_accuracy - mean_confidence)[count > 0] * count[count > 0]
    ece = float(gaps.sum() / of.sum()) if len(truth) else None
    return Reliability(edges, count, mean_confidence, mean_accuracy, ece)


def mean_std(values: ArrayLike) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (ddof 1); None if there are too few values."""
    array = np.asarray(values, dtype=float)
    mean = float(array.mean()) if array.size else None
    return mean, float(array.std(ddof=1)) if array.size > 1 else None


def student_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean, not clipped to [0, 1]."""
    array = np.asarray(values, dtype=float)
    if array.size < 2:
        return None
    half = scipy.stats.t.ppf((1 + level) / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size)
    return float(array.mean() - half), float(array.mean() + half)


def bootstrap_interval(values: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) \
        -> tuple[float, float] | None:
    """Percentile bootstrap of the mean, drawing whole subjects with replacement; the seed is fixed."""
    array = np.asarray(values, dtype=float)
    if array.size < 2:
        return None
    picks = np.random.default_rng(seed).integers(array.size, size=(draws, array.size))
    lo, hi = np.quantile(array[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def _clip_noise(clips: CorrectClips) -> tuple[float, float]:
    """(clips, rest): the variance of one subject's mean accuracy over seeds due to the sampling of clips within each class,
    and the variance of the accuracy with one seed due to clips whose prediction changes with the seed."""
    seeds, n = clips.correct.shape
    by_clip, pooled, sampling = clips.correct.mean(axis=0), 0.0, 0.0
    if n > 1:
        pooled = float(by_clip.var(ddof=1))
    for k in np.unique(clips.labels):  # the number of clips per class is fixed by the design, not sampled
        own = by_clip[clips.labels == k]
        sampling += (own.size / n) ** 2 * (float(own.var(ddof=1)) if own.size > 1 else pooled) / own.size
    if seeds < 2 or n < 2:
        return sampling, 0.0
    rest = clips.correct - by_clip - clips.correct.mean(axis=1, keepdims=True) + clips.correct.mean()
    return sampling, float((rest**2).sum() / ((seeds - 1) * (n - 1)) / n)


def variance_parts(table: np.ndarray, clips: Sequence[CorrectClips | None] | None = None,
                   pretraining: Sequence[int] | None = None) -> Variance:
    """Variance components of accuracies (P, S): subjects, clips and seeds; random effects, by the method of moments.

    A model of crossed and nested effects (Searle, Casella & McCulloch 1992): subject, clip within subject, seed, subject x
    seed, and residual. The variance of the subjects' means is the variance between subjects, plus that of clip sampling
    (within subject and class), plus subject x seed divided by S. The last two are subtracted; negative results become 0.
    Without `clips` (by row of the table), the clip component is not known, and so neither is the one between subjects.
    pretraining (S,): the pretraining seed of each column, if there are several. Rows with a NaN (a failed fold) are left
    out.
    """
    whole = ~np.isnan(table).any(axis=1)
    complete = table[whole]
    n_people, n_seeds = complete.shape
    if n_people < 2:
        return Variance(between_people=None, seed_within_person=None, seed_of_mean=None, n_people=n_people, n_seeds=n_seeds)
    groups = [np.flatnonzero(np.asarray(pretraining) == g) for g in sorted(set(pretraining))] if pretraining \
        else [np.arange(n_seeds)]
    within = of_mean = None
    if several := [group for group in groups if group.size > 1]:
        within = float(np.mean([complete[:, group].var(axis=1, ddof=1).mean() for group in several]))
        of_mean = float(np.mean([complete[:, group].mean(axis=0).var(ddof=1) for group in several]))
    again = again_mean = None
    if len(groups) > 1:
        means = np.stack([complete[:, group].mean(axis=1) for group in groups], axis=1)
        noise = 0.0 if within is None else within * float(np.mean([1 / group.size for group in groups]))
        again, again_mean = max(0.0, means.var(axis=1, ddof=1).mean() - noise), means.mean(axis=0).var(ddof=1)
    between = sampled = p = None
    if clips is not None:
        own = [(row, one) for row, one, kept in zip(table, clips, whole, strict=True)
               if kept and one is not None and one.labels.size > 1]
        if len(own) > 1:
            between, sampled, p = _between(np.array([row for row, _ in own]), [one for _, one in own])
    return Variance(between_people=_root(between), seed_within_person=_root(within), seed_of_mean=_root(of_mean),
                    n_people=n_people, n_seeds=n_seeds, clips_within_person=_root(sampled), p_between=p,
                    pretraining_within_person=_root(again), pretraining_of_mean=_root(again_mean))


def _between(table: np.ndarray, correct: Sequence[CorrectClips]) -> tuple[float, float, float | None]:
    """(between subjects, clip sampling, p): variances, and the p value of no difference between subjects."""
    n_people, n_seeds = table.shape
    means = table.mean(axis=1)
    clips, rest = np.array([_clip_noise(one) for one in correct]).mean(axis=0)
    crossed = 0.0
    if n_seeds > 1:
        left = table - means[:, None] - table.mean(axis=0) + table.mean()
        crossed = max(0.0, float((left**2).sum() / ((n_people - 1) * (n_seeds - 1))) - rest)
    noise, spread = float(clips + crossed / n_seeds), float(means.var(ddof=1))
    freedom = sum(max(1, one.labels.size - np.unique(one.labels).size) for one in correct)
    p = float(scipy.stats.f.sf(spread / noise, n_people - 1, freedom)) if noise > 0 else None
    return max(0.0, spread - noise), float(clips), p


def _root(variance: float | None) -> float | None:
    return None if variance is None else float(np.sqrt(variance))
