"""Finished runs side by side, paired by person. Reads summary.json and predictions.parquet, nothing else.

Two runs are comparable when they ask the same question (data set, task) of people named with the same key. What
differs beside the method (protocol, seeds, the people or clips scored) is said, never smoothed over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from orchestrator import paired, statistics
from orchestrator.errors import UserError
from orchestrator.storage import read_json
from orchestrator.summary import percent, stamps

MUST_AGREE = {"dataset": "data set", "task": "task", "key_fingerprint": "pseudonym key"}
WORTH_SAYING = {"split": "split", "protocol": "protocol", "seeds": "seeds", "n_planned": "number of planned folds"}


@dataclass(frozen=True)
class Result:
    """One run: accuracy by person and seed, and which clips it scored."""

    name: str
    summary: Mapping[str, Any]
    by_seed: dict[str, dict[int, float]]
    clips: dict[str, frozenset[tuple[str, int]]]  # by person: (sample, true label)

    @property
    def by_person(self) -> dict[str, float]:
        return {person: float(np.mean(list(seeds.values()))) for person, seeds in self.by_seed.items()}

    def variance(self) -> statistics.Variance:
        seeds = sorted({seed for own in self.by_seed.values() for seed in own})
        table = [[own.get(seed, np.nan) for seed in seeds] for own in self.by_seed.values()]
        return statistics.variance_parts(np.array(table, dtype=float).reshape(len(table), len(seeds)))


@dataclass(frozen=True)
class Pair:
    """Run a against run b over the people both tested; gap is a minus b. p_* two-sided; None where undefined."""

    a: str
    b: str
    n_people: int
    n_left_out: int
    mean_a: float
    mean_b: float
    gap: float
    gap_ci95: tuple[float, float] | None
    p_sign_flip: float
    sign_flip: str  # "exact" | "monte carlo"
    p_wilcoxon: float
    p_holm: float  # the sign-flip p values of all pairs, Holm-adjusted
    dz: float | None
    smallest_gap: float | None  # the true gap these people would have shown with 80 % power at 0.05
    better: int  # people for whom a is ahead, equal, behind
    equal: int
    worse: int


@dataclass(frozen=True)
class Comparison:
    runs: list[Result]
    pairs: list[Pair]
    warnings: list[str] = field(default_factory=list)


def read_run(path: Path | str) -> Result:
    """Raises UserError where the folder is not a finished run."""
    path = Path(path)
    summary, table_path = read_json(path / "summary.json"), path / "predictions.parquet"
    if not path.is_dir():
        raise UserError(f"There is no folder {path}: give the run.dir of a finished run.")
    if (path / "clean").is_dir() and (path / "as_paper").is_dir():
        raise UserError(f"{path} holds two runs: name {path / 'clean'} or {path / 'as_paper'}.")
    if not isinstance(summary, dict) or not table_path.exists():
        raise UserError(f"{path} is not a finished run (it needs a readable summary.json and predictions.parquet): "
                        "run the same command again to finish it.")
    try:
        table = pq.read_table(table_path, columns=["seed", "sample", "subject", "y_true", "y_pred"])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{table_path} cannot be read as a table of predictions: remove it and run "
                        "the same command again.") from error
    if not table.num_rows:
        raise UserError(f"{path} holds no predictions (all its folds failed): there is nothing to compare.")
    return _result(path, summary, table)


def _result(path: Path, summary: Mapping[str, Any], table: pa.Table) -> Result:
    hits: dict[str, dict[int, list[bool]]] = {}
    clips: dict[str, set[tuple[str, int]]] = {}
    for row in table.to_pylist():
        hits.setdefault(row["subject"], {}).setdefault(row["seed"], []).append(row["y_true"] == row["y_pred"])
        clips.setdefault(row["subject"], set()).add((row["sample"], row["y_true"]))
    by_seed = {person: {seed: float(np.mean(own)) for seed, own in sorted(hits[person].items())}
               for person in sorted(hits)}
    split = (table.schema.metadata or {}).get(b"split", b"unknown").decode()
    result = Result(path.resolve().name, {**summary, "split": split}, by_seed,
                    {person: frozenset(own) for person, own in clips.items()})
    if abs(np.mean(list(result.by_person.values())) - (summary.get("accuracy_mean") or 0)) > 1e-9:
        raise UserError(f"summary.json and predictions.parquet in {path} do not belong together: run the same command "
                        "again to rewrite them.")
    return result


def _names(results: Sequence[Result], paths: Sequence[Path | str]) -> list[str]:
    """Folder names, or the paths as given where two folders share a name."""
    names = [result.name for result in results]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def check(a: Result, b: Result) -> None:
    """Raises UserError when the two runs answer different questions."""
    for name, words in MUST_AGREE.items():
        ours, theirs = a.summary.get(name), b.summary.get(name)
        if ours != theirs:
            raise UserError(f"{a.name} and {b.name} cannot be compared: they have a different {words} "
                            f"({ours} and {theirs}); compare runs of one data set, task and store.")
    if len(set(a.by_seed) & set(b.by_seed)) < 2:
        raise UserError(f"{a.name} and {b.name} share fewer than 2 test people: compare runs that tested "
                        "the same ones.")


def pair_up(a: Result, b: Result) -> Pair:
    """Everything but Holm, which needs all pairs: p_holm is the plain p here."""
    ours, theirs = a.by_person, b.by_person
    both = sorted(set(ours) & set(theirs))
    d = np.round([ours[person] - theirs[person] for person in both], 12)
    p, how = paired.sign_flip(d)
    return Pair(a.name, b.name, len(both), len(set(ours) ^ set(theirs)),
                float(np.mean([ours[person] for person in both])), float(np.mean([theirs[person] for person in both])),
                float(d.mean()), statistics.student_interval(d), p, how, paired.wilcoxon(d), p, paired.cohen_dz(d),
                paired.smallest_gap(d), int((d > 0).sum()), int((d == 0).sum()), int((d < 0).sum()))


def warnings_of(a: Result, b: Result) -> list[str]:
    said = [f"{a.name} and {b.name} differ in {words}: {a.summary.get(name)} and {b.summary.get(name)}."
            for name, words in WORTH_SAYING.items() if a.summary.get(name) != b.summary.get(name)]
    both = set(a.by_seed) & set(b.by_seed)
    if left_out := len(set(a.by_seed) ^ set(b.by_seed)):
        said.append(f"{a.name} and {b.name} did not test the same people: {left_out} are left out of the pair.")
    if other := sum(a.clips[person] != b.clips[person] for person in both):
        said.append(f"{a.name} and {b.name} scored different clips of {other} people "
                    "(one lost clips that the other used).")
    if bool(a.summary.get("leaky")) != bool(b.summary.get("leaky")):
        said.append(f"One of {a.name} and {b.name} is leaky on purpose: their gap measures optimism, not a better "
                    "model.")
    return said


def compare(paths: Sequence[Path | str]) -> Comparison:
    """Every pair of the given runs. Raises UserError for fewer than two, or runs that cannot be compared."""
    if len(paths) < 2:
        raise UserError("Comparing needs at least two run folders: python -m orchestrator.compare RUN_A RUN_B.")
    found = [read_run(path) for path in paths]
    runs = [Result(name, r.summary, r.by_seed, r.clips) for name, r in zip(_names(found, paths), found, strict=True)]
    for a, b in combinations(runs, 2):
        check(a, b)
    plain = [pair_up(a, b) for a, b in combinations(runs, 2)]
    adjusted = paired.holm([pair.p_sign_flip for pair in plain])
    pairs = [Pair(**{**asdict(pair), "p_holm": float(p)}) for pair, p in zip(plain, adjusted, strict=True)]
    warnings = [text for a, b in combinations(runs, 2) for text in warnings_of(a, b)]
    warnings += [f"{run.name} stands on {n} of {planned} planned folds." for run in runs
                 if (n := run.summary.get("n_folds")) is not None and (planned := run.summary.get("n_planned")) and n < planned]
    warnings += [f"{run.name}: {word}: {text}." for run in runs for word, text in stamps(run.summary)]
    return Comparison(runs, pairs, warnings)


def optimism(clean: Path | str, leaky: Path | str) -> Pair:
    """What the leaky protocol adds on the same people (gap = leaky minus clean): the answer of protocol=both."""
    return compare([leaky, clean]).pairs[0]


def as_json(found: Comparison) -> dict[str, Any]:
    names = ("dataset", "task", "model", "encoder", "protocol", "leaky", "unproven", "partial", "seeds", "n_folds",
             "n_planned", "accuracy_mean", "accuracy_std", "accuracy_ci95", "chance", "git_commit", "dirty")
    return {"runs": [{"name": run.name, **{name: run.summary.get(name) for name in names},
                      "n_people": len(run.by_seed), "variance": asdict(run.variance())} for run in found.runs],
            "pairs": [asdict(pair) for pair in found.pairs], "warnings": found.warnings}


RUN_HEAD = ("run", "model", "protocol", "people", "accuracy %", "95 % CI", "seed std")
PAIR_HEAD = ("pair", "gap", "95 % CI", "p flip", "p Holm", "p Wilc", "dz", "detect", "+/=/-")


def _run_cells(run: Result) -> tuple[str, ...]:
    summary, ci95 = run.summary, run.summary.get("accuracy_ci95")
    protocol = " ".join([str(summary.get("protocol")), *(word for word, _ in stamps(summary))])
    return (run.name, str(summary.get("model")), protocol, str(len(run.by_seed)),
            f"{percent(summary['accuracy_mean'])} ± {percent(summary['accuracy_std'])}",
            f"{percent(ci95[0])} to {percent(ci95[1])}" if ci95 else "-", percent(run.variance().seed_within_person))


def _p(value: float) -> str:
    return "<.0001" if value < 1e-4 else f"{value:.4f}"


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    ci95 = pair.gap_ci95
    return (f"{pair.a} - {pair.b}", f"{100 * pair.gap:+.1f}",
            f"{100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f}" if ci95 else "-", _p(pair.p_sign_flip),
            _p(pair.p_holm), _p(pair.p_wilcoxon), "-" if pair.dz is None else f"{pair.dz:.2f}",
            percent(pair.smallest_gap), f"{pair.better}/{pair.equal}/{pair.worse}")


NOTE = ("Gaps in points of accuracy, paired by person, seeds averaged first. p flip: sign-flip test; p Holm: the same, "
        "adjusted for all pairs; detect: the smallest true gap these people would show with 80 % power at 0.05; +/=/-: "
        "people for whom the first is ahead, equal, behind. Folds share training people, so people are not quite "
        "independent.")


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    console = console or Console()
    for head, rows in ((RUN_HEAD, map(_run_cells, found.runs)), (PAIR_HEAD, map(_pair_cells, found.pairs))):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in head:
            table.add_column(name, overflow="fold", no_wrap=name not in ("run", "protocol", "pair"),
                             justify="left" if name in ("run", "model", "protocol", "pair") else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for text in (*(f"warning: {warning}" for warning in found.warnings), NOTE):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def as_markdown(found: Comparison) -> str:
    lines = []
    for head, rows in ((RUN_HEAD, map(_run_cells, found.runs)), (PAIR_HEAD, map(_pair_cells, found.pairs))):
        lines += [" | ".join(["", *head, ""]).strip(), "|---" * len(head) + "|"]
        lines += [" | ".join(["", *(cell.replace("|", "\\|") for cell in row), ""]).strip() for row in rows] + [""]
    return "\n".join([*lines, *(f"- {warning}" for warning in found.warnings), "", NOTE, ""])
