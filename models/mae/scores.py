"""The error of a masked reconstruction, compared with a simple baseline: the mean of the visible values.

Shapes: B batch, N tokens, M masked, P values of a tubelet, L steps, C channels. Errors are mean squared errors over the
masked values, in the units of the target: of pixels in [0,1], of standardised tubelets (norm_target), or of the scaled signals.
"""

import torch
from torch import Tensor

from models.mae.signal_mae import SignalMAE
from models.mae.video_mae import VideoMAE, take


@torch.no_grad()
def against_visible_mean(mae: VideoMAE, video: Tensor, visible_mask: Tensor) -> tuple[float, float]:
    """(error of the reconstruction, error of predicting the mean of each colour over the visible part of each clip).

    video (B,3,T,H,W) in [0,1], visible_mask (B,N). With norm_target the visible mean is 0 and its error about 1 for
    all clips: then the ratio does not refer to pixels.
    """
    pixels = mae.tubelets(video)
    visible, masked = mae.split(visible_mask)
    values = mae.target(pixels)
    target = take(values, masked)
    mean_B3 = take(values, visible).unflatten(-1, (3, -1)).mean((1, 3))
    guess = mean_B3[:, None, :, None].expand_as(target.unflatten(-1, (3, -1))).flatten(-2)
    predicted = mae.reconstruct(video, visible_mask)
    return float((predicted - target).square().mean()), float((guess - target).square().mean())


@torch.no_grad()
def signal_against_visible_mean(mae: SignalMAE, signals: Tensor, unmasked: Tensor) -> tuple[float, float]:
    """(error of the reconstruction, error of predicting the visible mean of each channel of a window, or 0 if none is visible).

    signals (B,L,C) without padding, unmasked (B,L,C) bool.
    """
    hidden = ~unmasked
    mean_B1C = (signals * unmasked).sum(1, keepdim=True) / unmasked.sum(1, keepdim=True).clamp_min(1)
    predicted = mae.reconstruct(signals, unmasked)
    return float((predicted - signals)[hidden].square().mean()), float((mean_B1C - signals)[hidden].square().mean())
