"""A small data set in the form of a manifest: one recording a person, cut into labelled windows.

    python examples/own_data/make_data.py FOLDER [--people 8] [--clips 10]

Skin conductance (uS) at 50 Hz, in one CSV a person, made up: in a "stimulus" window it rises once, in a "rest" window it does
not, and people differ in level, in noise and in how much they rise.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

FS, SECONDS = 50, 6.0  # of the recording, and of one window
LABELS = ("rest", "stimulus")
CHANNELS = json.dumps([{"name": "gsr", "column": "gsr", "unit": "uS", "kind": "gsr", "fs": FS}])


def record(seed: int, labels: list[int]) -> np.ndarray:
    """One person's skin conductance, (samples,) in uS: the windows one after the other."""
    random = np.random.default_rng(seed)
    level, rise, noise = random.uniform(2, 10), random.uniform(0.2, 0.8), random.uniform(0.02, 0.1)
    time = np.arange(round(SECONDS * FS)) / FS
    parts = []
    for label in labels:
        onset = random.uniform(1, 2)
        response = rise * label / (1 + np.exp(-4 * (time - onset - 1))) * np.exp(-np.maximum(time - onset - 2, 0) / 2)
        parts.append(level + response + noise * np.cumsum(random.normal(size=time.size)) / np.sqrt(FS))
    return np.concatenate(parts)


def write(folder: Path, people: int = 8, clips: int = 10) -> Path:
    """The manifest's path; clips: windows a person, both labels in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for person in range(people):
        labels = [(clip + person) % 2 for clip in range(clips)]
        name = f"person_{person + 1:02d}.csv"
        np.savetxt(folder / name, record(person, labels), fmt="%.4f", header="gsr", comments="")
        for clip, label in enumerate(labels):
            rows.append({"subject": f"P{person + 1:02d}", "sample": f"clip_{clip + 1:02d}", "label": label,
                         "label_name": LABELS[label], "signal_path": name, "signal_format": "csv", "channels": CHANNELS,
                         "start_s": clip * SECONDS, "end_s": (clip + 1) * SECONDS})
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--clips", type=int, default=10)
    given = parser.parse_args()
    print(write(given.folder, given.people, given.clips))
