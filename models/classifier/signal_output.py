"""What the signal stream passes on in the released code: not the latent, but the decoder's reconstruction.

The paper hands z_ts to the classifier (Algorithm 1, line 1), which is the default; this is `signal_output="reconstruction"`.
Shapes: B batch, L steps, C channels.
"""

from torch import Tensor, nn

from models.mae.signal_mae import SignalMAE


class Reconstructed(nn.Module):
    """E_ts and D_ts in the place of a signal encoder: `encode` gives (B,L,C), so `dim` is C and `n_tokens` is L."""

    def __init__(self, mae: SignalMAE):
        super().__init__()
        self.mae = mae
        self.dim, self.n_tokens = mae.n_channels, mae.length

    def encode(self, x_BLC: Tensor, keep: Tensor | None = None) -> Tensor:
        """Nothing masked: (B,L,C), keep (B,L) bool false = padding -> (B,L,C)."""
        return self.mae.decode(self.mae.encode(x_BLC, keep), keep)
