"""AI4Pain 2025 and 2026: four sensors at 100 Hz, one file per sensor and subject, one column per trial."""

import re
from collections import Counter
from pathlib import Path

from preprocessing.datasets.ai4pain import child, files, split_folders
from preprocessing.errors import ClipError, InputError
from preprocessing.inputs.paths import check_distinct, check_name, fold_name
from preprocessing.recordings import Channel, DataSet, Recording, SignalRef, Subject
from preprocessing.signals import tables

FS = 100.0
SENSORS = ("Bvp", "Eda", "Resp", "SpO2")
EDITIONS = {
    "2025": (("No pain", "Low", "High"), {"baseline": 0, "rest": 0, "low": 1, "high": 2}),
    "2026": (("No pain", "Arm", "Hand"), {"baseline": 0, "rest": 0, "arm": 1, "hand": 2}),
}
LAYOUT = """\
  <root>/{train,validation}/{Bvp,Eda,Resp,SpO2}/<sid>.csv  (columns <sid>_Baseline_1, <sid>_LOW_1, ...)"""
TRIAL = re.compile(r"(?P<sid>.+)_(?P<kind>baseline|rest|low|high|arm|hand)_(?P<number>\d+)", re.IGNORECASE)


def load(root: Path, seconds: float = 10.0) -> DataSet:
    """The labelled splits; the edition (2025: low/high, 2026: arm/hand) follows from the column names.

    A clip is the first `seconds` of its trial. A trial without one of the sensors has no signal (counted in a note); columns
    that are not a labelled trial are skipped and counted. InputError for mixed editions, repeated trials, or a subject in two
    splits.
    """
    trials: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}  # (subject, trial) -> sensor -> (file, column)
    where: dict[tuple[str, str], tuple[str, Path]] = {}
    split_of: dict[str, str] = {}
    notes: list[str] = []
    skipped = 0
    for split, folder in split_folders(root):
        for sensor in SENSORS:
            for path in files(root, child(folder, sensor), ".csv"):
                subject = check_name(path.stem, str(path))
                if split_of.setdefault(subject, split) != split:
                    raise InputError(f"{root}: the subject {subject} is in both {split_of[subject]} and {split}; "
                                     "remove it from one.")
                try:
                    header = tables.read_header(path)
                except ClipError as error:
                    notes.append(f"One {sensor} file of {split} is excluded ({error.reason}): {error.fix}")
                    continue
                for column in header:
                    match = TRIAL.fullmatch(column)
                    if match is None or fold_name(match["sid"]) != fold_name(subject):
                        skipped += bool(column)
                        continue
                    key = (subject, f"{match['kind'].lower()}_{int(match['number']):02d}")
                    if sensor in trials.setdefault(key, {}):
                        raise InputError(f"{path}: two columns of one trial that differ only in case ({column}); remove one.")
                    trials[key][sensor] = (f"{path.parent.name}/{path.name}", column)
                    where[key] = (split, folder)
    if not trials:
        raise InputError(f"{root} holds no trial of AI4Pain 2025 or 2026; it should look like\n{LAYOUT}")
    check_distinct(split_of, "subject", root)
    edition = tell_edition({trial.split("_")[0] for _, trial in trials}, root)
    class_names, label_of = EDITIONS[edition]
    recordings = []
    for (subject, trial), found in sorted(trials.items()):
        split, folder = where[subject, trial]
        label = label_of[trial.split("_")[0]]
        recordings.append(Recording(subject, f"{subject}_{trial}", label, class_names[label],
                                    signal=make_ref(folder, found, seconds), split=split))
    if skipped:
        notes.append(f"{skipped} columns are not a labelled trial of the subject of their file, and were skipped.")
    lacking = Counter(s for found in trials.values() for s in SENSORS if s not in found)
    notes += [f"{count} of {len(trials)} trials have no {sensor} column." for sensor, count in sorted(lacking.items())]
    subjects = sorted({subject for subject, _ in trials})
    name = f"ai4pain_{edition}"
    return DataSet(name="ai4pain_2025", cohort=name, root=root, class_names=class_names,
                   subjects=tuple(Subject(s) for s in subjects), recordings=tuple(recordings), notes=tuple(notes))


def tell_edition(kinds: set[str], root: Path) -> str:
    """"2025" or "2026" from the kinds of trial; InputError if both occur."""
    newer, older = kinds & {"arm", "hand"}, kinds & {"low", "high"}
    if newer and older:
        raise InputError(f"{root} mixes trials of 2025 ({', '.join(sorted(older))}) and 2026 "
                         f"({', '.join(sorted(newer))}); put each edition into its own folder.")
    return "2026" if newer else "2025"


def make_ref(folder: Path, found: dict[str, tuple[str, str]], seconds: float) -> SignalRef | None:
    """All four sensors of one trial, or None if one is absent.

    The column of a channel is "Sensor/<sid>.csv::<header name>": the files may write one trial in different case.
    """
    if set(found) != set(SENSORS):
        return None
    channels = tuple(Channel(s.lower(), "::".join(found[s]), "eda" if s == "Eda" else s.lower(), FS) for s in SENSORS)
    return SignalRef(folder, "ai4pain_2025", channels, start_s=0.0, end_s=seconds)
