"""The output of the signal stream in the released code: the reconstruction of the decoder instead of the latent.

In the paper the classifier gets z_ts (Algorithm 1, line 1), which is the default; this is `signal_output="reconstruction"`.
Shapes: B batch, L steps, C channels.
"""

from torch import Tensor, nn

from models.mae.signal_mae import SignalMAE


class Reconstructed(nn.Module):
    """E_ts and D_ts in place of a signal encoder: `encode` gives (B,L,C), so `dim` is C and `n_tokens` is L."""

    def __init__(self, mae: SignalMAE):
        super().__init__()
        self.mae = mae
        self.dim, self.n_tokens = mae.n_channels, mae.length

    def encode(self, x_BLC: Tensor, keep: Tensor | None = None) -> Tensor:
        """Without masking: (B,L,C) -> (B,L,C); keep (B,L) bool: key padding mask, false = padding."""
        return self.mae.decode(self.mae.encode(x_BLC, keep), keep)
