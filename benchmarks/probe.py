"""Does pretraining help? Linear probes on subjects outside the pretraining group, for pretrained and random encoders.

    python benchmarks/probe.py [--miniature] [--only signal|video] [--recipes NAME ...] [--people N] [--epochs N] [--cohort N]
                               [--seeds N ...] [--random N] [--out FILE]

A synthetic cohort is divided into two halves, differently for each seed. Each half pretrains a masked auto-encoder with the
project's own training loop; the encoder then serves the other half: a linear probe on its frozen features classifies pain and
no pain by leave-one-subject-out, so that each subject is tested with an encoder that was not trained on it. The same for
untrained encoders, several per seed, averaged. Three probes, standardised on the training subjects:

- tokens: ridge on all tokens concatenated, penalty PENALTY times the number of features;
- mean: logistic regression on the mean over tokens;
- centred: the same on that mean minus the mean over all clips of the subject: the variation within a subject. For the test
  subject the mean is that of its own clips, without labels. So it is a diagnostic only: it needs several clips of a subject.

Reported: the difference in accuracy with its 95 % interval over seeds (Student t), whatever its sign; the share of the mean
features' variance that lies between subjects; the largest effective learning rate and the number of steps; the reconstruction
error on masked values of the other half, divided by that of each clip's visible mean. No videos are made: faces are drawn as
crops, 16 equidistant times of a clip, without encoding and face detection, so that many subjects take seconds. The effect in
these cohorts is simulated: this shows that the program works, and says nothing about pain.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from benchmarks.video_variants import Variant, VariedStage, change  # noqa: E402
from models import build, checkpoint  # noqa: E402
from models.mae.masks import mask_from_seeds  # noqa: E402
from models.mae.scores import against_visible_mean, signal_against_visible_mean  # noqa: E402
from models.mae.video_mae import VideoMAE, take  # noqa: E402
from orchestrator.cohort.cohort import load  # noqa: E402
from orchestrator.config.configuration import Config, compose  # noqa: E402
from orchestrator.pretraining.data import GroupClips  # noqa: E402
from orchestrator.pretraining.loop import train, train_job  # noqa: E402
from orchestrator.pretraining.objectives import Job, Rank, as_video  # noqa: E402
from orchestrator.stages import make_clips  # noqa: E402
from orchestrator.stores.clip_store import ClipStore  # noqa: E402
from preprocessing.clip_format import PreparedClip, encode_image  # noqa: E402
from preprocessing.moments import fit_scaler  # noqa: E402
from preprocessing.shard import Row, write_shard  # noqa: E402
from preprocessing.synthetic.acting import act  # noqa: E402
from preprocessing.synthetic.people import Clip, Person, draw_people, session  # noqa: E402
from preprocessing.synthetic.tree import _STIMULUS, _VIDEO, draw_stimulus  # noqa: E402
from preprocessing.synthetic.video import Portrait  # noqa: E402

PROBES = ("tokens", "mean", "centred")
PENALTY = 0.3
LENGTH, MOMENTS, CROP = 128, 16, 64
SEEDS = (0, 1, 2, 3, 4)
PEOPLE, CLIPS_PER_LEVEL, RANDOM = {"signal": 24, "video": 32}, {"signal": 12, "video": 6}, 3
EPOCHS = {"signal": 200, "video": 40}
VIDEO = {"scale": "micro", "image_size": 32, "patch": 4, "frames": 4, "depth": 2, "decoder_dim": 64}
SIGNAL = {"length": LENGTH, "dim": 32, "depth": 2, "heads": 4, "ff": 64, "decoder_depth": 1, "tokenizer": "conv",
          "max_tokens": 32}
# Options that all recipes of a kind share, and those of each. The video MAE's effective rate is lr x 8 / 256.
COMMON = {"video": ["pretrain.video.batch=8", "pretrain.video.lr=3.2e-3", "pretrain.video.mask_ratio=0.75"],
          "signal": ["pretrain.signal.batch=24", "pretrain.signal.lr=1e-3", "pretrain.signal.mask_ratio=0.5",
                     "pretrain.signal.mask_length=16"]}
RECIPES: dict[str, dict[str, list[str]]] = {
    "video": {
        "rate 1e-4": [],
        "rate 3e-3": ["pretrain.video.lr=9.6e-2"],
        "rate 1e-3": ["pretrain.video.lr=3.2e-2"],
        "rate 1e-3, no critic": ["pretrain.video.lr=3.2e-2", "pretrain.video.adv_weight=0"],
        "normalised target": ["pretrain.video.lr=3.2e-2", "encoder.norm_target=true"],
        "frame mask": ["pretrain.video.lr=3.2e-2", "pretrain.video.mask=frame", "pretrain.video.mask_ratio=0.5"],
        "random mask": ["pretrain.video.lr=3.2e-2", "pretrain.video.mask=random"],
        "frame mask, rate 1e-4": ["pretrain.video.mask=frame", "pretrain.video.mask_ratio=0.5"],
        **{name: [*words, "pretrain.video.adv_weight=0"] for name, words in {
            "changes, rate 1e-4": [], "changes, rate 3e-4": ["pretrain.video.lr=9.6e-3"],
            "changes, rate 1e-3": ["pretrain.video.lr=3.2e-2"], "colours, rate 1e-4": [], "cuts, rate 1e-4": [],
            "frame mask, colours, cuts, rate 1e-4": ["pretrain.video.mask=frame", "pretrain.video.mask_ratio=0.5"],
        }.items()},
    },
    "signal": {"rate 1e-3": [], "rate 1e-4": ["pretrain.signal.lr=1e-4"]},
}
MINIATURE = ["rate 1e-4", "frame mask, colours, cuts, rate 1e-4"]
COLOURS, CUTS = 0.2, 0.75
VARIANTS = {  # recipes with these names are not options of the program: benchmarks/video_variants.py
    name: Variant(COLOURS if "colours" in name else 0.0, CUTS if "cuts" in name else 1.0, "changes" in name)
    for name in RECIPES["video"] if any(word in name for word in ("colours", "cuts", "changes"))}


@dataclass(frozen=True)
class Cohort:
    """n subjects: the labels of their clips; shards with face crops, or scaled signals, made on demand."""

    config: Config
    labels: dict[int, np.ndarray]
    shards: dict[int, Path]
    store: ClipStore | None = None


def prepare(kind: str, words: Sequence[str], people: int, clips_per_level: int, folder: Path, seed: int) -> Cohort:
    config = compose("synthetic", [
        f"store={folder}", f"synthetic.subjects={people}", f"synthetic.clips_per_level={clips_per_level}",
        f"model={'signal' if kind == 'signal' else 'dual'}", f"synthetic.seed={seed}", f"signal.length={LENGTH}",
        "signal.emd=false", "pretrain.save_epochs=null", "encoder=vit_micro", "run.executor=inline",
        f"clip.frames={VIDEO['frames']}", *words])
    if kind == "signal":
        with redirect_stdout(sys.stderr):  # what the stage says is no row of the table
            store = make_clips.ensure(config, load(config))
        return Cohort(config, {s: store.signals(s).label > 0 for s in range(people)}, store.paths, store)
    labels, shards = {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    for person in draw_people(people, seed):
        clips = session(person, clips_per_level, config.synthetic.effect, ("BL1", "PA4"))
        shards[person.index] = folder / f"{person.index}.parquet"
        if not shards[person.index].exists():
            write_shard(shards[person.index], drawn(person, clips))
        labels[person.index] = np.array([clip.level == "PA4" for clip in clips])
    return Cohort(config, labels, shards)


def drawn(person: Person, clips: Sequence[Clip]) -> list[Row]:
    """The subject's clips in the format of stage 1, drawn directly: MOMENTS equidistant crops of the face."""
    portrait = Portrait(person, (320, 240))
    top, bottom, left, right = portrait.box
    side = int(0.58 * min(bottom - top, right - left))  # of the head's box: from the brows' folds to the chin
    y, x = max(0, (top + bottom - side) // 2), max(0, (left + right - side) // 2)
    rows = []
    for number, clip in enumerate(clips):
        rng = clip.stream(_VIDEO)
        tracks = act(person, draw_stimulus(clip.intensity, clip.stream(_STIMULUS)), clip.n_frames, rng)
        at = np.linspace(0, clip.n_frames - 1, MOMENTS).round().astype(np.int32)
        crops = []
        for i in at:
            grain = rng.integers(0, 64, 2)
            planar = portrait.frame({name: float(track[i]) for name, track in tracks.items()}, (int(grain[0]), int(grain[1])))
            face = cv2.cvtColor(planar, cv2.COLOR_YUV2RGB_I420)[y:y + side, x:x + side]
            crops.append(encode_image(cv2.resize(face, (CROP, CROP), interpolation=cv2.INTER_AREA), "png"))
        prepared = PreparedClip(frames=tuple(crops), frame_index=at, keyframes=at,
                                landmarks=np.zeros((MOMENTS, 92, 2), np.float32), n_frames=clip.n_frames, fps=25.0,
                                padded=False, n_lost=0, max_faces=1, signal=np.zeros((2, 1), np.float32), channels=("gsr",),
                                duration_s=5.5)
        rows.append(Row(f"c{number:03d}", number, int(clip.level == "PA4"), ("", ""), prepared))
    return rows


def ridge(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Answers of a ridge with more features than clips, through the clips' inner products."""
    target = np.where(labels, 1.0, -1.0)
    gram = train @ train.T
    gram[np.diag_indices_from(gram)] += PENALTY * train.shape[1]
    return test @ train.T @ np.linalg.solve(gram, target - target.mean()) + target.mean() > 0


def logistic(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(train, labels).predict(test)


def accuracy(answers, features: np.ndarray, labels: np.ndarray, people: np.ndarray) -> float:
    """Leave-one-subject-out accuracy, features standardised on the training subjects; subjects weigh equally."""
    found = []
    for person in np.unique(people):
        test = people == person
        mean, std = features[~test].mean(0), features[~test].std(0) + 1e-8
        said = answers((features[~test] - mean) / std, labels[~test], (features[test] - mean) / std)
        found.append(np.mean(said == labels[test]))
    return float(np.mean(found))


def centred(features: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Features minus the mean of their subject."""
    out = features.copy()
    for person in np.unique(people):
        out[people == person] -= features[people == person].mean(0)
    return out


def between(features: np.ndarray, people: np.ndarray) -> float:
    """Share of the variance, summed over features, between the means of the subjects."""
    return 1 - float((centred(features, people) ** 2).sum() / ((features - features.mean(0)) ** 2).sum())


def probe(model, inputs: Tensor, labels: np.ndarray, people: np.ndarray) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        tokens = torch.cat([model.encode(part) for part in inputs.split(16)]).numpy().astype(np.float64)
    mean = tokens.mean(1)
    return {"tokens": accuracy(ridge, tokens.reshape(len(tokens), -1), labels, people),
            "mean": accuracy(logistic, mean, labels, people),
            "centred": accuracy(logistic, centred(mean, people), labels, people), "between": between(mean, people)}


def one_half(kind: str, cohort: Cohort, seed: int, folder: Path, group: list[int], rest: list[int],
             random: dict[tuple, dict[str, float]], n_random: int, variant: Variant | None = None) -> dict[str, float]:
    """Pretrained on `group`, probed on `rest`. random: cache of the results of untrained encoders."""
    folder.mkdir(parents=True)
    config = cohort.config
    people = np.concatenate([np.full(len(cohort.labels[s]), s) for s in rest])
    labels = np.concatenate([cohort.labels[s] for s in rest])
    if kind == "signal":
        assert cohort.store is not None
        parts = {s: cohort.store.signals(s).signals for s in (*group, *rest)}
        moments = {s: m for s in group if (m := cohort.store.moments(s, config.task.classes)) is not None}
        scaler = fit_scaler(moments, group)
        np.save(folder / "signals.npy", np.concatenate([scaler.apply(parts[s]) for s in group]))
        inputs = torch.from_numpy(np.concatenate([scaler.apply(parts[s]) for s in rest]))
        options = SIGNAL | {"n_channels": inputs.shape[2]}
    else:
        options = VIDEO | {"norm_target": bool(config.encoder.options().get("norm_target", False))}
        views = GroupClips([(s, cohort.shards[s]) for s in rest], VIDEO["frames"], config.clip.rate, VIDEO["image_size"])
        inputs = as_video(np.stack([views.clip(i, None) for i in range(len(views))]), torch.device("cpu"))
    names = [f"{s}-{i}" for s in group for i in range(len(cohort.labels[s]))]
    job = Job(name="probe", out=folder, shards=[(s, cohort.shards[s]) for s in group],
              video=options if kind == "video" else None, signal=options if kind == "signal" else None,
              signals=folder / "signals.npy", samples=names, lineage={}, recipe=config.pretrain.model_dump(),
              clip=config.clip.model_dump(), seed=seed)
    steps: list[dict] = []
    if variant is None:
        train_job(job, Rank(), steps.append)
    else:
        stage = VariedStage(job, Rank(), variant)
        train(stage, steps.append)
        checkpoint.save(folder / kind, stage.mae, options, {})

    key = (seed, tuple(rest))
    if key not in random:
        drawn_encoders = []
        for draw in range(n_random):
            torch.manual_seed(10_000 + 100 * seed + draw)
            drawn_encoders.append(probe(build(f"{kind}_mae", **options), inputs, labels, people))
        random[key] = {name: float(np.mean([one[name] for one in drawn_encoders])) for name in drawn_encoders[0]}
    model = build(f"{kind}_mae", **options)
    checkpoint.load(folder / kind, model)
    found = probe(model, inputs, labels, people) | {f"random {name}": value for name, value in random[key].items()}
    recipe = config.pretrain.video if kind == "video" else config.pretrain.signal
    if kind == "video":
        mask = mask_from_seeds(recipe["mask"], list(range(len(inputs))), grid=model.grid, ratio=float(recipe["mask_ratio"]))
        painted = changes_against_none if variant is not None and variant.change else against_visible_mean
        error, mean_error = painted(model, inputs, mask)
    else:
        mask = mask_from_seeds("markov", list(range(len(inputs))), length=inputs.shape[1], channels=inputs.shape[2],
                               ratio=float(recipe["mask_ratio"]), mean_length=float(recipe["mask_length"]))
        error, mean_error = signal_against_visible_mean(model, inputs, mask)
    rates = [row["lr"] for row in steps if row["kind"] == "step"]
    return found | {"ratio": error / mean_error, "rate": max(rates), "steps": len(rates)}


@torch.no_grad()
def changes_against_none(mae: VideoMAE, video: Tensor, visible_mask: Tensor) -> tuple[float, float]:
    """(error of the painted changes, error of painting no change)."""
    target = take(mae.tubelets(change(video)), mae.split(visible_mask)[1])
    return float((mae.reconstruct(video, visible_mask) - target).square().mean()), float(target.square().mean())


def measure(kind: str, cohort: Cohort, seeds: Sequence[int], place: Path, random: dict,
            n_random: int, variant: Variant | None = None) -> list[dict[str, float]]:
    """One row per seed, the mean over its two halves."""
    rows, n = [], len(cohort.labels)
    for seed in seeds:
        drawn_order = np.random.default_rng([seed, n]).permutation(n)
        halves = [sorted(map(int, half)) for half in (drawn_order[: n // 2], drawn_order[n // 2:])]
        found = [one_half(kind, cohort, seed, place / f"{seed}-{i}", group=halves[i], rest=halves[1 - i], random=random,
                          n_random=n_random, variant=variant)
                 for i in range(2)]
        rows.append({name: float(np.mean([half[name] for half in found])) for name in found[0]})
    return rows


def interval(values: np.ndarray) -> str:
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{100 * mean:+.1f}"
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{100 * mean:+.1f} ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f})"


def line(name: str, rows: Sequence[dict[str, float]]) -> str:
    def mean(field: str) -> float:
        return float(np.mean([row[field] for row in rows]))

    cells = [f"{100 * mean(p):.1f} and {100 * mean(f'random {p}'):.1f}: "
             + interval(np.array([row[p] - row[f"random {p}"] for row in rows])) for p in PROBES]
    return (f"| {name} | {mean('rate'):.1e} | {mean('steps'):.0f} | {mean('ratio'):.2f} | {' | '.join(cells)} | "
            f"{100 * mean('between'):.1f} and {100 * mean('random between'):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miniature", action="store_true", help="small sizes, to test that the script runs")
    parser.add_argument("--only", choices=("signal", "video"))
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="names of RECIPES; default all")
    parser.add_argument("--people", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--random", type=int, default=RANDOM, help="untrained encoders per seed and half")
    parser.add_argument("--cohort", type=int, default=0, help="synthetic.seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.miniature:
        options.seeds, options.random, options.recipes = options.seeds[:1], 1, options.recipes or MINIATURE
    torch.set_num_threads(1)
    lines = []
    for kind in (options.only,) if options.only else ("signal", "video"):
        people = options.people or (4 if options.miniature else PEOPLE[kind])
        per_level = 2 if options.miniature else CLIPS_PER_LEVEL[kind]
        epochs = options.epochs or (2 if options.miniature else EPOCHS[kind])
        what = f"{kind} MAE, {people} subjects, {2 * per_level} clips each, {len(options.seeds)} seeds"
        lines += [f"| {what} | effective rate | steps | "
                  f"error / error of visible mean | {' | '.join(f'{p}: trained and random %, points' for p in PROBES)} | "
                  "variance between subjects, %: trained and random |", "|---|---|---|---|---|---|---|---|"]
        print("\n".join(lines[-2:]), flush=True)
        random: dict = {}
        with tempfile.TemporaryDirectory() as place:
            for number, (name, changes) in enumerate(RECIPES[kind].items()):
                if options.recipes and name not in options.recipes:
                    continue
                began = time.monotonic()
                words = [*COMMON[kind], f"pretrain.{kind}.epochs={epochs}", *changes]
                if kind == "video":
                    words.append(f"pretrain.video.warmup={max(1, epochs // 10)}")
                cohort = prepare(kind, _last(words), people, per_level, Path(place) / "store", options.cohort)
                rows = measure(kind, cohort, options.seeds, Path(place) / str(number), random=random,
                               n_random=options.random, variant=VARIANTS.get(name) if kind == "video" else None)
                lines.append(line(name, rows))
                print(lines[-1], f"{time.monotonic() - began:.0f} s", flush=True)
        lines.append("")
    if options.out:
        command = " ".join(["python benchmarks/probe.py", *sys.argv[1:]])
        options.out.write_text("\n".join([
            "# Does pretraining help?", "", f"{datetime.now(UTC):%Y-%m-%d} · {cpu_name()}, {os.cpu_count()} cores · "
            f"torch {torch.__version__}", "", f"    {command}", "", *lines,
            "Synthetic subjects with a simulated effect: this shows that the program works, and says nothing about pain.", ""]))


def _last(words: Sequence[str]) -> list[str]:
    """The last of several overrides of one key."""
    return list({word.partition("=")[0]: word for word in words}.values())


if __name__ == "__main__":
    main()
