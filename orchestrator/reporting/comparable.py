"""What two finished runs do not have in common beside their method: the study, the scale, and who trained whom.

Each function returns sentences; only another study is refused. Reads the runs' records (lineage.json) and summaries.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cohort.lineage import Lineage
from orchestrator.cohort.study import same_recordings, some_apart
from orchestrator.errors import UserError
from orchestrator.files.storage import intact
from orchestrator.scores.results import fold_people

if TYPE_CHECKING:
    from orchestrator.reporting.comparison import Result

REFIT = "protocol.refit=true fits networks, too, on everybody but the test people"


def checked(record: Any, where: Path) -> dict[str, Any]:
    """A run's record, {} where there is none. Raises UserError for one that cannot be read."""
    if record is None and not where.exists():
        return {}
    try:
        if "checksum" in record and not intact(record):
            raise ValueError("it was edited")
        record["folds"], _seen(record)
        for lineage in record.get("chosen_by") or ():
            Lineage.from_json(lineage)
        for own in (record.get("recordings") or {}).values():
            own.get("signals")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} was cut or changed since it was written: run the same command again, which writes it "
                        "anew.") from error
    return dict(record)


def study(a: "Result", b: "Result") -> list[str]:
    """Raises UserError where everybody's recordings differ: then people of the same name are strangers."""
    ours, theirs = a.record.get("recordings"), b.record.get("recordings")
    unknown = f"Whether {a.name} and {b.name} read the same recordings is not known"
    if ours is None or theirs is None:
        return [f"{unknown}: {a.name if ours is None else b.name} was made before runs recorded it; people are paired by name "
                "alone."]
    both = sorted(set(a.by_seed) & set(b.by_seed))
    same = {person: same_recordings(ours.get(person, {}), theirs.get(person, {})) for person in both}
    other = [person for person, equal in same.items() if equal is False]
    if both and len(other) == len(both):
        raise UserError(f"{a.name} and {b.name} cannot be compared: people and clips have the same names in both and nobody "
                        "has a recording in both, so these are two studies; compare runs on the same files.")
    said = [f"{a.name} and {b.name} read other recordings of {len(other)} of {len(both)} people of the same name: files were "
            "replaced between the runs, or they are not the same people."] if other else []
    part = [person for person, equal in same.items() if equal and some_apart(ours[person], theirs[person])]
    if part:
        said.append(f"{a.name} and {b.name} do not read quite the same recordings of {len(part)} of {len(both)} people: clips "
                    "were left out, added or replaced between the runs. A part of the gap may be that.")
    if silent := sum(equal is None for equal in same.values()):
        said.append(f"{unknown} of {silent} of {len(both)} people: one reads films alone and the other signals, or is of an "
                    "older version.")
    return said


def scale(a: "Result", b: "Result") -> list[str]:
    ours, theirs = a.record.get("scale"), b.record.get("scale")
    if ours == theirs or ours is None or theirs is None:  # None: it reads no signals, or was not recorded
        return []
    for one, other, kind in ((a, b, ours), (b, a, theirs)):
        if kind == "subject_z":
            return [f"{one.name} is transductive: its scale reads all clips of the test person at once, that of {other.name} "
                    "none of them. They do not answer the same question."]
    return [f"{a.name} and {b.name} differ in scale: {ours} and {theirs}."]


def training(a: "Result", b: "Result") -> list[str]:
    """Whom the scored models were fitted on, by test person and seed."""
    ours, theirs = _fitted(a), _fitted(b)
    both = sorted(set(ours) & set(theirs))
    differ = [key for key in both if ours[key] != theirs[key]]
    if not differ:
        return []
    sizes = [_sizes({len(found[key]) for key in both}) for found in (ours, theirs)]
    if sizes[0] == sizes[1]:
        return [f"{a.name} and {b.name} are fitted on other people for {len(differ)} of {len(both)} tests: other validation "
                "people, or another split."]
    kept = [f"{run.name} on {size}{_kept(run)}" for run, size in zip((a, b), sizes, strict=True)]
    return [f"Not fitted on as many people a fold: {kept[0]}, {kept[1]}. A part of the gap may be that; {REFIT}."]


def _kept(run: "Result") -> str:
    kept = {len(set(fold["val_subjects"]) - set(fold_people(fold))) for fold in run.summary["folds"]}
    if kept == {0}:
        return ""
    again = run.record.get("refit")
    how = " after a choice of the epoch on" if again else " and keeps back, for choosing the epoch,"
    return f"{how} {_sizes(kept)}" + (" (whether it was refitted is not recorded)" if again is None else "")


def _fitted(run: "Result") -> dict[tuple[str, int], frozenset[str]]:
    again = bool(run.record.get("refit"))
    return {(person, fold["seed"]): frozenset({*fold["train_subjects"], *(fold["val_subjects"] if again else ())}
                                              - set(fold_people(fold)))
            for fold in run.summary["folds"] for person in fold_people(fold)}


def encoders(a: "Result", b: "Result") -> list[str]:
    """Whom the encoder that served a test person had seen."""
    ours, theirs = _seen(a.record), _seen(b.record)
    both = sorted(set(ours) & set(theirs))
    differ = [person for person in both if ours[person] != theirs[person]]
    if not differ:
        return []
    sizes = [_sizes({len(found[person]) for person in both}) for found in (ours, theirs)]
    if foreign := [run.name for run in (a, b) if _elsewhere(run.record)]:
        return [f"The encoders of {' and '.join(foreign)} were trained elsewhere, on people nobody here can name; those of "
                f"{a.name} and {b.name} have learnt from {sizes[0]} and {sizes[1]} people of these data."]
    none = [run.name for run, size in ((a, sizes[0]), (b, sizes[1])) if size == "0"]
    if none:
        size = sizes[1] if none[0] == a.name else sizes[0]
        other = b.name if none[0] == a.name else a.name
        return [f"The encoders of {other} have learnt from {size} people without labels, {none[0]} has no pretrained encoder."]
    return [f"The encoders of {a.name} and {b.name} have learnt from other people for {len(differ)} of {len(both)} test people "
            f"({sizes[0]} and {sizes[1]} each)."]


def _seen(record: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """By pseudonym of the test person; empty for a run without a record."""
    lineages = {e["index"]: Lineage.from_json(e["lineage"]).everyone() for e in record.get("encoders") or ()}
    found: dict[str, frozenset[str]] = {}
    for fold in record.get("folds") or ():
        for person in fold["test"]:  # of all seeds: each pretraining has encoders of its own
            name = person.rpartition("/")[2]
            found[name] = found.get(name, frozenset()) | lineages.get(fold["encoder"], frozenset())
    return found


def _elsewhere(record: Mapping[str, Any]) -> bool:
    """Whether an encoder came from a public checkpoint, which has a parent that names nobody, or is not proven."""
    lineages = [Lineage.from_json(e["lineage"]) for e in record.get("encoders") or ()]
    return any(not one.is_proven() or any(not parent.everyone() for parent in one.parents) for one in lineages)


def settings(a: "Result", b: "Result") -> list[str]:
    """Settings that were tuned, on whom, where the other run's were not tuned on the same."""
    if not a.record or not b.record:
        return []
    chosen = [[Lineage.from_json(found) for found in run.record.get("chosen_by") or ()] for run in (a, b)]
    said = []
    if {one.sha256() for one in chosen[0]} != {one.sha256() for one in chosen[1]}:
        for run, own in zip((a, b), chosen, strict=True):
            n = len({person for one in own for person in one.everyone()})
            how = f"chosen by a sweep in which {n} people took part" if own else "not chosen by a sweep"
            said.append(f"The settings of {run.name} were {how}.")
    if a.record.get("settings") != b.record.get("settings"):
        said += [f"The settings of {run.name}'s training were {text.rstrip('. ')}." for run in (a, b)
                 if (text := run.record.get("settings"))]
    return said


def _sizes(counts: set[int]) -> str:
    found = sorted(counts)
    return "0" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
