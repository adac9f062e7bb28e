"""Writes a small synthetic data set with a manifest: one recording per subject, divided into labelled windows.

    python examples/own_data/make_data.py FOLDER [--subjects 8] [--clips 10]

Simulated skin conductance (uS) at 50 Hz, one CSV file per subject. It rises once in a "stimulus" window and not in a "rest"
window; subjects differ in level, noise and amplitude of the response.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

FS, SECONDS = 50, 6.0  # sampling rate in Hz, duration of one window
LABELS = ("rest", "stimulus")
CHANNELS = json.dumps([{"name": "gsr", "column": "gsr", "unit": "uS", "kind": "gsr", "fs": FS}])


def record(seed: int, labels: list[int]) -> np.ndarray:
    """Skin conductance of one subject, (samples,) in uS: its windows one after the other."""
    random = np.random.default_rng(seed)
    level, rise, noise = random.uniform(2, 10), random.uniform(0.2, 0.8), random.uniform(0.02, 0.1)
    time = np.arange(round(SECONDS * FS)) / FS
    parts = []
    for label in labels:
        onset = random.uniform(1, 2)
        response = rise * label / (1 + np.exp(-4 * (time - onset - 1))) * np.exp(-np.maximum(time - onset - 2, 0) / 2)
        parts.append(level + response + noise * np.cumsum(random.normal(size=time.size)) / np.sqrt(FS))
    return np.concatenate(parts)


def write(folder: Path, subjects: int = 8, clips: int = 10) -> Path:
    """Returns the path of the manifest. clips: windows per subject, both labels in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in range(subjects):
        labels = [(clip + subject) % 2 for clip in range(clips)]
        name = f"subject_{subject + 1:02d}.csv"
        np.savetxt(folder / name, record(subject, labels), fmt="%.4f", header="gsr", comments="")
        for clip, label in enumerate(labels):
            rows.append({"subject": f"S{subject + 1:02d}", "sample": f"clip_{clip + 1:02d}", "label": label,
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
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--clips", type=int, default=10)
    given = parser.parse_args()
    print(write(given.folder, given.subjects, given.clips))
