"""From the ledger to summary.json, predictions.parquet, folds.parquet and the table on the terminal.

`folds` are ledger entries, `run` is what the caller knows in addition. Every accuracy is computed here from the
predictions in the ledger, never taken from a worker's report. Subjects weigh equally: seeds are averaged within a subject
first, then subjects are averaged. The same folds give the same bytes, except for times.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from orchestrator.files.storage import write_bytes, write_json
from orchestrator.scores import chance, metrics
from orchestrator.scores.results import (
    Fold,
    Run,
    clips_of,
    draws_of,
    excluded_of,
    in_order,
    interval,
    subject_scores,
    tested_subjects,
)

COPIED = ("dataset", "task", "model", "encoder", "n_parameters", "protocol", "leaky", "unproven", "partial",
          "n_subjects", "n_planned", "n_failed", "seeds", "wall_s", "versions", "git_commit", "dirty",
          "key_fingerprint", "configurations_on_cohort")
FOLD_COPIED = ("fold", "seed", "n_quarantined", "epochs", "train_subjects", "val_subjects", "scaler_sha256",
               "encoder_sha256", "weights_sha256")


def _pooled_f1(folds: Sequence[Fold], n_classes: int) -> float | None:
    """Macro F1 over all clips of a seed together, each once, then the mean over seeds."""
    by_seed = []
    for seed in sorted({fold.seed for fold in folds}):
        clips = clips_of([fold for fold in folds if fold.seed == seed], n_classes)
        by_seed.append(metrics.macro_scores(clips.y_true, clips.y_pred, clips.weight())[2])
    return metrics.mean_std([f for f in by_seed if f is not None])[0]


def _interval(values: Sequence[float]) -> list[float] | None:
    found = interval(values)[0]
    return list(found) if found else None


def _fold_row(fold: Fold, scores: metrics.Scores) -> dict[str, Any]:
    planned = scores.n + fold.n_quarantined
    right = round((scores.accuracy or 0.0) * scores.n)
    copied = {name: getattr(fold, name) for name in FOLD_COPIED}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in copied.items()} | {
        "subject": fold.joined_subjects(), "n_test": scores.n, "accuracy": scores.accuracy,
        "accuracy_with_quarantined": right / planned if planned else None, "macro_f1": scores.f1}


def build_summary(run: Run, folds: Sequence[Fold]) -> dict[str, Any]:
    """The content of summary.json. Accuracies are fractions; null if undefined."""
    folds, n_classes = in_order(folds), len(run["class_names"])
    subjects = subject_scores(folds, n_classes)
    values = [a for subject in subjects if (a := subject.mean("accuracy")) is not None]
    mean, std = metrics.mean_std(values)
    bootstrap = metrics.bootstrap_interval(values)
    majority, uniform = chance.majority_baseline(run, folds), 1 / n_classes
    balanced, areas = chance.values_of(subjects, "balanced_accuracy"), chance.values_of(subjects, "auroc")
    draws = draws_of(folds, n_classes)
    several = {name: run[name] for name in ("pretrain_seeds", "seed_of")} if run.get("seed_of") else {}
    return {name: run.get(name) for name in COPIED} | several | {
        "classes": list(run["class_names"]), "n_folds": len(folds),
        "accuracy_mean": mean, "accuracy_std": std,
        "accuracy_ci95": _interval(values),
        "accuracy_ci95_bootstrap": list(bootstrap) if bootstrap else None,
        "macro_f1_mean": metrics.mean_std([f for p in subjects if (f := p.mean("f1")) is not None])[0],
        "macro_f1_pooled": _pooled_f1(folds, n_classes),
        "chance": None if majority is None else max(uniform, majority), "chance_uniform": uniform,
        "majority_baseline": majority,
        "balanced_accuracy_mean": metrics.mean_std(balanced)[0], "balanced_accuracy_ci95": _interval(balanced),
        "auroc_mean": metrics.mean_std(areas)[0], "auroc_ci95": _interval(areas),
        "verdict": chance.verdict(run, folds, subjects, clips_of(folds, n_classes), majority),
        "split": run.get("split"), "draws": draws.as_json() if draws else None,
        "folds": [_fold_row(fold, clips_of([fold], n_classes).score()) for fold in folds]}


def predictions_table(folds: Sequence[Fold], n_classes: int) -> pa.Table:
    """fold, seed, sample, subject, y_true, y_pred, prob_0..: rows sorted by seed, fold, sample."""
    rows = [(fold, row) for fold in in_order(folds) for row in sorted(fold.predictions, key=lambda r: r.sample)]
    columns = {"fold": pa.array([fold.fold for fold, _ in rows], pa.int64()),
               "seed": pa.array([fold.seed for fold, _ in rows], pa.int64()),
               "sample": pa.array([row.sample for _, row in rows], pa.string()),
               "subject": pa.array([row.subject for _, row in rows], pa.string()),
               "y_true": pa.array([row.y_true for _, row in rows], pa.int64()),
               "y_pred": pa.array([row.y_pred for _, row in rows], pa.int64())}
    for k in range(n_classes):
        columns[f"prob_{k}"] = pa.array([float(row.prob[k]) for _, row in rows], pa.float64())
    return pa.table(columns)


def folds_table(run: Run, folds: Sequence[Fold]) -> pa.Table:
    """One row per fold and seed: the columns of the summary, all scores, time and memory, excluded clips by class, and the
    confusion matrix row by row (true classes)."""
    rows = []
    for fold in in_order(folds):
        clips = clips_of([fold], len(run["class_names"]))
        scores = clips.score()
        row = _fold_row(fold, scores)
        row |= {"balanced_accuracy": scores.balanced_accuracy, "macro_precision": scores.precision,
                "macro_recall": scores.recall, "brier": scores.brier, "auroc": scores.auroc,
                "test_openings": fold.test_openings, "wall_s": fold.wall_s,
                "peak_memory_mb": fold.peak_memory_mb, "warnings": list(fold.warnings),
                "quarantined_by_class": [excluded_of(fold, k, name) for k, name in enumerate(run["class_names"])],
                "confusion": clips.confusion().ravel().tolist()}
        rows.append(row)
    texts = {"subject", "scaler_sha256", "encoder_sha256", "weights_sha256"}
    lists = {"train_subjects", "val_subjects", "warnings"}
    counts = {"quarantined_by_class", "confusion"}
    whole = {"fold", "seed", "n_test", "n_quarantined", "epochs", "test_openings"}
    names = list(rows[0]) if rows else ["fold", "seed", "subject", "accuracy"]
    kinds = {name: pa.string() if name in texts else pa.list_(pa.string()) if name in lists
             else pa.list_(pa.int64()) if name in counts else pa.int64() if name in whole else pa.float64()
             for name in names}
    return pa.table({name: pa.array([row[name] for row in rows], kinds[name]) for name in names})


def _write_parquet(path: Path, table: pa.Table) -> str:
    """The file's SHA-256."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    content = sink.getvalue().to_pybytes()
    write_bytes(path, content)
    return sha256(content).hexdigest()


def write_run_files(run_dir: Path | str, run: Run, folds: Sequence[Fold]) -> dict[str, Any]:
    """Write predictions.parquet, folds.parquet, then summary.json, each atomically; return the summary."""
    run_dir = Path(run_dir)
    stamp = {name: str(run[name]) for name in ("split", "protocol", "leaky", "unproven") if name in run}
    tables = {"predictions": predictions_table(folds, len(run["class_names"])), "folds": folds_table(run, folds)}
    hashes = {name: _write_parquet(run_dir / f"{name}.parquet", table.replace_schema_metadata(stamp))
              for name, table in tables.items()}
    summary = build_summary(run, folds)
    write_json(run_dir / "summary.json", {**summary, "predictions_sha256": hashes["predictions"]})
    return summary


def stamps(of: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Serious limits of a run (or its summary): (word, sentence)."""
    texts = {"leaky": "this protocol uses the test subject in training or selection on purpose; "
                      "the result does not hold for unseen subjects",
             "unproven": "the training subjects of a checkpoint are not known; the test subjects may be among them",
             "partial": "recordings of the cohort are missing; the result is not comparable with one on the full cohort"}
    return [(name.upper(), text) for name, text in texts.items() if of.get(name)]


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def chance_words(summary: Mapping[str, Any]) -> str:
    """Chance (the better of uniform guessing and the majority baseline), then the other one."""
    guess, majority = f"uniform guessing 1/{len(summary['classes'])}", summary["majority_baseline"]
    if majority is not None and majority > summary["chance_uniform"] + 1e-9:
        return f"chance {percent(majority)} (majority baseline), {guess} {percent(summary['chance_uniform'])}"
    return f"chance {percent(summary['chance'])} ({guess}), majority baseline {percent(majority)}"


def draws_words(summary: Mapping[str, Any]) -> str:
    """Mean and standard deviation over test sets of several subjects; "" with fewer than two test sets."""
    draws = summary.get("draws")
    if not draws or draws["n"] < 2:
        return ""
    return f"over {draws['n']} test sets: {percent(draws['accuracy_mean'])} ± {percent(draws['accuracy_std'])} % (mean ± std)"


def _excluded(summary: Mapping[str, Any]) -> int:
    """Excluded test clips of one seed: they are the same for every seed."""
    by_fold = {fold["fold"]: fold["n_quarantined"] for fold in summary["folds"]}
    return sum(by_fold.values())


def headline(summary: Mapping[str, Any]) -> str:
    """One line: mean, standard deviation, interval, chance, verdict, and the number of folds."""
    n_people = len({subject for fold in summary["folds"] if fold["accuracy"] is not None
                    for subject in tested_subjects(fold)})
    ci95 = summary["accuracy_ci95"]
    between = f", 95 % CI {percent(ci95[0])} to {percent(ci95[1])}" if ci95 else ""
    text = (f"accuracy {percent(summary['accuracy_mean'])} ± {percent(summary['accuracy_std'])} % "
            f"(mean ± std over {n_people} subjects{between}; {chance_words(summary)})")
    if over := draws_words(summary):
        text += f"; {over}"
    if (summary.get("verdict") or {}).get("metric") == "auroc":
        low, high = summary["auroc_ci95"] or (None, None)
        text += f"; AUROC {percent(summary['auroc_mean'])} (95 % CI {percent(low)} to {percent(high)})"
    text += f"; {chance.verdict_words(summary)}"
    if summary["n_folds"] < summary["n_planned"]:
        text += f", on {summary['n_folds']} of {summary['n_planned']} folds"
    if excluded := _excluded(summary):
        repeated = (summary.get("draws") or {}).get("n_more_than_once")
        text += f"; {excluded} test clips were excluded{', counted in every test set' if repeated else ''}"
    return text


def subject_table(summary: Mapping[str, Any]) -> Table:
    """Rich table: one row per test subject (or group of subjects tested together), seeds averaged."""
    table = Table(title=f"{summary['dataset']} · {summary['task']} · {summary['model']} · {summary['protocol']}")
    for name in ("subject", "clips", "excluded", "accuracy %", "excluded as errors %", "macro F1 %"):
        table.add_column(name, justify="left" if name == "subject" else "right")
    by_subject: dict[str, list[Mapping[str, Any]]] = {}
    for fold in summary["folds"]:
        by_subject.setdefault(fold["subject"], []).append(fold)

    def mean(folds: list[Mapping[str, Any]], name: str) -> str:
        return percent(metrics.mean_std([f[name] for f in folds if f[name] is not None])[0])

    for subject, folds in by_subject.items():
        name = subject if "+" not in subject else f"fold {folds[0]['fold']} ({subject.count('+') + 1} subjects)"
        table.add_row(name, str(folds[0]["n_test"]), str(folds[0]["n_quarantined"]), mean(folds, "accuracy"),
                      mean(folds, "accuracy_with_quarantined"), mean(folds, "macro_f1"))
    return table


def print_table(summary: Mapping[str, Any], report: Path | str | None = None, failed: Sequence[Mapping[str, Any]] = (),
                console: Console | None = None) -> None:
    """The last lines on the terminal: the table, failures, stamps, mean ± std, the report's path.

    failed: [{"fold", "seed", "reason"}], the folds given up after their last attempt.
    """
    console = console or Console()
    say = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    console.print(subject_table(summary))
    for fold in failed:
        say(f"fold {fold['fold']} seed {fold['seed']} failed: {' '.join(fold['reason'].split())}", style="red")
    for word, text in stamps(summary):
        say(f"*** {word} *** {text}", style="bold red")
    say(headline(summary), style="bold")
    if report is not None:
        say(f"report: {report}")
