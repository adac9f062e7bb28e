"""Fixed positional encodings, separate from vit.py: so a classifier on stored tokens does not import timm (seconds)."""

import torch
from torch import Tensor


def sincos_table(length: int, dim: int) -> Tensor:
    """Fixed positional encodings (length, dim): sin on even columns, cos on odd ones, wavelengths up to 10000 (2 pi)."""
    column = torch.arange(dim, dtype=torch.float64)
    rate = 10000.0 ** (-2 * torch.div(column, 2, rounding_mode="floor") / dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()
