"""What a loader returns: subjects and references to their recordings. Raw ids exist only here and in a cohort."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Channel:
    """One signal channel. `column` is a name (tables) or an integer position (arrays); fs in Hz; unit: see units.py."""

    name: str
    column: str | int
    kind: str  # gsr | ecg | emg | fnirs | imu | bvp | eda | resp | spo2 | other
    fs: float
    unit: str = ""


@dataclass(frozen=True)
class VideoRef:
    """A video file, a folder of frames, or frames that are already face crops. Seconds count from the start of the file."""

    path: Path
    kind: str = "file"  # file | frames | cropped
    fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class SignalRef:
    """Channels of one table or array; a window by seconds or by rows (end exclusive)."""

    path: Path
    format: str  # biovid | csv | tsv | npy | npz | parquet | watch | ai4pain | ai4pain_2025
    channels: tuple[Channel, ...]
    sep: str | None = None
    decimal: str = "."
    start_s: float | None = None
    end_s: float | None = None
    start_row: int | None = None
    end_row: int | None = None
    item: str | int | None = None  # which array, trial column or recording inside the file
    encoding: str = "utf-8"  # of a text table


@dataclass(frozen=True)
class Recording:
    """One labelled clip of one subject. `subject` and `sample` are raw names: never write them outside <store>/private.

    lacks: stage ("video", "signal") -> (reason, fix) of a file that is missing; a clip may also have one modality by design.
    """

    subject: str
    sample: str
    label: int
    label_name: str
    video: VideoRef | None = None
    signal: SignalRef | None = None
    session: str | None = None
    split: str | None = None
    lacks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    raw_id: str
    sex: str | None = None  # "f" | "m"
    age: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A loaded data set. `subjects` sorted by raw id, `recordings` by (subject, sample); no two share both names.

    expected: published counts to compare with ({"subjects": .., "clips": ..}), empty where none exist.
    found: the counts of this copy, where they are not the numbers of subjects and recordings.
    complete: whether the counts match; notes: what was skipped and why, one sentence each.
    table: the file that lists the recordings, for `manifest`, whose name stands for many data sets.
    """

    name: str
    cohort: str
    root: Path
    class_names: tuple[str, ...]
    subjects: tuple[Subject, ...]
    recordings: tuple[Recording, ...]
    expected: Mapping[str, int] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    table: Path | None = None


class Loader(Protocol):
    def __call__(self, root: Path, **options: Any) -> DataSet: ...
