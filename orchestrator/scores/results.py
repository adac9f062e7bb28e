"""The test subjects of a ledger, and their clips as arrays. n clips, K classes, P subjects, S seeds.

`Run` is what the caller knows in addition. Required: dataset, task, class_names, model, encoder, n_parameters, protocol,
leaky, unproven, partial, n_subjects, n_planned, n_failed, seeds, wall_s, versions {name: version}, git_commit, dirty,
key_fingerprint; train_label_counts {fold: [K]} if the folds do not have them. The report also shows, if given:
    failed_folds  [{fold, seed, reason}]
    quarantine    {by_reason, by_class, by_subject}: {name: excluded clips}
    clips         {subject: {class: number of clips, excluded ones included}}
    curves        [{encoder, stage, epoch, loss}] of pretraining
    lineage       [{artefact, people ("cohort/pseudonym"), parents, proven, sha256}] of the encoders
    n_not_asked   test folds of the split that max_folds left out
    notes         [sentence] on the data set; plan (text); config (nested); command (text); refit (bool)
    beside        [summary] of the other protocol
    optimism      comparison.Pair as a mapping: the leaky run minus the clean one, paired by subject
    audit         [{name, question, verdict, text}] of the leakage canaries
    synthetic     whether the subjects are synthetic
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.errors import UserError
from orchestrator.scores import metrics
from orchestrator.scores.fold_result import FoldResult

Fold = FoldResult
Run = Mapping[str, Any]


@dataclass(frozen=True)
class SubjectScores:
    """One test subject: scores by seed, over the folds that tested them."""

    subject: str
    by_seed: dict[int, metrics.Scores]

    def mean(self, name: str) -> float | None:
        values = [getattr(scores, name) for scores in self.by_seed.values()]
        return metrics.mean_std([v for v in values if v is not None])[0]


@dataclass(frozen=True)
class Clips:
    """Predictions as arrays: y_true, y_pred (n,), prob (n, K), subject (n,) and sample (n,) names, fold (n,) numbers.

    A clip has as many predictions as there are seeds, and draws of the test set that hold its subject.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    prob: np.ndarray
    subject: np.ndarray
    sample: np.ndarray
    fold: np.ndarray

    def where(self, mask: np.ndarray) -> "Clips":
        return Clips(self.y_true[mask], self.y_pred[mask], self.prob[mask], self.subject[mask], self.sample[mask],
                     self.fold[mask])

    def score(self) -> metrics.Scores:
        return metrics.score(self.y_true, self.y_pred, self.prob)

    def confusion(self) -> np.ndarray:
        return metrics.confusion(self.y_true, self.y_pred, self.prob.shape[1])

    def weight(self) -> np.ndarray:
        """(n,) 1 / number of predictions of the same clip, so that the sum counts each clip once."""
        clips = list(zip(self.subject, self.sample, strict=True))
        times = Counter(clips)
        return np.array([1 / times[clip] for clip in clips])

    def n_clips(self) -> int:
        return len(set(zip(self.subject, self.sample, strict=True)))


def in_order(folds: Sequence[Fold]) -> list[Fold]:
    return sorted(folds, key=lambda f: (f.seed, f.fold))


def tested_subjects(row: Mapping[str, Any]) -> list[str]:
    """The test subjects of a fold in a summary, where their names are joined by "+"."""
    return list(row["subject"].split("+"))


def excluded_of(fold: Fold, k: int, name: str) -> int:
    """Excluded clips of class k; the keys of quarantined_by_class are class names or numbers."""
    return int(fold.quarantined_by_class.get(name, fold.quarantined_by_class.get(str(k), 0)))


def clips_of(folds: Sequence[Fold], n_classes: int) -> Clips:
    rows = [row for fold in folds for row in fold.predictions]
    if wrong := {len(row.prob) for row in rows} - {n_classes}:
        raise ValueError(f"the ledger holds {sorted(wrong)} probabilities a clip, the task has {n_classes} classes")
    prob = np.array([row.prob for row in rows], dtype=float).reshape(len(rows), n_classes)
    if not np.isfinite(prob).all():
        raise UserError(f"{(~np.isfinite(prob)).any(axis=1).sum()} of {len(rows)} predictions have NaN or infinite "
                        "probabilities, so nothing can be scored: check the input and the training of the model, for example "
                        "with a lower train.lr, and run the folds again.")
    return Clips(np.array([row.y_true for row in rows], dtype=int),
                 np.array([row.y_pred for row in rows], dtype=int),
                 prob, np.array([row.subject for row in rows], dtype=object),
                 np.array([row.sample for row in rows], dtype=object),
                 np.array([fold.fold for fold in folds for _ in fold.predictions], dtype=int))


def subject_scores(folds: Sequence[Fold], n_classes: int) -> list[SubjectScores]:
    """The test subjects of these folds, by name. A subject with no usable clip at all does not appear.

    A subject in several test sets of a seed (random draws of a fixed split) counts once: n counts its clips once, and AUROC,
    which compares scores with each other, is computed within a fold and averaged.
    """
    found: dict[str, dict[int, metrics.Scores]] = {}
    for seed in sorted({fold.seed for fold in folds}):
        clips = clips_of([fold for fold in folds if fold.seed == seed], n_classes)
        for subject in sorted(set(clips.subject)):
            found.setdefault(subject, {})[seed] = _score(clips.where(clips.subject == subject))
    return [SubjectScores(subject, found[subject]) for subject in sorted(found)]


def accuracies_of(folds: Sequence[Fold], n_classes: int) -> dict[str, float]:
    """Accuracy of each test subject by name, seeds averaged; the same as in subject_scores, but faster."""
    found: dict[str, list[float]] = {}
    for seed in sorted({fold.seed for fold in folds}):
        clips = clips_of([fold for fold in folds if fold.seed == seed], n_classes)
        right = clips.y_true == clips.y_pred
        for subject in sorted(set(clips.subject)):
            found.setdefault(subject, []).append(float(right[clips.subject == subject].mean()))
    return {subject: float(np.mean(found[subject])) for subject in sorted(found)}


def _score(own: Clips) -> metrics.Scores:
    scores, numbers = own.score(), sorted(set(own.fold.tolist()))
    if len(numbers) == 1:
        return scores
    areas = [area for number in numbers if (area := own.where(own.fold == number).score().auroc) is not None]
    return replace(scores, n=own.n_clips(), auroc=metrics.mean_std(areas)[0])


def correct_clips_of(folds: Sequence[Fold], n_classes: int) -> list[metrics.CorrectClips | None]:
    """By subject, in the order of subject_scores: which clips are correct; None if a seed is missing for the subject."""
    seeds = sorted({fold.seed for fold in folds})
    by_seed: dict[str, dict[int, Clips]] = {}
    for seed in seeds:
        clips = clips_of([fold for fold in folds if fold.seed == seed], n_classes)
        for subject in set(clips.subject):
            by_seed.setdefault(subject, {})[seed] = clips.where(clips.subject == subject)
    return [_correct_clips([by_seed[subject][seed] for seed in seeds]) if len(by_seed[subject]) == len(seeds) else None
            for subject in sorted(by_seed)]


def _correct_clips(by_seed: Sequence[Clips]) -> metrics.CorrectClips | None:
    names = sorted(set(by_seed[0].sample))
    if any(set(own.sample) != set(names) for own in by_seed):
        return None
    correct = np.array([[np.mean(own.y_pred[own.sample == name] == own.y_true[own.sample == name]) for name in names]
                        for own in by_seed])
    return metrics.CorrectClips(correct, np.array([by_seed[0].y_true[by_seed[0].sample == name][0] for name in names]))


@dataclass(frozen=True)
class Draws:
    """Test sets of several subjects: accuracy of each (its subjects weigh equally, seeds averaged within a subject first)."""

    accuracies: tuple[float, ...]
    n_subjects: int
    n_more_than_once: int  # subjects in several test sets

    def as_json(self) -> dict[str, Any]:
        mean, std = metrics.mean_std(self.accuracies)
        return {"n": len(self.accuracies), "accuracy_mean": mean, "accuracy_std": std, "n_subjects": self.n_subjects,
                "n_more_than_once": self.n_more_than_once}


def draws_of(folds: Sequence[Fold], n_classes: int) -> Draws | None:
    """The test sets of a split that tests several subjects together; None for leave-one-subject-out."""
    by_set: dict[frozenset[str], list[float]] = {}  # with few subjects, the same test set may be drawn twice: it counts once
    tested: list[str] = []
    for number in sorted({fold.fold for fold in folds}):
        if own := accuracies_of([fold for fold in folds if fold.fold == number], n_classes):
            names = frozenset(own)
            tested += [] if names in by_set else names
            by_set.setdefault(names, []).append(float(np.mean(list(own.values()))))
    accuracies = [float(np.mean(same)) for same in by_set.values()]
    if len(set(tested)) == len(tested) and all(len(fold.subjects) == 1 for fold in folds):
        return None
    return Draws(tuple(accuracies), len(set(tested)), sum(n > 1 for n in Counter(tested).values()))


def seed_table(subjects: Sequence[SubjectScores]) -> np.ndarray:
    """(P, S) accuracies, NaN if a subject was not tested with a seed."""
    seeds = sorted({seed for subject in subjects for seed in subject.by_seed})
    return np.array([[subject.by_seed[s].accuracy if s in subject.by_seed else np.nan for s in seeds]
                     for subject in subjects], dtype=float).reshape(len(subjects), len(seeds))


def interval(values: Sequence[float]) -> tuple[tuple[float, float] | None, str]:
    """The 95 % interval, clipped to [0, 1], and its name: Student's t with fewer than 30 subjects, else the bootstrap."""
    if len(values) < metrics.T_BELOW:
        found, name = metrics.student_interval(values), "Student t"
    else:
        found, name = metrics.bootstrap_interval(values), "bootstrap over subjects"
    return (max(0.0, found[0]), min(1.0, found[1])) if found else None, name
