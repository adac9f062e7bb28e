"""Stage 1 without Ray: the losses, the two optimiser recipes and one training step of each.

Shapes: B batch, N tokens, M masked tokens, P values of a tubelet, L steps, C channels.
An objective is one module; one forward returns the losses of all players (generator, critic), so that DDP can wrap it.
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
    each player its own gradient. gp_alpha comes from the caller, so that the loss depends only on the samples.

    Why adv_weight / P: in Eq. 4 the adversarial term is added to Eq. 3, the squared norm of a token, a sum over its P values.
    Here the whole loss is divided by P (AdamW is invariant to the scale of a loss), so that `reconstruction` is an error per
    value. A mean with the full weight, as in the released code, is P times the weight of Eq. 4: where |df/dx| is 1 the two
    gradients balance at a token error of norm adv_weight P / 2 (0.2 per value at P = 1536, as bad as predicting a mean
    colour), here at adv_weight / 2.
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
        difference = self.critic(fake).float().mean() - self.critic(target).float().mean()
        penalty = difference.new_zeros(())
        if self.gp > 0:
            if gp_alpha is None:
                raise ValueError("the gradient penalty needs gp_alpha (B,M) or (B,1), see masks.uniform_from_seeds")
            penalty = self.critic.penalty(target, fake, gp_alpha.to(target)).float()
        return {
            "loss_generator": reconstruction - self.adv_weight / self.mae.patch_values * fake_score,
            "loss_critic": difference + self.gp * penalty,
            "reconstruction": reconstruction.detach(),
            "fake_score": fake_score.detach(),
            "wasserstein": -difference.detach(),
            "penalty": penalty.detach(),
        }


class SignalMAEObjective(nn.Module):
    """Squared error on masked points without padding (loss_on="all": on all points without padding).

    forward(signals (B,L,C), unmasked (B,L,C) bool, keep (B,L) bool | None, points=None) -> dict(loss=mean squared
    error, reconstruction, points=number of points). points: divide by this number instead of the count in
    the batch; if all ranks pass (total count / number of ranks), their mean is exactly the loss of the whole batch.
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
    """The points that enter the signal loss: (B,L,C) bool."""
    points = torch.ones_like(unmasked) if loss_on == "all" else ~unmasked
    return points if keep is None else points & keep.unsqueeze(-1)


@dataclass(frozen=True)
class VideoMAERecipe:
    """AdamW for two players, cosine per epoch after a linear warm-up; rates scale with batch / 256 (paper: "Training")."""

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
    """The learning rate of an epoch: linear from 0 to lr in the warm-up, then a cosine to min_lr, all times batch / 256.

    epoch counts from 0; batch: clips per step over all workers. The released schedule has rate 0 in epoch 0, so that
    nothing is trained in it; here epoch 0 has the first step of the warm-up.
    """
    warmup = min(recipe.warmup_epochs, recipe.epochs)
    if epoch < warmup:
        lr = recipe.lr * (epoch + 1) / warmup
    else:
        progress = (epoch - warmup) / max(1, recipe.epochs - warmup)
        lr = recipe.min_lr + 0.5 * (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress))
    return lr * batch / 256


def video_optimisers(objective: VideoMAEObjective, recipe: VideoMAERecipe) -> dict[str, Optimizer]:
    """generator, and critic if there is one. Learning rates are set before every epoch by `set_lr`."""
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
    in_decoder = {id(p) for p in decoder}
    encoder = [p for p in mae.parameters() if id(p) not in in_decoder]
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
    """Zero the gradients, forward and backward of every part, clip, step: one step with the mean gradient of the parts.

    objective: one of the above, or wrapped by DDP (which synchronises the workers at the last part only) or
    torch.compile. parts: its arguments, for equal parts of the batch. autocast: e.g. torch.bfloat16.
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
    """The loss for backward: the losses of the players share no parameter, so that their sum can be used for both."""
    return losses["loss"] if "loss" in losses else losses["loss_generator"] + losses["loss_critic"]
