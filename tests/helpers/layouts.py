"""Tiny trees in the published layouts. Ids are built by format strings: raw BioVid ids stand in one file only."""

import csv
from pathlib import Path

import numpy as np

CLASSES = ("BL1", "PA1", "PA2", "PA3", "PA4")
HEADER = ("time", "gsr", "ecg", "emg_trapezius", "emg_corrugator", "emg_zygomaticus")


def subject_name(i: int, sex: str | None = None) -> str:
    return f"{10000 + i:06d}_{sex or 'mw'[i % 2]}_{20 + i:02d}"


def bio(rng: np.random.Generator, rows: int = 2816, facial: bool = False) -> np.ndarray:
    """(rows, 6) in BioVid's ranges; the facial EMG is zero as in Part A unless `facial`."""
    columns = [np.arange(rows) * 1953.0, 5 + rng.normal(0, 0.1, rows).cumsum() * 0.01, rng.normal(0, 300, rows)]
    columns += [rng.normal(0, 40, rows), *(rng.normal(0, 20, (2, rows)) if facial else np.zeros((2, rows)))]
    return np.column_stack(columns)


def write_bio(path: Path, values: np.ndarray, header=HEADER, sep: str = "\t") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, delimiter=sep, header=sep.join(header), comments="", fmt="%.9g")


def write_biovid(base: Path, subjects: int = 2, per_class: int = 1, doubled: bool = False, source: str = "raw",
                 facial: bool = False, video: bool = True, rows: int = 2816, columns: int = 6) -> Path:
    """A part below `base`; videos are empty files, as no loader opens one."""
    rng = np.random.default_rng(0)
    inner = (lambda name: base / name / name) if doubled else (lambda name: base / name)
    lines = ["subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"]
    for i in range(subjects):
        subject = subject_name(i)
        for class_id, cls in enumerate(CLASSES):
            for k in range(per_class):
                number = 81 + k if class_id == 0 else 1 + 4 * k + class_id
                sample = f"{subject}-{cls}-{number:03d}"
                lines.append(f"{i}\t{subject}\t{class_id}\t{cls}\t{number}\t{sample}")
                values = bio(rng, rows, facial)[:, :columns]
                write_bio(inner(f"biosignals_{source}") / subject / f"{sample}_bio.csv", values, HEADER[:columns])
                if video:
                    clip = inner("video") / subject / f"{sample}.mp4"
                    clip.parent.mkdir(parents=True, exist_ok=True)
                    clip.touch()
    start = inner("starting_point")
    start.mkdir(parents=True, exist_ok=True)
    (start / "samples.csv").write_text("\n".join(lines) + "\n")
    return base


def write_fnirs(path: Path, fs: float = 5.0, rests: int = 2, seconds: float = 11.0, marker_case=str) -> dict[str, int]:
    """One AI4Pain 2024 recording at `fs`; channel c holds 1000 c + row. Returns the row of every marker."""
    events = [("S1", 3.0), ("B1", 60.0)]
    for k in range(1, 3):
        events += [(f"S{2 * k}", 2.0), (f"L{k}", seconds), (f"S{2 * k + 1}", 2.0), (f"H{k}", seconds)]
    events += [(f"R{j}", 40.0) for j in range(1, rests + 1)]
    rows, at = 2, {}
    for name, length in events:
        at[name] = rows
        rows += round(length * fs)
    marker = {row: marker_case(name) for name, row in at.items()}
    lines = [",".join(str(c) for c in range(1, 51))]
    for row in range(rows):
        cells = [1e9 if row == 0 else 1000 * c + row for c in range(2, 50)]
        lines.append(",".join([str(row), *map(str, cells), marker.get(row, "")]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return at


def write_ai4pain(root: Path, train=("1", "2"), validation=("3",), fs: float = 5.0, upper: bool = True) -> Path:
    for split, people in (("train", train), ("validation", validation)):
        folder = root / (split.capitalize() if upper else split)
        for sid in people:
            write_fnirs(folder / "fnirs" / f"{sid}.csv", fs)
            clips = folder / "video" / sid
            clips.mkdir(parents=True)
            # High and low pain share one running number, in the order of their presentation.
            for name in ("Baseline", "Pain_LOW_0", "Pain_HIGH_1", "Pain_LOW_2", "Pain_HIGH_3", "Rest_1", "Rest_2"):
                (clips / f"{sid}_{name}.mp4").touch()
    (root / "Test" / "video" / "9").mkdir(parents=True)
    (root / "Test" / "video" / "9" / "0.mp4").touch()
    return root


def write_2025(root: Path, kinds=("Baseline", "LOW", "HIGH", "REST"), people=("7", "8"), rows: int = 1000) -> Path:
    rng = np.random.default_rng(1)
    for split, sid in zip(("train", "validation"), people, strict=True):
        for sensor in ("Bvp", "Eda", "Resp", "SpO2"):
            names = [f"{sid}_{kind}_{k}" for kind in kinds for k in (1, 2)]
            if sensor == "Eda":
                names = [name.upper() for name in names]  # the files spell a trial in different case
            values = rng.normal(size=(rows + 20, len(names))).round(4).astype(object)
            values[rows:, 1:] = ""  # ragged: the first trial is longer
            if sensor == "SpO2":
                values[:rows, 0] = 97.0  # a flat sensor
            lines = [",".join(names)] + [",".join(map(str, row)) for row in values]
            path = root / split / sensor / f"{sid}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    return root


def write_manifest(folder: Path, rows: list[dict]) -> Path:
    """manifest.csv with these rows, the columns in the order in which they first come."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(folder / "manifest.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder
