"""Signal baselines of Tables 7 and 8: LSTM, Transformer, ConvTran.

Shapes: B batch, L steps, C channels, E width, K classes. Each reads batch["signals"] (B, L, C) and gives logits (B, K).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hpa import HPA
from models.hpa.tape import TAPE


class LSTMFCN(nn.Module):
    """The last step of a bidirectional LSTM, concatenated with three convolutions averaged over time (384 wide)."""

    needs = frozenset({"signals"})

    def __init__(self, n_classes: int, n_channels: int, width: int = 128, dropout: float = 0.3, **_: Any):
        super().__init__()
        self.lstm = nn.LSTM(n_channels, width, batch_first=True, bidirectional=True)
        self.convs = nn.Sequential(
            conv_block(n_channels, width, 8), conv_block(width, 2 * width, 5), conv_block(2 * width, width, 3)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(3 * width, n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        x_BLC = batch["signals"]
        steps_BLE, _ = self.lstm(x_BLC)
        pooled_BE = self.convs(x_BLC.transpose(1, 2)).mean(-1)
        return self.head(torch.cat([self.dropout(steps_BLE[:, -1]), pooled_BE], -1))


def conv_block(n_in: int, n_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2), nn.BatchNorm1d(n_out), nn.ReLU())


class SignalTransformer(nn.Module):
    """One attention layer: Linear and LayerNorm to 16, positional encoding, 8 heads, feed-forward 256, mean over time."""

    needs = frozenset({"signals"})

    def __init__(
        self,
        n_classes: int,
        n_channels: int,
        signal_length: int,
        width: int = 16,
        heads: int = 8,
        ff: int = 256,
        **_: Any,
    ):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(n_channels, width), nn.LayerNorm(width))
        self.positions = TAPE(signal_length, width)
        self.layer = nn.TransformerEncoderLayer(width, heads, ff, dropout=0.01, batch_first=True)
        self.head = nn.Linear(width, n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.head(self.layer(self.positions(self.embed(batch["signals"]))).mean(1))


class ConvTran(nn.Module):
    """ConvTran (Foumani et al. 2024) on the raw channels: the HPA block of this project, mean over time, Linear."""

    needs = frozenset({"signals"})

    def __init__(
        self, n_classes: int, n_channels: int, signal_length: int, hpa: Mapping[str, Any] | None = None, **_: Any
    ):
        super().__init__()
        self.block = HPA(n_channels, signal_length, **(hpa or {}))
        self.head = nn.Linear(self.block.emb, n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.head(self.block(batch["signals"]).mean(1))


class AttentionPool(nn.Module):
    """A learnt weight for each step, softmax over time: (B, T, E) -> (B, E)."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x_BTE: Tensor) -> Tensor:
        return (F.softmax(self.score(x_BTE), 1) * x_BTE).sum(1)
