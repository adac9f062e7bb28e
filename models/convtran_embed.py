"""ConvTran's convolutional embedding, plain and in channel chunks (paper: HPA's input embedding).

Shapes: B batch, N tokens, C input channels, M filters, K kernel taps, E embedding width.

    GELU(BN(collapse(GELU(BN(conv(x))))))     conv: 1 -> M along the tokens, shared by all channels; collapse: M C -> E

Written plainly the (B, M, C, N) map between the two convolutions is kept three times for the backward pass, about
460 MB for one sample of 1,568 x 384. `impl="fused"` never holds it: the first BatchNorm's statistics follow from the
mean and the K x K second moments of the shifted input, so normalisation folds into the filter, and the map is made,
used and dropped a few channels at a time, again in the backward pass.
"""

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# bytes of one chunk's map: small enough to stay in a core's cache, large enough to make the matrix products worth it
CHUNK_BYTES = int(os.environ.get("DUALPAIN_EMBED_CHUNK_BYTES", 4 << 20))


def taps(x_BCN: Tensor, kernel: int) -> Tensor:
    """Zero-padded shifts, as 'same' padding has them: (B, C, N) -> (B, C, K, N), row k is x[n + k - (K-1)//2]."""
    left = (kernel - 1) // 2
    padded = F.pad(x_BCN, (left, kernel - 1 - left))
    return padded.unfold(-1, x_BCN.shape[-1], 1)


class TapMoments(torch.autograd.Function):
    """Mean (K,) and second moments (K, K) of the taps over batch, channels and tokens; sums are kept in float64."""

    @staticmethod
    def forward(ctx: Any, x_BCN: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
        first_K = x_BCN.new_zeros(kernel, dtype=torch.float64)
        second_KK = x_BCN.new_zeros(kernel, kernel, dtype=torch.float64)
        for x_CN in x_BCN:
            tap_CKN = taps(x_CN[None], kernel)[0].double()
            first_K += tap_CKN.sum((0, 2))
            tap_KP = tap_CKN.transpose(0, 1).reshape(kernel, -1)
            second_KK += tap_KP @ tap_KP.t()
        ctx.save_for_backward(x_BCN)
        ctx.kernel = kernel
        return first_K / x_BCN.numel(), second_KK / x_BCN.numel()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        d_first_K, d_second_KK = grads
        (x_BCN,) = ctx.saved_tensors
        weight_KK = ((d_second_KK + d_second_KK.t()) / x_BCN.numel()).to(x_BCN.dtype)
        shift_K = (d_first_K / x_BCN.numel()).to(x_BCN.dtype)
        d_tap_BCKN = weight_KK @ taps(x_BCN, ctx.kernel) + shift_K[:, None]
        return untap(d_tap_BCKN), None


def untap(d_tap: Tensor) -> Tensor:
    """The transpose of `taps`: (..., K, N) -> (..., N)."""
    kernel, n_tokens = d_tap.shape[-2:]
    left = (kernel - 1) // 2
    padded = d_tap.new_zeros(*d_tap.shape[:-2], n_tokens + kernel - 1)
    for k in range(kernel):
        padded[..., k : k + n_tokens] += d_tap[..., k, :]
    return padded[..., left : left + n_tokens]


class ChunkedConvCollapse(torch.autograd.Function):
    """collapse(GELU(conv(x))) without the map: (B,C,N), (M,K), (M,), (E,C*M) -> (B,E,N). Saves its inputs only."""

    @staticmethod
    def forward(ctx: Any, x_BCN: Tensor, filter_MK: Tensor, bias_M: Tensor, collapse_EP: Tensor, chunk: int) -> Tensor:
        n_batch, n_channels, n_tokens = x_BCN.shape
        n_filters, kernel = filter_MK.shape
        out_BEN = x_BCN.new_zeros(n_batch, collapse_EP.shape[0], n_tokens)
        for b in range(n_batch):
            for c in range(0, n_channels, chunk):
                map_CMN = convolve(x_BCN[b, c : c + chunk], filter_MK, bias_M)
                weight_EP = collapse_EP[:, c * n_filters : (c + chunk) * n_filters]
                out_BEN[b].addmm_(weight_EP, F.gelu(map_CMN).flatten(0, 1))
        ctx.save_for_backward(x_BCN, filter_MK, bias_M, collapse_EP)
        ctx.chunk = chunk
        return out_BEN

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, None]:
        d_out_BEN = grads[0].contiguous()
        x_BCN, filter_MK, bias_M, collapse_EP = ctx.saved_tensors
        chunk, (n_filters, kernel) = ctx.chunk, filter_MK.shape
        need_x = ctx.needs_input_grad[0]
        d_x_BCN = torch.empty_like(x_BCN) if need_x else None
        d_filter_MK, d_bias_M = torch.zeros_like(filter_MK), torch.zeros_like(bias_M)
        d_collapse_EP = torch.zeros_like(collapse_EP)
        for b in range(x_BCN.shape[0]):
            for c in range(0, x_BCN.shape[1], chunk):
                span = slice(c * n_filters, (c + chunk) * n_filters)
                x_CN = x_BCN[b, c : c + chunk]
                map_CMN = convolve(x_CN, filter_MK, bias_M)
                d_collapse_EP[:, span].addmm_(d_out_BEN[b], F.gelu(map_CMN).flatten(0, 1).t())
                d_act_CMN = (collapse_EP[:, span].t() @ d_out_BEN[b]).view_as(map_CMN)
                d_map_CMN = torch.ops.aten.gelu_backward(d_act_CMN, map_CMN)
                tap_CKN = taps(x_CN[None], kernel)[0].contiguous()
                d_filter_MK += torch.bmm(d_map_CMN, tap_CKN.transpose(1, 2)).sum(0)
                d_bias_M += d_map_CMN.sum((0, 2))
                if d_x_BCN is not None:
                    d_x_BCN[b, c : c + chunk] = untap(filter_MK.t() @ d_map_CMN)
        return d_x_BCN, d_filter_MK, d_bias_M, d_collapse_EP, None


def convolve(x_CN: Tensor, filter_MK: Tensor, bias_M: Tensor) -> Tensor:
    """The shared filter bank over each channel with 'same' padding: (C, N), (M, K), (M,) -> (C, M, N)."""
    kernel = filter_MK.shape[1]
    left = (kernel - 1) // 2
    padded = F.pad(x_CN, (left, kernel - 1 - left))[:, None]
    return F.conv1d(padded, filter_MK[:, None], bias_M)


class ConvTranEmbedding(nn.Module):
    """(B, N, C) -> (B, N, E). `impl` "fused" (chunked) or "naive" (plain); one state dict serves both."""

    def __init__(self, in_dim: int, width: int = 16, filters: int = 64, kernel: int = 8, impl: str = "fused"):
        super().__init__()
        self.impl = impl
        self.conv = nn.Conv2d(1, filters, (1, kernel), padding="same")
        self.conv_norm = nn.BatchNorm2d(filters)
        self.collapse = nn.Conv2d(filters, width, (in_dim, 1))
        self.collapse_norm = nn.BatchNorm2d(width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        x_BCN = x_BNC.transpose(1, 2).contiguous()
        out_BEN = self._chunked(x_BCN) if self.impl == "fused" else self._plain(x_BCN)
        return F.gelu(self.collapse_norm(out_BEN[:, :, None])).squeeze(2).transpose(1, 2)

    def _plain(self, x_BCN: Tensor) -> Tensor:
        map_BMCN = F.gelu(self.conv_norm(self.conv(x_BCN[:, None])))
        return self.collapse(map_BMCN).squeeze(2)

    def _chunked(self, x_BCN: Tensor) -> Tensor:
        n_filters, n_tokens = self.conv.out_channels, x_BCN.shape[2]
        filter_MK, bias_M = self._folded(x_BCN)
        collapse_EP = self.collapse.weight.squeeze(3).transpose(1, 2).flatten(1)  # (E, C, M) with M fastest
        chunk = max(1, CHUNK_BYTES // (n_filters * n_tokens * x_BCN.element_size()))
        out_BEN = ChunkedConvCollapse.apply(x_BCN, filter_MK, bias_M, collapse_EP, chunk)
        assert self.collapse.bias is not None
        return out_BEN + self.collapse.bias[:, None]

    def _folded(self, x_BCN: Tensor) -> tuple[Tensor, Tensor]:
        """Filter and bias with the first BatchNorm multiplied in: (M, K), (M,). Updates its running statistics."""
        norm = self.conv_norm
        filter_MK = self.conv.weight.flatten(1)
        assert self.conv.bias is not None and norm.running_mean is not None and norm.running_var is not None
        if self.training:
            mean_K, second_KK = TapMoments.apply(x_BCN, filter_MK.shape[1])
            wide_MK = filter_MK.double()
            centred_KK = second_KK - mean_K[:, None] * mean_K
            var_M = ((wide_MK @ centred_KK) * wide_MK).sum(1)
            mean_M = wide_MK @ mean_K + self.conv.bias.double()
            self._track(mean_M.detach(), var_M.detach(), x_BCN.numel())
        else:
            mean_M, var_M = norm.running_mean.double(), norm.running_var.double()
        scale_M = norm.weight.double() * (var_M + norm.eps).rsqrt()
        bias_M = norm.bias.double() + (self.conv.bias.double() - mean_M) * scale_M
        return (filter_MK.double() * scale_M[:, None]).to(x_BCN.dtype), bias_M.to(x_BCN.dtype)

    @torch.no_grad()
    def _track(self, mean_M: Tensor, var_M: Tensor, count: int) -> None:
        norm = self.conv_norm
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean_M.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((var_M * count / max(count - 1, 1)).to(norm.running_var.dtype), norm.momentum)
