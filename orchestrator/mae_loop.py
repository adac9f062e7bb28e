"""What every pretraining worker runs: the masked auto-encoders of one encoder after the other, under DDP.

Order, masks and temporal starts are pure functions of (seed, epoch, step, sample), whatever the rank.
B clips of one rank, T frames, S image size, L samples, C channels, N tokens.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import checkpoint, masks
from models.critic import Critic
from models.mae_training import (
    SignalMAEObjective,
    SignalMAERecipe,
    VideoMAEObjective,
    VideoMAERecipe,
    set_lr,
    signal_optimisers,
    signal_step,
    video_lr,
    video_optimisers,
    video_step,
)
from models.signal_mae import SignalMAE
from models.video_mae import VideoMAE
from orchestrator.mae_data import GroupClips, epoch_batches, prefetch


@dataclass(frozen=True)
class Job:
    """One encoder to be trained. signals: file with the group's scaled signals (n, L, C) float32, or None."""

    name: str
    out: Path
    shards: list[tuple[int, Path]]
    video: dict | None
    signal: dict | None
    signals: Path | None
    lineage: dict
    recipe: dict[str, Any]
    clip: dict[str, int]
    seed: int


@dataclass(frozen=True)
class Rank:
    """This worker among its peers; world 1 needs no process group."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")

    def wrap(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        if self.world == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def share(self, positions: np.ndarray) -> np.ndarray:
        """This rank's equal part of a whole batch."""
        return positions[self.rank :: self.world]

    def whole(self, batch: int) -> int:
        """The batch over all ranks: rounded up so that every rank has the same share."""
        return -(-batch // self.world) * self.world


def train_job(job: Job, rank: Rank, report: Callable[[dict], None]) -> None:
    """Train both masked auto-encoders of one encoder; rank 0 leaves the checkpoints and the curve in job.out."""
    curve: list[dict] = []

    def on_epoch(row: dict) -> None:
        curve.append(row)
        report(row)

    for name, options, train in (("video", job.video, train_video), ("signal", job.signal, train_signal)):
        if options is not None:
            module = train(job, options, rank, on_epoch)
            if rank.rank == 0:
                checkpoint.save(job.out / name, module, options, job.lineage)
    if rank.rank == 0:
        (job.out / "curve.json").write_text(json.dumps(curve))


def train_video(job: Job, model: dict, rank: Rank, on_epoch: Callable[[dict], None]) -> VideoMAE:
    """Returns the trained VideoMAE (its decoder with it)."""
    options = dict(job.recipe["video"])
    torch.manual_seed(job.seed)
    mae = VideoMAE(**model)
    weight, gp = float(options.pop("adv_weight", 0.01)), float(options.pop("gp", 10.0))
    critic = Critic(mae.patch_values, 2 * mae.dim) if weight > 0 else None
    inner = VideoMAEObjective(mae, critic, weight, gp)
    objective = rank.wrap(inner)
    batch, kind, ratio = rank.whole(int(options.pop("batch"))), options.pop("mask"), float(options.pop("mask_ratio"))
    recipe = VideoMAERecipe(lr=float(options.pop("lr")), epochs=int(options.pop("epochs")),
                            warmup_epochs=int(options.pop("warmup")), **options)
    optimisers = video_optimisers(inner, recipe)
    clips = GroupClips(job.shards, job.clip["frames"], job.clip["rate"], mae.image_size)
    if not len(clips):
        raise RuntimeError("the pretraining group has no usable video clip")
    for epoch in range(recipe.epochs):
        lr = video_lr(recipe, epoch, batch)
        set_lr(optimisers.values(), lr)
        work = [(step, rank.share(p)) for step, p in enumerate(epoch_batches(len(clips), batch, job.seed, epoch))]

        def load(item: tuple[int, np.ndarray], epoch: int = epoch) -> tuple[list[int], np.ndarray]:
            step, positions = item
            seeds = [masks.sample_seed(job.seed, epoch, step, int(p)) for p in positions]
            views = [clips.clip(int(p), np.random.default_rng(s)) for p, s in zip(positions, seeds, strict=True)]
            return seeds, np.stack(views)

        losses: list[dict] = []
        for seeds, clip_BTSS3 in prefetch(load, work):
            video = as_video(clip_BTSS3, rank.device)
            visible = masks.mask_from_seeds(kind, seeds, grid=mae.grid, ratio=ratio).to(rank.device)
            alpha = masks.uniform_from_seeds(seeds, 1).to(rank.device)
            losses.append(video_step(objective, optimisers, video, visible, alpha, clip=recipe.clip))
        on_epoch({"stage": "video MAE", "encoder": job.name, "epoch": epoch + 1, "epochs": recipe.epochs, "lr": lr,
                  "loss": _mean(losses, "reconstruction")})
    return mae.eval()


def train_signal(job: Job, model: dict, rank: Rank, on_epoch: Callable[[dict], None]) -> SignalMAE:
    """Returns the trained SignalMAE. With several workers its BatchNorm statistics are those of one rank's share."""
    options = dict(job.recipe["signal"])
    torch.manual_seed(job.seed)
    mae = SignalMAE(**model)
    inner = SignalMAEObjective(mae)
    objective = rank.wrap(inner)
    recipe = SignalMAERecipe(lr=float(options["lr"]))
    optimisers = signal_optimisers(inner, recipe)
    assert job.signals is not None
    signals_nLC = np.load(job.signals, mmap_mode="r", allow_pickle=False)
    batch = rank.whole(min(int(options["batch"]), 2 * len(signals_nLC)))
    for epoch in range(int(options["epochs"])):
        losses = []
        for step, positions in enumerate(epoch_batches(len(signals_nLC), batch, job.seed, epoch)):
            own = rank.share(positions)
            seeds = [masks.sample_seed(job.seed, epoch, step, int(p)) for p in own]
            x_BLC = torch.from_numpy(np.ascontiguousarray(signals_nLC[own])).to(rank.device)
            keep = masks.mask_from_seeds("markov", seeds, length=x_BLC.shape[1], channels=x_BLC.shape[2],
                                         ratio=float(options["mask_ratio"]), mean_length=float(options["mask_length"]))
            losses.append(signal_step(objective, optimisers, x_BLC, keep.to(rank.device), clip=recipe.clip))
        on_epoch({"stage": "signal MAE", "encoder": job.name, "epoch": epoch + 1, "epochs": int(options["epochs"]),
                  "lr": recipe.lr, "loss": _mean(losses, "reconstruction")})
    return mae.eval()


def as_video(clip_BTSS3: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (B,T,S,S,3) to float32 (B,3,T,S,S) in [0,1]."""
    return torch.from_numpy(clip_BTSS3).to(device).permute(0, 4, 1, 2, 3).float().div_(255)


def _mean(losses: list[dict], name: str) -> float:
    return float(torch.stack([loss[name] for loss in losses]).mean())


def epochs_planned(jobs: list[Job]) -> int:
    """How many epoch reports all jobs will give: for the progress bar."""
    return sum(int(job.recipe[kind]["epochs"]) for job in jobs for kind, there in
               (("video", job.video), ("signal", job.signal)) if there is not None)


