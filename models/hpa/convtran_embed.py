"""The convolutional embedding of ConvTran, plain and in channel chunks (paper: input embedding of HPA).

Shapes: B batch, N tokens, C input channels, M filters, K kernel taps, E embedding width.

    GELU(BN(collapse(GELU(BN(conv(x))))))     conv: 1 -> M along the tokens, shared by all channels; collapse: M C -> E

In the plain form the (B, M, C, N) map between the two convolutions is stored three times for the backward pass, about
460 MB for one sample of 1,568 x 384. `impl="fused"` never stores it: the statistics of the first BatchNorm follow from the
mean and the K x K second moments of the shifted input, so the normalisation is merged into the filter, and the map is
computed and used for a few channels at a time, and computed again in the backward pass.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Size of the map of one chunk in bytes: on a CPU it fits the cache of a core, on an accelerator it keeps all cores busy.
CHUNK_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}


def pad_same(x: Tensor, kernel: int) -> Tensor:
    """Zero padding of the last axis, so that K taps keep its length; for an even K the extra zero is on the right."""
    left = (kernel - 1) // 2
    return F.pad(x, (left, kernel - 1 - left))


def taps(x_BCN: Tensor, kernel: int) -> Tensor:
    """Zero-padded shifts, as 'same' padding has them: (B, C, N) -> (B, C, K, N), row k is x[n + k - (K-1)//2]."""
    return pad_same(x_BCN, kernel).unfold(-1, x_BCN.shape[-1], 1)


def untap(d_tap: Tensor) -> Tensor:
    """The transpose of `taps`: (..., K, N) -> (..., N)."""
    kernel, n_tokens = d_tap.shape[-2:]
    left = (kernel - 1) // 2
    padded = d_tap.new_zeros(*d_tap.shape[:-2], n_tokens + kernel - 1)
    for k in range(kernel):
        padded[..., k : k + n_tokens] += d_tap[..., k, :]
    return padded[..., left : left + n_tokens]


def blocks(x_BCN: Tensor, n_rows: int) -> Iterator[tuple[slice, slice]]:
    """Slices of samples and of channels whose (b, c, n_rows, N) map fits in CHUNK_BYTES, or one channel of one sample.

    A block has one sample unless all channels of a sample fit.
    """
    n_batch, n_channels, n_tokens = x_BCN.shape
    room = max(1, CHUNK_BYTES.get(x_BCN.device.type, CHUNK_BYTES["cpu"]) // (n_rows * n_tokens * x_BCN.element_size()))
    n_c = min(room, n_channels)
    n_b = max(1, room // n_channels)
    for b in range(0, n_batch, n_b):
        for c in range(0, n_channels, n_c):
            yield slice(b, min(b + n_b, n_batch)), slice(c, min(c + n_c, n_channels))


class TapMoments(torch.autograd.Function):
    """Mean (K,) and second moments (K, K) of the taps over batch, channels and tokens; sums are kept in float64."""

    @staticmethod
    def forward(ctx: Any, x_BCN: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
        first_K = x_BCN.new_zeros(kernel, dtype=torch.float64)
        second_KK = x_BCN.new_zeros(kernel, kernel, dtype=torch.float64)
        for b, c in blocks(x_BCN, 2 * kernel):
            tap_PKN = taps(x_BCN[b, c].double().flatten(0, 1)[None], kernel)[0].contiguous()
            first_K += tap_PKN.sum((0, 2))
            second_KK += torch.bmm(tap_PKN, tap_PKN.transpose(1, 2)).sum(0)
        ctx.save_for_backward(x_BCN)
        ctx.kernel = kernel
        return first_K / x_BCN.numel(), second_KK / x_BCN.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_first_K: Tensor, d_second_KK: Tensor) -> tuple[Tensor, None]:
        (x_BCN,) = ctx.saved_tensors
        weight_KK = ((d_second_KK + d_second_KK.t()) / x_BCN.numel()).to(x_BCN.dtype)
        shift_K1 = (d_first_K / x_BCN.numel()).to(x_BCN.dtype)[:, None]
        d_x_BCN = torch.empty_like(x_BCN)
        for b, c in blocks(x_BCN, ctx.kernel):
            d_x_BCN[b, c] = untap(weight_KK @ taps(x_BCN[b, c], ctx.kernel) + shift_K1)
        return d_x_BCN, None


class ChunkedConvCollapse(torch.autograd.Function):
    """collapse(GELU(conv(x))) without the whole map: (B, C, N), (M, K), (M,), (E, C M) -> (B, E, N). Saves only its inputs.

    The backward pass computes each block of the map again.
    """

    @staticmethod
    def forward(ctx: Any, x_BCN: Tensor, filter_MK: Tensor, bias_M: Tensor, collapse_EP: Tensor) -> Tensor:
        n_filters = filter_MK.shape[0]
        out_BEN = x_BCN.new_zeros(x_BCN.shape[0], collapse_EP.shape[0], x_BCN.shape[2])
        for b, c in blocks(x_BCN, n_filters):
            active_bPN = F.gelu(convolve(x_BCN[b, c], filter_MK, bias_M)).flatten(1, 2)
            weight_EP = collapse_EP[:, c.start * n_filters : c.stop * n_filters]
            out_BEN[b].baddbmm_(weight_EP.expand(len(active_bPN), -1, -1), active_bPN)
        ctx.save_for_backward(x_BCN, filter_MK, bias_M, collapse_EP)
        return out_BEN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out_BEN: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        x_BCN, filter_MK, bias_M, collapse_EP = ctx.saved_tensors
        d_out_BEN = d_out_BEN.contiguous()
        n_filters, kernel = filter_MK.shape
        d_x_BCN = torch.empty_like(x_BCN) if ctx.needs_input_grad[0] else None
        d_filter_MK, d_bias_M = torch.zeros_like(filter_MK), torch.zeros_like(bias_M)
        d_collapse_EP = torch.zeros_like(collapse_EP)
        for b, c in blocks(x_BCN, n_filters):
            span = slice(c.start * n_filters, c.stop * n_filters)
            map_bcMN = convolve(x_BCN[b, c], filter_MK, bias_M)
            active_bPN = F.gelu(map_bcMN).flatten(1, 2)
            d_collapse_EP[:, span] += torch.bmm(d_out_BEN[b], active_bPN.transpose(1, 2)).sum(0)
            d_active_bcMN = (collapse_EP[:, span].t() @ d_out_BEN[b]).view_as(map_bcMN)
            d_map_bcMN = torch.ops.aten.gelu_backward(d_active_bcMN, map_bcMN)
            tap_bcNK = taps(x_BCN[b, c], kernel).transpose(2, 3).contiguous()
            d_filter_MK += (d_map_bcMN @ tap_bcNK).sum((0, 1))
            d_bias_M += d_map_bcMN.sum((0, 1, 3))
            if d_x_BCN is not None:
                d_x_BCN[b, c] = untap(filter_MK.t() @ d_map_bcMN)
        return d_x_BCN, d_filter_MK, d_bias_M, d_collapse_EP


def convolve(x_bcN: Tensor, filter_MK: Tensor, bias_M: Tensor) -> Tensor:
    """The shared filter bank over each channel with 'same' padding: (b, c, N), (M, K), (M,) -> (b, c, M, N)."""
    padded = pad_same(x_bcN, filter_MK.shape[1]).flatten(0, 1)[:, None]
    return F.conv1d(padded, filter_MK[:, None], bias_M).unflatten(0, x_bcN.shape[:2])


class ConvTranEmbedding(nn.Module):
    """(B, N, C) -> (B, N, E). `impl` "fused" (chunked) or "naive" (plain); one state dict is valid for both."""

    def __init__(self, in_dim: int, width: int = 16, filters: int = 64, kernel: int = 8, impl: str = "fused"):
        super().__init__()
        self.impl = impl
        self.conv = nn.Conv2d(1, filters, (1, kernel))
        self.conv_norm = nn.BatchNorm2d(filters)
        self.collapse = nn.Conv2d(filters, width, (in_dim, 1))
        self.collapse_norm = nn.BatchNorm2d(width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        x_BCN = x_BNC.transpose(1, 2).contiguous()
        if self.impl == "naive":
            out_BEN = self._plain(x_BCN)
        else:
            with torch.autocast(x_BCN.device.type, enabled=False):  # the map stays in the cache, so it may be float32
                out_BEN = self._chunked(x_BCN.float() if x_BCN.dtype in (torch.float16, torch.bfloat16) else x_BCN)
        return F.gelu(self.collapse_norm(out_BEN[:, :, None])).squeeze(2).transpose(1, 2)

    def _plain(self, x_BCN: Tensor) -> Tensor:
        map_BMCN = F.gelu(self.conv_norm(self.conv(pad_same(x_BCN, self.conv.kernel_size[1])[:, None])))
        return self.collapse(map_BMCN).squeeze(2)

    def _chunked(self, x_BCN: Tensor) -> Tensor:
        filter_MK, bias_M = self._folded(x_BCN)
        collapse_EP = self.collapse.weight.squeeze(3).transpose(1, 2).flatten(1)  # (E, C, M) with M fastest
        out_BEN = ChunkedConvCollapse.apply(x_BCN, filter_MK, bias_M, collapse_EP)
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
