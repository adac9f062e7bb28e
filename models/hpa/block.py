"""HPA, the hybrid positional attention block: the block of ConvTran without its head (paper: "HPA", Algorithm 1, Table 4).

Shapes: B batch, N tokens, C input width, E embedding width.

Default, as in the released code:   e = embed(x);  a = LN(e + eRPE(tAPE(e)));  z = LN(a + FFN(a))
As printed in Algorithm 1:  order="tape_then_embed", residual=False:  z = LN(FFN(eRPE(embed(tAPE(x)))))
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from models.hpa.convtran_embed import ConvTranEmbedding, pad_same
from models.hpa.erpe import ERPEAttention
from models.hpa.tape import TAPE


class Conv1dEmbedding(nn.Module):
    """An ordinary convolution over the token axis, BatchNorm, GELU: (B, N, C) -> (B, N, E)."""

    def __init__(self, in_dim: int, width: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv1d(in_dim, width, kernel)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(pad_same(x_BNC.transpose(1, 2), self.conv.kernel_size[0])))).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear, ReLU, dropout, Linear, dropout."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )


class HPA(nn.Module):
    """(B, length, in_dim) -> (B, length, emb).

    impl    "fused" | "naive": affects only speed and memory, one state dict is valid for both
    embed   "convtran" | "linear" | "conv1d"
    order   "embed_then_tape" | "tape_then_embed";  residual  True | False
    erpe    "post_softmax" | "pre_softmax"
    Raises ValueError on an unknown option and on a token count other than `length`.
    """

    def __init__(
        self,
        in_dim: int,
        length: int,
        impl: Literal["fused", "naive"] = "fused",
        emb: int = 16,
        heads: int = 8,
        ff: int = 256,
        filters: int = 64,
        kernel: int = 8,
        embed: Literal["convtran", "linear", "conv1d"] = "convtran",
        order: Literal["embed_then_tape", "tape_then_embed"] = "embed_then_tape",
        residual: bool = True,
        erpe: Literal["post_softmax", "pre_softmax"] = "post_softmax",
        dropout: float = 0.01,
    ):
        super().__init__()
        self.in_dim, self.length, self.emb, self.residual = in_dim, length, emb, residual
        if order not in ("embed_then_tape", "tape_then_embed"):
            raise ValueError(f"unknown order: {order!r}")
        self.tape_first = order == "tape_then_embed"
        self.tape = TAPE(length, in_dim if self.tape_first else emb, dropout)
        self.embed: nn.Module
        if embed == "convtran":
            self.embed = ConvTranEmbedding(in_dim, emb, filters, kernel, impl)
        elif embed == "linear":
            self.embed = nn.Linear(in_dim, emb)
        elif embed == "conv1d":
            self.embed = Conv1dEmbedding(in_dim, emb, kernel)
        else:
            raise ValueError(f"unknown embedding: {embed!r}")
        self.attention = ERPEAttention(emb, length, heads, impl, erpe)
        self.attention_norm = nn.LayerNorm(emb) if residual else nn.Identity()
        self.feed_forward = FeedForward(emb, ff, dropout)
        self.norm = nn.LayerNorm(emb)

    def forward(self, x_BNC: Tensor) -> Tensor:
        if x_BNC.shape[1:] != (self.length, self.in_dim):
            raise ValueError(f"HPA was built for (B, {self.length}, {self.in_dim}), got {tuple(x_BNC.shape)}")
        if self.tape_first:
            e_BNE = coded_BNE = self.embed(self.tape(x_BNC))
        else:
            e_BNE = self.embed(x_BNC)
            coded_BNE = self.tape(e_BNE)
        a_BNE = self.attention(coded_BNE)
        if not self.residual:
            return self.norm(self.feed_forward(a_BNE))
        a_BNE = self.attention_norm(e_BNE + a_BNE)
        return self.norm(a_BNE + self.feed_forward(a_BNE))
