"""The critic of the video MAE: a Wasserstein critic on single tubelets (paper: "Self-supervised training", Eq. 4).

Shapes: B batch, M tubelets, P values of a tubelet, H hidden width.
Signs: the critic minimises E f(fake) - E f(real) + lambda GP, the generator L_rec - w E f(fake). (Eq. 4 as printed
mixes the two.) L_rec is the sum over the P values of a token (Eq. 3); for the weight beside a mean see training.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.01  # of the LeakyReLU


class Critic(nn.Module):
    """f: one hidden layer, LeakyReLU, one score per tubelet. (B,M,P) -> (B,M)."""

    def __init__(self, patch_values: int = 1536, hidden: int = 768):
        super().__init__()
        self.hidden = nn.Linear(patch_values, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x_BMP: Tensor) -> Tensor:
        return self.score(F.leaky_relu(self.hidden(x_BMP), SLOPE)).squeeze(-1)

    def frozen(self, x_BMP: Tensor) -> Tensor:
        """f(x) for the generator's loss: gradients reach x and stop at the critic's own parameters."""
        h = F.leaky_relu(F.linear(x_BMP, self.hidden.weight.detach(), self.hidden.bias.detach()), SLOPE)
        return F.linear(h, self.score.weight.detach(), self.score.bias.detach()).squeeze(-1)

    def gradient_norm(self, x_BMP: Tensor) -> Tensor:
        """|df/dx| (B,M), differentiable in the critic's parameters.

        In closed form: df/dx = W1^T (w2 * s) with s = 1 or SLOPE by the sign of the hidden unit, so
        |df/dx|^2 = (w2 s)^T (W1 W1^T) (w2 s). s is piecewise constant, hence has no gradient: the first layer runs
        without a graph, no double backward is needed, and the penalty can be computed inside a DDP forward.
        """
        with torch.no_grad():
            slope = (self.hidden(x_BMP.detach()) > 0).to(self.score.weight.dtype) * (1 - SLOPE) + SLOPE
        with torch.autocast(x_BMP.device.type, enabled=False):  # deviations from 1 are penalised: full precision
            g_BMH = slope * self.score.weight
            gram_HH = self.hidden.weight @ self.hidden.weight.T
            return ((g_BMH @ gram_HH) * g_BMH).sum(-1).clamp_min(1e-12).sqrt()

    def penalty(self, real_BMP: Tensor, fake_BMP: Tensor, alpha: Tensor) -> Tensor:
        """WGAN-GP: mean of (|df/dx| - 1)^2 at x = alpha real + (1 - alpha) fake; alpha (B,M) or (B,1) in [0,1]."""
        mix = alpha.unsqueeze(-1)
        return (self.gradient_norm(mix * real_BMP + (1 - mix) * fake_BMP) - 1).square().mean()
