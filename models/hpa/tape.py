"""tAPE, the time absolute position encoding of ConvTran (paper: HPA, "temporal absolute position encoding").

Shapes: B batch, N tokens, E embedding width.
"""

import math

import torch
from torch import Tensor, nn


def tape_table(n_tokens: int, width: int) -> Tensor:
    """The (N, E) table sin/cos(position * w_k * E / N), w_k = 10000^(-2k/E); computed in float64, kept in float32.

    The factor E / N adapts the usual encoding to the length: neighbours stay distinguishable when N is close to E.
    An odd width drops the last cosine.
    """
    if n_tokens < 1 or width < 1:
        raise ValueError(f"tape_table needs at least one token and one column, got {n_tokens} x {width}")
    position_N1 = torch.arange(n_tokens, dtype=torch.float64)[:, None]
    rate_K = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    angle_NK = position_N1 * rate_K * (width / n_tokens)
    table_NE = torch.zeros(n_tokens, width, dtype=torch.float64)
    table_NE[:, 0::2] = torch.sin(angle_NK)
    table_NE[:, 1::2] = torch.cos(angle_NK)[:, : width // 2]
    return table_NE.float()


class TAPE(nn.Module):
    """Adds the fixed tAPE table, then dropout: (B, N, E) -> (B, N, E). No parameters or saved state."""

    table: Tensor

    def __init__(self, n_tokens: int, width: int, dropout: float = 0.0):
        super().__init__()
        self.register_buffer("table", tape_table(n_tokens, width), persistent=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNE: Tensor) -> Tensor:
        return self.dropout(x_BNE + self.table.to(x_BNE.dtype))
