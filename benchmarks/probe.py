"""Does pretraining help? A linear probe on people outside the pretraining group, pretrained against random encoders.

    python benchmarks/probe.py [--quick] [--only signal|video] [--cohort N] [--seeds N ...] [--out benchmarks/probe.md]

A synthetic cohort, cut into halves anew for each of five seeds. Each half pretrains a masked auto-encoder by the project's own
loop, which then serves the other half: a logistic regression on its frozen features (tokens averaged, standardised on the
training people) tells pain from none, leaving one person out, so that everybody is tested by an encoder that never saw
them. The same for encoders that were never trained, several of each seed, averaged. Reported: the difference in accuracy
with its 95 % interval over seeds (Student t), whatever its sign. And, for the video MAE, its reconstruction error on the
masked pixels of people it has not seen against predicting each clip's visible mean (target: half at most).
Sizes and recipe were chosen on another cohort (synthetic.seed=1, --seeds 100 101 102), not on what is reported. The
cohorts' effect is written into them by hand: this shows that the machinery works, nothing about pain.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from models import build, checkpoint  # noqa: E402
from models.mae_scores import against_visible_mean  # noqa: E402
from models.masks import mask_from_seeds  # noqa: E402
from orchestrator.clipstore import ClipStore  # noqa: E402
from orchestrator.config import Config, compose  # noqa: E402
from orchestrator.mae_data import GroupClips  # noqa: E402
from orchestrator.mae_loop import train_job  # noqa: E402
from orchestrator.mae_stages import Job, Rank, as_video  # noqa: E402
from preprocessing.moments import fit_scaler  # noqa: E402
from tests.made_shards import shards_of  # noqa: E402


@dataclass(frozen=True)
class Sizes:
    """Of one kind of MAE. random: encoders never trained, a seed and half."""

    people: int
    clips_per_level: int
    epochs: int
    random: int = 5


FULL = {"signal": Sizes(24, 12, 200), "video": Sizes(24, 6, 60)}
QUICK = {"signal": Sizes(4, 2, 3, 2), "video": Sizes(4, 2, 2, 2)}
SEEDS = (0, 1, 2, 3, 4)
LENGTH = 128
RECIPE = {"video": ["pretrain.video.batch=8", "pretrain.video.lr=9.6e-2", "pretrain.video.mask_ratio=0.75"],
          "signal": ["pretrain.signal.batch=24", "pretrain.signal.lr=1e-3", "pretrain.signal.mask_ratio=0.5",
                     "pretrain.signal.mask_length=16"]}
VIDEO = {"scale": "micro", "image_size": 32, "patch": 4, "frames": 4, "depth": 2, "decoder_dim": 64}
SIGNAL = {"length": LENGTH, "dim": 32, "depth": 2, "heads": 4, "ff": 64, "decoder_depth": 1, "tokenizer": "conv",
          "max_tokens": 32}


def prepare(kind: str, sizes: Sizes, folder: Path, cohort: int) -> tuple[Config, ClipStore]:
    words = [f"store={folder}", f"synthetic.subjects={sizes.people}", f"synthetic.clips_per_level={sizes.clips_per_level}",
             f"synthetic.seed={cohort}", "synthetic.size=[320,240]", f"signal.length={LENGTH}", "signal.emd=false",
             "pretrain.save_epochs=null", *RECIPE[kind], f"pretrain.{kind}.epochs={sizes.epochs}",
             f"clip.frames={VIDEO['frames']}"]
    if kind == "video":
        words.append(f"pretrain.video.warmup={sizes.epochs // 10}")
    config = compose("synthetic", words)
    return config, ClipStore(folder, shards_of(config, kind == "video"))


def accuracy(features: np.ndarray, labels: np.ndarray, people: np.ndarray) -> float:
    """Of a logistic regression, one person left out at a time; people weigh equally."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for person in np.unique(people):
        others = people != person
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[others], labels[others])
        found.append(probe.score(features[~others], labels[~others]))
    return float(np.mean(found))


def one_seed(kind: str, config: Config, clips: ClipStore, sizes: Sizes, seed: int, folder: Path) -> dict[str, float]:
    """Accuracies of pretrained and random encoders, people weighing equally; of the video MAE the two errors as well."""
    drawn = np.random.default_rng([seed, sizes.people]).permutation(sizes.people)
    halves = [sorted(map(int, half)) for half in (drawn[: sizes.people // 2], drawn[sizes.people // 2 :])]
    found = [one_half(kind, config, clips, sizes, seed, folder / str(i), halves[i], halves[1 - i]) for i in range(2)]
    return {name: float(np.mean([half[name] for half in found])) for name in found[0]}


def one_half(kind: str, config: Config, clips: ClipStore, sizes: Sizes, seed: int, folder: Path, group: list[int],
             rest: list[int]) -> dict[str, float]:
    """Pretrained on `group`, probed on `rest`."""
    folder.mkdir()
    parts = {s: clips.signals(s) for s in range(sizes.people)}
    options = {"signal": SIGNAL | {"n_channels": parts[0].signals.shape[2]}, "video": VIDEO}[kind]
    moments = {s: m for s in group if (m := clips.moments(s, config.task.classes)) is not None}
    scaler = fit_scaler(moments, group)
    scaled = {s: scaler.apply(part.signals) for s, part in parts.items()}
    np.save(folder / "signals.npy", np.concatenate([scaled[s] for s in group]))
    job = Job("probe", folder, [(s, clips.paths[s]) for s in group], options if kind == "video" else None,
              options if kind == "signal" else None, folder / "signals.npy", [n for s in group for n in parts[s].samples], {},
              config.pretrain.model_dump(), config.clip.model_dump(), seed)
    train_job(job, Rank(), lambda row: None)

    people = np.concatenate([np.full(len(parts[s].samples), s) for s in rest])
    labels = np.concatenate([parts[s].label > 0 for s in rest])
    if kind == "signal":
        inputs = torch.from_numpy(np.concatenate([scaled[s] for s in rest]))
    else:
        views = GroupClips([(s, clips.paths[s]) for s in rest], VIDEO["frames"], config.clip.rate, VIDEO["image_size"])
        assert len(views) == len(labels), "a clip without a face: its features and its label would not belong together"
        inputs = as_video(np.stack([views.clip(i, None) for i in range(len(views))]), torch.device("cpu"))

    def probe(model) -> float:
        model.eval()
        with torch.no_grad():
            features = torch.cat([model.encode(part).mean(1) for part in inputs.split(16)])
        return accuracy(features.numpy(), labels, people)

    random = []
    for draw in range(sizes.random):
        torch.manual_seed(10_000 + 100 * seed + draw)
        random.append(probe(build(f"{kind}_mae", **options)))
    model = build(f"{kind}_mae", **options)
    checkpoint.load(folder / kind, model)
    found = {"pretrained": probe(model), "random": float(np.mean(random))}
    if kind == "video":
        mask = mask_from_seeds("tube", list(range(len(inputs))), grid=model.grid, ratio=0.75)
        found["error"], found["mean error"] = against_visible_mean(model, inputs, mask)
    return found


def interval(values: np.ndarray) -> str:
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{100 * mean:+.1f} ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f})"


def measure(kind: str, sizes: Sizes, cohort: int, seeds: Sequence[int]) -> list[dict[str, float]]:
    """One row a seed."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        config, clips = prepare(kind, sizes, Path(place) / "store", cohort)
        for seed in seeds:
            folder = Path(place) / str(seed)
            folder.mkdir()
            rows.append(one_seed(kind, config, clips, sizes, seed, folder))
            print(kind, seed, {name: round(value, 4) for name, value in rows[-1].items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes that only show that the script runs")
    parser.add_argument("--only", choices=("signal", "video"))
    parser.add_argument("--cohort", type=int, default=0, help="synthetic.seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table, errors = [], []
    for kind, sizes in (QUICK if options.quick else FULL).items():
        if options.only in (None, kind):
            rows = measure(kind, sizes, options.cohort, options.seeds)
            pretrained, random = (np.array([row[which] for row in rows]) for which in ("pretrained", "random"))
            table.append(f"| {kind} MAE, {2 * sizes.clips_per_level} clips a person | {100 * pretrained.mean():.1f} | "
                         f"{100 * random.mean():.1f} | {interval(pretrained - random)} |")
            errors += [row["error"] / row["mean error"] for row in rows if "error" in row]
    lines = [f"| linear probe of {sizes.people} people, each by an encoder of the other half, {len(options.seeds)} seeds | "
             "pretrained % | random % | difference, points (95 % interval) |", "|---|---|---|---|", *table]
    if errors:
        lines += ["", f"Masked reconstruction error over that of each clip's visible mean: {np.mean(errors):.2f} on average, "
                      f"{max(errors):.2f} at worst (target: 0.50 at most)."]
    print("\n".join(lines))
    if options.out:
        command = " ".join(["python benchmarks/probe.py", *sys.argv[1:]])
        options.out.write_text("\n".join([
            "# Does pretraining help?", "", f"{datetime.now(UTC):%Y-%m-%d} · {cpu_name()}, {os.cpu_count()} cores · "
            f"torch {torch.__version__}", "",
            f"    {command}", "", *lines, "",
            "Synthetic people, whose effect is written into them: it shows that the machinery works, nothing about pain.", ""]))


if __name__ == "__main__":
    main()
