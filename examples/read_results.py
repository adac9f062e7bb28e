"""Accuracy of each subject of a finished run: python examples/read_results.py RUN

RUN is the run's folder. `predictions.parquet` has one row per test clip and seed, `summary.json` the results over subjects.
"""

import argparse
import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq


def accuracies(run: Path) -> dict[str, float]:
    """Accuracy by subject: first per seed, then the mean over seeds."""
    table = pq.read_table(run / "predictions.parquet")
    right = pc.equal(table["y_true"], table["y_pred"]).cast("float64")
    table = table.append_column("right", right)
    per_seed = table.group_by(["subject", "seed"]).aggregate([("right", "mean")])
    means = per_seed.group_by("subject").aggregate([("right_mean", "mean")])
    return dict(sorted(zip(means["subject"].to_pylist(), means["right_mean_mean"].to_pylist(), strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a folder with predictions.parquet and summary.json")
    run = parser.parse_args().run
    summary = json.loads((run / "summary.json").read_text())
    for subject, accuracy in accuracies(run).items():
        print(f"{subject}  {100 * accuracy:5.1f} %")
    print(f"mean over subjects {100 * summary['accuracy_mean']:.1f} %, chance {100 * summary['chance']:.1f} %")
    if summary["accuracy_ci95"]:  # none for a single subject
        low, high = summary["accuracy_ci95"]
        print(f"95 % confidence interval {100 * low:.1f} to {100 * high:.1f} %")


if __name__ == "__main__":
    main()
