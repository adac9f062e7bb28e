"""Signal tokens from overlapping strided convolutions.

Shapes: B batch, L steps, C channels, N tokens, d width.
"""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ModelError

NormFactory = Callable[[int], nn.Module]  # width -> a norm for (rows, width) and, for BatchNorm, for (B, width, steps)


class ConvTokens(nn.Module):
    """(B, L, C) -> (B, N, d), N = ceil(L / stride) <= max_tokens.

    layers 1: one linear convolution whose kernels overlap by half, so that every token also sees beyond its edges.
    layers 2, 3, ...: that many convolutions of `kernel` steps, each followed by a norm and GELU; the product of their strides
    is `stride`, and all but the last are d/2 wide.
    Raises ModelError if layers, max_tokens or kernel are below 1.
    """

    def __init__(self, n_channels: int, length: int, dim: int, max_tokens: int, layers: int = 1, kernel: int = 7,
                 norm: str = "batch", make_norm: NormFactory = nn.BatchNorm1d):
        super().__init__()
        if min(max_tokens, layers, kernel) < 1:
            raise ModelError("The signal model's max_tokens, conv_layers and conv_kernel must be 1 or more.")
        self.strides = layer_strides(math.ceil(length / max_tokens), layers)
        self.stride = math.prod(self.strides)
        self.n_tokens = math.ceil(length / self.stride)
        self.plain = layers == 1
        widths = [n_channels, *[max(dim // 2, 1)] * (layers - 1), dim]
        kernels = [2 * self.stride] if self.plain else [max(kernel, stride) for stride in self.strides]
        self.overlaps = [k - stride for k, stride in zip(kernels, self.strides, strict=True)]
        self.convs = nn.ModuleList(nn.Conv1d(a, b, k, s, bias=self.plain) for a, b, k, s in
                                   zip(widths, widths[1:], kernels, self.strides, strict=False))
        self.norms = nn.ModuleList(make_norm(width) for width in ([] if self.plain else widths[1:]))
        self.over_channels = norm == "layer"

    def forward(self, x_BLC: Tensor) -> Tensor:
        x_BCL = F.pad(x_BLC.transpose(1, 2), (0, self.n_tokens * self.stride - x_BLC.shape[1]))
        for i, (conv, beside) in enumerate(zip(self.convs, self.overlaps, strict=True)):
            x_BCL = conv(F.pad(x_BCL, (beside // 2, beside - beside // 2)))
            if not self.plain:
                x_BCL = F.gelu(self._norm(self.norms[i], x_BCL))
        return x_BCL.transpose(1, 2)

    def _norm(self, norm: nn.Module, x_BCL: Tensor) -> Tensor:
        return norm(x_BCL.transpose(1, 2)).transpose(1, 2) if self.over_channels else norm(x_BCL)


def layer_strides(stride: int, layers: int) -> tuple[int, ...]:
    """Strides that are as equal as whole numbers allow, the larger ones first; their product is at least `stride`."""
    found = []
    for left in range(layers, 0, -1):
        found.append(math.ceil(round(stride ** (1 / left), 9)))
        stride = math.ceil(stride / found[-1])
    return tuple(found)
