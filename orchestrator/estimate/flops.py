"""Operations and weights of the networks, counted by torch on the meta device (a multiply-add is two operations).

N tokens, V of them visible, M masked, S signal steps, C channels; everything is for one clip.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from models.registry import find
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import TOKENS, has_signal_encoder, needs
from orchestrator.stores.encoder_store import signal_options, video_options
from orchestrator.stores.token_store import stored_shape

if TYPE_CHECKING:
    from torch import Tensor, nn

# Steps that are counted for recurrent networks, where counting is slow; the operations grow in proportion to the steps
SHORT = 16


@dataclass(frozen=True)
class VideoMAE:
    """encode: of all N tokens; step: of one training step, three passes of encoder and decoder, nine of the critic.
    parameters, critic_parameters: how many weights."""

    encode: float
    step: float
    tokens: int
    dim: int
    parameters: int
    critic_parameters: int


@dataclass(frozen=True)
class SignalMAE:
    """encode: E_ts; reconstruct: E_ts and D_ts."""

    encode: float
    reconstruct: float
    tokens: int
    parameters: int


def video_mae(options: Mapping[str, Any], mask_ratio: float = 0.9) -> VideoMAE:
    """options: as video_options gives them. Raises ModelError where they build no model."""
    return _video_mae(json.dumps(options, sort_keys=True), mask_ratio)


def signal_mae(options: Mapping[str, Any]) -> SignalMAE:
    """options: as signal_options gives them. Raises ModelError where they build no model."""
    return _signal_mae(json.dumps(options, sort_keys=True))


def classifier(config: Config, n_channels: int, n_classes: int = 2) -> float:
    """Forward pass of one clip through the chosen network."""
    given = {k: v for k, v in config.model.options().items() if k != "weights"}
    name, length = config.model.name, int(config.signal.get("length", 400))
    dim, grid = None, (1, 1, 1)
    if TOKENS <= needs(config):
        grid, dim = stored_shape(config, video_options(config))
    if has_signal_encoder(name):
        own = signal_options(config, n_channels, length)
        given["signal"] = {k: v for k, v in own.items() if k not in ("n_channels", "length", "tokenizer")}
    text = json.dumps(given, sort_keys=True)

    def of(steps: int) -> float:
        return _classifier(name, given=text, n_channels=n_channels, n_classes=n_classes, length=steps, dim=dim, grid=grid,
                           frames=config.clip.frames, size=config.encoder.image_size)

    if not find(name).recurrent or length <= 2 * SHORT:
        return of(length)
    return of(SHORT) + (of(2 * SHORT) - of(SHORT)) * (length - SHORT) / SHORT


@cache
def _video_mae(options: str, mask_ratio: float) -> VideoMAE:
    import torch

    from models import build

    with torch.device("meta"):
        mae: Any = build("video_mae", **json.loads(options)).eval()
        critic = build("critic", patch_values=mae.patch_values, hidden=2 * mae.dim)
        masked = min(mae.n_tokens - 1, max(1, round(mask_ratio * mae.n_tokens)))
        video = torch.empty(1, 3, mae.frames, mae.image_size, mae.image_size)
        pixels = torch.empty(1, mae.n_tokens, mae.patch_values)
        seen, hidden = (torch.empty(1, n, dtype=torch.int64) for n in (mae.n_tokens - masked, masked))
        judged = torch.empty(1, masked, mae.patch_values)
    predicted = 0.0 if mae.decoder is None else count(lambda: mae.predict(pixels, seen, hidden))
    return VideoMAE(count(lambda: mae.encode(video)), 3 * predicted + 9 * count(lambda: critic(judged)), mae.n_tokens, mae.dim,
                    weights(mae), weights(critic))


@cache
def _signal_mae(options: str) -> SignalMAE:
    import torch

    from models import build

    with torch.device("meta"):
        mae: Any = build("signal_mae", **json.loads(options)).eval()
        x = torch.empty(1, mae.length, mae.n_channels)
    return SignalMAE(count(lambda: mae.encode(x)), count(lambda: mae.reconstruct(x, torch.ones_like(x))), mae.n_tokens,
                     weights(mae))


@cache
def _classifier(name: str, given: str, n_channels: int, n_classes: int, length: int, dim: int | None,
                grid: tuple[int, int, int], frames: int, size: int) -> float:
    import torch

    from models import build

    options = json.loads(given)
    # the fused attention needs real memory; the naive one is the same number of multiplications
    options["hpa"] = {**(options.get("hpa") or {}), "impl": "naive"}
    with torch.device("meta"):
        model: Any = build(name, n_classes=n_classes, n_channels=n_channels, signal_length=length, frames=frames,
                           image_size=size, token_dim=dim, token_grid=grid, **options).eval()
        batch = {"video": torch.empty(1, 3, frames, size, size), "signals": torch.empty(1, length, n_channels),
                 "tokens": torch.empty(1, grid[0] * grid[1] * grid[2], dim or 1)}
    return count(lambda: model({key: value for key, value in batch.items() if key in model.needs}))


def count(run: "Callable[[], Tensor]") -> float:
    """Operations of what `run` computes."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def weights(module: "nn.Module") -> int:
    return sum(p.numel() for p in module.parameters())
