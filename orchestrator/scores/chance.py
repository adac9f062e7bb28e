"""What guessing reaches, and whether a run is above it: the metric that speaks, its test over subjects, its words.

P subjects, K classes. Leaving a subject out makes the training majority lean away from that subject's labels, so that
"always the training majority" can lie far below 1/K; what a run is held against is therefore the better of the two. Which
metric speaks follows from the labels alone, before any prediction is looked at:

- labels are about balanced: accuracy, against the best of 1/K, the training majority and the best single answer;
- one answer is right much more often than 1/K, and most subjects have clips of several classes: AUROC of each subject,
  against 1/2. Accuracy can then equal the majority's however well the model ranks; a subject's own AUROC knows nothing of
  how frequent a class is;
- the same, but subjects have one class each: accuracy as above, since a subject's AUROC is undefined. (AUROC over all
  subjects's clips pooled is no way out: scores of different folds have different scales, and lean against the subject left
  out.)

The test is a one-sided t test over subjects: the subject is what was drawn, not the clip. Subjects who train the models that
test each other are not independent, even where nothing is to be learnt (see `inflation`); taking them for independent would
call up to 12 % of runs on noise "above chance" instead of 5 %.
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
FEWEST = 5  # subjects: of fewer, not even all on one side reach ALPHA (2^-4 = 0.0625)
UNBALANCED = 0.1  # of the way from 1/K to 1 that one single answer reaches


def majority_baseline(run: Run, folds: Sequence[Fold]) -> float | None:
    """Accuracy of always answering the training majority of each fold (a tie: the lower class), scored as accuracy is.

    Seeds are averaged within a subject, then subjects weigh equally. Counts come with the fold, or by fold in `run`.
    """
    answered = []
    for fold in folds:
        counts = fold.train_label_counts or run["train_label_counts"][fold.fold]
        answer = int(np.argmax(counts))
        answered.append(replace(fold, predictions=tuple(replace(row, y_pred=answer) for row in fold.predictions)))
    return metrics.mean_std(list(accuracies_of(in_order(answered), len(run["class_names"])).values()))[0]


def label_shares(clips: Clips, n_classes: int) -> np.ndarray:
    """(P, K): of each subject's clips, the share of every class; subjects by name."""
    return np.array([np.bincount(clips.y_true[clips.subject == name], minlength=n_classes) / (clips.subject == name).sum()
                     for name in sorted(set(clips.subject))], dtype=float).reshape(-1, n_classes)


def level(shares: np.ndarray, majority: float | None) -> float:
    """What accuracy is held against: the best of 1/K, the training majority and the best single answer for these clips."""
    return max(1 / shares.shape[1], majority or 0.0, float(shares.mean(axis=0).max()))


def speaking(shares: np.ndarray, majority: float | None) -> str:
    """"accuracy" or "auroc", from the labels alone. shares (P, K)."""
    uniform = 1 / shares.shape[1]
    several = int(((shares > 0).sum(axis=1) > 1).sum())
    unbalanced = level(shares, majority) - uniform > UNBALANCED * (1 - uniform) + 1e-9
    return "auroc" if unbalanced and several >= FEWEST and 2 * several >= len(shares) else "accuracy"


def inflation(folds: Sequence[Fold]) -> float:
    """Variance of a mean over subjects of whom nothing can be learnt, over that of independent subjects; from 1 to about 2.

    Two subjects are tied where each helps to train the model that tests the other: both of their scores hold the same product
    of their recordings. Of scores without information, with n subjects in training, the correlation is 1/n (what is averaged is
    a U-statistic of pairs), so that leaving each subject out once gives 1 + 1: the correction n_test / n_train of Nadeau and
    Bengio (2003), here over the pairs that are so tied. A fixed split has none and gives 1.
    """
    names = sorted({name for fold in folds for name in fold.subjects})
    at = {name: i for i, name in enumerate(names)}
    taught, times = np.zeros((len(names), len(names))), np.zeros(len(names))  # tested, teacher
    for fold in folds:
        known = {*fold.train_subjects, *fold.val_subjects}
        teachers = [at[name] for name in known if name in at]
        for name in fold.subjects:
            taught[at[name], teachers] += len(known) ** -0.5
            times[at[name]] += 1
    taught /= times[:, None]
    return 1 + float((taught * taught.T).sum() / len(names)) if names else 1.0


def p_greater(d: ArrayLike, inflated: float) -> float:
    """p of the one-sided t test of mean d <= 0 against > 0, d (P,) by subject, its variance times `inflated`.

    Never below 2^-P, what equal signs of P subjects alone would give: where nobody differs from anybody, t knows no bounds.
    """
    found = np.round(np.asarray(d, dtype=float), 12)
    mean, error = found.mean(), found.std(ddof=1) * np.sqrt(inflated / found.size)
    p = float(scipy.stats.t.sf(mean / error, found.size - 1)) if error > 0 else float(mean <= 0)
    return max(p, 0.5**found.size)


def values_of(subjects: Sequence[SubjectScores], metric: str) -> list[float]:
    """The metric by subject, seeds averaged. Balanced accuracy and AUROC exist for subjects with clips of several classes."""
    defined = subjects if metric == "accuracy" else [p for p in subjects if p.mean("auroc") is not None]
    return [value for subject in defined if (value := subject.mean(metric)) is not None]


def verdict(run: Run, folds: Sequence[Fold], subjects: Sequence[SubjectScores], clips: Clips,
            majority: float | None) -> dict[str, Any]:
    """{metric, above_chance, p} of the contract. above_chance is null where a protocol that uses the test subject, or
    fewer than 5 subjects, leave nothing to be judged; p is then null as well."""
    n_classes = len(run["class_names"])
    if not subjects:
        return {"metric": None, "above_chance": None, "p": None}
    shares = label_shares(clips, n_classes)
    metric = speaking(shares, majority)
    values = np.array(values_of(subjects, metric))
    if run["leaky"] or len(values) < FEWEST:
        return {"metric": metric, "above_chance": None, "p": None}
    p = p_greater(values - (level(shares, majority) if metric == "accuracy" else 0.5), inflation(folds))
    return {"metric": metric, "above_chance": p < ALPHA, "p": p}


def expected_by_guessing(n_clips: Sequence[int], chance: float) -> tuple[float, float]:
    """(above, at): how many subjects guessing alone puts above, and exactly at, `chance`, where every clip is right by itself
    with that probability: the sum over subjects of the binomial's probabilities, ties kept apart."""
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
