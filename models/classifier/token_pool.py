"""Optional mean pooling of the frozen video tokens: faster, but not equivalent (the paper uses all 1,568).

Shapes: B batch, N tokens in raster order (t, h, w), D width.
"""

from typing import Literal

from torch import Tensor, nn

PoolKind = Literal["none", "2x2", "temporal"]


class TokenPool(nn.Module):
    """(B, N, D) -> (B, N', D): "none" keeps all, "2x2" averages 2 x 2 cells in space, "temporal" all cells of a time slice.

    Tokens that are already pooled are returned unchanged, so that a training loop may pool them once.
    """

    def __init__(self, grid: tuple[int, int, int], kind: PoolKind = "none"):
        super().__init__()
        t, h, w = self.grid = (int(grid[0]), int(grid[1]), int(grid[2]))
        if kind not in ("none", "2x2", "temporal"):
            raise ValueError(f"unknown token pooling: {kind!r}")
        if kind == "2x2" and (h % 2 or w % 2):
            raise ValueError(f"2x2 pooling needs an even grid, got {h} x {w}")
        self.kind, self.n_all = kind, t * h * w
        self.n_tokens = {"none": t * h * w, "2x2": t * h * w // 4, "temporal": t}[kind]

    def forward(self, x_BND: Tensor) -> Tensor:
        n_batch, n_tokens, dim = x_BND.shape
        if n_tokens == self.n_tokens:
            return x_BND
        if n_tokens != self.n_all:
            raise ValueError(f"expected {self.n_all} or {self.n_tokens} tokens, got {n_tokens}")
        t, h, w = self.grid
        if self.kind == "temporal":
            return x_BND.view(n_batch, t, h * w, dim).mean(2)
        return x_BND.view(n_batch, t, h // 2, 2, w // 2, 2, dim).mean((3, 5)).flatten(1, 3)
