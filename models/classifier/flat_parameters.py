"""Many small parameters as one vector during training: one optimiser step instead of one per tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Moves parameters into one buffer (`.vector`, with `.grad` set) and makes them views of it, until `release`.

    Optimisers that work element by element (Adam, RAdam, AdamW) give the same result on the vector. backward() adds
    into `.vector.grad`, so it must be zeroed before each step. All parameters share one dtype and one device.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.parameters = list(parameters)
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self.parameters]))
        self.vector.grad = torch.zeros_like(self.vector)
        values, grads = self._views(self.vector.data), self._views(self.vector.grad)
        for p, value, grad in zip(self.parameters, values, grads, strict=True):
            p.data, p.grad = value, grad

    def release(self) -> None:
        """Give every parameter its own storage again, with the current values and without a gradient."""
        for p in self.parameters:
            p.data, p.grad = p.data.clone(), None

    def _views(self, vector: Tensor) -> list[Tensor]:
        pieces = vector.split([p.numel() for p in self.parameters])
        return [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]
