"""From the ledger to summary.json, predictions.parquet, folds.parquet and the table on the terminal.

`folds` are ledger entries, `run` is what the caller knows beside them. Every accuracy is computed here from the
predictions in the ledger; nothing a worker reported about its own accuracy is believed. People weigh equally: seeds
are averaged within a person first, then people are averaged. Same folds, same bytes, wherever no time is involved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator import statistics
from orchestrator.storage import write_bytes, write_json

Fold = Mapping[str, Any]  # one ledger entry
Run = Mapping[str, Any]  # dataset, task, class_names, model, ...: see docs/architecture.md

COPIED = ("dataset", "task", "model", "encoder", "n_parameters", "protocol", "leaky", "unproven", "partial",
          "n_subjects", "n_planned", "n_failed", "seeds", "wall_s", "versions", "git_commit", "dirty",
          "key_fingerprint")
FOLD_COPIED = ("fold", "seed", "n_quarantined", "epochs", "train_subjects", "val_subjects", "scaler_sha256",
               "encoder_sha256", "weights_sha256")


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


def in_order(folds: Sequence[Fold]) -> list[Fold]:
    return sorted(folds, key=lambda f: (f["seed"], f["fold"]))


def fold_subject(fold: Fold) -> str:
    """The test person's pseudonym; of several people, all of them joined by "+"."""
    return fold["subject"] if fold.get("subject") else "+".join(fold["subjects"])


def clips_of(folds: Sequence[Fold], n_classes: int) -> Clips:
    rows = [row for fold in folds for row in fold["predictions"]]
    prob = np.array([row["prob"] for row in rows], dtype=float).reshape(len(rows), -1)
    if rows and prob.shape[1] != n_classes:
        raise ValueError(f"the ledger holds {prob.shape[1]} probabilities a clip, the task has {n_classes} classes")
    return Clips(np.array([row["y_true"] for row in rows], dtype=int),
                 np.array([row["y_pred"] for row in rows], dtype=int),
                 prob if rows else np.empty((0, n_classes)), np.array([row["subject"] for row in rows], dtype=object))


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


def _chance(run: Run, folds: Sequence[Fold]) -> float | None:
    """Mean over folds of always answering the training majority. Counts come with the fold, or by fold in `run`."""
    answers = []
    for fold in folds:
        counts = fold.get("train_label_counts") or run["train_label_counts"][fold["fold"]]
        answer = statistics.majority_accuracy(counts, [row["y_true"] for row in fold["predictions"]])
        answers += [] if answer is None else [answer]
    return statistics.mean_std(answers)[0]


def _fold_row(fold: Fold, n_classes: int) -> dict[str, Any]:
    scores = clips_of([fold], n_classes).score()
    planned = scores.n + fold["n_quarantined"]
    right = round((scores.accuracy or 0.0) * scores.n)
    return {name: fold.get(name) for name in FOLD_COPIED} | {
        "subject": fold_subject(fold), "n_test": scores.n, "accuracy": scores.accuracy,
        "accuracy_with_quarantined": right / planned if planned else None, "macro_f1": scores.f1}


def build_summary(run: Run, folds: Sequence[Fold]) -> dict[str, Any]:
    """summary.json as the contract names it. Accuracies are fractions; null where nothing defines a number."""
    folds, n_classes = in_order(folds), len(run["class_names"])
    people = people_of(folds, n_classes)
    values = [a for person in people if (a := person.mean("accuracy")) is not None]
    mean, std = statistics.mean_std(values)
    bootstrap = statistics.bootstrap_interval(values)
    ci95, _ = interval(values)
    return {name: run.get(name) for name in COPIED} | {
        "classes": list(run["class_names"]), "n_folds": len(folds),
        "accuracy_mean": mean, "accuracy_std": std,
        "accuracy_ci95": list(ci95) if ci95 else None,
        "accuracy_ci95_bootstrap": list(bootstrap) if bootstrap else None,
        "macro_f1_mean": statistics.mean_std([f for p in people if (f := p.mean("f1")) is not None])[0],
        "macro_f1_pooled": clips_of(folds, n_classes).score().f1,
        "chance": _chance(run, folds), "chance_uniform": 1 / n_classes,
        "folds": [_fold_row(fold, n_classes) for fold in folds]}


def predictions_table(folds: Sequence[Fold], n_classes: int) -> pa.Table:
    """fold, seed, sample, subject, y_true, y_pred, prob_0..: rows sorted by seed, fold, sample."""
    rows = [(fold, row) for fold in in_order(folds) for row in sorted(fold["predictions"], key=lambda r: r["sample"])]
    columns = {"fold": pa.array([fold["fold"] for fold, _ in rows], pa.int64()),
               "seed": pa.array([fold["seed"] for fold, _ in rows], pa.int64()),
               "sample": pa.array([row["sample"] for _, row in rows], pa.string()),
               "subject": pa.array([row["subject"] for _, row in rows], pa.string()),
               "y_true": pa.array([row["y_true"] for _, row in rows], pa.int64()),
               "y_pred": pa.array([row["y_pred"] for _, row in rows], pa.int64())}
    for k in range(n_classes):
        columns[f"prob_{k}"] = pa.array([float(row["prob"][k]) for _, row in rows], pa.float64())
    return pa.table(columns)


def folds_table(run: Run, folds: Sequence[Fold]) -> pa.Table:
    """One row a fold and seed: the summary's columns, every score, and the cost."""
    rows = []
    for fold in in_order(folds):
        scores = clips_of([fold], len(run["class_names"])).score()
        row = _fold_row(fold, len(run["class_names"]))
        row |= {"balanced_accuracy": scores.balanced_accuracy, "macro_precision": scores.precision,
                "macro_recall": scores.recall, "brier": scores.brier, "auroc": scores.auroc,
                "test_openings": fold.get("test_openings"), "wall_s": fold.get("wall_s"),
                "peak_memory_mb": fold.get("peak_memory_mb"), "warnings": list(fold.get("warnings") or [])}
        rows.append(row)
    texts = {"subject", "scaler_sha256", "encoder_sha256", "weights_sha256"}
    lists = {"train_subjects", "val_subjects", "warnings"}
    whole = {"fold", "seed", "n_test", "n_quarantined", "epochs", "test_openings"}
    names = list(rows[0]) if rows else ["fold", "seed", "subject", "accuracy"]
    kinds = {name: pa.string() if name in texts else pa.list_(pa.string()) if name in lists
             else pa.int64() if name in whole else pa.float64() for name in names}
    return pa.table({name: pa.array([row[name] for row in rows], kinds[name]) for name in names})


def _write_parquet(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    write_bytes(path, sink.getvalue().to_pybytes())


def write_run_files(run_dir: Path | str, run: Run, folds: Sequence[Fold]) -> dict[str, Any]:
    """Write predictions.parquet, folds.parquet, then summary.json, each atomically; return the summary."""
    run_dir = Path(run_dir)
    _write_parquet(run_dir / "predictions.parquet", predictions_table(folds, len(run["class_names"])))
    _write_parquet(run_dir / "folds.parquet", folds_table(run, folds))
    summary = build_summary(run, folds)
    write_json(run_dir / "summary.json", summary)
    return summary
