"""Small random changes of a training batch's signals, for data sets of few people.

Shapes: B batch, L steps, C channels.
"""

import torch
from torch import Tensor


def jitter(x_BLC: Tensor, mix: float = 0.0, noise: float = 0.0) -> Tensor:
    """x (I + mix G) + noise W, with standard normal G (C, C) a sample and W (L, C) a sample: (B, L, C) -> (B, L, C).

    Mixing the channels stands for gain and for a sensor worn at another angle; noise is in the units of x. Draws from
    torch's generator of x's device; with both at 0 nothing is drawn and x is returned.
    """
    n_batch, _, n_channels = x_BLC.shape
    if mix:
        eye_CC = torch.eye(n_channels, device=x_BLC.device, dtype=x_BLC.dtype)
        mixing_BCC = eye_CC + mix * torch.randn(n_batch, n_channels, n_channels, device=x_BLC.device, dtype=x_BLC.dtype)
        x_BLC = x_BLC @ mixing_BCC
    if noise:
        x_BLC = x_BLC + noise * torch.randn_like(x_BLC)
    return x_BLC
