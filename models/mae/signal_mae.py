"""The signal masked autoencoder: the paper's E_ts and D_ts ("Time series model", Fig. 6B, Eq. 7).

Shapes: B batch, L steps, C channels, N tokens (L, or at most 50 with the convolution tokeniser), d width.
keep (B,L) bool is the key padding mask: true = a sample, false = padding. unmasked (B,L,C) bool is the MAE mask.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ModelError
from models.mae.conv_tokens import ConvTokens, NormFactory
from models.mae.positions import sincos_table

MAX_CONV_TOKENS = 50


class SignalLayer(nn.Module):
    """Post-norm transformer layer of Zerveas et al. 2021 (mvts): x = norm(x + attention), x = norm(x + GELU MLP)."""

    def __init__(self, dim: int, heads: int, ff: int, norm: NormFactory, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.linear1 = nn.Linear(dim, ff)
        self.linear2 = nn.Linear(ff, dim)
        self.norm1 = norm(dim)
        self.norm2 = norm(dim)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)

    def split(self, x_BNd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v, each (B,heads,N,d/heads)."""
        B, N, d = x_BNd.shape
        q, k, v = self.qkv(x_BNd).view(B, N, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def weights(self, x_BNd: Tensor, key_mask: Tensor | None) -> Tensor:
        """The attention weights (B,heads,N,N), rows sum to 1: only for attention maps."""
        q, k, _ = self.split(x_BNd)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return (scores if key_mask is None else scores.masked_fill(~key_mask, -math.inf)).softmax(-1)

    def forward(self, x_BNd: Tensor, key_mask: Tensor | None) -> Tensor:
        """(B,N,d); key_mask (B,1,1,N) bool, true = may be attended to."""
        q, k, v = self.split(x_BNd)
        p = self.dropout if self.training else 0.0
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask, dropout_p=p)
        a = self.proj(a.transpose(1, 2).reshape(x_BNd.shape))
        x_BNd = self._norm(self.norm1, x_BNd + F.dropout(a, p))
        y = self.linear2(F.dropout(F.gelu(self.linear1(x_BNd)), p))
        return self._norm(self.norm2, x_BNd + F.dropout(y, p))

    @staticmethod
    def _norm(norm: nn.Module, x: Tensor) -> Tensor:
        # As rows: BatchNorm then uses every step of every sample, including padding (as in the reference).
        return norm(x.reshape(-1, x.shape[-1])).view(x.shape)


class SignalMAE(nn.Module):
    """A transformer encoder over time steps, and a decoder that reconstructs the masked points.

    norm: "batch" (over batch and steps; as in the paper's source) or "layer" (recommended below 16 samples per batch).
    batch_norm: the class of the "batch" norm; a distributed run passes its own.
    pos: "fixed" sine-cosine, "learnt" or "none". decoder: "transformer" (D_ts: decoder_depth layers and a linear
    map) or "linear" (GELU and a linear map, as released).
    tokenizer: "step": one token per time step; "conv": strided-convolution tokens, at most max_tokens per window; the decoder
    maps each of them back to its segment of samples (conv_layers, conv_kernel: models.mae.conv_tokens).

    Raises ModelError for an unknown option or heads that do not divide dim.
    """

    def __init__(
        self,
        n_channels: int,
        length: int,
        dim: int = 64,
        depth: int = 3,
        heads: int = 8,
        ff: int = 128,
        norm: str = "batch",
        pos: str = "fixed",
        decoder: str = "transformer",
        decoder_depth: int = 3,
        tokenizer: str = "step",
        max_tokens: int = MAX_CONV_TOKENS,
        conv_layers: int = 1,
        conv_kernel: int = 7,
        dropout: float = 0.0,
        batch_norm: NormFactory = nn.BatchNorm1d,
    ):
        super().__init__()
        _choose("norm", norm, ("batch", "layer"))
        _choose("pos", pos, ("fixed", "learnt", "none"))
        _choose("decoder", decoder, ("transformer", "linear"))
        _choose("tokenizer", tokenizer, ("step", "conv"))
        if dim % heads:
            raise ModelError(f"The signal model's width {dim} is not divisible by {heads} heads: change one of them.")
        self.n_channels, self.length, self.dim, self.dropout = n_channels, length, dim, dropout
        make_norm: NormFactory = batch_norm if norm == "batch" else nn.LayerNorm
        self.embed: nn.Module
        if tokenizer == "conv":
            self.embed = ConvTokens(n_channels, length=length, dim=dim, max_tokens=max_tokens, layers=conv_layers,
                                    kernel=conv_kernel, norm=norm, make_norm=make_norm)
            self.stride, self.n_tokens = self.embed.stride, self.embed.n_tokens
        else:
            self.embed, self.stride, self.n_tokens = nn.Linear(n_channels, dim), 1, length
        # the output of a linear map starts near 0 and is scaled to the size of the positions; that of a norm has this size
        self.gain = 1.0 if tokenizer == "conv" and conv_layers > 1 else math.sqrt(dim)
        self.positions: Tensor | None
        if pos == "learnt":
            self.positions = nn.Parameter(torch.empty(self.n_tokens, dim).uniform_(-0.02, 0.02))
        else:
            table = sincos_table(self.n_tokens, dim) if pos == "fixed" else None
            self.register_buffer("positions", table)
        self.layers = nn.ModuleList([SignalLayer(dim, heads, ff, make_norm, dropout) for _ in range(depth)])
        n_decoder = decoder_depth if decoder == "transformer" else 0
        self.decoder = nn.ModuleList([SignalLayer(dim, heads, ff, make_norm, dropout) for _ in range(n_decoder)])
        self.linear_decoder = decoder == "linear"
        self.head = nn.Linear(dim, n_channels * self.stride)

    def encode(self, x_BLC: Tensor, keep: Tensor | None = None) -> Tensor:
        """z_ts: (B,L,C), key padding mask keep (B,L) -> (B,N,d), before any head."""
        return self._run(self.layers, self.embedded(x_BLC, keep), keep)

    def embedded(self, x_BLC: Tensor, keep: Tensor | None = None) -> Tensor:
        """The input of the first layer: scaled tokens plus positional encoding. (B,N,d)."""
        self._check(x_BLC, keep)
        x = self.embed(x_BLC) * self.gain
        if self.positions is not None:
            x = x + self.positions
        return F.dropout(x, self.dropout, self.training)

    def reconstruct(self, x_BLC: Tensor, unmasked: Tensor, keep: Tensor | None = None) -> Tensor:
        """x with the points where unmasked (B,L,C) is false set to 0, encoded and decoded: (B,L,C)."""
        return self.decode(self.encode(x_BLC * unmasked, keep), keep)

    def decode(self, z_BNd: Tensor, keep: Tensor | None = None) -> Tensor:
        """D_ts: tokens (B,N,d) -> samples (B,L,C)."""
        z = F.gelu(z_BNd) if self.linear_decoder else self._run(self.decoder, z_BNd, keep)
        y = self.head(F.dropout(z, self.dropout, self.training))
        return y.reshape(len(y), self.n_tokens * self.stride, self.n_channels)[:, : self.length]

    def token_keep(self, keep: Tensor) -> Tensor:
        """The key padding mask of the tokens, (B,L) -> (B,N): a token is kept if any of its samples is."""
        if self.stride == 1:
            return keep
        padded = F.pad(keep, (0, self.n_tokens * self.stride - self.length))
        return padded.view(len(keep), self.n_tokens, self.stride).any(-1)

    def key_mask(self, keep: Tensor | None) -> Tensor | None:
        """keep (B,L) in the shape that the layers need: (B,1,1,N)."""
        return None if keep is None else self.token_keep(keep)[:, None, None, :]

    def _run(self, layers: nn.ModuleList, x: Tensor, keep: Tensor | None) -> Tensor:
        key_mask = self.key_mask(keep)
        for layer in layers:
            x = layer(x, key_mask)
        return x

    def _check(self, x: Tensor, keep: Tensor | None) -> None:
        if x.shape[1:] != (self.length, self.n_channels):
            raise ValueError(f"signals must be (B,{self.length},{self.n_channels}), got {tuple(x.shape)}")
        if keep is not None and (keep.shape != x.shape[:2] or keep.dtype != torch.bool):
            raise ValueError(f"keep must be bool {tuple(x.shape[:2])}, got {keep.dtype} {tuple(keep.shape)}")


def _choose(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(f"The signal model's {option} cannot be {value!r}; choose one of: {', '.join(allowed)}.")
