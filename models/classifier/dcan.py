"""DCAN, the dual cross-attention network (paper: Algorithm 1, lines 8 to 15, Fig. 7), and the released variant.

Shapes: B batch, N video tokens, S signal tokens, I input widths, D model width, K classes.

    S = F W A^T / sqrt(D);  F' = softmax_s(S) A;  A' = softmax_n(S^T) F;  F, A <- Fusion(F, F'), Fusion(A, A')
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FusionName = Literal["mlp", "linear", "released"]


class MLPFusion(nn.Module):
    """LN(x + W2 ReLU(W1 [x; attended])): (B, N, D), (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.w1, self.w2, self.norm = nn.Linear(2 * dim, hidden), nn.Linear(hidden, dim), nn.LayerNorm(dim)

    def forward(self, x_BND: Tensor, attended_BND: Tensor) -> Tensor:
        return self.norm(x_BND + self.w2(F.relu(self.w1(torch.cat([x_BND, attended_BND], -1)))))


class LinearFusion(nn.Module):
    """LN(x + ReLU(W [x; attended])), after Nguyen and Okatani's dense co-attention."""

    def __init__(self, dim: int):
        super().__init__()
        self.w, self.norm = nn.Linear(2 * dim, dim), nn.LayerNorm(dim)

    def forward(self, x_BND: Tensor, attended_BND: Tensor) -> Tensor:
        return self.norm(x_BND + F.relu(self.w(torch.cat([x_BND, attended_BND], -1))))


class CoAttention(nn.Module):
    """One layer: both streams are updated from the values before the layer. (B, N, D), (B, S, D) -> the same shapes."""

    def __init__(self, dim: int, fusion: FusionName = "mlp", hidden: int = 512, scale: bool = True):
        super().__init__()
        self.affinity = nn.Linear(dim, dim, bias=False)
        self.scale = dim**-0.5 if scale else 1.0
        if fusion not in ("mlp", "linear"):
            raise ValueError(f"unknown fusion: {fusion!r}")
        self.fuse_video: nn.Module = MLPFusion(dim, hidden) if fusion == "mlp" else LinearFusion(dim)
        self.fuse_signal: nn.Module = MLPFusion(dim, hidden) if fusion == "mlp" else LinearFusion(dim)

    def forward(self, video_BND: Tensor, signal_BSD: Tensor) -> tuple[Tensor, Tensor]:
        score_BNS = self.affinity(video_BND) @ signal_BSD.transpose(1, 2) * self.scale
        video_hat_BND = score_BNS.softmax(-1) @ signal_BSD
        signal_hat_BSD = score_BNS.transpose(1, 2).softmax(-1) @ video_BND
        return self.fuse_video(video_BND, video_hat_BND), self.fuse_signal(signal_BSD, signal_hat_BSD)


class DCAN(nn.Module):
    """(B, N, I_v), (B, S, I_s) -> logits (B, K); `features` gives the pooled pair (B, 2 D) before the head.

    scale     divide the affinity by sqrt(D); False: as printed in Algorithm 1
    compress  first map both token axes to this length by a learnt map, as the released code does; None: off
    """

    def __init__(
        self,
        video_dim: int,
        signal_dim: int,
        n_classes: int,
        dim: int = 128,
        layers: int = 2,
        hidden: int = 512,
        fusion: FusionName = "mlp",
        scale: bool = True,
        compress: int | None = None,
        video_tokens: int | None = None,
        signal_tokens: int | None = None,
    ):
        super().__init__()
        self.compress_video: nn.Linear | None = None
        self.compress_signal: nn.Linear | None = None
        if compress:
            if video_tokens is None or signal_tokens is None:
                raise ValueError("compress needs video_tokens and signal_tokens")
            self.compress_video = nn.Linear(video_tokens, compress)
            self.compress_signal = nn.Linear(signal_tokens, compress)
        self.project_video = nn.Linear(video_dim, dim)
        self.project_signal = nn.Linear(signal_dim, dim)
        self.layers = nn.ModuleList(CoAttention(dim, fusion, hidden, scale) for _ in range(layers))
        self.head = nn.Linear(2 * dim, n_classes)

    def features(self, video_BNI: Tensor, signal_BSI: Tensor) -> Tensor:
        if self.compress_video is not None and self.compress_signal is not None:
            video_BNI = self.compress_video(video_BNI.transpose(1, 2)).transpose(1, 2)
            signal_BSI = self.compress_signal(signal_BSI.transpose(1, 2)).transpose(1, 2)
        video_BND, signal_BSD = self.project_video(video_BNI), self.project_signal(signal_BSI)
        for layer in self.layers:
            video_BND, signal_BSD = layer(video_BND, signal_BSD)
        return torch.cat([video_BND.mean(1), signal_BSD.mean(1)], -1)

    def forward(self, video_BNI: Tensor, signal_BSI: Tensor) -> Tensor:
        return self.head(self.features(video_BNI, signal_BSI))


class JointAttention(nn.Module):
    """One layer of the released code: tanh correlation with both streams joined, no softmax.

    Both streams have the same P tokens (after compression), widths V and S, J = V + S.
    (B, P, V), (B, P, S) -> the same shapes.
    """

    def __init__(self, video_dim: int, signal_dim: int, n_tokens: int, dropout: float):
        super().__init__()
        joint_dim = video_dim + signal_dim
        self.joint = nn.Linear(joint_dim, joint_dim)
        self.video = _JointStream(video_dim, joint_dim, n_tokens, dropout)
        self.signal = _JointStream(signal_dim, joint_dim, n_tokens, dropout)

    def forward(self, video_BPV: Tensor, signal_BPS: Tensor) -> tuple[Tensor, Tensor]:
        joint_BPJ = self.joint(torch.cat([video_BPV, signal_BPS], -1))
        return self.video(video_BPV, joint_BPJ), self.signal(signal_BPS, joint_BPJ)


class _JointStream(nn.Module):
    def __init__(self, dim: int, joint_dim: int, n_tokens: int, dropout: float):
        super().__init__()
        self.key = nn.Linear(n_tokens, n_tokens)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(joint_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BPD: Tensor, joint_BPJ: Tensor) -> Tensor:
        key_BDP = self.key(x_BPD.transpose(1, 2))
        score_BDJ = torch.tanh(key_BDP @ joint_BPJ * joint_BPJ.shape[-1] ** -0.5)
        attended_BPJ = F.relu(torch.tanh(self.value(x_BPD) @ self.dropout(score_BDJ)))
        return x_BPD + self.dropout(F.relu(self.out(attended_BPJ)))


class ReleasedDCAN(nn.Module):
    """The fusion of the authors' public code: token axis compressed to `compress`, joint tanh attention, one layer.

    `regressor` builds the 256-wide regressor that the released layer has but never calls, to reproduce the published
    parameter count; it changes no output.
    """

    def __init__(
        self,
        video_dim: int,
        signal_dim: int,
        n_classes: int,
        video_tokens: int,
        signal_tokens: int,
        layers: int = 1,
        compress: int = 16,
        dropout: float = 0.0,
        regressor: bool = True,
    ):
        super().__init__()
        joint_dim = video_dim + signal_dim
        self.compress_video = nn.Linear(video_tokens, compress)
        self.compress_signal = nn.Linear(signal_tokens, compress)
        self.layers = nn.ModuleList(JointAttention(video_dim, signal_dim, compress, dropout) for _ in range(layers))
        self.head = nn.Linear(joint_dim, n_classes)
        if regressor:
            self.unused = nn.Sequential(nn.Linear(joint_dim, 256), nn.BatchNorm1d(256), nn.Linear(256, n_classes))

    def features(self, video_BNV: Tensor, signal_BSS: Tensor) -> Tensor:
        video_BPV = self.compress_video(video_BNV.transpose(1, 2)).transpose(1, 2)
        signal_BPS = self.compress_signal(signal_BSS.transpose(1, 2)).transpose(1, 2)
        for layer in self.layers:
            video_BPV, signal_BPS = layer(video_BPV, signal_BPS)
        return torch.cat([video_BPV, signal_BPS], -1).mean(1)

    def forward(self, video_BNV: Tensor, signal_BSS: Tensor) -> Tensor:
        return self.head(self.features(video_BNV, signal_BSS))
