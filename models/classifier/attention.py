"""Attention maps of the encoders: per tubelet (Figs. 11 and 12 of the paper) and per signal token.

The authors' script draws Grad-CAM on a still image; these are the attention weights of the last block, or their rollout.
Shapes: B batch, N tokens, (t,h,w) grid, T frames, H and W pixels, L steps, C channels.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.mae.signal_mae import SignalMAE
from models.mae.video_mae import VideoMAE


def block_attention(mae: VideoMAE, video: Tensor) -> Iterator[Tensor]:
    """Attention averaged over heads, (B,N,N), of one block after the other; rows (queries) sum to 1."""
    x = mae.embed(mae.tubelets(video)) + mae.positions
    for block in mae.blocks:
        yield block.attn.weights(block.norm1(x)).mean(1)  # type: ignore[union-attr,operator]
        x = block(x)


@torch.no_grad()
def attention_map(mae: VideoMAE, video: Tensor, block: int = -1) -> Tensor:
    """How much the tokens of a clip attend to each tubelet in one block: (B,3,T,H,W) -> (B,t,h,w), sum 1.

    The average over heads and queries, as there is no class token. Raises IndexError for a block that does not exist.
    """
    wanted = range(len(mae.blocks))[block]
    for index, weights in enumerate(block_attention(mae, video)):
        if index == wanted:
            return weights.mean(1).unflatten(1, mae.cut(*video.shape[2:]))
    raise AssertionError("unreachable: range() raised for a block that does not exist")


@torch.no_grad()
def rollout(mae: VideoMAE, video: Tensor, residual: float = 0.5) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020): (B,3,T,H,W) -> (B,t,h,w), sum 1.

    Each block mixes tokens by residual I + (1 - residual) A; the map is the mean over the rows of the product of all
    blocks: how much each tubelet of the input contributes to the output.
    """
    product: Tensor | None = None
    for weights in block_attention(mae, video):
        mixed = (1 - residual) * weights
        mixed.diagonal(dim1=1, dim2=2).add_(residual)
        product = mixed if product is None else mixed @ product
    assert product is not None
    return product.mean(1).unflatten(1, mae.cut(*video.shape[2:]))


def per_pixel(map_Bthw: Tensor, mae: VideoMAE) -> Tensor:
    """A map at the size of its clip: (B,t,h,w) -> (B,T,H,W), the value of each tubelet on all of its pixels."""
    over_time = map_Bthw.repeat_interleave(mae.tubelet, 1)
    return over_time.repeat_interleave(mae.patch, 2).repeat_interleave(mae.patch, 3)


@torch.no_grad()
def signal_map(mae: SignalMAE, x_BLC: Tensor, keep: Tensor | None = None, block: int = -1) -> Tensor:
    """How much the tokens of a signal (without padding) attend to each token in one block: (B,L,C) -> (B,N), sum 1.

    keep (B,L): key padding mask, true = a sample, false = padding."""
    wanted = range(len(mae.layers))[block]
    x, key_mask = mae.embedded(x_BLC, keep), mae.key_mask(keep)
    for layer in list(mae.layers)[:wanted]:
        x = layer(x, key_mask)
    weights = mae.layers[wanted].weights(x, key_mask).mean(1)  # type: ignore[operator]
    if keep is None:
        return weights.mean(1)
    real = mae.token_keep(keep).to(weights.dtype)
    return (weights * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
