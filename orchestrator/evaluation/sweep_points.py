"""The points of a sweep: each has a configuration and a ledger of inner validation scores; the best point is chosen."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lineage import Lineage, subject_key
from orchestrator.config.configuration import Config
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder
from orchestrator.evaluation.fit_validation import ValidationResult, fit_validation
from orchestrator.evaluation.fold_data import used_encoder
from orchestrator.evaluation.ledger import ResultFiles
from orchestrator.files.code_key import code_sha256
from orchestrator.files.storage import key_of
from orchestrator.plan.folds import Fold, Plan
from orchestrator.stores.encoder_store import Encoder

NOTE = ("This is not a test result: it is the best of several settings, on subjects that were also used to choose the epoch. "
        "All subjects in its lineage were used for the choice; an unbiased estimate needs other subjects, or a nested sweep.")


class PointLedger(ResultFiles[ValidationResult]):
    """The ledger of one point of a sweep."""

    kind = ValidationResult


@dataclass(frozen=True, kw_only=True)
class Point:
    """encoders: by the fold's group. The content key is part of the ledger's folder, so another key is another folder."""

    name: str
    encoder: str
    mask_ratio: float
    key: str
    data: FoldData
    recipe: FoldRecipe
    encoders: dict[int | None, UsedEncoder | None]
    ledger: PointLedger


@dataclass(frozen=True)
class SweepWork:
    """What the trials of a sweep share. pairs: name -> (point, fold)."""

    pairs: Mapping[str, tuple[str, Fold]]
    points: Mapping[str, Point]

    def run(self, name: str) -> dict:
        point_name, fold = self.pairs[name]
        point = self.points[point_name]
        result = fit_validation(fold, point.data, point.recipe, point.encoders[fold.group])
        point.ledger.write(fold, result)
        return {"accuracy": result.accuracy}


def open_point(name: str, config: Config, folder: Path, key: str, data: FoldData, shared: FoldData, recipe: FoldRecipe,
               encoders: Sequence[Encoder]) -> Point:
    """The point with its ledger in <folder>/points/<key>/. Arrays that equal those of the first point are shared."""
    key = key_of([key, code_sha256("orchestrator.evaluation.fit_validation:fit_validation")], 16)
    if data is not shared:
        if data.samples != shared.samples or not np.array_equal(data.signals, shared.signals):
            raise RuntimeError("the points of a sweep have different clips")
        data = replace(shared, tokens=data.tokens, token_grid=data.token_grid)
    ledger = PointLedger(folder / "points" / key, key)
    ledger.clean_up()
    groups = [e.plan.group.index if e.plan.group else None for e in encoders]
    return Point(name=name, encoder=config.encoder.name, mask_ratio=float(config.pretrain.video["mask_ratio"]), key=key,
                 data=data, recipe=recipe, encoders={group: used_encoder(encoders, group) for group in groups}, ledger=ledger)


def ranked(points: Mapping[str, Point], plan: Plan, cohort: Cohort) -> dict:
    """{points: rows in grid order, chosen, lineage, note}. Nothing is chosen while a fold of any point is missing,
    because a mean over fewer folds is not comparable."""
    rows: list[dict[str, Any]] = []
    entries = {}
    for point in points.values():
        found = [e for fold in plan.folds if (e := point.ledger.read(fold))]
        entries[point.name] = found
        per_fold = defaultdict(list)
        for entry in found:
            per_fold[entry.fold].append(entry.accuracy)
        means = [statistics.fmean(values) for _, values in sorted(per_fold.items())]
        whole = len(found) == len(plan.folds)
        rows.append({
            "name": point.name, "encoder": point.encoder, "mask_ratio": point.mask_ratio, "content_key": point.key,
            "encoder_sha256": [u.sha256 for u in point.encoders.values() if u],
            "accuracy_mean": statistics.fmean(means) if whole else None,
            "accuracy_std": statistics.stdev(means) if whole and len(means) > 1 else None,
            "n_folds": len(found), "n_failed": len(plan.folds) - len(found),
            "folds": [{n: getattr(e, n) for n in ("fold", "seed", "accuracy", "val_loss", "epochs", "n_val")} for e in found]})
    best = max(rows, key=lambda row: row["accuracy_mean"]) if all(r["n_failed"] == 0 for r in rows) else None
    return {"points": rows, "chosen": best["name"] if best else None, "note": NOTE,
            "lineage": lineage_of(points, entries, cohort.name).to_json()}


def lineage_of(points: Mapping[str, Point], entries: Mapping[str, list[ValidationResult]], cohort: str) -> Lineage:
    """All subjects the choice depends on: training and validation subjects of any fold and point, and those of the encoders."""
    subjects = {name for found in entries.values() for e in found for name in (*e.train_subjects, *e.val_subjects)}
    parents = {used.lineage.artefact: used.lineage for point in points.values() for used in point.encoders.values() if used}
    return Lineage("the setting chosen by a sweep", frozenset(subject_key(cohort, name) for name in subjects),
                   tuple(parents[name] for name in sorted(parents)))


def write_table(result: dict, console: Console) -> None:
    """The last lines on the terminal."""
    table = Table(title=f"{result['dataset']}, {result['task']}, {result['model']}: inner validation", title_justify="left")
    for name in ("encoder", "mask ratio", "accuracy on inner validation, mean ± std over folds", "folds"):
        table.add_column(name, justify="left" if name == "encoder" else "right")
    for row in result["points"]:
        mean, std = row["accuracy_mean"], row["accuracy_std"]
        score = "incomplete" if mean is None else f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}") + " %"
        table.add_row(row["encoder"], f"{row['mask_ratio']:g}", score, f"{row['n_folds']}",
                      style="bold" if row["name"] == result["chosen"] else "")
    console.print(table)
    if result["chosen"] is None:
        console.print("Folds are missing, so nothing is chosen: run the same command again.")
        return
    n = len(Lineage.from_json(result["lineage"]).everyone())
    console.print(f"Chosen: {result['chosen']}, using {n} of {result['n_subjects']} subjects. "
                  f"{result['note']}")
