"""The pre-norm ViT block of the video encoder and its decoder (paper: "Face model"; joint space-time attention).

Eq. 2 as printed attends over time separately at each position; the public code, and this one, attend over all tokens.

Shapes: B batch, N tokens, D width, H heads.
"""

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention as TimmAttention
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

LayerNorm = nn.LayerNorm  # epsilon 1e-5, as used for MARLIN's weights, not timm's 1e-6


class Attention(TimmAttention):
    """timm's attention with separate q and v biases and none for k, as MARLIN's.

    A bias of the keys adds the same number to all scores of a row, which the softmax removes: without it the output is the
    same, and the parameter counts equal those of the paper (Table 3) exactly.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__(dim, num_heads, qkv_bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))

    def heads(self, x_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v, each (B,H,N,D/H): views of one matmul's output."""
        B, N, _ = x_BND.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x_BND, self.qkv.weight, bias).view(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def weights(self, x_BND: Tensor) -> Tensor:
        """The attention weights (B,H,N,N), rows sum to 1: only for attention maps; the forward pass does not compute them."""
        q, k, _ = self.heads(x_BND)
        return (q @ k.transpose(-2, -1) * self.scale).softmax(-1)

    def forward(self, x_BND: Tensor, *_) -> Tensor:  # type: ignore[override]
        q, k, v = self.heads(x_BND)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(x_BND.shape))


class Block(TimmBlock):
    """x + attention(LN x), then x + MLP(LN x): GELU, hidden width 4 D. (B,N,D) -> (B,N,D)."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__(dim, num_heads, norm_layer=LayerNorm)
        self.attn = Attention(dim, num_heads)

    def forward(self, x_BND: Tensor) -> Tensor:  # type: ignore[override]
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        return x_BND + self.mlp(self.norm2(x_BND))


def xavier(module: nn.Module) -> None:
    """Xavier-uniform matrices, zero biases: the initialisation of MAE pretraining (He et al. 2022)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
