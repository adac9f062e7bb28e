"""The generic manifest: a CSV or Parquet table, one row per sample, for every data set without its own loader."""

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as papq

from preprocessing.errors import InputError
from preprocessing.inputs.listing import blank_note, other_separator, read_text
from preprocessing.inputs.paths import MISSING, check_distinct, check_link, check_name, check_text, inside, is_file, is_folder
from preprocessing.inputs.spelling import groups, shown
from preprocessing.recordings import Channel, DataSet, Recording, SignalRef, Subject, VideoRef
from preprocessing.signals import units

REQUIRED = ("subject", "sample", "label")
OPTIONAL = ("dataset", "label_name", "session", "split", "start_s", "end_s", "video_path", "video_fps", "signal_path",
            "signal_format", "sep", "decimal", "encoding", "channels", "fs", "sex", "age", "exclude_reason", "sha256",
            "distinct")
FORMATS = ("csv", "tsv", "npy", "npz", "parquet")
KINDS = ("gsr", "ecg", "emg", "fnirs", "imu", "bvp", "eda", "resp", "spo2", "other")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation", "valid": "validation",
          "validation": "validation", "dev": "validation"}
YES, NO = {"yes", "true", "1", "y"}, {"no", "false", "0", "n"}
SEXES = {"f": "f", "female": "f", "w": "f", "woman": "f", "m": "m", "male": "m", "man": "m"}
ONLY_BESIDE = {"signal_path": ("signal_format", "sep", "decimal", "encoding", "channels", "fs"), "video_path": ("video_fps",)}
FILES = ("manifest.csv", "manifest.parquet")
MAX_LABEL = 999
LAYOUT = """\
  <root>/manifest.csv (or .parquet, or data.root names the file): one row per sample
  required: subject, sample, label (0, 1, ...); paths are relative to the manifest's folder"""

Row = Mapping[str, str]  # non-empty cells only


def load(root: Path, cohort: str = "manifest") -> DataSet:
    """The manifest at `root` (the file, or the folder that holds it).

    cohort: its name if the table has no `dataset` column. Rows with an exclude_reason are excluded and counted.
    sha256 is that of the row's video, or of its signal file where there is no video; it is kept as attributes["sha256"]
    and checked where the file is hashed. InputError names the row for every error; missing files are reported by
    preprocessing.
    """
    path = find_manifest(root)
    rows, blank = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    for row_number, row in rows:
        check_reason(row, f"{path} row {row_number}")
    kept = [(number, row) for number, row in rows if "exclude_reason" not in row]
    if not kept:
        raise InputError(f"{path} has no rows, or all are excluded; fill the table or clear exclude_reason.")
    folder = path.parent
    recordings = [make_recording(row, folder, f"{path} row {number}") for number, row in kept]
    check_rows(recordings, [number for number, _ in kept], path)
    cohorts = sorted({row.get("dataset", cohort) for _, row in kept})
    if len(cohorts) > 1:
        raise InputError(f"{path} mixes the data sets {', '.join(map(repr, cohorts[:5]))}; write one manifest per data set.")
    recordings.sort(key=lambda r: (r.subject, r.sample))
    notes = blank_note("the manifest", blank) + [f"{count} rows were excluded: {reason}." for reason, count in
             sorted(Counter(row["exclude_reason"] for _, row in rows if "exclude_reason" in row).items())]
    for modality in ("video", "signal"):
        lacking = sum(getattr(r, modality) is None for r in recordings)
        if 0 < lacking < len(recordings):
            notes.append(f"{lacking} of {len(recordings)} samples have no {modality}.")
    notes += [*unit_notes(recordings), *unused(kept)]
    return DataSet(name="manifest", cohort=check_name(cohorts[0], str(path)), root=folder,
                   class_names=class_names(recordings, path), subjects=make_subjects(kept, path), recordings=tuple(recordings),
                   notes=tuple(notes), table=path)


def find_manifest(root: Path) -> Path:
    """The table itself: `root`, or manifest.csv / manifest.parquet in it."""
    if is_file(root):
        if root.suffix.lower() not in (".csv", ".parquet"):
            raise InputError(f"{root} is neither .csv nor .parquet; give the manifest one of these endings.")
        return root
    found = [root / file for file in FILES if is_file(root / file)]
    if len(found) != 1:
        problem = "holds both manifest.csv and manifest.parquet" if found else "holds no manifest"
        raise InputError(f"{root} {problem}; it should look like\n{LAYOUT}")
    return found[0]


def read_csv(path: Path) -> tuple[list[tuple[int, Row]], int]:
    """([(row number, cells)], blank lines) of a comma-separated UTF-8 table; rows count from 1, the header is row 0."""
    text = read_text(path)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is no well-formed CSV ({error}); save it again with quotes around commas.") from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    if len(lines) > 1 and not any(header):
        raise InputError(f"{path}: the first line is blank; it must hold the column names.")
    if (other := other_separator(text, ",")) and not set(REQUIRED) <= set(header):
        raise InputError(f"{path} is separated by {other}; save the manifest with commas (its signal files may have any sep).")
    check_header(header, path)
    rows: list[tuple[int, Row]] = []
    blank = 0
    for number, cells in enumerate(lines[1:], start=1):
        if not any(cell.strip() for cell in cells):
            blank += 1
            continue
        if len(cells) != len(header):
            raise InputError(f"{path} row {number}: {len(cells)} cells where the header has {len(header)}; repair it "
                             "(a comma inside a cell needs quotes around the cell).")
        pairs = zip(header, cells, strict=True)
        rows.append((number, {key: cell.strip() for key, cell in pairs if cell.strip()}))
    return rows, blank


def read_parquet(path: Path) -> tuple[list[tuple[int, Row]], int]:
    """The same rows from a Parquet table: nulls are empty cells, lists and structs become their JSON text."""
    try:
        table = papq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
        header, columns = table.column_names, [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, ValueError, KeyError, OSError, OverflowError) as error:
        raise InputError(f"{path} is no readable Parquet file ({str(error)[:120]!r}); write it again.") from None
    check_header(header, path)
    rows: list[tuple[int, Row]] = []
    blank = 0
    for number, cells in enumerate(zip(*columns, strict=True), start=1):
        row = {key: text for key, cell in zip(header, cells, strict=True) if (text := cell_text(cell))}
        if row:
            rows.append((number, row))
        else:
            blank += 1
    return rows, blank


def cell_text(cell: Any) -> str:
    """The text of a Parquet cell as a CSV would hold it."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))  # pandas turns integers beside an empty cell into floats
    if isinstance(cell, list | dict):
        return json.dumps(cell, default=str)
    return str(cell).strip()


def check_header(header: list[str], path: Path) -> None:
    """InputError for missing, unknown, nameless or repeated columns."""
    absent = [column for column in REQUIRED if column not in header]
    if absent:
        raise InputError(f"{path} lacks the column {', '.join(absent)}; required are {', '.join(REQUIRED)}.")
    if "" in header:
        raise InputError(f"{path} has a column without a name (number {header.index('') + 1}); name it, or remove the comma.")
    unknown = [column for column in header if column not in REQUIRED + OPTIONAL]
    if unknown:
        raise InputError(f"{path} has the unknown column {unknown[0]!r}; allowed are {', '.join(REQUIRED + OPTIONAL)}.")
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError(f"{path} has the column {twice[0]!r} twice; remove one.")


def check_reason(row: Row, where: str) -> None:
    """InputError for an exclude_reason that may mean that the row is not excluded."""
    reason = row.get("exclude_reason", "").casefold()
    if reason in MISSING | NO | {"-"}:
        raise InputError(f"{where}: exclude_reason {row['exclude_reason']!r} is not a reason; leave the cell empty to keep the "
                         "row, or write why it is excluded.")


def unused(rows: list[tuple[int, Row]]) -> list[str]:
    """Notes on cells without effect: options of a file that the row does not name, text options of a file that is not text."""
    notes = []
    for path, columns in ONLY_BESIDE.items():
        count = sum(path not in row and any(column in row for column in columns) for _, row in rows)
        if count:
            notes.append(f"{count} rows fill {', '.join(columns)} without a {path}: these cells are ignored.")
    count = sum(bool({"sep", "decimal", "encoding"} & row.keys()) and form_of(row) in ("npy", "npz", "parquet")
                for _, row in rows)
    if count:
        notes.append(f"{count} rows give sep, decimal or encoding for a signal file that is not text: these cells are ignored.")
    return notes


def form_of(row: Row) -> str:
    return row.get("signal_format", Path(row.get("signal_path", "")).suffix.lower().removeprefix("."))


def make_recording(row: Row, folder: Path, where: str) -> Recording:
    """One row as a Recording; InputError with `where` for any cell that is not valid in its column."""
    for column in REQUIRED:
        if column not in row:
            raise InputError(f"{where}: the cell {column!r} is empty; fill it.")
    label = number(row, "label", where, whole=True)
    assert label is not None
    if not 0 <= label <= MAX_LABEL:
        raise InputError(f"{where}: label {row['label']!r} is not within 0..{MAX_LABEL}; number the classes from 0.")
    start, end = number(row, "start_s", where, least=0.0), number(row, "end_s", where, least=0.0)
    if end is not None and end <= (start or 0.0):
        raise InputError(f"{where}: end_s={end:g} is not after start_s={start or 0:g}; correct the window.")
    digest = row.get("sha256", "").lower()
    if digest and "video_path" in row and is_folder(inside(folder, row["video_path"], where)):
        raise InputError(f"{where}: sha256 is the hash of one file, but video_path is a folder; leave sha256 empty.")
    if digest and (len(digest) != 64 or not set(digest) <= set("0123456789abcdef")):
        raise InputError(f"{where}: sha256 {row['sha256'][:20]!r} is not 64 hexadecimal digits; correct it.")
    for column in ("label_name", "session", "split", "exclude_reason"):
        check_text(row.get(column, ""), where)
    split = row.get("split")
    if split is not None and split.casefold() not in SPLITS:
        raise InputError(f"{where}: split {split[:40]!r} is none of {', '.join(SPLITS)}; write one of these, or leave the "
                         "column out.")
    attributes: dict[str, Any] = {"sha256": digest} if digest else {}
    if is_distinct(row, where):
        attributes["distinct"] = True
    if "video_path" not in row and "signal_path" not in row:
        raise InputError(f"{where}: neither video_path nor signal_path is filled; fill one or exclude the row.")
    return Recording(
        subject=check_name(row["subject"], where),
        sample=check_name(row["sample"], where),
        label=int(label),
        label_name=row.get("label_name", str(int(label))),
        video=make_video(row, folder, where, start, end),
        signal=make_signal(row, folder, where, start, end),
        session=row.get("session"),
        split=None if split is None else SPLITS[split.casefold()],
        attributes=attributes,
    )


def is_distinct(row: Row, where: str) -> bool:
    """Whether the row declares that its names differ from similar ones (column `distinct`)."""
    word = row.get("distinct", "no").casefold()
    if word not in YES | NO:
        raise InputError(f"{where}: distinct {row['distinct'][:20]!r} is neither yes nor no; correct the cell.")
    return word in YES


def make_video(row: Row, folder: Path, where: str, start: float | None, end: float | None) -> VideoRef | None:
    """The row's video: a file, or a folder of frames (which needs video_fps)."""
    if "video_path" not in row:
        return None
    path = inside(folder, row["video_path"], where)
    fps = number(row, "video_fps", where, least=0.0)
    if fps == 0:
        raise InputError(f"{where}: video_fps is 0; write the frames per second.")
    frames = is_folder(path)
    if frames:
        check_entries(folder, path, where)
    if frames and fps is None:
        raise InputError(f"{where}: a folder of frames needs a frame rate; fill video_fps.")
    return VideoRef(path, "frames" if frames else "file", fps, start, end)


def check_entries(root: Path, folder: Path, where: str) -> None:
    """InputError for a link in a folder of frames that leaves `root`; the folder itself is already checked."""
    try:
        with os.scandir(folder) as entries:
            links = sorted(entry.path for entry in entries if entry.is_symlink())
    except OSError:  # a folder without read access: reported when the clip is read
        return
    for link in links:
        check_link(root, Path(link), where)


def make_signal(row: Row, folder: Path, where: str, start: float | None, end: float | None) -> SignalRef | None:
    """The row's signals; the format follows from the file name unless signal_format is given."""
    if "signal_path" not in row:
        return None
    path = inside(folder, row["signal_path"], where)
    form = form_of(row)
    if form not in FORMATS:
        raise InputError(f"{where}: signal format {form!r} is none of {', '.join(FORMATS)} (pickles are never read: "
                         "convert them first); set signal_format.")
    sep, decimal = row.get("sep"), row.get("decimal", ".")
    sep = {"tab": "\t", "\\t": "\t", "space": " "}.get(sep, sep) if sep else None
    if sep is not None and (len(sep) != 1 or not sep.isascii() or sep.isalnum() or sep in "\r\n\"'"):
        raise InputError(f"{where}: sep {sep!r} is no separator; write one of , ; | tab space.")
    if decimal not in (".", ",") or decimal == sep:
        raise InputError(f"{where}: decimal {decimal!r} must be . or , and differ from sep; correct it.")
    encoding = row.get("encoding", "utf-8").lower()
    try:
        "".encode(encoding), b"".decode(encoding)
    except (LookupError, ValueError):
        raise InputError(f"{where}: encoding {encoding[:40]!r} is not known; write for instance utf-8, utf-16, latin-1 or "
                         "cp1252.") from None
    rate = number(row, "fs", where, least=0.0)
    channels = parse_channels(row.get("channels"), rate, form, where)
    if rate is not None and all(channel.fs != rate for channel in channels):
        raise InputError(f"{where}: fs={rate:g}, but every channel gives a different fs; remove the wrong one.")
    return SignalRef(path, form, channels, sep=sep, decimal=decimal, start_s=start, end_s=end, encoding=encoding)


def parse_channels(text: str | None, fs: float | None, form: str, where: str) -> tuple[Channel, ...]:
    """The JSON list of channels: {name, column, unit, kind, fs}; column defaults to name, fs to the row's fs."""
    example = '[{"name": "eda", "column": "EDA", "kind": "eda", "fs": 4}]'
    if text is None:
        raise InputError(f"{where}: a signal_path needs channels; write for instance {example}.")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: channels is no JSON; write for instance {example}.") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise InputError(f"{where}: channels must be a filled JSON list of objects; write for instance {example}.")
    channels = []
    for entry in entries:
        unknown = sorted(set(entry) - {"name", "column", "unit", "kind", "fs"})
        name = entry.get("name")
        if unknown or not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: a channel needs a name and may have column, unit, kind, fs; not {unknown}.")
        column, kind, unit = entry.get("column", name), entry.get("kind", "other"), entry.get("unit") or ""
        rate = fs if entry.get("fs") is None else entry["fs"]
        if isinstance(column, bool) or not isinstance(column, str | int) or (form == "npy" and isinstance(column, str)):
            raise InputError(f"{where}: channel {name!r}: column must be a column name, or for arrays a position.")
        if kind not in KINDS or not isinstance(unit, str):
            raise InputError(f"{where}: channel {name!r}: kind must be one of {', '.join(KINDS)}, unit a text.")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e6:
            raise InputError(f"{where}: channel {name!r} needs its sampling rate in Hz; give it fs or fill the column fs.")
        units.check(unit, kind, f"{where}: channel {name!r}")
        channels.append(Channel(name.strip(), column, kind, float(rate), unit))
    names = [channel.name for channel in channels]
    if len(set(names)) != len(names):
        raise InputError(f"{where}: two channels have the same name; give every channel its own.")
    check_distinct(names, "channel", where, signs=True)
    return tuple(channels)


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def number(row: Row, column: str, where: str, least: float | None = None, whole: bool = False) -> float | None:
    """The cell as a finite number in plain digits, None if empty."""
    if column not in row:
        return None
    # plain ASCII digits only: Python would also accept 0_1 and digits of other scripts
    value = float(row[column]) if NUMBER.fullmatch(row[column]) else math.nan
    if not math.isfinite(value) or (whole and not value.is_integer()) or (least is not None and value < least):
        what = "a whole number" if whole else "a number" if least is None else f"a number of at least {least:g}"
        point = "write it with a decimal point" if "," in row[column] else "correct the cell"
        raise InputError(f"{where}: {column} {row[column][:40]!r} must be {what}; {point}.")
    return value


def check_rows(recordings: list[Recording], numbers: list[int], path: Path) -> None:
    """Check the rows against each other: distinct names, one split per subject, the same channels everywhere."""
    check_names(recordings, path)
    first: dict[tuple[str, str], int] = {}
    split_of: dict[str, str | None] = {}
    layout: tuple[tuple[str, str], ...] | None = None
    target: dict[str, tuple[str, int]] = {}
    for row, recording in zip(numbers, recordings, strict=True):
        where = f"{path} row {row}"
        other = first.setdefault((recording.subject, recording.sample), row)
        if other != row:
            raise InputError(f"{where}: the sample of row {other} is a duplicate; remove one of the two.")
        if split_of.setdefault(recording.subject, recording.split) != recording.split:
            raise InputError(f"{where}: the subject of this row is in two splits; put all its rows into one.")
        if recording.signal is not None:
            own = tuple((c.name, c.kind) for c in recording.signal.channels)
            layout = own if layout is None else layout
            if own != layout:
                raise InputError(f"{where}: its channels differ from the rows above; name the same channels in order.")
            check_units(recording.signal.channels, target, row, where)
    without = [row for row, recording in zip(numbers, recordings, strict=True) if recording.split is None]
    if 0 < len(without) < len(recordings):
        raise InputError(f"{path} row {without[0]}: the cell 'split' is empty ({len(without)} of {len(recordings)} are); fill "
                         "it in every row, or leave the column out.")


def check_names(recordings: list[Recording], path: Path) -> None:
    """InputError for subjects, samples of one subject, or sessions that may be one name in two spellings."""
    remedy = ", or write yes in the column distinct of all their rows if they differ"
    once: dict[str, bool] = {}
    samples: dict[str, dict[str, bool]] = {}
    for recording in recordings:
        declared = recording.attributes.get("distinct", False)
        once[recording.subject] = once.get(recording.subject, True) and declared
        samples.setdefault(recording.subject, {})[recording.sample] = declared
    check_distinct(once, "subject", path, {name for name, differs in once.items() if differs}, remedy=remedy)
    for own in samples.values():
        check_distinct(own, "sample", path, {name for name, differs in own.items() if differs}, remedy=remedy)
    check_distinct({r.session for r in recordings if r.session is not None}, "session", path, signs=True)


def check_units(channels: tuple[Channel, ...], seen: dict[str, tuple[str, int]], row: int, where: str) -> None:
    """InputError where the unit of a channel cannot be converted to that of an earlier row, or only one of the two rows has a
    unit. seen: channel -> (unit after conversion, row), filled here."""
    for channel in channels:
        unit = units.conversion(channel.unit, channel.kind).target
        first, other = seen.setdefault(channel.name, (unit, row))
        if unit != first:
            given = repr(channel.unit) if channel.unit else "not given"
            raise InputError(f"{where}: the unit of channel {channel.name!r} is {given}, which does not match that of row "
                             f"{other} ({first or 'none, or arbitrary'}); give convertible units in all rows, or in none.")


def unit_notes(recordings: list[Recording]) -> list[str]:
    """A note on the channels whose values are not converted."""
    channels = {c.name: c for r in recordings if r.signal for c in r.signal.channels}
    without = [name for name, c in channels.items() if not units.conversion(c.unit, c.kind).target]
    if not without:
        return []
    return [f"{len(without)} of {len(channels)} signal channels have no unit, or an arbitrary one: they are used, and their "
            "values are not converted."]


def class_names(recordings: list[Recording], path: Path) -> tuple[str, ...]:
    """One name per label; InputError for gaps in the labels, a label with two names, or a name with two labels."""
    names: dict[int, str] = {}
    for recording in recordings:
        if names.setdefault(recording.label, recording.label_name) != recording.label_name:
            raise InputError(f"{path}: label {recording.label} is called {names[recording.label]!r} and "
                             f"{recording.label_name!r}; give it one label_name.")
    if len(names) == 1 and 0 not in names:
        raise InputError(f"{path}: every label is {next(iter(names))}; add clips of another class, and number the "
                         "first class 0.")
    if sorted(names) != list(range(len(names))):
        raise InputError(f"{path}: the labels are {sorted(names)[:10]}; number the classes 0, 1, ... without gaps.")
    if len(set(names.values())) != len(names):
        raise InputError(f"{path}: two labels have the same label_name; give every class its own.")
    if alike := groups(names.values(), signs=True):
        raise InputError(f"{path}: two labels have the same label_name in two spellings ({shown(alike[0])}); give every "
                         "class its own.")
    return tuple(names[label] for label in sorted(names))


def make_subjects(rows: list[tuple[int, Row]], path: Path) -> tuple[Subject, ...]:
    """Subjects sorted by name; InputError where rows of one subject differ in sex or age."""
    subjects: dict[str, Subject] = {}
    for row_number, row in rows:
        where = f"{path} row {row_number}"
        sex = SEXES.get(row.get("sex", "").casefold())
        if sex is None and "sex" in row:
            raise InputError(f"{where}: sex {row['sex']!r} must be one of {', '.join(SEXES)}, or empty; correct "
                             "it.")
        age = number(row, "age", where, least=0.0)
        if age is not None and age > 150:
            raise InputError(f"{where}: age {age:g} is not an age in years; correct the cell.")
        subject = Subject(row["subject"], sex, None if age is None else int(age))
        if subjects.setdefault(subject.raw_id, subject) != subject:
            raise InputError(f"{where}: sex or age differ from the other rows of the subject; correct them.")
    return tuple(subjects[raw_id] for raw_id in sorted(subjects))
