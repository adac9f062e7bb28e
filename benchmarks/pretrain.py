"""Stages 2 and 3: the overhead of loading, Ray and the token store over the training step and the forward pass.

    python benchmarks/pretrain.py [--miniature] [--rounds 3] [--parts loop ray decode embed] [--out benchmarks/pretrain.md]

loop    clips/s of the training loop, which decodes every clip from Parquet, compared with the same step on one batch in memory,
        in one process, one after the other. Target: at least 0.9.
ray     clips/s of two Ray Train workers after the start, compared with two plain DDP processes that run the same function.
        Target: at least 0.95.
decode  views per second read from a Parquet shard in one thread (16 frames of 224 x 224, PNG), and reading alone.
embed   clips/s of `write_tokens`, from the shard to the renamed file, compared with a forward loop on a batch in memory.
        Target: at least 0.9.

Every measurement is a new process; parts that are compared alternate, medians are reported. ViT-tiny on 224 x 224 with the
critic, one thread (ray: ViT-micro at 128 x 128). GPUs and MFU: benchmarks/mae_models.py. --miniature: small sizes, in this
process and without Ray, to test that the script runs; its numbers mean nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from benchmarks.made_clips import made_clips  # noqa: E402
from models import build  # noqa: E402
from models.mae import training  # noqa: E402
from orchestrator.cohort.lineage import Lineage  # noqa: E402
from orchestrator.config.configuration import compose  # noqa: E402
from orchestrator.pretraining import embedding  # noqa: E402
from orchestrator.pretraining.data import GroupClips  # noqa: E402
from orchestrator.pretraining.loop import train, train_job  # noqa: E402
from orchestrator.pretraining.objectives import Job, Rank, VideoStage, as_video  # noqa: E402
from orchestrator.runtime import ray_session  # noqa: E402
from orchestrator.stages import make_encoders  # noqa: E402
from orchestrator.stores.token_store import TokenJob  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Sizes:
    scale: str = "tiny"
    image: int = 224
    clips: int = 12
    batch: int = 4
    epochs: int = 3
    ray_scale: str = "micro"
    ray_image: int = 128
    ray_epochs: int = 16
    embed_clips: int = 16
    ray: tuple[str, ...] = ("pretrain.workers=2",)


FULL = Sizes()
MINIATURE = Sizes(scale="micro", image=32, clips=4, batch=2, epochs=2, ray_scale="micro", ray_image=32, ray_epochs=2,
                  embed_clips=4, ray=("run.executor=inline",))


def job(folder: Path, sizes: Sizes, scale: str, image: int, epochs: int, cache_mb: int) -> Job:
    """A video MAE on simulated shards; no checkpoint is written during the measurement."""
    recipe = compose("synthetic", []).pretrain.model_dump()
    recipe["video"] |= {"epochs": epochs, "batch": sizes.batch, "warmup": 1}
    recipe |= {"cache_mb": cache_mb, "save_epochs": None, "save_seconds": None}
    shards = [(0, made_clips(folder / "shards", sizes.clips))]
    (folder / "out").mkdir()
    return Job(name="bench", out=folder / "out", shards=shards, video={"scale": scale, "image_size": image, "frames": 16},
               signal=None, signals=None, samples=[], lineage={}, recipe=recipe, clip={"frames": 16, "rate": 16}, seed=0)


def rate(rows: list[dict], batch: int) -> float:
    """Clips a second over all steps but the first two, which warm up."""
    seconds = [row["seconds"] for row in rows if row["kind"] == "step"][2:]
    return batch * len(seconds) / sum(seconds)


def measure_loop(sizes: Sizes, folder: Path) -> dict:
    torch.set_num_threads(1)
    stage = VideoStage(job(folder, sizes, sizes.scale, sizes.image, sizes.epochs, cache_mb=0), Rank())
    loaded = stage.load(0, 0, np.arange(stage.batch))
    parts = stage.arguments(loaded)

    def bare(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            training.step(stage.objective, stage.optimisers, parts, stage.clip)
        return n * stage.batch / (time.perf_counter() - began)

    bare(1)
    half = max(2, sizes.epochs * sizes.clips // sizes.batch // 2)
    before, rows = bare(half), []
    train(stage, rows.append)
    stage.objective.train()
    return {"ours": rate(rows, stage.batch), "bare": (before + bare(half)) / 2}


def measure_ray(sizes: Sizes, folder: Path) -> dict:
    config = compose("synthetic", [f"store={folder}", "resources.cpus=2", *sizes.ray])
    (folder / "encoders").mkdir()
    rows: list[dict] = []
    make_encoders.fit(config, [job(folder, sizes, sizes.ray_scale, sizes.ray_image, sizes.ray_epochs, 512)], rows.append)
    return {"rate": rate(rows, sizes.batch)}


def _plain(rank: int, folder: str, settings: dict) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows: list[dict] = []
    train_job(Job(**settings), Rank(rank, 2), rows.append)
    if rank == 0:
        (Path(folder) / "rows.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def measure_plain(sizes: Sizes, folder: Path) -> dict:
    work = job(folder, sizes, sizes.ray_scale, sizes.ray_image, sizes.ray_epochs, 512)
    torch.multiprocessing.spawn(_plain, (str(folder), asdict(work)), nprocs=2)
    return {"rate": rate(json.loads((folder / "rows.json").read_text()), sizes.batch)}


def measure_decode(sizes: Sizes, folder: Path) -> dict:
    clips = GroupClips([(0, made_clips(folder, sizes.clips))], 16, 16, sizes.image, cache_bytes=0)

    def per_second(call: Callable[[int], object]) -> float:
        began = time.perf_counter()
        for i in range(len(clips)):
            call(i)
        return len(clips) / (time.perf_counter() - began)

    return {"views": per_second(lambda i: clips.clip(i, np.random.default_rng(i))),
            "read": per_second(lambda i: clips.readers[0].frames(clips.index[i][1]))}


def measure_embed(sizes: Sizes, folder: Path) -> dict:
    torch.set_num_threads(1)
    shard = made_clips(folder, sizes.embed_clips)
    config = compose("synthetic", [f"embed.batch={sizes.batch}", f"store={folder}"])
    model = build("video_mae", scale=sizes.scale, image_size=sizes.image, decoder=False).eval()
    names = tuple(f"c0-{i}" for i in range(sizes.embed_clips))
    work = TokenJob(encoder=0, subject=0, path=folder / "x.npy", key="k", shard=shard, samples=names,
                    lineage=Lineage("tokens"))
    views = np.random.default_rng(0).integers(0, 256, (sizes.batch, 16, sizes.image, sizes.image, 3), np.uint8)

    def bare(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            with torch.no_grad():
                model.encode(as_video(views, torch.device("cpu"))).half()
        return n * sizes.batch / (time.perf_counter() - began)

    bare(1)
    half = max(1, sizes.embed_clips // sizes.batch // 2)
    before, began = bare(half), time.perf_counter()
    embedding.write_tokens(work, model, config, torch.device("cpu"))
    ours = len(names) / (time.perf_counter() - began)
    return {"ours": ours, "bare": (before + bare(half)) / 2}


MEASURES = {"loop": measure_loop, "ray": measure_ray, "plain": measure_plain, "decode": measure_decode, "embed": measure_embed}


def fresh(what: str, sizes: Sizes) -> dict:
    """One measurement in a process of its own; in miniature in this one."""
    if sizes == MINIATURE:
        return one(what, sizes)
    command = [sys.executable, __file__, "--one", what]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout}")
    return json.loads(done.stdout.splitlines()[-1])


def one(what: str, sizes: Sizes) -> dict:
    with tempfile.TemporaryDirectory() as place:
        try:
            return MEASURES[what](sizes, Path(place))
        finally:
            ray_session.stop()


def middle(rows: list[dict], name: str) -> float:
    return statistics.median(row[name] for row in rows)


def ratio_row(what: str, found: list[dict], target: str) -> str:
    ratio = statistics.median(row["ours"] / row["bare"] for row in found)
    return f"| {what} | {middle(found, 'ours'):.2f} and {middle(found, 'bare'):.2f} clips/s: {ratio:.2f} | {target} |"


def loop_row(sizes: Sizes, rounds: int) -> str:
    return ratio_row("training loop compared with the step alone", [fresh("loop", sizes) for _ in range(rounds)], "0.90")


def ray_row(sizes: Sizes, rounds: int) -> str:
    pairs = [(fresh("ray", sizes)["rate"], fresh("plain", sizes)["rate"]) for _ in range(rounds)]
    return ratio_row("two Ray Train workers compared with plain DDP", [{"ours": a, "bare": b} for a, b in pairs], "0.95")


def decode_row(sizes: Sizes, rounds: int) -> str:
    found = [fresh("decode", sizes) for _ in range(rounds)]
    return (f"| views read from Parquet, one thread | {middle(found, 'views'):.1f} clips/s; reading without decoding "
            f"{middle(found, 'read'):.0f} clips/s | - |")


def embed_row(sizes: Sizes, rounds: int) -> str:
    return ratio_row("embedding compared with forward passes alone", [fresh("embed", sizes) for _ in range(rounds)], "0.90")


ROWS = {"loop": loop_row, "ray": ray_row, "decode": decode_row, "embed": embed_row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=list(MEASURES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, FULL)))
        return
    sizes, rounds = (MINIATURE, 1) if options.miniature else (FULL, options.rounds)
    rows = ["| what | measured | target |", "|---|---|---|"]
    print("\n".join(rows))
    for part in options.parts:
        rows.append(ROWS[part](sizes, rounds))
        print(rows[-1], flush=True)
    if options.out:
        command = " ".join(["python benchmarks/pretrain.py", *sys.argv[1:]])
        options.out.write_text("\n".join([
            "# Stages 2 and 3: overhead over the training step and the forward pass", "",
            f"{datetime.now(UTC):%Y-%m-%d} · {cpu_name()}, {os.cpu_count()} cores · torch {torch.__version__} · "
            f"medians of {rounds}", "", f"    {command}", "", *rows, ""]))


if __name__ == "__main__":
    main()
