"""How two finished runs differ apart from their method: the study, the scale, and the training subjects.

Each function returns sentences; only runs of different studies raise an error. Reads the runs' records (lineage.json) and
summaries.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cohort.lineage import Lineage
from orchestrator.cohort.study import same_recordings, some_differ
from orchestrator.errors import UserError
from orchestrator.files.storage import intact
from orchestrator.scores.results import tested_subjects

if TYPE_CHECKING:
    from orchestrator.reporting.comparison import Result

REFIT = "protocol.refit=true fits networks, too, on all subjects but the test subjects"


def checked(record: Any, where: Path) -> dict[str, Any]:
    """A run's record, {} if there is none. Raises UserError if it cannot be read."""
    if record is None and not where.exists():
        return {}
    try:
        if "checksum" in record and not intact(record):
            raise ValueError("it was edited")
        record["folds"], _pretrained_on(record)
        for lineage in record.get("chosen_by") or ():
            Lineage.from_json(lineage)
        for own in (record.get("recordings") or {}).values():
            own.get("signals")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} was truncated or edited: run the same command again to rewrite it.") from error
    return dict(record)


def study(a: "Result", b: "Result") -> list[str]:
    """Raises UserError where the recordings of all subjects differ: then equal names are different subjects."""
    ours, theirs = a.record.get("recordings"), b.record.get("recordings")
    unknown = f"It is not known whether {a.name} and {b.name} read the same recordings"
    if ours is None or theirs is None:
        return [f"{unknown}: {a.name if ours is None else b.name} was made by a version that did not record it. Subjects are "
                "paired by name alone."]
    both = sorted(set(a.by_seed) & set(b.by_seed))
    same = {subject: same_recordings(ours.get(subject, {}), theirs.get(subject, {})) for subject in both}
    other = [subject for subject, equal in same.items() if equal is False]
    if both and len(other) == len(both):
        raise UserError(f"{a.name} and {b.name} cannot be compared: subjects and clips have the same names in both, but no "
                        "subject has a recording in both, so these are two studies; compare runs on the same files.")
    said = [f"{a.name} and {b.name} read different recordings of {len(other)} of {len(both)} subjects with the same name: "
            "files were replaced between the runs, or these are different subjects."] if other else []
    part = [subject for subject, equal in same.items() if equal and some_differ(ours[subject], theirs[subject])]
    if part:
        said.append(f"{a.name} and {b.name} do not read exactly the same recordings of {len(part)} of {len(both)} subjects: "
                    "clips were excluded, added or replaced between the runs. This may explain a part of the gap.")
    if silent := sum(equal is None for equal in same.values()):
        said.append(f"{unknown} of {silent} of {len(both)} subjects: one reads video only and the other signals only, or one "
                    "was made by an older version.")
    return said


def scale(a: "Result", b: "Result") -> list[str]:
    ours, theirs = a.record.get("scale"), b.record.get("scale")
    if ours == theirs or ours is None or theirs is None:  # None: it reads no signals, or was not recorded
        return []
    for one, other, kind in ((a, b, ours), (b, a, theirs)):
        if kind == "subject_z":
            return [f"{one.name} is transductive: it scales with all clips of the test subject, and {other.name} with none of "
                    "them. They do not answer the same question."]
    return [f"{a.name} and {b.name} differ in scale: {ours} and {theirs}."]


def training(a: "Result", b: "Result") -> list[str]:
    """The subjects the scored models were fitted on, by test subject and seed."""
    ours, theirs = _fitted(a), _fitted(b)
    both = sorted(set(ours) & set(theirs))
    differ = [key for key in both if ours[key] != theirs[key]]
    if not differ:
        return []
    sizes = [_sizes({len(found[key]) for key in both}) for found in (ours, theirs)]
    if sizes[0] == sizes[1]:
        return [f"{a.name} and {b.name} are fitted on different subjects for {len(differ)} of {len(both)} test results: other "
                "validation subjects, or another split."]
    kept = [f"{run.name} on {size}{_kept(run)}" for run, size in zip((a, b), sizes, strict=True)]
    return [f"Numbers of training subjects per fold differ: {kept[0]}, {kept[1]}. This may explain a part of the gap; {REFIT}."]


def _kept(run: "Result") -> str:
    kept = {len(set(fold["val_subjects"]) - set(tested_subjects(fold))) for fold in run.summary["folds"]}
    if kept == {0}:
        return ""
    again = run.record.get("refit")
    how = " after choosing the epoch on" if again else " and keeps for choosing the epoch"
    return f"{how} {_sizes(kept)}" + (" (whether it was refitted is not recorded)" if again is None else "")


def _fitted(run: "Result") -> dict[tuple[str, int], frozenset[str]]:
    again = bool(run.record.get("refit"))
    return {(subject, fold["seed"]): frozenset({*fold["train_subjects"], *(fold["val_subjects"] if again else ())}
                                              - set(tested_subjects(fold)))
            for fold in run.summary["folds"] for subject in tested_subjects(fold)}


def encoders(a: "Result", b: "Result") -> list[str]:
    """The pretraining subjects of the encoder that was used for a test subject."""
    ours, theirs = _pretrained_on(a.record), _pretrained_on(b.record)
    both = sorted(set(ours) & set(theirs))
    differ = [subject for subject in both if ours[subject] != theirs[subject]]
    if not differ:
        return []
    sizes = [_sizes({len(found[subject]) for subject in both}) for found in (ours, theirs)]
    if foreign := [run.name for run in (a, b) if _elsewhere(run.record)]:
        return [f"The encoders of {' and '.join(foreign)} were trained elsewhere, on unknown subjects; those of "
                f"{a.name} and {b.name} were pretrained on {sizes[0]} and {sizes[1]} subjects of these data."]
    none = [run.name for run, size in ((a, sizes[0]), (b, sizes[1])) if size == "0"]
    if none:
        size = sizes[1] if none[0] == a.name else sizes[0]
        other = b.name if none[0] == a.name else a.name
        return [f"The encoders of {other} were pretrained on {size} subjects without labels; {none[0]} has no pretrained "
                f"encoder."]
    return [f"The encoders of {a.name} and {b.name} were pretrained on different subjects for {len(differ)} of {len(both)} "
            f"test subjects ({sizes[0]} and {sizes[1]} each)."]


def _pretrained_on(record: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """By pseudonym of the test subject; empty for a run without a record."""
    lineages = {e["index"]: Lineage.from_json(e["lineage"]).everyone() for e in record.get("encoders") or ()}
    found: dict[str, frozenset[str]] = {}
    for fold in record.get("folds") or ():
        for subject in fold["test"]:  # over all seeds: each pretraining has its own encoders
            name = subject.rpartition("/")[2]
            found[name] = found.get(name, frozenset()) | lineages.get(fold["encoder"], frozenset())
    return found


def _elsewhere(record: Mapping[str, Any]) -> bool:
    """Whether an encoder came from a public checkpoint, which has a parent without subjects, or is not proven."""
    lineages = [Lineage.from_json(e["lineage"]) for e in record.get("encoders") or ()]
    return any(not one.is_proven() or any(not parent.everyone() for parent in one.parents) for one in lineages)


def settings(a: "Result", b: "Result") -> list[str]:
    """How settings were tuned, where it differs between the runs."""
    if not a.record or not b.record:
        return []
    chosen = [[Lineage.from_json(found) for found in run.record.get("chosen_by") or ()] for run in (a, b)]
    said = []
    if {one.sha256() for one in chosen[0]} != {one.sha256() for one in chosen[1]}:
        for run, own in zip((a, b), chosen, strict=True):
            n = len({subject for one in own for subject in one.everyone()})
            how = f"chosen by a sweep over {n} subjects" if own else "not chosen by a sweep"
            said.append(f"The settings of {run.name} were {how}.")
    if a.record.get("settings") != b.record.get("settings"):
        said += [f"The settings of {run.name}'s training were {text.rstrip('. ')}." for run in (a, b)
                 if (text := run.record.get("settings"))]
    return said


def _sizes(counts: set[int]) -> str:
    found = sorted(counts)
    return "0" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
