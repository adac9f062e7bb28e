"""Runs on subjects without any effect: how often does a run get the verdict "above chance"?

    python benchmarks/noise.py [--seeds 0 1 2 3 4] [--models NAME ...] [--protocol clean|exclude_pretrain|as_paper]
                               [--store DIR] [--out FILE] [--miniature]

A synthetic cohort whose labels change nothing in face or signal (synthetic.effect=0), another one for each seed, and all
stages of each model, small: preprocessing, pretraining, folds. Printed: the accuracy's 95 % confidence interval, whether it
excludes chance on either side, and the verdict. Five seeds with five models are 25 intervals. The models of one seed share
their subjects, so their intervals are not independent; over many cohorts about one in twenty excludes chance if the interval is
right, somewhat more where subjects train the models that test each other (orchestrator/scores/chance.py).
Runs are kept in --store; run the same command again to resume. About two minutes per run on two cores. With as_paper the
networks are evaluated on the test subject after each of 100 epochs; the released rule allows 1,000 such test-set accesses.
--miniature: one run of a few subjects, without Ray, in a temporary folder, to test that the script runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEOPLE = ["synthetic.effect=0", "synthetic.subjects=10", "synthetic.clips_per_level=4"]
SMALL = {  # what keeps a model's run short; no encoder needs to be good where there is nothing to be found
    "random_forest": [], "ridge": [],
    "signal_small": ["train.max_epochs=15"],
    "signal": ["signal.length=100", "smae.dim=32", "smae.depth=2", "pretrain.signal.epochs=5", "train.max_epochs=20"],
    "dual": ["experiment=demo", "pretrain.video.epochs=5", "pretrain.signal.epochs=5", "train.max_epochs=8"]}  # fmt: skip
MINIATURE = ["synthetic.subjects=4", "synthetic.clips_per_level=1", "synthetic.size=[160,120]", "run.executor=inline"]
AS_PAPER = ["protocol.as_paper_epochs=100"]


def run(model: str, seed: int, protocol: str, folder: Path, more: list[str]) -> dict[str, Any]:
    """The summary of one run. more: words that come last."""
    words = [f"synthetic.seed={seed}", *PEOPLE, *SMALL[model], f"protocol={protocol}", f"store={folder / f'store-{seed}'}"]
    where = folder / f"{protocol}-{model}-{seed}"
    words += [f"run.dir={where}", "resources.dashboard=false"] + ([] if model == "dual" else [f"model={model}"])
    if protocol == "as_paper" and model not in ("random_forest", "ridge"):  # it stops by a rule of its own
        words = [word for word in words if not word.startswith("train.max_epochs=")] + AS_PAPER
    command = [sys.executable, "-m", "orchestrator.loso", "--dataset", "synthetic", *last(words, more)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout[-2000:]}")
    return json.loads((where / "summary.json").read_text())


def last(words: list[str], more: list[str]) -> list[str]:
    """Both, without those of the first whose key stands in the second."""
    keys = {word.partition("=")[0] for word in more}
    return [word for word in words if word.partition("=")[0] not in keys] + more


def row(model: str, seed: int, summary: dict[str, Any]) -> tuple[str, bool]:
    low, high = summary["accuracy_ci95"]
    out = not low <= summary["chance"] <= high
    said, p = summary["verdict"]["above_chance"], summary["verdict"]["p"]
    verdict = {True: "above chance", False: "not shown", None: "none"}[said] + ("" if p is None else f", p = {p:.3f}")
    cells = [model, str(seed), f"{100 * summary['accuracy_mean']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}",
             f"{100 * summary['chance']:.1f}", "yes" if out else "no", verdict]  # fmt: skip
    return f"| {' | '.join(cells)} |", out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--models", nargs="+", choices=list(SMALL), default=list(SMALL))
    parser.add_argument("--protocol", choices=["clean", "exclude_pretrain", "as_paper"], default="clean")
    parser.add_argument("--store", type=Path, default=Path("runs/noise"), help="folder of stores and runs")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--miniature", action="store_true")
    args = parser.parse_args()
    if args.miniature:
        with tempfile.TemporaryDirectory() as place:
            args.seeds, args.models, args.store = [0], ["ridge"], Path(place)
            return measure(args, MINIATURE)
    measure(args, [])


def measure(args: argparse.Namespace, more: list[str]) -> None:
    head = "| model | seed | accuracy | 95 % confidence interval | chance | excludes chance | verdict |"
    lines = [f"protocol={args.protocol}", "", head, "|---|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    excess, outside = [], 0
    for seed in args.seeds:
        for model in args.models:
            summary = run(model, seed, args.protocol, args.store.resolve(), more)
            line, out = row(model, seed, summary)
            outside += out
            excess.append(summary["accuracy_mean"] - summary["chance"])
            lines.append(line)
            print(line, flush=True)
    said = (f"{outside} of {len(excess)} intervals exclude chance; accuracy minus chance, mean over runs: "
            f"{100 * sum(excess) / len(excess):+.1f} points")  # fmt: skip
    print(f"\n{said}")
    if args.out:
        args.out.write_text("\n".join([*lines, "", said, ""]))


if __name__ == "__main__":
    main()
