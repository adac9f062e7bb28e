"""One check that a gradient is right, cheap enough for whole networks: the slope along a random direction."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def check_slope(module: nn.Module, loss: Callable[[], Tensor], tolerance: float = 1e-4, step: float = 1e-6) -> None:
    """autograd's derivative of loss() along a random direction of all parameters equals the central difference.

    The module must be float64 and loss() a function of its parameters alone; dropout is switched off here. The direction
    has length 1 and the step is small, so that hardly a ReLU changes sides.
    """
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    parameters = [p for p in module.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    length = sum(float(d.square().sum()) for d in direction) ** 0.5
    for d in direction:
        d /= length
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None)

    @torch.no_grad()
    def moved(by: float) -> float:
        for p, d in zip(parameters, direction, strict=True):
            p.add_(d, alpha=by)
        value = float(loss())
        for p, d in zip(parameters, direction, strict=True):
            p.sub_(d, alpha=by)
        return value

    difference = (moved(step) - moved(-step)) / (2 * step)
    assert abs(difference) > 1e-6, "the loss does not depend on the parameters along this direction"
    assert abs(slope - difference) <= tolerance * abs(difference) + 1e-9, (slope, difference)
