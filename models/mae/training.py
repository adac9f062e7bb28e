"""Stage 1 without Ray: what is minimised, the two optimiser recipes and one step of each.

Shapes: B batch, N tokens, M masked tokens, P values of a tubelet, L steps, C channels.
An objective is one module whose one forward gives every player's loss, so that DDP wraps it as it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from models.errors import ModelError
from models.mae.critic import Critic
from models.mae.signal_mae import SignalMAE
from models.mae.video_mae import VideoMAE, take


class VideoMAEObjective(nn.Module):
    """L_rec (Eq. 3) and the adversarial terms (Eq. 4, signs as in critic.py).

    forward(video (B,3,T,H,W), visible_mask (B,N), gp_alpha (B,M) or (B,1) in [0,1)) -> dict of scalars:
    reconstruction (squared error, mean over masked tokens and their P values), loss_generator = reconstruction -
    adv_weight / P E f(fake), loss_critic = E f(fake) - E f(real) + gp * penalty, and the parts. Without a critic
    loss_critic is 0 and loss_generator the reconstruction. The losses share no parameter: backward of their sum gives
    each player its own gradient. gp_alpha comes from the caller so that the loss is a pure function of the samples.

    Why adv_weight / P: Eq. 3 is the squared norm of a token, a sum over its P values, beside which Eq. 4 stands. This is
    that sum's loss divided by P (AdamW does not see a loss's scale), so that `reconstruction` stays an error a value.
    A mean beside the whole weight, as the released code has it, is Eq. 4 times P: where |df/dx| is 1 the two gradients
    balance at a token's error of norm adv_weight P / 2 (0.2 a value at P = 1536, as bad as painting a mean colour),
    here at adv_weight / 2.
    """

    def __init__(self, mae: VideoMAE, critic: Critic | None = None, adv_weight: float = 0.01, gp: float = 10.0):
        super().__init__()
        self.mae, self.critic = mae, critic
        self.adv_weight, self.gp = adv_weight, gp

    def forward(self, video: Tensor, visible_mask: Tensor, gp_alpha: Tensor | None = None) -> dict[str, Tensor]:
        pixels = self.mae.tubelets(video)
        visible, masked = self.mae.split(visible_mask)
        predicted = self.mae.predict(pixels, visible, masked).float()
        target = self.mae.target(take(pixels, masked)).float()
        reconstruction = F.mse_loss(predicted, target)
        if self.critic is None:
            zero = reconstruction.new_zeros(())
            return {"loss_generator": reconstruction, "loss_critic": zero, "reconstruction": reconstruction.detach()}

        fake_score = self.critic.frozen(predicted).float().mean()
        fake = predicted.detach()
        gap = self.critic(fake).float().mean() - self.critic(target).float().mean()
        penalty = gap.new_zeros(())
        if self.gp > 0:
            if gp_alpha is None:
                raise ValueError("the gradient penalty needs gp_alpha (B,M) or (B,1), see masks.uniform_from_seeds")
            penalty = self.critic.penalty(target, fake, gp_alpha.to(target)).float()
        return {
            "loss_generator": reconstruction - self.adv_weight / self.mae.patch_values * fake_score,
            "loss_critic": gap + self.gp * penalty,
            "reconstruction": reconstruction.detach(),
            "fake_score": fake_score.detach(),
            "wasserstein": -gap.detach(),
            "penalty": penalty.detach(),
        }


class SignalMAEObjective(nn.Module):
    """Squared error on masked points that are not padding (loss_on="all": on every point that is not padding).

    forward(signals (B,L,C), unmasked (B,L,C) bool, keep (B,L) bool | None, points=None) -> dict(loss=mean squared
    error, reconstruction, points=number of points). points: divide by this number instead of the batch's own
    count; ranks that pass (all ranks' count / number of ranks) average to the loss of the whole batch exactly.
    """

    def __init__(self, mae: SignalMAE, loss_on: str = "masked"):
        super().__init__()
        if loss_on not in ("masked", "all"):
            raise ModelError(f"The signal loss cannot be taken on {loss_on!r}; choose masked or all.")
        self.mae, self.loss_on = mae, loss_on

    def forward(
        self, signals: Tensor, unmasked: Tensor, keep: Tensor | None = None, points: Tensor | float | None = None
    ) -> dict[str, Tensor]:
        predicted = self.mae.reconstruct(signals, unmasked, keep).float()
        weight = scored(unmasked, keep, self.loss_on).to(predicted.dtype)
        error = ((predicted - signals).square() * weight).sum()
        own = weight.sum()
        mean = error / own.clamp_min(1)
        loss = mean if points is None else error / points
        return {"loss": loss, "reconstruction": mean.detach(), "points": own}


def scored(unmasked: Tensor, keep: Tensor | None, loss_on: str = "masked") -> Tensor:
    """Which points the signal loss counts: (B,L,C) bool."""
    points = torch.ones_like(unmasked) if loss_on == "all" else ~unmasked
    return points if keep is None else points & keep.unsqueeze(-1)


@dataclass(frozen=True)
class VideoMAERecipe:
    """AdamW, two players, cosine per epoch after a linear warm-up; rates scale with batch / 256 (paper: "Training")."""

    lr: float = 1.5e-4
    min_lr: float = 1e-5
    warmup_epochs: int = 40
    epochs: int = 200
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = None


@dataclass(frozen=True)
class SignalMAERecipe:
    """One Adam(.5, .9) at 1e-4, gradients clipped at 4; split: Adam for E_ts and RAdam for D_ts (paper: "Training")."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.9)
    clip: float | None = 4.0
    split: bool = False


def video_lr(recipe: VideoMAERecipe, epoch: int, batch: int) -> float:
    """The rate of an epoch: linear from 0 to lr over the warm-up, then a cosine to min_lr, all times batch / 256.

    epoch counts from 0; batch: clips of one step over all workers. The released schedule gives epoch 0 a rate of 0 and
    so trains nothing in it; here it has the first step of the ramp.
    """
    warmup = min(recipe.warmup_epochs, recipe.epochs)
    if epoch < warmup:
        lr = recipe.lr * (epoch + 1) / warmup
    else:
        progress = (epoch - warmup) / max(1, recipe.epochs - warmup)
        lr = recipe.min_lr + 0.5 * (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress))
    return lr * batch / 256


def video_optimisers(objective: VideoMAEObjective, recipe: VideoMAERecipe) -> dict[str, Optimizer]:
    """generator, and critic if there is one. Rates are set before every epoch by `set_lr`."""
    players: dict[str, nn.Module] = {"generator": objective.mae}
    if objective.critic is not None:
        players["critic"] = objective.critic
    return {
        name: torch.optim.AdamW(
            module.parameters(),
            lr=recipe.lr,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        for name, module in players.items()
    }


def signal_optimisers(objective: SignalMAEObjective, recipe: SignalMAERecipe) -> dict[str, Optimizer]:
    """generator; with split: encoder and decoder."""
    mae = objective.mae
    if not recipe.split:
        return {"generator": torch.optim.Adam(mae.parameters(), lr=recipe.lr, betas=recipe.betas, fused=True)}
    decoder = [*mae.decoder.parameters(), *mae.head.parameters()]
    mine = {id(p) for p in decoder}
    encoder = [p for p in mae.parameters() if id(p) not in mine]
    return {
        "encoder": torch.optim.Adam(encoder, lr=recipe.lr, betas=recipe.betas, fused=True),
        "decoder": torch.optim.RAdam(decoder, lr=recipe.lr),
    }


def set_lr(optimisers: Iterable[Optimizer], lr: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = lr


def video_step(
    objective: nn.Module,
    optimisers: dict[str, Optimizer],
    video: Tensor,
    visible_mask: Tensor,
    gp_alpha: Tensor | None = None,
    clip: float | None = None,
    autocast: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """One step of both players from one forward: see `step`."""
    return step(objective, optimisers, [(video, visible_mask, gp_alpha)], clip, autocast)


def signal_step(
    objective: nn.Module,
    optimisers: dict[str, Optimizer],
    signals: Tensor,
    unmasked: Tensor,
    keep: Tensor | None = None,
    points: Tensor | float | None = None,
    clip: float | None = 4.0,
    autocast: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """One step of the signal MAE: see `step`."""
    return step(objective, optimisers, [(signals, unmasked, keep, points)], clip, autocast)


def step(
    objective: nn.Module,
    optimisers: Mapping[str, Optimizer],
    parts: Sequence[tuple],
    clip: float | None = None,
    autocast: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Zero, then forward and backward of every part, clip, step: one step whose gradient is the parts' mean.

    objective: one of the above, or wrapped by DDP (which meets the other workers at the last part alone) or
    torch.compile. parts: its arguments, for equal shares of the batch. autocast: e.g. torch.bfloat16.
    Returns the losses, each the mean over parts, and grad_norm_<player> before clipping.
    """
    for optimiser in optimisers.values():
        optimiser.zero_grad(set_to_none=True)
    found = [_backward(objective, part, len(parts), i + 1 < len(parts), autocast) for i, part in enumerate(parts)]
    losses = {name: sum((one[name] for one in found[1:]), found[0][name]) / len(found) for name in found[0]}
    for player, optimiser in optimisers.items():
        owned = [p for group in optimiser.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in owned if p.grad is not None])
        if clip is not None:
            nn.utils.clip_grads_with_norm_(owned, clip, norm)
        losses[f"grad_norm_{player}"] = norm
    for optimiser in optimisers.values():
        optimiser.step()
    return losses


def _backward(
    objective: nn.Module, part: tuple, n_parts: int, more: bool, autocast: torch.dtype | None
) -> dict[str, Tensor]:
    alone = isinstance(objective, nn.parallel.DistributedDataParallel) and more
    mixed = torch.autocast(part[0].device.type, dtype=autocast) if autocast else nullcontext()
    with objective.no_sync() if alone else nullcontext():  # type: ignore[operator]
        with mixed:
            losses = objective(*part)
        (total(losses) / n_parts).backward()
    return {name: value.detach() for name, value in losses.items()}


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """What backward starts from: the players' losses share no parameter, so that their sum serves both."""
    return losses["loss"] if "loss" in losses else losses["loss_generator"] + losses["loss_critic"]
