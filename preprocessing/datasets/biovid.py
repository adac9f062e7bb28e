"""BioVid Heat Pain Database, Parts A and B: one layout, also found where unpacking has nested its folders twice."""

import json
import os
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocessing.datasets import biovid_lists
from preprocessing.errors import InputError
from preprocessing.inputs.listing import blank_note, other_separator, read_text
from preprocessing.inputs.paths import check_distinct, check_link, check_name
from preprocessing.recordings import Channel, DataSet, Recording, SignalRef, Subject, VideoRef

CLASS_NAMES = ("BL1", "PA1", "PA2", "PA3", "PA4")
FS = 512.0  # Hz; only the time column has jitter
SECONDS = 5.5
CHANNELS = (
    Channel("gsr", "gsr", "gsr", FS, "uS"),
    Channel("ecg", "ecg", "ecg", FS, "uV"),
    Channel("emg_trapezius", "emg_trapezius", "emg", FS, "uV"),
    Channel("emg_corrugator", "emg_corrugator", "emg", FS, "uV"),
    Channel("emg_zygomaticus", "emg_zygomaticus", "emg", FS, "uV"),
)
# Part A records no facial EMG: its last two columns are exactly zero.
PART_CHANNELS = {"a": CHANNELS[:3], "b": CHANNELS}
PART_COUNTS = {"a": {"subjects": 87, "clips": 8700}, "b": {"subjects": 86, "clips": 8600}}
LAYOUT = """\
  <root>/starting_point/samples.csv
  <root>/biosignals_raw/<subject>/<subject>-<CLS>-<NNN>_bio.csv     (or biosignals_filtered/)
  <root>/video/<subject>/<subject>-<CLS>-<NNN>.mp4
(PartA/ or partA/ above them and folders nested twice are found as well)"""
COLUMNS = ("subject_id", "subject_name", "class_id", "class_name", "sample_id", "sample_name")
SUBJECT = re.compile(r"\d{6}_([mw])_(\d{2})")
SAMPLE = re.compile(r"(?P<subject>.+)-(?P<cls>BL1|PA[1-4])-(?P<number>\d{3})")
PART = re.compile(r"part[ _-]?([ab])", re.IGNORECASE)


def load_a(root: Path, **options: Any) -> DataSet:
    """Part A (87 subjects, GSR, ECG, one EMG). Options as for `load_part`."""
    return load_part(root, "a", **options)


def load_b(root: Path, **options: Any) -> DataSet:
    """Part B (86 of the same subjects, and two facial EMG channels). Options as for `load_part`."""
    return load_part(root, "b", **options)


def load_part(
    root: Path,
    part: str,
    source: str = "raw",
    subjects: str = "all",
    needs: Collection[str] = (),
    channels: Collection[str] | None = None,
) -> DataSet:
    """One part as a DataSet with raw names.

    source: "raw" | "filtered", the provider's signal folder. subjects: a name of biovid_lists.NAMES.
    needs: the modalities ("video", "signal") whose folder must exist; single clips may lack either.
    channels: names to use, default all channels of the part. Raises InputError for every user mistake.
    """
    source, subjects = str(source), str(subjects)
    if source not in ("raw", "filtered"):
        raise InputError(f"source={source!r} is neither 'raw' nor 'filtered'; choose one of BioVid's signal folders.")
    if subjects not in biovid_lists.NAMES:
        raise InputError(f"subjects={subjects!r} is no BioVid subject list; choose one of {biovid_lists.NAMES}.")
    if not root.is_dir():
        raise InputError(f"{root} is no folder; data.root should look like\n{LAYOUT}")
    base = part_folder(root, part)
    videos = find_folder(base, "video")
    signals = find_folder(base, f"biosignals_{source}")
    if videos is None and signals is None:
        raise InputError(f"{root} holds neither video/ nor biosignals_{source}/; BioVid should look like\n{LAYOUT}")
    for modality, folder in (("video", videos), ("signal", signals)):
        if modality in needs and folder is None:
            wanted = "video" if modality == "video" else f"biosignals_{source}"
            raise InputError(f"{base} has no folder {wanted}/, which this run needs; it should look like\n{LAYOUT}")
    chosen = choose_channels(PART_CHANNELS[part], channels)
    rows, notes = list_samples(base, videos, signals)
    rows = [row for row in rows if biovid_lists.keeps(subjects, row[0])]
    if not rows:
        raise InputError(f"{root} holds no clip of the subject list {subjects!r}; use 'all' or another folder.")
    form = "biovid" if source == "raw" else "biovid_filtered"
    recordings = make_recordings(root, rows, videos, signals, chosen, form)
    names = sorted({row[0] for row in rows})
    check_distinct(names, "subject", root)
    check_distinct((row[1] for row in rows), "sample", root)
    for attribute, what in (("video", "video file"), ("signal", "signal file")):
        lacking = sum(getattr(r, attribute) is None for r in recordings)
        if lacking:
            notes.append(f"{lacking} of {len(recordings)} clips have no {what}.")
    there = [stage for stage in ("video", "signal") if any(getattr(r, stage) for r in recordings)]
    recordings = [replace(r, lacks=lacking_files(r, there)) for r in recordings]
    synthetic, cohort, expected = read_synthetic(root, base)
    if synthetic is None:
        expected = expected_counts(part, subjects)
    present = {r.subject for r in recordings if r.signal is not None or r.video is not None}
    if absent := len(names) - len(present):
        notes.append(f"{absent} of {len(names)} subjects have no file at all.")
    found = {"subjects": len(present), "clips": len(recordings)}
    return DataSet(
        name=f"biovid_{part}",
        cohort=cohort or "biovid",
        root=root,
        class_names=CLASS_NAMES,
        subjects=tuple(make_subject(raw_id) for raw_id in names),
        recordings=tuple(recordings),
        expected=expected,
        found=found,
        complete=all(found[key] == value for key, value in expected.items()),
        notes=tuple(notes),
        synthetic=synthetic is not None,
    )


def lacking_files(recording: Recording, there: Collection[str]) -> dict[str, tuple[str, str]]:
    """stage -> (reason, fix) for the missing files of a listed clip. there: the modalities of which this copy has any file."""
    fix = "The clip is listed, but its {} file is missing: restore it."
    return {stage: ("missing_file", fix.format(stage)) for stage in there if getattr(recording, stage) is None}


def part_folder(root: Path, part: str) -> Path:
    """The folder of this part: `root`, or PartA / partA at most two levels below; InputError if only the other is found."""
    base = root
    for _ in range(2):  # PartA/PartA, as unpacking twice leaves it
        level = folders(base)
        for candidates in (level, [inner for d in level for inner in folders(d)]):
            found: dict[str, Path] = {}
            for d in candidates:
                if (m := PART.fullmatch(d.name)) and (other := found.setdefault(m[1].lower(), d)) != d:
                    raise InputError(f"{root} holds part {m[1].upper()} twice, as {other} and {d}: merge them, or point "
                                     "data.root at one.")
            if found:
                break
        if part in found:
            base = check_link(root, found[part], str(root))
        elif found:
            others = ", ".join(str(d) for d in found.values())
            raise InputError(f"{root} holds BioVid's {others} but not part {part.upper()}; load it as "
                             f"biovid_{next(iter(found))} or correct data.root.")
    name = PART.fullmatch(base.name)
    if name and name[1].lower() != part:
        raise InputError(f"{base} is BioVid's part {name[1].upper()}; load it as biovid_{name[1].lower()} "
                         f"or point data.root at part {part.upper()}.")
    return base


def folders(path: Path) -> list[Path]:
    """Sub-folders in the order of their names, without hidden folders and those that archive programs add."""
    try:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise InputError(f"{path} cannot be listed ({error.strerror}); give the account read access to it.") from None


def find_folder(base: Path, name: str) -> Path | None:
    """The folder `name` at depth 1 or 2 below `base`, the inner one if nested twice; InputError if ambiguous."""
    level = folders(base)
    for depth in range(2):
        hits = [d for d in level if d.name.lower() == name]
        if len(hits) > 1:
            raise InputError(f"{base} holds {name}/ twice ({hits[0]} and {hits[1]}); point data.root at one of them.")
        if hits:
            inner = [d for d in folders(hits[0]) if d.name.lower() == name]
            return check_link(base, inner[0] if inner else hits[0], str(base))
        if depth == 0:
            level = [inner for d in level for inner in folders(d)]
    return None


def list_samples(base: Path, videos: Path | None, signals: Path | None) -> tuple[list[tuple[str, str, int]], list[str]]:
    """(subject, sample, class_id) sorted by names: from samples.csv, or from the file names where that is absent."""
    start = find_folder(base, "starting_point")
    table = start / "samples.csv" if start else None
    if table and table.is_file():
        listed, blank = read_samples(check_link(base, table, str(base)))
        return sorted(listed), blank_note("samples.csv", blank)
    rows = {}
    for folder, suffix in ((videos, ".mp4"), (signals, "_bio.csv")):
        for subject in folders(folder) if folder else []:
            for file in sorted(list_files(base, subject)):
                match = SAMPLE.fullmatch(file.removesuffix(suffix)) if file.endswith(suffix) else None
                if match and match["subject"] == subject.name:
                    rows[match[0]] = (subject.name, match[0], CLASS_NAMES.index(match["cls"]))
    if not rows:
        raise InputError(f"{base} has no starting_point/samples.csv and no file named like BioVid's clips; "
                         f"it should look like\n{LAYOUT}")
    return sorted(rows.values()), ["starting_point/samples.csv is absent: the clips were listed from the file names."]


def read_samples(path: Path) -> tuple[list[tuple[str, str, int]], int]:
    """(rows of samples.csv, number of blank lines); InputError with the line for inconsistent cells and repeated samples."""
    text = read_text(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # no other character ends a line
    if lines[-1] == "":
        lines.pop()
    header = [cell.strip() for cell in lines[0].split("\t")] if lines else []
    absent = [name for name in COLUMNS[1:4] + COLUMNS[5:] if name not in header]
    if absent:
        other = other_separator(text, "\t")
        raise InputError(f"{path}: the tab-separated header lacks {', '.join(absent)}"
                         + (f" (it is separated by {other})" if other else "") + "; copy the original file again.")
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise InputError(f"{path} has the column {twice[0]} twice; copy the original file again.")
    position = {name: header.index(name) for name in header}
    blank = 0
    rows = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            blank += 1
            continue
        where, cells = f"{path} line {number}", [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} cells where the header has {len(header)}; repair the line.")
        subject = check_name(cells[position["subject_name"]], where)
        sample = check_name(cells[position["sample_name"]], where)
        match, class_id = SAMPLE.fullmatch(sample), cells[position["class_id"]]
        if class_id not in ("0", "1", "2", "3", "4") or cells[position["class_name"]] != CLASS_NAMES[int(class_id)]:
            raise InputError(f"{where}: class_id and class_name do not match; repair the line.")
        if match is None or match["subject"] != subject or match["cls"] != CLASS_NAMES[int(class_id)]:
            raise InputError(f"{where}: sample_name does not match its subject and class; repair the line.")
        if sample in seen:
            raise InputError(f"{where}: the sample of line {seen[sample]} is a duplicate; remove one of the two.")
        seen[sample] = number
        rows.append((subject, sample, int(class_id)))
    if not rows:
        raise InputError(f"{path} lists no clip; copy the original file again.")
    return rows, blank


def make_recordings(
    root: Path,
    rows: list[tuple[str, str, int]],
    videos: Path | None,
    signals: Path | None,
    channels: tuple[Channel, ...],
    form: str = "biovid",
) -> list[Recording]:
    """Recordings with a reference to each file that exists; the clip number, which reveals the label, is in no other field."""
    there = {(folder, subject): list_files(root, folder / subject)
             for folder in (videos, signals) if folder for subject in {row[0] for row in rows}}
    recordings = []
    for subject, sample, class_id in rows:
        video = signal = None
        if videos and f"{sample}.mp4" in there[videos, subject]:
            video = VideoRef(videos / subject / f"{sample}.mp4")
        if signals and f"{sample}_bio.csv" in there[signals, subject]:
            signal = SignalRef(signals / subject / f"{sample}_bio.csv", form, channels, start_s=0.0, end_s=SECONDS)
        recordings.append(Recording(subject, sample, class_id, CLASS_NAMES[class_id], video, signal))
    return recordings


def list_files(root: Path, folder: Path) -> set[str]:
    """File names in `folder`, empty if it is absent; InputError for a link that leaves `root`."""
    if not folder.is_dir():
        return set()
    check_link(root, folder, str(root))
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_symlink():
            check_link(root, Path(entry.path), str(root))
    return {entry.name for entry in found}


def choose_channels(offered: tuple[Channel, ...], names: Collection[str] | None) -> tuple[Channel, ...]:
    """The offered channels, or those named; InputError for a name that is not offered."""
    if names is None:
        return offered
    unknown = sorted(set(names) - {c.name for c in offered})
    if unknown or not names:
        raise InputError(f"channels={list(names)} must be a choice of {[c.name for c in offered]}; name some of these.")
    return tuple(c for c in offered if c.name in names)


def make_subject(raw_id: str) -> Subject:
    """Sex and age are part of a BioVid id (w = female, the last two digits are the age)."""
    match = SUBJECT.fullmatch(raw_id)
    return Subject(raw_id, "f" if match[1] == "w" else "m", int(match[2])) if match else Subject(raw_id)


def expected_counts(part: str, subjects: str) -> dict[str, int]:
    """Published counts of a part or of a subject list; empty where a list was published for Part A only."""
    if subjects == "all":
        return dict(PART_COUNTS[part])
    n_subjects = biovid_lists.PART_A_COUNTS[subjects]
    return {"subjects": n_subjects, "clips": 100 * n_subjects} if part == "a" else {}


def read_synthetic(root: Path, base: Path) -> tuple[dict | None, str | None, dict[str, int]]:
    """(stamp, cohort, expected counts) of a synthetic tree; (None, None, {}) for any other."""
    path = next((p for p in (base / "SYNTHETIC.json", root / "SYNTHETIC.json") if p.is_file()), None)
    if path is None:
        return None, None, {}
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
        counts = stamp.get("expected", stamp)
        expected = {key: int(counts[key]) for key in ("subjects", "clips")}
        if "cohort" in stamp:
            check_name(stamp["cohort"], str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error!r}); write the synthetic tree again.") from None
    return stamp, stamp.get("cohort"), expected
