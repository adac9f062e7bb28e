"""Controls for every result: the accuracy of sex and age, the trial order, or the duration alone in the same folds.

Each is the one-number baseline (models/baselines/estimators.py): a small decision tree on one or two numbers of a clip,
fitted on the fold's training subjects, never on its test subjects. If a model is no better than its controls, it is not shown
that it uses the recordings.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.cohort.lineage import Lineage, guard
from orchestrator.evaluation.fit_fold import FoldData
from orchestrator.plan.folds import Fold
from orchestrator.reporting.blocks import Note, Section, Table
from orchestrator.reporting.summary import percent
from orchestrator.scores import metrics
from orchestrator.scores.fold_result import FoldResult
from orchestrator.scores.results import accuracies_of, interval

if TYPE_CHECKING:
    from orchestrator.reporting.findings import Report

FEATURES = {"sex and age": "sex_age", "trial order": "trial_order", "duration": "clip_length"}
UNKNOWN = {"sex and age": "not recorded for the subjects of this data set",
           "trial order": "not known: each clip is a separate file, and the order of the names is not used because it may "
                          "reveal the class",
           "duration": "not recorded for the clips of this data set"}


def control_rows(folds: Sequence[Fold], data: FoldData, entries: Sequence[FoldResult]) -> list[dict]:
    """One row per control: name, known; if known also n_people, accuracy, ci95, and the model's accuracy minus that of the
    control, paired by subject, with its interval: difference, difference_ci95. Over the finished folds of the first seed."""
    done = {(entry.fold, entry.seed): entry for entry in entries}
    first = [fold for fold in folds if fold.seed == folds[0].seed and (fold.index, fold.seed) in done]
    model = accuracies_of([done[fold.index, fold.seed] for fold in first], data.n_classes)
    return [_row(name, feature, first, data, model) for name, feature in FEATURES.items()]


def _row(name: str, feature: str, folds: Sequence[Fold], data: FoldData, model: Mapping[str, float]) -> dict:
    from models.baselines.estimators import columns_of

    columns = columns_of(feature)
    own = data.numbers[:, columns] if max(columns) < data.numbers.shape[1] else np.full((len(data.labels), 1), np.nan)
    if name == "duration":
        own = np.where(own > 0, own, np.nan)
    if not np.isfinite(own).any():
        return {"name": name, "known": False, "why": UNKNOWN[name]}
    tested: dict[str, list[float]] = {}
    for fold in folds:
        for subject, value in _tested(fold, data, feature).items():  # a subject may be in several test sets
            tested.setdefault(subject, []).append(value)
    accuracy = {subject: float(np.mean(own)) for subject, own in tested.items()}
    names = sorted(accuracy)
    values = [accuracy[s] for s in names]
    gap = [m - accuracy[s] for s in names if (m := model.get(s)) is not None]
    ci95, apart = interval(values)[0], metrics.student_interval(gap)
    return {"name": name, "known": True, "n_people": len(names), "accuracy": metrics.mean_std(values)[0],
            "ci95": list(ci95) if ci95 else None, "difference": metrics.mean_std(gap)[0],
            "difference_ci95": list(apart) if apart else None,
            "varies": bool(len(np.unique(own[~np.isnan(own).any(1)].round(6), axis=0)) > 1)}


def _tested(fold: Fold, data: FoldData, feature: str) -> dict[str, float]:
    """Accuracy by test subject of a control fitted on the fold's other subjects only; LineageError otherwise."""
    from models.baselines.estimators import OneNumber

    known = sorted({*fold.train, *fold.val} - {*fold.test})
    guard(data.keys(fold.test), [Lineage("a control", frozenset(data.keys(known)))])
    rows, tested = data.rows(known), data.rows(fold.test)
    if not len(rows) or not len(tested):
        return {}
    control = OneNumber(data.n_classes, seed=0, channels=data.channels, feature=feature)
    control.fit(_only(data.numbers, rows), data.labels, rows)
    right = control.predict_proba(_only(data.numbers, tested), tested).argmax(1) == data.labels[tested]
    return {data.pseudonyms[s]: float(right[data.subject[tested] == s].mean())
            for s in fold.test if (data.subject[tested] == s).any()}


def _only(numbers: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers (n, 6) of these rows; the others are NaN."""
    found = np.full(numbers.shape, np.nan)
    found[rows] = numbers[rows]
    return {"numbers": found}


def controls_section(report: "Report") -> Section | None:
    rows: Collection[Mapping] = report.run.get("controls") or []
    if not rows:
        return None
    shown = [(row["name"], percent(row["accuracy"]), _between(row["ci95"]),
              *((_points(row["difference"]), _between(row["difference_ci95"], sign=True)) if row["varies"] else ("-", "-")))
             for row in rows if row["known"]]
    said = [f"{row['name'].capitalize()}: {row['why']}." for row in rows if not row["known"]]
    said += [f"{row['name'].capitalize()} is the same for all clips, so it cannot separate the classes."
             for row in rows if row["known"] and not row["varies"]]
    said += doubts(rows)
    head = ("input of the control", "accuracy %", "95 % interval", "model minus control", "95 % interval")
    tables = [Table("Accuracy of the controls, first seed", head, shown)] if shown else []
    return Section("controls", "Controls without the recordings", [*tables, *map(Note, said), Note(
        "Small decision trees, fitted on the training subjects of the same folds (first seed). Sex and age are the same "
        "for all clips of a subject, so they separate classes only where subjects have different classes.")])


def doubts(rows: Collection[Mapping]) -> list[str]:
    """A sentence if the model is not shown to be better than one of its controls: then its result says little."""
    close = [row["name"] for row in rows
             if row["known"] and row["varies"] and row["difference_ci95"] and row["difference_ci95"][0] <= 0]
    if not close:
        return []
    return [f"This run does not show that the model is better than {', '.join(close)} alone: the 95 % interval of the "
            "difference reaches zero or lies below it."]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _between(ends: Sequence[float] | None, sign: bool = False) -> str:
    if ends is None:
        return "-"
    return f"{_points(ends[0])} to {_points(ends[1])}" if sign else f"{percent(ends[0])} to {percent(ends[1])}"
