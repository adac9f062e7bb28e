"""Comparison of finished runs, paired by subject. Reads summary.json, predictions.parquet and lineage.json.

Two runs are comparable if they have the same data set, task, recordings and pseudonym key. Other differences than the method
(protocol, seeds, scale, training subjects, the subjects or clips that were scored) become warnings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from orchestrator.errors import UserError
from orchestrator.files.storage import file_sha256, read_json
from orchestrator.reporting import comparable
from orchestrator.reporting.summary import percent, stamps
from orchestrator.scores import chance, metrics, paired_tests
from orchestrator.scores.fold_result import FoldResult

MUST_AGREE = {"dataset": "data set", "task": "task", "classes": "list of classes", "key_fingerprint": "pseudonym key"}
WORTH_SAYING = {"split": "split", "protocol": "protocol", "seeds": "seeds", "n_planned": "number of planned folds"}


@dataclass(frozen=True)
class Result:
    """One run: accuracy by subject and seed, and which clips it scored."""

    name: str
    summary: Mapping[str, Any]
    by_seed: dict[str, dict[int, float]]
    clips: dict[str, frozenset[tuple[str, int]]]  # by subject: (sample, true label)
    record: Mapping[str, Any] = field(default_factory=dict)  # lineage.json

    @property
    def by_subject(self) -> dict[str, float]:
        return {subject: float(np.mean(list(seeds.values()))) for subject, seeds in self.by_seed.items()}

    def variance(self) -> metrics.Variance:
        seeds = sorted({seed for own in self.by_seed.values() for seed in own})
        table = [[own.get(seed, np.nan) for seed in seeds] for own in self.by_seed.values()]
        of = self.summary.get("seed_of") or {}
        pretraining = [of[str(seed)]["pretrain"] for seed in seeds] if all(str(seed) in of for seed in seeds) else None
        return metrics.variance_parts(np.array(table, dtype=float).reshape(len(table), len(seeds)), None, pretraining)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Run a compared with run b over the subjects both tested; gap is a minus b. p_*: two-sided; None if undefined."""

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
    smallest_gap: float | None  # the true gap these subjects would have shown with 80 % power at 0.05
    better: int  # number of subjects with a better, equal, worse than b
    equal: int
    worse: int
    bounds95: tuple[float, float] | None = None  # one-sided, lower and upper, corrected for shared training
    margin: float | None = None  # a fraction: how much worse is still "no worse"

    @property
    def a_no_worse(self) -> bool | None:
        """Whether a gap of -margin or less is rejected at 5 %; None without a margin or a bound."""
        return None if self.margin is None or self.bounds95 is None else self.bounds95[0] > -self.margin

    @property
    def b_no_worse(self) -> bool | None:
        return None if self.margin is None or self.bounds95 is None else self.bounds95[1] < self.margin


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
        raise UserError(f"{path} holds two runs: give {path / 'clean'} or {path / 'as_paper'}.")
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
    changed = UserError(f"summary.json or predictions.parquet in {path} was truncated or edited: run the same command "
                        "again to rewrite them.")
    try:
        if summary.get("predictions_sha256") not in (None, file_sha256(table_path)):  # None: from an older version
            raise changed
        result = _result(path, summary, table)
        _run_cells(result), comparable.training(result, result)  # raises if a field that is needed later is missing
        return result
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise changed from error


def _result(path: Path, summary: Mapping[str, Any], table: pa.Table) -> Result:
    hits: dict[str, dict[int, list[bool]]] = {}
    clips: dict[str, set[tuple[str, int]]] = {}
    for row in table.to_pylist():
        hits.setdefault(row["subject"], {}).setdefault(row["seed"], []).append(row["y_true"] == row["y_pred"])
        clips.setdefault(row["subject"], set()).add((row["sample"], row["y_true"]))
    by_seed = {subject: {seed: float(np.mean(own)) for seed, own in sorted(hits[subject].items())}
               for subject in sorted(hits)}
    split = (table.schema.metadata or {}).get(b"split", b"unknown").decode()
    record = comparable.checked(read_json(path / "lineage.json"), path / "lineage.json")
    result = Result(path.resolve().name, {**summary, "split": split}, by_seed,
                    {subject: frozenset(own) for subject, own in clips.items()}, record)
    if not abs(np.mean(list(result.by_subject.values())) - (summary.get("accuracy_mean") or 0)) <= 1e-9:
        raise UserError(f"summary.json and predictions.parquet in {path} do not belong together: run the same command "
                        "again to rewrite them.")
    return result


def _names(results: Sequence[Result], paths: Sequence[Path | str]) -> list[str]:
    """Folder names, or the paths as given where two folders share a name."""
    names = [result.name for result in results]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def check(a: Result, b: Result) -> None:
    """Raises UserError if the two runs are not comparable."""
    for name, words in MUST_AGREE.items():
        ours, theirs = a.summary.get(name), b.summary.get(name)
        if ours != theirs:
            raise UserError(f"{a.name} and {b.name} cannot be compared: they have a different {words} "
                            f"({ours} and {theirs}); compare runs of one data set, task and store.")
    if len(set(a.by_seed) & set(b.by_seed)) < 2:
        raise UserError(f"{a.name} and {b.name} share fewer than 2 test subjects: compare runs that tested "
                        "the same ones.")


def pair_up(a: Result, b: Result, margin: float | None = None) -> Pair:
    """All but Holm's correction, which needs all pairs: p_holm is the unadjusted p here."""
    ours, theirs = a.by_subject, b.by_subject
    both = sorted(set(ours) & set(theirs))
    d = np.round([ours[subject] - theirs[subject] for subject in both], 12)
    inflated = max(chance.inflation([FoldResult.from_json(fold) for fold in run.summary.get("folds") or ()]) for run in (a, b))
    p, how = paired_tests.sign_flip(d)
    return Pair(a=a.name, b=b.name, n_people=len(both), n_left_out=len(set(ours) ^ set(theirs)),
                mean_a=float(np.mean([ours[subject] for subject in both])),
                mean_b=float(np.mean([theirs[subject] for subject in both])), gap=float(d.mean()),
                gap_ci95=metrics.student_interval(d), p_sign_flip=p, sign_flip=how, p_wilcoxon=paired_tests.wilcoxon(d),
                p_holm=p, dz=paired_tests.cohen_dz(d), smallest_gap=paired_tests.smallest_gap(d), better=int((d > 0).sum()),
                equal=int((d == 0).sum()), worse=int((d < 0).sum()),
                bounds95=paired_tests.one_sided_bounds(d, inflated=inflated), margin=margin)


def _one_leaky(a: Result, b: Result) -> bool:
    return bool(a.summary.get("leaky")) != bool(b.summary.get("leaky"))


def warnings_of(a: Result, b: Result) -> list[str]:
    said = [f"{a.name} and {b.name} differ in {words}: {a.summary.get(name)} and {b.summary.get(name)}."
            for name, words in WORTH_SAYING.items() if a.summary.get(name) != b.summary.get(name)]
    if (ours := a.record.get("content_key")) and ours == b.record.get("content_key"):
        said.append(f"{a.name} and {b.name} are the same run (data, configuration and code are equal), or one is a copy of "
                    f"the other.")
    both = set(a.by_seed) & set(b.by_seed)
    if left_out := len(set(a.by_seed) ^ set(b.by_seed)):
        said.append(f"{a.name} and {b.name} did not test the same subjects: {left_out} are left out of the comparison.")
    if other := sum(a.clips[subject] != b.clips[subject] for subject in both):
        said.append(f"{a.name} and {b.name} scored different clips of {other} subjects "
                    "(one excluded clips that the other used).")
    if _one_leaky(a, b):
        said.append(f"One of {a.name} and {b.name} is leaky on purpose: their gap measures the effect of using the test "
                    "subjects, not which model is better. The margin is not applied to it.")
    return [*comparable.study(a, b), *said, *comparable.scale(a, b), *comparable.training(a, b), *comparable.encoders(a, b),
            *comparable.settings(a, b)]


def compare(paths: Sequence[Path | str], margin: float | None = None) -> Comparison:
    """Every pair of the given runs. margin: of "no worse", a fraction of accuracy. Raises UserError for fewer than two, or runs
    that cannot be compared."""
    if len(paths) < 2:
        raise UserError("Comparing needs at least two run folders: python -m orchestrator.compare RUN_A RUN_B.")
    found = [read_run(path) for path in paths]
    runs = [replace(r, name=name) for name, r in zip(_names(found, paths), found, strict=True)]
    for a, b in combinations(runs, 2):
        check(a, b)
    plain = [pair_up(a, b, None if _one_leaky(a, b) else margin) for a, b in combinations(runs, 2)]
    adjusted = paired_tests.holm([pair.p_sign_flip for pair in plain])
    pairs = [Pair(**{**asdict(pair), "p_holm": float(p)}) for pair, p in zip(plain, adjusted, strict=True)]
    warnings = [text for a, b in combinations(runs, 2) for text in warnings_of(a, b)]
    warnings += [f"{run.name} has {n} of {planned} planned folds." for run in runs
                 if (n := run.summary.get("n_folds")) is not None and (planned := run.summary.get("n_planned")) and n < planned]
    warnings += [f"{run.name}: {word}: {text}." for run in runs for word, text in stamps(run.summary)]
    return Comparison(runs, pairs, warnings)


def optimism(clean: Path | str, leaky: Path | str, clean_folds: Sequence[FoldResult] = (),
             leaky_folds: Sequence[FoldResult] = ()) -> dict[str, Any]:
    """The gap of the leaky protocol on the same subjects (leaky minus clean): the result of protocol=both.

    The pair, as a mapping, with two values from the folds (ledger entries): same_training, whether both protocols fitted the
    scored models on the same subjects, and choosing, the gain from choosing the epoch on the test subjects.
    """
    theirs = {(fold.seed, *fold.subjects): fold for fold in clean_folds}
    pairs = [(theirs[key], fold) for fold in leaky_folds if (key := (fold.seed, *fold.subjects)) in theirs]
    same = all(_fitted(one) == _fitted(other) for one, other in pairs) if pairs else None
    one_answer = sum(len({row.y_pred for row in fold.predictions}) == 1 for fold, _ in pairs)
    return {**asdict(compare([leaky, clean]).pairs[0]), "same_training": same, "clean_one_answer": [one_answer, len(pairs)],
            "choosing": choosing([fold for _, fold in pairs])}


def _fitted(fold: FoldResult) -> set[str]:
    return fold.fitted_subjects() - set(fold.subjects)


def choosing(leaky: Sequence[FoldResult]) -> dict[str, Any] | None:
    """The gain from choosing the epoch on each test subject, within the same fits: the score at that epoch minus the score at
    the one epoch that is best for all test subjects together. None without epochs, or with one test set.

    leaky: as_paper's ledger entries. Mean over test sets, seeds averaged first. Both epochs are from the same fit, so length
    of training, schedule and subjects are equal. The common epoch is chosen on the test subjects, too, so this is a lower
    bound. (The epoch of the *other* subjects is no reference: it is biased against the left-out subject.) A fit that ended
    earlier counts with its last epoch. Never negative.
    """
    fits = [(fold.subjects, fold.seed, [row["val_accuracy"] for row in fold.history if "val_accuracy" in row],
             fold.epochs or 0) for fold in leaky]
    fits = [fit for fit in fits if fit[2] and fit[3]]
    found: dict[tuple[str, ...], list[float]] = {}
    for seed in sorted({fit[1] for fit in fits}):
        own = [fit for fit in fits if fit[1] == seed]
        longest = max(len(curve) for _, _, curve, _ in own)
        curves = np.array([[curve[min(i, len(curve) - 1)] for i in range(longest)] for _, _, curve, _ in own])
        common = int(curves.mean(axis=0).argmax())
        for (whom, _, _, epoch), curve in zip(own, curves, strict=True):
            found.setdefault(whom, []).append(curve[epoch - 1] - curve[common])
    if len(found) < 2:
        return None
    means = [float(np.mean(gains)) for gains in found.values()]
    return {"gap": float(np.mean(means)), "gap_ci95": metrics.student_interval(means), "n": len(means)}


OPTIMISM = ("optimism bias, not a better model, and a lower bound: other choices that were made on the test subjects "
            "(settings, sample rates) are not repeated here.")


def optimism_words(pair: Mapping[str, Any]) -> list[str]:
    """Interpretation of the gap between as_paper and clean."""
    ci95, gap = pair["gap_ci95"], pair["gap"]
    one_answer, n = pair.get("clean_one_answer") or (0, 0)
    if pair.get("same_training") is False:
        said = ["The gap is not optimism bias alone: as_paper is also fitted on the validation subjects, and clean without a "
                "refit is not."]
    elif gap <= 0:
        said = ["as_paper does not score higher, so no optimism bias is shown."]
    elif not ci95 or ci95[0] <= 0:
        said = ["The interval includes zero or is missing, so no optimism bias is shown."]
    elif n and 2 * one_answer >= n:
        said = [f"In {one_answer} of {n} folds the clean model predicts the same class for every clip, so it may be trained "
                "too little: the share of optimism bias in the gap is not known."]
    elif pair.get("choosing"):
        said = ["as_paper uses the test subjects for scaling, encoder and epoch. It also trains for longer, until its learning "
                "rate is down to 1e-6, so the gap may not be optimism bias alone."]
    else:
        said = [f"This is {OPTIMISM}"]
    if own := pair.get("choosing"):
        ends = own["gap_ci95"]
        between = f" (95 % interval {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else ""
        said.append(f"Within the fits of as_paper, choosing the epoch on each test subject gives {100 * own['gap']:+.1f} "
                    f"points{between} compared with the one epoch that is best for all test subjects together."
                    + (f" This part is {OPTIMISM}" if ends and ends[0] > 0 else ""))
    return said


def as_json(found: Comparison) -> dict[str, Any]:
    names = ("dataset", "task", "model", "encoder", "protocol", "leaky", "unproven", "partial", "seeds", "n_folds",
             "n_planned", "accuracy_mean", "accuracy_std", "accuracy_ci95", "chance", "git_commit", "dirty")
    def of(pair: Pair) -> dict[str, Any]:
        return {**asdict(pair), "a_no_worse": pair.a_no_worse, "b_no_worse": pair.b_no_worse}

    return {"runs": [{"name": run.name, **{name: run.summary.get(name) for name in names},
                      "n_people": len(run.by_seed), "variance": asdict(run.variance())} for run in found.runs],
            "pairs": [of(pair) for pair in found.pairs], "warnings": found.warnings}


RUN_HEAD = ("run", "model", "protocol", "subjects", "accuracy %", "95 % CI", "training seed std")
PAIR_HEAD = ("pair", "gap", "95 % CI", "p flip", "p Holm", "p Wilc", "dz", "detect", "+/=/-")


def _run_cells(run: Result) -> tuple[str, ...]:
    summary, ci95 = run.summary, run.summary.get("accuracy_ci95")
    protocol = " ".join([str(summary.get("protocol")), *(word for word, _ in stamps(summary))])
    return (run.name, str(summary.get("model")), protocol, str(len(run.by_seed)),
            f"{percent(summary['accuracy_mean'])} ± {percent(summary['accuracy_std'])}",
            f"{percent(ci95[0])} to {percent(ci95[1])}" if ci95 else "-", _seed_std(run.variance()))


def _seed_std(found: metrics.Variance) -> str:
    """Standard deviation over training seeds, and over pretraining seeds if they varied."""
    both = [(found.seed_within_person, ""), (found.pretraining_within_person, " (pretraining)")]
    return ", ".join(f"{percent(value)}{what}" for value, what in both if value is not None) or "-"


def _p(value: float) -> str:
    return "<.0001" if value < 1e-4 else f"{value:.4f}"


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    ci95 = pair.gap_ci95
    return (f"{pair.a} - {pair.b}", f"{100 * pair.gap:+.1f}",
            f"{100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f}" if ci95 else "-", _p(pair.p_sign_flip),
            _p(pair.p_holm), _p(pair.p_wilcoxon), "-" if pair.dz is None else f"{pair.dz:.2f}",
            percent(pair.smallest_gap), f"{pair.better}/{pair.equal}/{pair.worse}")


def margin_words(pair: Pair) -> str:
    """The result of the test against the margin."""
    if pair.margin is None:
        return ""
    within = f"{100 * pair.margin:g} points"
    if pair.bounds95 is None:
        return f"{pair.a} - {pair.b}: too few subjects for a confidence bound."
    low, high = (f"{100 * end:+.1f}" for end in pair.bounds95)
    bounds = f"one-sided 95 % bounds of the gap, corrected for shared training, {low} and {high}"
    if pair.a_no_worse and pair.b_no_worse:
        return f"{pair.a} and {pair.b} are equivalent within {within} ({bounds})."
    for better, other, shown in ((pair.a, pair.b, pair.a_no_worse), (pair.b, pair.a, pair.b_no_worse)):
        if shown:
            return f"{better} is no worse than {other} by a margin of {within} ({bounds})."
    return f"Neither of {pair.a} and {pair.b} is shown to be no worse than the other by {within} ({bounds})."


NOTE = ("Gaps in points of accuracy, paired by subject, seeds averaged first. p flip: sign-flip test. p Holm: the same, "
        "adjusted for all pairs. p Wilc: Wilcoxon signed-rank test. detect: the smallest true gap that a test with these "
        "subjects finds with 80 % power at 0.05. +/=/-: number of subjects with a higher, equal, lower accuracy in the first "
        "run. Folds share training subjects, so subjects are not fully independent. \"No worse\" needs a margin: "
        "compare.margin=POINTS tests it.")


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    console = console or Console()
    for head, rows in ((RUN_HEAD, map(_run_cells, found.runs)), (PAIR_HEAD, map(_pair_cells, found.pairs))):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in head:
            table.add_column(name, no_wrap=True, justify="left" if name in ("run", "model", "protocol", "pair") else "right")
        for row in rows:
            table.add_row(*row)
        # never shorten names: a file has no width, and a terminal breaks lines itself
        width, wanted = console.width, Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console.width = max(width, wanted)
        console.print(table)
        console.width = width
    for text in (*(f"warning: {warning}" for warning in found.warnings), *filter(None, map(margin_words, found.pairs)), NOTE):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def as_markdown(found: Comparison) -> str:
    lines = []
    for head, rows in ((RUN_HEAD, map(_run_cells, found.runs)), (PAIR_HEAD, map(_pair_cells, found.pairs))):
        lines += [" | ".join(["", *head, ""]).strip(), "|---" * len(head) + "|"]
        lines += [" | ".join(["", *(cell.replace("|", "\\|") for cell in row), ""]).strip() for row in rows] + [""]
    return "\n".join([*lines, *(f"- {warning}" for warning in found.warnings), *(f"- {text}" for pair in found.pairs
                                                                                if (text := margin_words(pair))), "", NOTE, ""])
