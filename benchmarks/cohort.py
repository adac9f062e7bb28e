"""Writes a simulated study as a manifest, one noisy level per clip: the input of the commands in docs/explanation/science.md.

    python benchmarks/cohort.py FOLDER [--people 12] [--clips 20] [--rare 0.5] [--shift 1.0] [--one-label] [--seed 0]

Each clip is five seconds of one EDA channel around a random level, which is higher by --shift in class 1. --rare is the
share of a subject's clips in class 1; with --one-label each subject has one class only, half of the subjects each.
--miniature: three subjects with two clips each, in a temporary folder.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path

import numpy as np

FS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--rare", type=float, default=0.5)
    parser.add_argument("--shift", type=float, default=1.0)
    parser.add_argument("--one-label", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--miniature", action="store_true")
    args = parser.parse_args()
    if args.miniature:
        with tempfile.TemporaryDirectory() as place:
            args.folder, args.people, args.clips = Path(place), 3, 2
            return write(args)
    if args.folder is None:
        parser.error("give a FOLDER to write to")
    write(args)


def write(args: argparse.Namespace) -> None:
    (args.folder / "signals").mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(args.seed), []
    for person in range(args.people):
        for clip in range(args.clips):
            label = person % 2 if args.one_label else int(clip < round(args.rare * args.clips))
            level = 5 + rng.normal() + args.shift * label
            path = f"signals/p{person:02d}-{clip:02d}.npy"
            np.save(args.folder / path, level + 0.05 * rng.normal(size=5 * FS))
            channel = {"name": "eda", "column": 0, "kind": "eda", "unit": "uS", "fs": FS}
            rows.append({"subject": f"p{person:02d}", "sample": f"p{person:02d}-{clip:02d}", "label": label,
                         "label_name": ["rest", "stress"][label], "signal_path": path, "channels": json.dumps([channel])})
    with (args.folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    ones = sum(row["label"] for row in rows)
    print(f"{len(rows)} clips of {args.people} people, {ones / len(rows):.2f} of them of class 1")


if __name__ == "__main__":
    main()
