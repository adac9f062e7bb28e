"""The two kinds of pretraining (video, signal): the model, the input of a step, and the loss.

Views, masks and mixing weights depend only on (seed, epoch, step, sample), not on rank or timing.
B clips of one rank, T frames, S image size, L samples, C channels, N tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from models.mae import masks
from models.mae.critic import Critic
from models.mae.data_parallel import data_parallel
from models.mae.signal_mae import SignalMAE
from models.mae.sync_batch_norm import batch_norm
from models.mae.training import (
    SignalMAEObjective,
    SignalMAERecipe,
    VideoMAEObjective,
    VideoMAERecipe,
    scored,
    signal_optimisers,
    video_lr,
    video_optimisers,
)
from models.mae.video_mae import VideoMAE
from orchestrator.pretraining.data import GroupClips


@dataclass(frozen=True, kw_only=True)
class Job:
    """One encoder to be trained. signals: file with the group's scaled signals (n, L, C) float32, or None.

    out: its partial folder, where checkpoints, weights and curves go. samples: pseudonyms of the signals' rows.
    recipe: the configuration's node `pretrain`. owner: see checkpoints.py.
    """

    name: str
    out: Path
    shards: list[tuple[int, Path]]
    video: dict | None
    signal: dict | None
    signals: Path | None
    samples: list[str]
    lineage: dict
    recipe: dict[str, Any]
    clip: dict[str, int]
    seed: int
    owner: str = ""


@dataclass(frozen=True)
class Rank:
    """This worker among its peers; with world 1, no process group is needed. loaders: threads that decode clips."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    loaders: int = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """For data-parallel training; `module` must be on the device."""
        if self.world == 1:
            return module
        # DDP changes its buckets after the first step, and so the order in which gradients of more than two ranks are summed:
        # a resumed run would not be bit-identical.
        gpu = self.device.type == "cuda"
        return data_parallel(module, device_ids=[self.device.index] if gpu else None,
                             find_unused_parameters=not gpu and self.world > 2)

    def share(self, positions: np.ndarray) -> np.ndarray:
        """This rank's equal share of a batch."""
        return positions[self.rank :: self.world]

    def whole(self, batch: int, parts: int = 1) -> int:
        """Batch size over all ranks, rounded up so that all parts of all ranks have the same size."""
        return -(-batch // (self.world * parts)) * self.world * parts

    def sum(self, values: Tensor) -> Tensor:
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def chosen(self, number: int) -> int:
        """Rank 0's number, on every rank."""
        value = torch.tensor([number], dtype=torch.int64, device=self.device)
        if self.world > 1:
            dist.broadcast(value, 0)
        return int(value)

    def autocast(self, precision: str) -> torch.dtype | None:
        """auto: bfloat16 on a GPU that supports it, else float32."""
        fits = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if precision == "bf16" or (precision == "auto" and fits) else None


class Stage(ABC):
    """One masked auto-encoder in training. n clips; batch: clips of one step over all ranks; parts: of a rank's share.

    mae: the model that is kept; inner: its objective; objective: inner, wrapped for data-parallel training.
    """

    kind: str
    title: str
    mae: nn.Module
    inner: nn.Module
    optimisers: dict[str, Optimizer]
    n: int
    batch: int
    parts: int
    epochs: int
    clip: float | None

    def __init__(self, job: Job, rank: Rank):
        self.job, self.rank = job, rank

    def ready(self) -> None:
        if self.n == 0:
            raise RuntimeError(f"the pretraining group has no usable {self.kind} clip")
        self.objective = self.rank.wrap(self.inner)

    @abstractmethod
    def lr(self, epoch: int) -> float: ...

    @abstractmethod
    def rule(self) -> str:
        """How the learning rates of `lr` are computed, in words."""

    @abstractmethod
    def load(self, epoch: int, step: int, positions: np.ndarray) -> tuple:
        """This rank's share of a batch, on the CPU; called in another thread than the training."""

    @abstractmethod
    def arguments(self, loaded: tuple) -> list[tuple]:
        """Arguments of the objective for each part, on the device."""

    @abstractmethod
    def terms(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss terms of a step that the curve records; `reconstruction` first."""

    @abstractmethod
    def names(self, positions: np.ndarray) -> list[str]:
        """The clips' pseudonyms."""

    def seeds(self, epoch: int, step: int, positions: np.ndarray) -> list[int]:
        return [masks.sample_seed(self.job.seed, epoch, step, int(p)) for p in positions]


class VideoStage(Stage):
    kind, title = "video", "video MAE"

    def __init__(self, job: Job, rank: Rank):
        super().__init__(job, rank)
        options = dict(job.recipe["video"])
        torch.manual_seed(job.seed)
        assert job.video is not None
        self.mae = VideoMAE(**job.video)
        weight, gp = float(options.pop("adv_weight", 0.01)), float(options.pop("gp", 10.0))
        critic = Critic(self.mae.patch_values, 2 * self.mae.dim) if weight > 0 else None
        self.inner = VideoMAEObjective(self.mae, critic, weight, gp).to(rank.device)
        self.mask, self.ratio = options.pop("mask"), float(options.pop("mask_ratio"))
        self.parts = int(options.pop("accumulate", 1))
        self.batch = rank.whole(int(options.pop("batch")), self.parts)
        self.recipe = VideoMAERecipe(lr=float(options.pop("lr")), epochs=int(options.pop("epochs")),
                                     warmup_epochs=int(options.pop("warmup")), **options)
        self.epochs, self.clip = self.recipe.epochs, self.recipe.clip
        self.optimisers = video_optimisers(self.inner, self.recipe)
        self.clips = GroupClips(job.shards, job.clip["frames"], job.clip["rate"], self.mae.image_size,
                                int(job.recipe.get("cache_mb", 512)) << 20)
        self.n = len(self.clips)
        self.ready()

    def lr(self, epoch: int) -> float:
        return video_lr(self.recipe, epoch, self.batch)

    def rule(self) -> str:
        warmup = min(self.recipe.warmup_epochs, self.epochs)
        return f"lr {self.recipe.lr:g} x batch {self.batch} / 256, cosine after {warmup} epochs of warm-up"

    def load(self, epoch: int, step: int, positions: np.ndarray) -> tuple:
        seeds = self.seeds(epoch, step, positions)
        views = [self.clips.clip(int(p), np.random.default_rng(s)) for p, s in zip(positions, seeds, strict=True)]
        visible = masks.mask_from_seeds(self.mask, seeds, grid=self.mae.grid, ratio=self.ratio)
        return np.stack(views), visible, masks.uniform_from_seeds(seeds, 1)

    def arguments(self, loaded: tuple) -> list[tuple]:
        clip_BTSS3, visible_BN, alpha_B1 = loaded
        device = self.rank.device
        whole = as_video(clip_BTSS3, device), visible_BN.to(device), alpha_B1.to(device)
        return list(zip(*(x.chunk(self.parts) for x in whole), strict=True))

    def terms(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = {"reconstruction": losses["reconstruction"]}
        return first | {k: v for k, v in losses.items() if self.inner.critic is not None or k.startswith("grad_norm")}

    def names(self, positions: np.ndarray) -> list[str]:
        return [self.clips.samples[int(p)] for p in positions]


class SignalStage(Stage):
    kind, title = "signal", "signal MAE"

    def __init__(self, job: Job, rank: Rank):
        super().__init__(job, rank)
        options = dict(job.recipe["signal"])
        torch.manual_seed(job.seed)
        assert job.signal is not None and job.signals is not None
        self.mae = SignalMAE(**job.signal, batch_norm=batch_norm(rank.world, rank.device.type == "cuda"))
        self.loss_on = options.get("loss_on", "masked")
        self.inner = SignalMAEObjective(self.mae, self.loss_on).to(rank.device)
        clip = options.get("clip", 4.0)
        self.recipe = SignalMAERecipe(lr=float(options["lr"]), clip=None if clip is None else float(clip),
                                      split=bool(options.get("split", False)))
        self.optimisers = signal_optimisers(self.inner, self.recipe)
        self.signals_nLC = np.load(job.signals, mmap_mode="r", allow_pickle=False)
        self.n, self.epochs, self.clip = len(self.signals_nLC), int(options["epochs"]), self.recipe.clip
        self.parts = int(options.get("accumulate", 1))
        self.batch = rank.whole(min(int(options["batch"]), 2 * self.n), self.parts)
        self.options = options
        self.ready()

    def lr(self, epoch: int) -> float:
        return self.recipe.lr

    def rule(self) -> str:
        return f"constant lr, batch {self.batch}"

    def load(self, epoch: int, step: int, positions: np.ndarray) -> tuple:
        options = self.options
        x_BLC = torch.from_numpy(np.ascontiguousarray(self.signals_nLC[positions]))
        unmasked = masks.mask_from_seeds(
            "markov", self.seeds(epoch, step, positions), length=x_BLC.shape[1], channels=x_BLC.shape[2],
            ratio=float(options["mask_ratio"]), mean_length=float(options["mask_length"]),
            concurrent=bool(options.get("concurrent", False)), bernoulli=bool(options.get("bernoulli", False)),
            harden_steps=epoch if options.get("harden", False) else 0)
        return x_BLC, unmasked

    def arguments(self, loaded: tuple) -> list[tuple]:
        x_BLC, unmasked = (value.to(self.rank.device) for value in loaded)
        points = self.rank.sum(scored(unmasked, None, self.loss_on).sum().float()) / (self.rank.world * self.parts)
        return [(x, m, None, points) for x, m in zip(x_BLC.chunk(self.parts), unmasked.chunk(self.parts), strict=True)]

    def terms(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # the mean of `loss` over ranks is the loss of the whole batch; `reconstruction` has another denominator on each rank
        norms = {name: value for name, value in losses.items() if name.startswith("grad_norm")}
        return {"reconstruction": losses["loss"], **norms}

    def names(self, positions: np.ndarray) -> list[str]:
        return [self.job.samples[int(p)] for p in positions]


def stages(job: Job) -> Sequence[type[Stage]]:
    return [kind for kind, there in ((VideoStage, job.video), (SignalStage, job.signal)) if there is not None]


def as_video(clip_BTSS3: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B,T,S,S,3) to float32 (B,3,T,S,S) in [0,1]."""
    return torch.from_numpy(clip_BTSS3).to(device).permute(0, 4, 1, 2, 3).float().div_(255)
