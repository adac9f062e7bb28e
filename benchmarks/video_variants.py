"""Variants of video MAE pretraining that are not options of the program, for probe.py.

Shapes: B clips, T frames, S image size, N tokens, M masked, P values of a tubelet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from models.mae.training import video_optimisers
from models.mae.video_mae import VideoMAE, take
from orchestrator.pretraining.objectives import Job, Rank, VideoStage


@dataclass(frozen=True)
class Variant:
    """What is changed; without the critic.

    colour: standard deviation of the logarithm of each colour's gain, and half of it for an offset, relative to white: one
    draw per view. geometry: smallest side of a crop, relative to the image; half of the views are also mirrored.
    change: the target is the difference of a masked tubelet's pixels to the clip's mean over its frames, instead of the pixels:
    movement without the static face, so with little identity.
    """

    colour: float = 0.0
    geometry: float = 1.0
    change: bool = False


class VariedStage(VideoStage):
    """The program's own stage, with the variant."""

    def __init__(self, job: Job, rank: Rank, variant: Variant):
        super().__init__(job, rank)
        assert self.inner.critic is None, "variants are written for pretrain.video.adv_weight=0"
        self.variant = variant
        if variant.change:
            self.inner = ChangeObjective(self.mae).to(rank.device)
            self.optimisers = video_optimisers(self.inner, self.recipe)
            self.ready()

    def load(self, epoch: int, step: int, positions: np.ndarray) -> tuple:
        views_BTSS3, visible_BN, alpha_B1 = super().load(epoch, step, positions)
        seeds = self.seeds(epoch, step, positions)
        varied = [vary(view, self.variant, np.random.default_rng([1, s])) for view, s in zip(views_BTSS3, seeds, strict=True)]
        return np.stack(varied), visible_BN, alpha_B1


def vary(clip_TSS3: np.ndarray, variant: Variant, rng: np.random.Generator) -> np.ndarray:
    """A uint8 clip with other colours, cropped and mirrored, the same in all frames."""
    if variant.geometry < 1:
        size = clip_TSS3.shape[1]
        side = max(2, round(size * rng.uniform(variant.geometry, 1)))
        top, left = rng.integers(0, size - side + 1, 2)
        cut = clip_TSS3[:, top:top + side, left:left + side]
        if rng.random() < 0.5:
            cut = cut[:, :, ::-1]
        clip_TSS3 = np.stack([cv2.resize(np.ascontiguousarray(f), (size, size), interpolation=cv2.INTER_LINEAR) for f in cut])
    if variant.colour:
        gain, added = np.exp(variant.colour * rng.standard_normal(3)), 0.5 * variant.colour * 255 * rng.standard_normal(3)
        clip_TSS3 = np.clip(clip_TSS3 * gain + added, 0, 255).round().astype(np.uint8)
    return clip_TSS3


def change(video: Tensor) -> Tensor:
    """(B,3,T,S,S) minus its mean over the frames."""
    return video - video.mean(2, keepdim=True)


class ChangeObjective(nn.Module):
    """Squared error of the masked tubelets' change, see `change`; without a critic."""

    critic = None

    def __init__(self, mae: VideoMAE):
        super().__init__()
        self.mae = mae

    def forward(self, video: Tensor, visible_mask: Tensor, gp_alpha: Tensor | None = None) -> Mapping[str, Tensor]:
        predicted = self.mae.reconstruct(video, visible_mask).float()
        target = take(self.mae.tubelets(change(video)), self.mae.split(visible_mask)[1]).float()
        error = F.mse_loss(predicted, target)
        return {"loss_generator": error, "loss_critic": error.new_zeros(()), "reconstruction": error.detach()}
