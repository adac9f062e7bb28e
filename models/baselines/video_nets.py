"""Video baselines of Tables 7 and 8: ResNet3D, 3DViT, VGG + RNN.

Shapes: B batch, T frames, H height, W width, N tokens, E width, K classes. Each reads batch["video"] (B, 3, T, H, W)
in [0, 1] and gives logits (B, K). Nothing is downloaded: weights=None is random initialisation, else `weights` is a local file.
"""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torchvision.models.video import r3d_18

from models.baselines.weights import load_backbone
from models.mae.positions import sincos_table

KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # torchvision's r3d_18 weights
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class PixelNorm(nn.Module):
    """(pixel - mean) / sd per colour of (..., 3, T, H, W), as pretrained weights expect it; not part of the state dict."""

    mean: Tensor
    sd: Tensor

    def __init__(self, statistics: tuple[tuple[float, ...], tuple[float, ...]]):
        super().__init__()
        for name, values in zip(("mean", "sd"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1, 1), persistent=False)

    def forward(self, video_B3THW: Tensor) -> Tensor:
        return (video_B3THW - self.mean) / self.sd


class ResNet3D(nn.Module):
    """R3D-18 (Tran et al. 2018) and a linear layer; `weights`: a file of torchvision's r3d_18 state dict, or None."""

    needs = frozenset({"video"})

    def __init__(self, n_classes: int, weights: str | None = None, **_: Any):
        super().__init__()
        self.normalise = PixelNorm(KINETICS)
        self.backbone = r3d_18(weights=None)
        self.head = nn.Linear(self.backbone.fc.in_features, n_classes)
        self.backbone.fc = nn.Identity()
        load_backbone(self.backbone, weights)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.head(self.backbone(self.normalise(batch["video"])))


class ViT3D(nn.Module):
    """A 3D vision transformer from scratch: tubelets 2 x 16 x 16, joint space-time attention, mean over tokens."""

    needs = frozenset({"video"})

    def __init__(
        self,
        n_classes: int,
        frames: int = 16,
        image_size: int = 224,
        width: int = 1024,
        depth: int = 6,
        heads: int = 8,
        mlp: int = 2048,
        tubelet: tuple[int, int, int] = (2, 16, 16),
        **_: Any,
    ):
        super().__init__()
        t, h, w = tubelet
        if frames % t or image_size % h or image_size % w:
            raise ValueError(f"{frames} frames of {image_size} pixels are not divisible into tubelets {tubelet}")
        self.embed = nn.Conv3d(3, width, tubelet, tubelet)
        n_tokens = frames // t * (image_size // h) * (image_size // w)
        self.positions: Tensor
        self.register_buffer("positions", sincos_table(n_tokens, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads, mlp_ratio=mlp / width, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        x_BNE = self.embed(batch["video"]).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x_BNE)).mean(1))


class FrameEncoder(nn.Module):
    """A timm image network on every frame: (B, 3, T, H, W) -> (B, T, width)."""

    def __init__(self, backbone: str, weights: str | None):
        super().__init__()
        self.normalise = PixelNorm(IMAGENET)
        self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0, global_pool="avg")
        load_backbone(self.backbone, weights)
        self.width = int(self.backbone.head_hidden_size)  # type: ignore[arg-type]

    def forward(self, video_B3THW: Tensor) -> Tensor:
        n_batch = video_B3THW.shape[0]
        frames = self.normalise(video_B3THW).transpose(1, 2).flatten(0, 1)
        return self.backbone(frames).unflatten(0, (n_batch, -1))


class VGGRNN(nn.Module):
    """VGG-16 per frame, LSTM over frames, linear (Bargshady et al. 2019).

    VGG-Face weights are not freely available: `weights` may be any state dict of the backbone; None is random.
    """

    needs = frozenset({"video"})

    def __init__(
        self, n_classes: int, weights: str | None = None, backbone: str = "vgg16", width: int = 128, **_: Any
    ):
        super().__init__()
        self.frames = FrameEncoder(backbone, weights)
        self.rnn = nn.LSTM(self.frames.width, width, batch_first=True)
        self.head = nn.Linear(width, n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        steps_BTE, _ = self.rnn(self.frames(batch["video"]))
        return self.head(steps_BTE[:, -1])
