"""AI4Pain 2024: face videos, and one continuous fNIRS recording per subject, segmented by the markers in its last column.

Every class follows one rule: a clip is the first 10 s after its marker and of its video. Otherwise the longer baselines and
rests would reveal the class by their duration.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from preprocessing.errors import ClipError, InputError
from preprocessing.inputs.paths import check_distinct, check_link, check_name
from preprocessing.recordings import Channel, DataSet, Recording, SignalRef, Subject, VideoRef
from preprocessing.signals import tables

CLASS_NAMES = ("No pain", "Low", "High")
SPLITS = ("train", "validation")  # the test split is blinded: no labels, nothing to load
BASELINE_SECONDS = 60.0
MARKER_COLUMN = "50"
CHANNEL_COLUMNS = tuple(str(column) for column in range(2, 50))  # column 1 is an index
EXPECTED = {"subjects": 53, "clips": 2544}
LAYOUT = """\
  <root>/{Train,Validation}/video/<sid>/<sid>_Baseline.mp4, <sid>_Pain_{HIGH,LOW}_<i>.mp4, <sid>_Rest_<j>.mp4
  <root>/{Train,Validation}/fnirs/<sid>.csv     (header 1..50, markers in column 50)"""
VIDEO = re.compile(r"(?P<sid>[^_]+)_(?:(?P<base>Baseline)|Pain_(?P<level>HIGH|LOW)_(?P<pain>\d+)|Rest_(?P<rest>\d+))",
                   re.IGNORECASE)
MARKER = re.compile(r"([BSLHR])(\d+)")
LETTER_LABEL = {"B": 0, "R": 0, "L": 1, "H": 2}


def load(root: Path, seconds: float = 10.0) -> DataSet:
    """Both labelled splits. seconds: the duration of every clip, from its marker or the start of its video; a clip whose video
    is shorter (by more than 5 %) is excluded when it is read.

    The sampling rate is estimated per subject from the rows of the baseline (60 s): the published 10 Hz does not match them.
    A clip may lack its video or its signal; a note counts them. InputError for a wrong tree or a subject in two splits.
    """
    recordings: list[Recording] = []
    notes: list[str] = []
    split_of: dict[str, str] = {}
    rates = []
    for split, folder in split_folders(root):
        videos, unnamed = find_videos(root, folder)
        if unnamed:
            notes.append(f"{unnamed} videos of {split} are not named by their folder's subject and a clip, and were skipped.")
        tables_of = {path.stem: path for path in files(root, child(folder, "fnirs"), ".csv")}
        check_distinct([*videos, *tables_of], "subject", folder)
        for subject in sorted({*videos, *tables_of}):
            check_name(subject, str(folder))
            if split_of.setdefault(subject, split) != split:
                raise InputError(f"{root}: a subject is in both {split_of[subject]} and {split} (sid {subject}); "
                                 "remove it from one.")
            segments: dict[str, tuple[int, int]] = {}
            silent = ("missing_file", "The fNIRS file of the subject is missing: restore it.")
            pains: list[str] | None = None
            if subject in tables_of:
                try:
                    segments, pains, fs = read_segments(tables_of[subject], seconds)
                    rates.append(fs)
                    silent = ("short_window", "The fNIRS segment is missing or shorter than a clip: repair the markers.")
                except ClipError as error:
                    silent = (error.reason, error.fix)
                    notes.append(f"One fNIRS file of {split} is excluded ({error.reason}): {error.fix}")
            clips, alone = pair(videos.get(subject, {}), pains)
            if alone:
                notes.append(f"{alone} pain videos of one subject of {split} are excluded: their markers are unknown. Restore "
                             "the missing videos, or the fNIRS file.")
            for key in sorted({*segments, *clips}):
                label = LETTER_LABEL[key[0]]
                signal = video = None
                if key in segments:
                    channels = tuple(Channel(f"fnirs_{i:02d}", column, "fnirs", fs)
                                     for i, column in enumerate(CHANNEL_COLUMNS, start=1))
                    start, stop = segments[key]
                    signal = SignalRef(tables_of[subject], "ai4pain", channels, sep=",", start_row=start, end_row=stop)
                if key in clips:
                    video = VideoRef(clips[key], start_s=0.0, end_s=seconds)
                lacks = {} if signal else {"signal": silent}
                if video is None:
                    lacks["video"] = ("missing_file", "The video of the clip is missing: restore it.")
                recordings.append(Recording(subject, f"{subject}_{key}", label, CLASS_NAMES[label], video, signal,
                                            split=split, lacks=lacks))
    check_distinct(split_of, "subject", root)
    if not recordings:
        raise InputError(f"{root} holds no AI4Pain clip; it should look like\n{LAYOUT}")
    if rates:
        notes.append(f"The fNIRS rate estimated from the baselines is {min(rates):.2f} to {max(rates):.2f} Hz.")
    for attribute in ("video", "signal"):
        lacking = sum(getattr(r, attribute) is None for r in recordings)
        if lacking:
            notes.append(f"{lacking} of {len(recordings)} clips have no {attribute}.")
    there = [stage for stage in ("video", "signal") if any(getattr(r, stage) for r in recordings)]
    recordings = [replace(r, lacks={stage: why for stage, why in r.lacks.items() if stage in there}) for r in recordings]
    recordings.sort(key=lambda r: (r.subject, r.sample))
    found = {"subjects": len(split_of), "clips": len(recordings)}
    return DataSet(name="ai4pain", cohort="ai4pain", root=root, class_names=CLASS_NAMES,
                   subjects=tuple(Subject(s) for s in sorted(split_of)), recordings=tuple(recordings), expected=dict(EXPECTED),
                   found=found, complete=found == EXPECTED, notes=tuple(notes))


def split_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """(split, folder) of the labelled splits, at depth 1 or 2 below `root`, whatever their case."""
    base = root
    if root.is_dir() and child(root, "train") is None:
        inner = [d for d in sorted(root.iterdir()) if d.is_dir() and child(d, "train")]
        base = inner[0] if len(inner) == 1 else root
    for split in SPLITS:
        folder = child(base, split)
        if folder is not None:
            yield split, check_link(root, folder, str(root))


def child(folder: Path | None, name: str) -> Path | None:
    """The sub-folder called `name` without regard to case, None if absent, InputError if there are two."""
    if folder is None or not folder.is_dir():
        return None
    hits = [d for d in sorted(folder.iterdir()) if d.name.lower() == name.lower() and d.is_dir()]
    if len(hits) > 1:
        raise InputError(f"{folder} holds {hits[0].name} and {hits[1].name}, which differ only in case; remove one.")
    return hits[0] if hits else None


def files(root: Path, folder: Path | None, suffix: str) -> list[Path]:
    """Files of `folder` that end in `suffix`, sorted; InputError for a link that leaves `root`."""
    if folder is None:
        return []
    check_link(root, folder, str(root))
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() == suffix and not p.name.startswith("."))
    return [check_link(root, path, str(root)) for path in found if path.is_file()]


def find_videos(root: Path, split: Path) -> tuple[dict[str, dict[tuple[str, int], Path]], int]:
    """(subject -> {(letter of the level, number in its name): path}, number of videos with other names)."""
    videos: dict[str, dict[tuple[str, int], Path]] = {}
    unnamed = 0
    folder = child(split, "video")
    for subject in sorted(folder.iterdir()) if folder else []:
        if not subject.is_dir() or subject.name.startswith("."):
            continue
        for path in files(root, subject, ".mp4"):
            match = VIDEO.fullmatch(path.stem)
            if match is None or match["sid"] != subject.name:
                unnamed += 1
                continue
            if match["base"]:
                key = ("B", 1)
            else:
                key = (match["level"][0].upper(), int(match["pain"])) if match["level"] else ("R", int(match["rest"]))
            if key in videos.setdefault(subject.name, {}):
                raise InputError(f"{path}: a second video of the same event; remove one of the two.")
            videos[subject.name][key] = path
    return videos, unnamed


def pair(videos: dict[tuple[str, int], Path], pains: list[str] | None) -> tuple[dict[str, Path], int]:
    """(videos by marker ("H3"), number of pain videos without a marker).

    The videos of high and low pain are numbered together 0, 1, ...: the number is the position of their marker among `pains`,
    the pain markers in the order of the recording. So a missing video does not shift the others. If a marker has another level
    than its video, no pain video of the subject is used. Without a recording (pains=None) the rank within a level is used, if
    the numbers have no gap.
    """
    found = {f"{kind}{number}": path for (kind, number), path in videos.items() if kind in "BR"}
    numbers = {number: kind for kind, number in videos if kind in "HL"}
    count = sum(kind in "HL" for kind, _ in videos)
    if pains is None:
        ranks: Counter[str] = Counter()
        pains = []
        for number, kind in sorted(numbers.items()):
            ranks[kind] += 1
            if number == len(pains):  # not after a gap
                pains.append(f"{kind}{ranks[kind]}")
    if len(numbers) != count or any(n >= len(pains) or pains[n][0] != kind for n, kind in numbers.items()):
        return found, count
    return found | {pains[number]: videos[kind, number] for number, kind in numbers.items()}, 0


def read_segments(path: Path, seconds: float) -> tuple[dict[str, tuple[int, int]], list[str], float]:
    """({marker: rows [start, stop) of its first `seconds`}, pain markers in order, rate in Hz). Stimulus markers (S) are
    dropped.

    Row 0 is an extreme outlier and never part of a segment; a segment shorter than `seconds` is skipped, as it would
    include the next one. ClipError where markers are missing, unknown or repeated.
    """
    events = []
    cells = tables.read_text_column(path, MARKER_COLUMN)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        if MARKER.fullmatch(cell.upper()) is None:
            raise ClipError("signal", "unknown_marker", f"Row {row} has an unknown marker; repair it.")
        events.append((row, cell.upper()))
    names = [name for _, name in events]
    if names.count("B1") != 1 or len(set(names)) != len(names):
        raise ClipError("signal", "bad_markers", "The marker column needs B1, and no marker twice; repair it.")
    ends = [row for row, _ in events[1:]] + [len(cells)]
    first = names.index("B1")
    fs = (ends[first] - events[first][0]) / BASELINE_SECONDS
    width = round(seconds * fs)
    segments = {}
    for (row, name), end in zip(events, ends, strict=True):
        start = max(row, 1)
        if name[0] == "S":
            continue
        if end - start >= width:
            segments[name] = (start, start + width)
    return segments, [name for name in names if name[0] in "HL"], fs
