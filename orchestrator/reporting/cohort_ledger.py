"""How many configurations were evaluated on these test subjects: each result that is seen influences the next choice.

<store>/private/met/<cohort>.json holds one entry for each configuration whose outer folds were run, in the order of their
first run. A configuration is identified by the run's content key (settings, code, data, encoders): resumed, run again, in
another folder or with more seeds, it is the same one. Inner scores of a sweep use no test subjects and do not count; the two
runs of protocol=both count as two. Subjects are identified by cohort and pseudonym; for manifests, where subjects of two
studies may have the same names, also by their recordings (study.py).
"""

import re
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scipy  # which imports its parts when they are used

from orchestrator.cohort.cohort import Cohort, private_folder
from orchestrator.cohort.study import Hashes, Marks, marks, same_recordings
from orchestrator.config.configuration import Config
from orchestrator.files.storage import exclusive, key_of, read_checked, write_checked
from orchestrator.plan.folds import Plan
from orchestrator.reporting.blocks import Note, Section, Sentences
from orchestrator.runtime import progress

if TYPE_CHECKING:
    from orchestrator.reporting.findings import Report


def register(config: Config, cohort: Cohort, plan: Plan, content_key: str, hashes: Hashes) -> tuple[int, int]:
    """(number of this configuration, number of all so far) among those evaluated on any of the plan's test subjects.

    The same configuration keeps its number. Two commands at the same time wait for each
    other. A file that was truncated or changed is renamed, with a message, and counting starts again. hashes: of the
    recordings, as the clip store has them.
    """
    keys = cohort.keys(sorted({s for fold in plan.folds for s in fold.test}))
    own = marks(cohort, hashes)
    tested = {key: own.get(key.rpartition("/")[2], {}) if key.startswith("manifest/") else {} for key in keys}
    folder = private_folder(config) / "met"
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{_name(config, keys)}.json"
    with exclusive(path.with_suffix(".lock"), lambda: None):
        entries = _read(path)
        what = f"{config.task.name} {config.model.name} {config.protocol.name}"
        number, entries = counted(entries, content_key, tested, what)
        write_checked(path, {"configurations": entries}, mode=0o600)
    return number, max(number, sum(_overlap(entry["tested"], tested) for entry in entries))


def counted(entries: list[dict], key: str, tested: Mapping[str, Marks], what: str) -> tuple[int, list[dict]]:
    """(number of this configuration, all entries). tested: test subjects with the marks of their recordings, {} if the name
    identifies the subject. More test subjects than before (max_folds) can increase the number, but never decrease it."""
    place = next((i for i, entry in enumerate(entries) if entry["key"] == key), len(entries))
    known: dict[str, Any] = entries[place] if place < len(entries) else {"key": key, "what": what, "tested": {}, "number": 0}
    everyone = dict(sorted({**known["tested"], **{name: {**known["tested"].get(name, {}), **own}
                                                  for name, own in tested.items()}}.items()))
    if place < len(entries) and everyone == known["tested"]:
        return known["number"], entries
    number = max(known["number"], 1 + sum(_overlap(entry["tested"], everyone) for entry in entries[:place]))
    return number, [*entries[:place], {**known, "tested": everyone, "number": number}, *entries[place + 1:]]


def _overlap(theirs: Mapping[str, Marks], ours: Mapping[str, Marks]) -> bool:
    """Whether a subject is in both: with the same name, and not with different recordings."""
    return any(same_recordings(theirs[name], own) is not False for name, own in ours.items() if name in theirs)


def _read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    there = read_checked(path)
    if there is None:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        progress.say("loso", f"the list of configurations evaluated on this cohort was truncated or changed: it was renamed to "
                             f"{aside}, and counting starts again")
        return []
    return there["configurations"]


def _name(config: Config, tested: list[str]) -> str:
    """Name for the cohort of the test subjects; synthetic subjects with another seed or effect are other subjects."""
    cohort = tested[0].rpartition("/")[0]
    drawn: list[Any] = []
    if cohort == "synthetic":
        from preprocessing.synthetic.cohort import VERSION

        drawn = [config.synthetic.seed, config.synthetic.effect, VERSION]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', cohort)[:40]}-{key_of([cohort, *drawn], 8)}"


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def sentence(number: int, by_now: int = 0) -> str:
    later = by_now - number
    return f"{ordinal(number)} configuration on this cohort" + (
        f"; {later} other{'s' if later > 1 else ''} came later" if later > 0 else "")


def best_of(n: int, error: float) -> float:
    """Expected optimism bias of the best of n equally good results with independent standard error `error`: the expected
    maximum of n normal deviates, by Blom (1958)."""
    return float(scipy.stats.norm.ppf((n - 0.375) / (n + 0.25))) * error


def configurations_section(report: "Report") -> Section | None:
    number, values = report.run.get("configurations_on_cohort"), report.values
    if not number:
        return None
    n = max(number, report.run.get("configurations_by_now") or number)
    earlier = f"{number - 1} other configuration{'s were' if number > 2 else ' was'}" if number > 1 else "no other was"
    said = [f"{sentence(number, n)}: in this store, {earlier} evaluated on {'some of ' * (number > 1)}these test subjects "
            f"before."]
    if n > 1 and len(set(values)) > 1:  # subjects who do not differ show no random variation
        error = report.summary["accuracy_std"] / sqrt(len(values))
        said.append(f"If all {n} were equally good, the best of their results would be up to {100 * best_of(n, error):.1f} "
                    "points too high (optimism bias) by random variation alone. Test settings that were chosen after seeing "
                    "results on new subjects.")
    return Section("configurations", "Configurations evaluated on these subjects", [Sentences(said), Note(
        "A configuration counts once, also when it is resumed or run again. Inner scores of a sweep do not count. Runs in "
        "other stores or on other machines are not counted.")])
