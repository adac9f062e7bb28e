"""How good a masked reconstruction is: against the simplest guess, the mean of what is visible.

Shapes: B batch, N tokens, M masked, P values of a tubelet.
"""

import torch
from torch import Tensor

from models.video_mae import VideoMAE, take


@torch.no_grad()
def against_visible_mean(mae: VideoMAE, video: Tensor, visible_mask: Tensor) -> tuple[float, float]:
    """(mean squared error over masked pixels, that of predicting each clip's visible mean of each colour).

    video (B,3,T,H,W) in [0,1], visible_mask (B,N); pixels are raw whatever norm_target says, so both are in one unit.
    Raises ValueError for a model whose target is standardised: its errors are in another.
    """
    if mae.norm_target:
        raise ValueError("errors of a standardised target cannot be held against pixels")
    pixels = mae.tubelets(video)
    visible, masked = mae.split(visible_mask)
    target = take(pixels, masked)
    mean_B3 = take(pixels, visible).unflatten(-1, (3, -1)).mean((1, 3))
    guess = mean_B3[:, None, :, None].expand_as(target.unflatten(-1, (3, -1))).flatten(-2)
    painted = mae.reconstruct(video, visible_mask)
    return float((painted - target).square().mean()), float((guess - target).square().mean())
