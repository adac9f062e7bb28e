"""Two-modality baselines of Tables 7 and 8: E2E-MER (Tzirakis et al. 2017) and MTE-MER (Dai et al. 2020).

Shapes: B batch, T frames, L steps, C channels, E width, K classes, A label-embedding width. Both read
batch["video"] (B, 3, T, H, W) in [0, 1] and batch["signals"] (B, L, C) and give logits (B, K).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.baselines.signal_nets import AttentionPool, conv_block
from models.baselines.video_nets import FrameEncoder


class E2EMER(nn.Module):
    """ResNet-50 per frame and a 1-D CNN on the signals, concatenated frame by frame, 2-layer LSTM of 256, linear."""

    needs = frozenset({"video", "signals"})

    def __init__(
        self,
        n_classes: int,
        n_channels: int,
        weights: str | None = None,
        backbone: str = "resnet50",
        width: int = 256,
        signal_width: int = 128,
        **_: Any,
    ):
        super().__init__()
        self.frames = FrameEncoder(backbone, weights)
        self.signal = nn.Sequential(
            conv_block(n_channels, signal_width // 2, 9),
            nn.MaxPool1d(2),
            conv_block(signal_width // 2, signal_width, 9),
        )
        self.rnn = nn.LSTM(self.frames.width + signal_width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        video_BTE = self.frames(batch["video"])
        signal_BEL = self.signal(batch["signals"].transpose(1, 2))
        signal_BTE = F.adaptive_avg_pool1d(signal_BEL, video_BTE.shape[1]).transpose(1, 2)
        steps_BTE, _ = self.rnn(torch.cat([video_BTE, signal_BTE], -1))
        return self.head(steps_BTE[:, -1])


class LabelSpace(nn.Module):
    """Similarity of a modality's embedding with the class embeddings mapped into its space: (B, E) -> (B, K)."""

    def __init__(self, width: int, label_width: int):
        super().__init__()
        self.map = nn.Linear(label_width, width)

    def forward(self, x_BE: Tensor, labels_KA: Tensor) -> Tensor:
        return x_BE @ self.map(labels_KA).t() * x_BE.shape[-1] ** -0.5


class MTEMER(nn.Module):
    """Modality-transferable embeddings: a BiLSTM with attention pooling per modality; learnt class embeddings are
    mapped into both spaces, and the similarities are mixed with a learnt weight."""

    needs = frozenset({"video", "signals"})

    def __init__(
        self,
        n_classes: int,
        n_channels: int,
        weights: str | None = None,
        backbone: str = "resnet18",
        width: int = 128,
        layers: int = 4,
        label_width: int = 64,
        **_: Any,
    ):
        super().__init__()
        self.frames = FrameEncoder(backbone, weights)
        self.labels = nn.Parameter(torch.randn(n_classes, label_width) * label_width**-0.5)
        self.video_rnn = nn.LSTM(self.frames.width, width, layers, batch_first=True, bidirectional=True)
        self.signal_rnn = nn.LSTM(n_channels, width, layers, batch_first=True, bidirectional=True)
        self.video_pool, self.signal_pool = AttentionPool(2 * width), AttentionPool(2 * width)
        self.video_space, self.signal_space = LabelSpace(2 * width, label_width), LabelSpace(2 * width, label_width)
        self.mix = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        video_BE = self.video_pool(self.video_rnn(self.frames(batch["video"]))[0])
        signal_BE = self.signal_pool(self.signal_rnn(batch["signals"])[0])
        share = torch.sigmoid(self.mix)
        return share * self.video_space(video_BE, self.labels) + (1 - share) * self.signal_space(signal_BE, self.labels)
