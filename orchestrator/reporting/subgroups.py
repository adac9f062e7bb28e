"""Results by sex and age, if these are known; for groups of subjects, never for single ones.

These comparisons were not planned, and the groups are small: each has an interval, and a difference is reported only if its
interval excludes zero.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy  # which imports its parts when they are used

from orchestrator.cohort.cohort import Cohort, Person
from orchestrator.reporting.blocks import Block, Columns, Note, Section, Sentences, Table
from orchestrator.reporting.summary import percent
from orchestrator.scores import metrics
from orchestrator.scores.fold_result import FoldResult
from orchestrator.scores.results import accuracies_of, interval

if TYPE_CHECKING:
    from orchestrator.reporting.findings import Report

FEWEST = 2  # subjects; a smaller group would be a single subject
SMALL = 10  # subjects; with fewer, an interval is not reliable
SEXES = {"f": "female", "m": "male"}
BANDS = ((35, "up to 35"), (50, "36 to 50"), (65, "51 to 65"), (200, "over 65"))  # the first three are BioVid's


def age_band(age: int) -> str:
    return next(name for most, name in BANDS if age <= most)


def _sex(subject: Person) -> str | None:
    return SEXES.get(subject.sex or "")


def _band(subject: Person) -> str | None:
    return None if subject.age is None else age_band(subject.age)


KINDS: dict[str, tuple[Callable[[Person], str | None], tuple[str, ...]]] = {
    "sex": (_sex, tuple(SEXES.values())), "age": (_band, tuple(name for _, name in BANDS))}


def subgroup_rows(cohort: Cohort, entries: Sequence[FoldResult], n_classes: int) -> list[dict]:
    """One row per kind ("sex", "age"): groups [{name, n_people, accuracy, ci95}], left_out (subjects in groups too small),
    unknown (subjects), differences [{of, minus, difference, ci95}] in accuracy (Welch's interval), largest group first."""
    accuracy = accuracies_of(entries, n_classes)
    who = {subject.pseudonym: subject for subject in cohort.people}
    rows = []
    for kind, (of, order) in KINDS.items():
        groups: dict[str | None, list[float]] = defaultdict(list)
        for subject in sorted(accuracy):
            groups[of(who[subject])].append(accuracy[subject])
        unknown = len(groups.pop(None, []))
        if not groups:
            continue
        large = {name: groups[name] for name in order if len(groups.get(name, ())) >= FEWEST}
        rows.append({"kind": kind, "unknown": unknown, "left_out": len(accuracy) - unknown - sum(map(len, large.values())),
                     "groups": [_group(name, values) for name, values in large.items()], "differences": _differences(large)})
    return rows


def _group(name: str, values: Sequence[float]) -> dict:
    ci95 = interval(values)[0] if max(values) > min(values) else None  # without variance, there is no interval
    return {"name": name, "n_people": len(values), "accuracy": metrics.mean_std(values)[0],
            "ci95": list(ci95) if ci95 else None}


def _differences(groups: Mapping[str, Sequence[float]]) -> list[dict]:
    """The largest group minus each other group: Welch (1947), for groups with different variances."""
    if len(groups) < 2:
        return []
    largest = max(groups, key=lambda name: len(groups[name]))
    found = []
    for name, values in groups.items():
        if name == largest:
            continue
        gap, ends = welch(groups[largest], values)
        found.append({"of": largest, "minus": name, "difference": gap, "ci95": ends})
    return found


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, list[float] | None]:
    """(difference of the means, its 95 % interval; None if both groups have no variance)."""
    gap = float(np.mean(one) - np.mean(other))
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (one, other)]
    if sum(parts) < 1e-12:
        return gap, None
    df = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    half = float(scipy.stats.t.ppf(0.975, df)) * sum(parts) ** 0.5
    return gap, [gap - half, gap + half]


def subgroups_section(report: "Report") -> Section | None:
    rows = report.run.get("subgroups") or []
    if not rows:
        return None
    columns: list[list[Block]] = []
    for row in rows:
        shown = [(g["name"], g["n_people"], percent(g["accuracy"]),
                  f"{percent(g['ci95'][0])} to {percent(g['ci95'][1])}" if g["ci95"] else "-") for g in row["groups"]]
        tables = [Table(f"By {row['kind']}", (row["kind"], "subjects", "accuracy %", "95 % interval"), shown)] if shown else []
        said = _said(row)
        columns.append([*tables, *([Sentences(said)] if said else [])])
    return Section("subgroups", "By sex and age", [Columns(columns), Note(
        "These comparisons were not planned. Of twenty groups that do not differ, one is expected to seem different. The "
        "result of a small group depends mostly on which subjects are in it.")])


def _said(row: Mapping) -> list[str]:
    said = []
    small = [g["name"] for g in row["groups"] if g["n_people"] < SMALL]
    if small:
        said.append(f"Fewer than {SMALL} subjects, too few for a conclusion: {', '.join(small)}.")
    if row["left_out"]:
        said.append(f"Subjects in groups of fewer than {FEWEST}, which are not shown: {row['left_out']}.")
    if row["unknown"]:
        said.append(f"Subjects of unknown {row['kind']}: {row['unknown']}.")
    for gap in row["differences"]:
        if gap["ci95"] is None:
            said.append(f"{gap['of']} minus {gap['minus']}: {100 * gap['difference']:+.1f} points, without an interval.")
            continue
        low, high = gap["ci95"]
        shown = low > 0 or high < 0
        said.append(f"{gap['of']} minus {gap['minus']}: {100 * gap['difference']:+.1f} points (95 % interval {100 * low:+.1f} "
                    f"to {100 * high:+.1f})" + (", one of several comparisons." if shown else ": no difference is shown."))
    return said
