"""Does pretraining help? A linear probe on people outside the pretraining group, pretrained against random encoders.

    python benchmarks/probe.py [--quick] [--signals-only] [--out benchmarks/probe.md]

A synthetic cohort; for each of five seeds half of the people, drawn anew, pretrain both masked auto-encoders by the
project's own loop. Of the other half a logistic regression on frozen features (tokens averaged, standardised on the training
people) tells pain from none, leaving one person out. The same for encoders that were never trained. Reported: the
difference in accuracy with its 95 % interval over seeds (Student t), whatever its sign. And, for the video MAE, its
reconstruction error on the other half's masked pixels against predicting each clip's visible mean (target: half at most).
The recipe was chosen on seeds 100 to 104, which are not among the five. The cohort's effect is written into it by hand:
this shows that the machinery works, nothing about pain.
"""

import argparse
import os
import sys
import tempfile
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
    people: int = 24
    clips_per_level: int = 6
    seeds: int = 5
    video_epochs: int = 60
    signal_epochs: int = 400


FULL, QUICK = Sizes(), Sizes(4, 2, 2, 2, 3)
LENGTH = 128
VIDEO = {"scale": "micro", "image_size": 32, "patch": 4, "frames": 4, "depth": 2, "decoder_dim": 64}
SIGNAL = {"length": LENGTH, "dim": 32, "depth": 2, "heads": 4, "ff": 64, "decoder_depth": 1, "tokenizer": "conv",
          "max_tokens": 32}


def prepare(sizes: Sizes, folder: Path, video: bool) -> tuple[Config, ClipStore]:
    words = [f"store={folder}", f"synthetic.subjects={sizes.people}", f"synthetic.clips_per_level={sizes.clips_per_level}",
             "synthetic.size=[320,240]", f"signal.length={LENGTH}", "signal.emd=false", "pretrain.save_epochs=null",
             f"pretrain.video.epochs={sizes.video_epochs}", "pretrain.video.batch=8", "pretrain.video.lr=9.6e-2",
             f"pretrain.video.warmup={sizes.video_epochs // 10}", "pretrain.video.mask_ratio=0.75",
             f"clip.frames={VIDEO['frames']}",
             f"pretrain.signal.epochs={sizes.signal_epochs}", "pretrain.signal.batch=24", "pretrain.signal.lr=1e-3",
             "pretrain.signal.mask_ratio=0.5", "pretrain.signal.mask_length=16"]
    config = compose("synthetic", words)
    return config, ClipStore(folder, shards_of(config, video))


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


def one_seed(config: Config, clips: ClipStore, sizes: Sizes, seed: int, video: bool, folder: Path) -> dict:
    """Accuracies of pretrained and random encoders, and the two reconstruction errors."""
    drawn = np.random.default_rng([seed, sizes.people]).permutation(sizes.people)
    group, rest = sorted(map(int, drawn[: sizes.people // 2])), sorted(map(int, drawn[sizes.people // 2 :]))
    parts = {s: clips.signals(s) for s in range(sizes.people)}
    moments = {s: m for s in group if (m := clips.moments(s, config.task.classes)) is not None}
    scaler = fit_scaler(moments, group)
    scaled = {s: scaler.apply(part.signals) for s, part in parts.items()}
    np.save(folder / "signals.npy", np.concatenate([scaled[s] for s in group]))
    signal_options = SIGNAL | {"n_channels": parts[0].signals.shape[2]}
    video_options = VIDEO if video else None
    job = Job("probe", folder, [(s, clips.paths[s]) for s in group], video_options, signal_options, folder / "signals.npy",
              [name for s in group for name in parts[s].samples], {}, config.pretrain.model_dump(), config.clip.model_dump(),
              seed)
    train_job(job, Rank(), lambda row: None)

    people = np.concatenate([np.full(len(parts[s].samples), s) for s in rest])
    labels = np.concatenate([parts[s].label > 0 for s in rest])
    x = torch.from_numpy(np.concatenate([scaled[s] for s in rest]))
    found = {}
    for kind, options, inputs in (("signal", signal_options, x), ("video", video_options, None)):
        if options is None:
            continue
        if inputs is None:
            views = GroupClips([(s, clips.paths[s]) for s in rest], VIDEO["frames"], config.clip.rate,
                               VIDEO["image_size"])
            assert len(views) == len(labels), "a clip without a face: the two probes would be of different clips"
            inputs = as_video(np.stack([views.clip(i, None) for i in range(len(views))]), torch.device("cpu"))
        for which in ("pretrained", "random"):
            torch.manual_seed(10_000 + seed)
            model = build(f"{kind}_mae", **options)
            if which == "pretrained":
                checkpoint.load(folder / kind, model)
            model.eval()
            with torch.no_grad():
                features = torch.cat([model.encode(part).mean(1) for part in inputs.split(16)])
            found[f"{kind} {which}"] = accuracy(features.numpy(), labels, people)
            if kind == "video" and which == "pretrained":
                mask = mask_from_seeds("tube", list(range(len(inputs))), grid=model.grid, ratio=0.75)
                found["error"], found["mean error"] = against_visible_mean(model, inputs, mask)
    return found


def interval(values: list[float]) -> str:
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{100 * mean:+.1f} ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes that only show that the script runs")
    parser.add_argument("--signals-only", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes, video = QUICK if options.quick else FULL, not options.signals_only
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        config, clips = prepare(sizes, Path(place) / "store", video)
        for seed in range(sizes.seeds):
            folder = Path(place) / str(seed)
            folder.mkdir()
            rows.append(one_seed(config, clips, sizes, seed, video, folder))
            print(seed, {name: round(value, 4) for name, value in rows[-1].items()}, flush=True)
    lines = [f"| {sizes.people - sizes.people // 2} people outside the group of {sizes.people // 2}, {sizes.seeds} seeds | "
             "pretrained % | random % | difference, points (95 % interval) |", "|---|---|---|---|"]
    for kind in ("signal", "video") if video else ("signal",):
        pair = [[row[f"{kind} {which}"] for row in rows] for which in ("pretrained", "random")]
        lines.append(f"| {kind} MAE, linear probe | {100 * np.mean(pair[0]):.1f} | {100 * np.mean(pair[1]):.1f} | "
                     f"{interval([a - b for a, b in zip(*pair, strict=True)])} |")
    if video:
        ratios = [row["error"] / row["mean error"] for row in rows]
        lines += ["", f"Masked reconstruction error over that of each clip's visible mean: {np.mean(ratios):.2f} on average, "
                      f"{max(ratios):.2f} at worst (target: 0.50 at most)."]
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
