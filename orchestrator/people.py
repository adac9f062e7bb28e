"""The test people of a ledger, and their clips as arrays. n clips, K classes, P people, S seeds.

`Fold` is one ledger entry (a mapping read from JSON): fold, seed, subjects (or subject), n_quarantined,
quarantined_by_class, epochs, train_subjects, val_subjects, *_sha256, test_openings, wall_s, peak_memory_mb,
warnings, train_label_counts [K], predictions [{sample, subject, y_true, y_pred, prob [K]}].

`Run` is what the caller knows beside them. Needed: dataset, task, class_names, model, encoder, n_parameters, protocol,
leaky, unproven, partial, n_subjects, n_planned, n_failed, seeds, wall_s, versions {name: version}, git_commit, dirty,
key_fingerprint; train_label_counts {fold: [K]} where the folds do not carry them. The report also shows, where given:
    failed_folds  [{fold, seed, reason}]
    quarantine    {by_reason, by_class, by_subject}: {name: lost clips}
    clips         {person: {class: clips there were, lost ones included}}
    curves        [{encoder, stage, epoch, loss}] of pretraining
    lineage       [{artefact, people ("cohort/pseudonym"), parents, proven, sha256}] of the encoders
    n_not_asked   test folds of the split that max_folds left out
    notes         [sentence] on the data set; plan (text); config (nested); command (text); refit (bool)
    beside        [summary] of the other protocol
    optimism      comparison.Pair as a mapping: the leaky run minus the clean one, paired by person
    audit         [{name, question, verdict, text}] of the leakage canaries
    synthetic     whether the people are drawn, not filmed
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator import statistics

Fold = Mapping[str, Any]
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Person:
    """One test person: scores by seed, over the folds that tested them."""

    subject: str
    by_seed: dict[int, statistics.Scores]

    def mean(self, name: str) -> float | None:
        values = [getattr(scores, name) for scores in self.by_seed.values()]
        return statistics.mean_std([v for v in values if v is not None])[0]


@dataclass(frozen=True)
class Clips:
    """Predictions as arrays: y_true, y_pred (n,), prob (n, K), subject (n,) names."""

    y_true: np.ndarray
    y_pred: np.ndarray
    prob: np.ndarray
    subject: np.ndarray

    def where(self, mask: np.ndarray) -> "Clips":
        return Clips(self.y_true[mask], self.y_pred[mask], self.prob[mask], self.subject[mask])

    def score(self) -> statistics.Scores:
        return statistics.score(self.y_true, self.y_pred, self.prob)

    def confusion(self) -> np.ndarray:
        return statistics.confusion(self.y_true, self.y_pred, self.prob.shape[1])


def in_order(folds: Sequence[Fold]) -> list[Fold]:
    return sorted(folds, key=lambda f: (f["seed"], f["fold"]))


def fold_people(fold: Fold) -> list[str]:
    return list(fold.get("subjects") or [fold["subject"]])


def fold_subject(fold: Fold) -> str:
    """The test person's pseudonym; of several people, all of them joined by "+"."""
    return "+".join(fold_people(fold))


def lost_of(fold: Fold, k: int, name: str) -> int:
    """Lost clips of class k; quarantined_by_class may be keyed by the class's name or its number."""
    by_class = fold.get("quarantined_by_class") or {}
    return int(by_class.get(name, by_class.get(str(k), by_class.get(k, 0))))


def clips_of(folds: Sequence[Fold], n_classes: int) -> Clips:
    rows = [row for fold in folds for row in fold["predictions"]]
    if wrong := {len(row["prob"]) for row in rows} - {n_classes}:
        raise ValueError(f"the ledger holds {sorted(wrong)} probabilities a clip, the task has {n_classes} classes")
    prob = np.array([row["prob"] for row in rows], dtype=float).reshape(len(rows), n_classes)
    return Clips(np.array([row["y_true"] for row in rows], dtype=int),
                 np.array([row["y_pred"] for row in rows], dtype=int),
                 prob, np.array([row["subject"] for row in rows], dtype=object))


def people_of(folds: Sequence[Fold], n_classes: int) -> list[Person]:
    """The test people of these folds, by name. A person with no usable clip at all does not appear."""
    found: dict[str, dict[int, statistics.Scores]] = {}
    for seed in sorted({fold["seed"] for fold in folds}):
        clips = clips_of([fold for fold in folds if fold["seed"] == seed], n_classes)
        for subject in sorted(set(clips.subject)):
            found.setdefault(subject, {})[seed] = clips.where(clips.subject == subject).score()
    return [Person(subject, found[subject]) for subject in sorted(found)]


def seed_table(people: Sequence[Person]) -> np.ndarray:
    """(P, S) accuracies, NaN where a person was not tested with a seed."""
    seeds = sorted({seed for person in people for seed in person.by_seed})
    return np.array([[person.by_seed[s].accuracy if s in person.by_seed else np.nan for s in seeds]
                     for person in people], dtype=float).reshape(len(people), len(seeds))


def interval(values: Sequence[float]) -> tuple[tuple[float, float] | None, str]:
    """The contract's interval, cut to [0, 1], and its name: Student's t below 30 people, else the bootstrap."""
    if len(values) < statistics.T_BELOW:
        found, name = statistics.student_interval(values), "Student t"
    else:
        found, name = statistics.bootstrap_interval(values), "bootstrap over people"
    return (max(0.0, found[0]), min(1.0, found[1])) if found else None, name
