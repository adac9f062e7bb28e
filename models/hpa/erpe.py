"""eRPE attention: softmax attention plus one learnt scalar per head and offset (ConvTran; paper Algorithm 1, line a).

Shapes: B batch, N tokens, E embedding width, H heads, D head width (E / H).

    out_i = sum_j [ softmax_j(q_i k_j E^-0.5) + w_(i-j) ] v_j          (erpe = "post_softmax", rows do not sum to 1)

The bias is added after the softmax, so the sum splits exactly into standard attention, for which fused kernels exist, and
a Toeplitz product, which is a convolution. `impl="fused"` uses this and never stores an N x N tensor.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def toeplitz_product(bias_OH: Tensor, v_BHND: Tensor) -> Tensor:
    """sum_j w_(i-j) v_j for every head, by FFT in O(N log N): (2N-1, H), (B, H, N, D) -> (B, H, N, D).

    Row o of `bias_OH` is offset i - j = o - (N - 1). Computed in float32 or wider: narrower inputs are converted to float32.
    """
    n_tokens = v_BHND.shape[-2]
    if bias_OH.shape[0] != 2 * n_tokens - 1:
        raise ValueError(f"{n_tokens} tokens need {2 * n_tokens - 1} offsets, the table has {bias_OH.shape[0]}")
    dtype = v_BHND.dtype
    if dtype in (torch.float16, torch.bfloat16):
        v_BHND = v_BHND.float()
    n_fft = fast_length(2 * n_tokens - 1)
    bias_HO = bias_OH.to(v_BHND.dtype).t()
    # circulant embedding: offsets 0..N-1 first, zeros, then offsets -(N-1)..-1 at the end (they wrap around)
    first, last = bias_HO[:, n_tokens - 1 :], bias_HO[:, : n_tokens - 1]
    padding = bias_HO.new_zeros(bias_HO.shape[0], n_fft - (2 * n_tokens - 1))
    spectrum_HF = torch.fft.rfft(torch.cat([first, padding, last], dim=-1))
    v_BHDN = v_BHND.transpose(-1, -2)
    out_BHDN = torch.fft.irfft(torch.fft.rfft(v_BHDN, n=n_fft) * spectrum_HF[:, None], n=n_fft)[..., :n_tokens]
    return out_BHDN.transpose(-1, -2).to(dtype)


def attend(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, scale: float, multiple: int = 1) -> Tensor:
    """softmax(q k^T scale) v by the fused kernel, with the head width zero-padded to a multiple of `multiple`.

    Zeros change neither scores nor values; the kernels without an N x N tensor need this padding: see `head_multiple`.
    """
    width = v_BHND.shape[-1]
    if width % multiple:
        q_BHND, k_BHND, v_BHND = (F.pad(x, (0, -width % multiple)) for x in (q_BHND, k_BHND, v_BHND))
    return F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, scale=scale)[..., :width]


def head_multiple(device: torch.device) -> int:
    """CUDA's memory-efficient kernels need head widths in multiples of 16 bytes; those of HPA are 2 wide (16 / 8 heads)."""
    return 8 if device.type == "cuda" else 1


def fast_length(n: int) -> int:
    """The smallest even length >= n whose prime factors are 2, 3 and 5."""
    size = n + n % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def bias_matrix(bias_OH: Tensor) -> Tensor:
    """The bias as a full matrix, entry (i, j) from offset i - j: (2N-1, H) -> (H, N, N)."""
    n_tokens = (bias_OH.shape[0] + 1) // 2
    position = torch.arange(n_tokens, device=bias_OH.device)
    offset_P = (position[:, None] - position + n_tokens - 1).flatten()
    return bias_OH.t().gather(1, offset_P.expand(bias_OH.shape[1], -1)).unflatten(1, (n_tokens, n_tokens))


class ERPEAttention(nn.Module):
    """Multi-head attention with eRPE and a LayerNorm instead of an output projection: (B, N, E) -> (B, N, E).

    The scale is E^-0.5, as in the reference, not D^-0.5. `impl` affects only speed and memory; both use the same
    parameters. `erpe="pre_softmax"` adds the bias to the scores: then the bias is stored as an (H, N, N) tensor also with
    `fused`, which passes it to the fused kernel.
    """

    def __init__(
        self,
        width: int,
        n_tokens: int,
        heads: int = 8,
        impl: Literal["fused", "naive"] = "fused",
        erpe: Literal["post_softmax", "pre_softmax"] = "post_softmax",
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        if impl not in ("fused", "naive") or erpe not in ("post_softmax", "pre_softmax"):
            raise ValueError(f"unknown attention: impl={impl!r}, erpe={erpe!r}")
        self.n_tokens, self.heads, self.impl, self.erpe, self.scale = n_tokens, heads, impl, erpe, width**-0.5
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.relative_bias = nn.Parameter(torch.zeros(2 * n_tokens - 1, heads))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BNE: Tensor) -> Tensor:
        if x_BNE.shape[1] != self.n_tokens:
            raise ValueError(f"built for {self.n_tokens} tokens, got {x_BNE.shape[1]}")
        q, k, v = (self._split(p(x_BNE)) for p in (self.query, self.key, self.value))
        attend = self._fused if self.impl == "fused" else self._naive
        out_BHND = attend(q, k, v)
        return self.norm(out_BHND.transpose(1, 2).flatten(2))

    def _split(self, x_BNE: Tensor) -> Tensor:
        return x_BNE.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _fused(self, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        if self.erpe == "pre_softmax":
            bias_HNN = bias_matrix(self.relative_bias.to(q_BHND.dtype))
            return F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, bias_HNN, scale=self.scale)
        attended = attend(q_BHND, k_BHND, v_BHND, self.scale, head_multiple(q_BHND.device))
        return attended + toeplitz_product(self.relative_bias, v_BHND)

    def _naive(self, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        """The formula as written, with its N x N matrices: the reference for the fused form."""
        bias_HNN = bias_matrix(self.relative_bias.to(q_BHND.dtype))
        score_BHNN = q_BHND @ k_BHND.transpose(-1, -2) * self.scale
        if self.erpe == "pre_softmax":
            return (score_BHNN + bias_HNN).softmax(-1) @ v_BHND
        return (score_BHNN.softmax(-1) + bias_HNN) @ v_BHND
