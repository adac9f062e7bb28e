"""The video masked autoencoder: the paper's E_v and D_v ("Face model", Fig. 6A, Eqs. 1 and 3, Table 3).

Shapes: B batch, T frames, (t,h,w) grid of tubelets, N = t*h*w tokens, V visible, M = N - V masked,
D encoder width, P = 3*tubelet*patch*patch values of one tubelet (channel, frame, row, column; raster order).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.mae.positions import sincos_table
from models.mae.vit import Block, LayerNorm, xavier


class Scale(NamedTuple):
    depth: int
    dim: int
    heads: int
    decoder_depth: int


SCALES = {
    "micro": Scale(4, 64, 4, 2),  # for tests and the demo on a laptop
    "tiny": Scale(12, 192, 3, 8),
    "small": Scale(12, 384, 6, 8),
    "base": Scale(12, 768, 12, 8),
    "large": Scale(24, 1024, 16, 12),
}


class VideoMAE(nn.Module):
    """A 3D ViT that encodes tubelets, and a small decoder that reconstructs the masked ones.

    scale: a name of SCALES; depth, dim and heads override it. Decoder: decoder_depth blocks (the scale's own if
    None: 8, large 12, micro 2) of width decoder_dim (dim / 2 if None); decoder=False builds the encoder only.
    norm_target: patchify() gives each tubelet with zero mean and unit variance per colour (VideoMAE), instead of raw
    pixels (the paper's Eq. 3). Positions: one fixed sine-cosine table over the flattened (t,h,w) index.

    Raises ModelError if frames, image_size or dim are not divisible by tubelet, patch or heads.
    """

    positions: Tensor

    def __init__(
        self,
        scale: str = "small",
        image_size: int = 224,
        frames: int = 16,
        tubelet: int = 2,
        patch: int = 16,
        decoder_depth: int | None = None,
        decoder_dim: int | None = None,
        decoder_heads: int | None = None,
        norm_target: bool = False,
        depth: int | None = None,
        dim: int | None = None,
        heads: int | None = None,
        decoder: bool = True,
    ):
        super().__init__()
        if scale not in SCALES:
            raise ModelError(f"There is no video scale {scale!r}; choose one of: {', '.join(SCALES)}.")
        preset = SCALES[scale]
        self.dim, self.heads = dim or preset.dim, heads or preset.heads
        self.frames, self.image_size, self.tubelet, self.patch = frames, image_size, tubelet, patch
        self.norm_target = norm_target
        self.grid = self.cut(frames, image_size, image_size)
        self.n_tokens = self.grid[0] * self.grid[1] * self.grid[2]
        self.patch_values = 3 * tubelet * patch * patch

        _check_heads("encoder", self.dim, self.heads)
        # A strided convolution whose stride is its kernel is a matmul on the tubelets: no 3D convolution needed.
        self.embed = nn.Linear(self.patch_values, self.dim)
        self.register_buffer("positions", sincos_table(self.n_tokens, self.dim))
        n_blocks = preset.depth if depth is None else depth
        self.blocks = nn.ModuleList([Block(self.dim, self.heads) for _ in range(n_blocks)])
        self.norm = LayerNorm(self.dim)
        self.decoder: Decoder | None = None
        if decoder:
            width = decoder_dim or self.dim // 2
            n_heads = decoder_heads or (width // 64 if width % 64 == 0 else max(1, width // 32))
            n_blocks = preset.decoder_depth if decoder_depth is None else decoder_depth
            self.decoder = Decoder(self.dim, width, n_blocks, n_heads, self.n_tokens, self.patch_values)
        self.apply(xavier)

    def cut(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The grid (t,h,w) of tubelets of such a clip. Raises ModelError where it is not divisible."""
        if frames % self.tubelet or height % self.patch or width % self.patch:
            raise ModelError(
                f"A clip of {frames} frames of {height}x{width} px cannot be divided into tubelets of "
                f"{self.tubelet}x{self.patch}x{self.patch}: choose frames and image_size as multiples."
            )
        return frames // self.tubelet, height // self.patch, width // self.patch

    def tubelets(self, video: Tensor) -> Tensor:
        """Raw pixels of every tubelet: (B,3,T,H,W) -> (B,N,P), tokens in raster order (t,h,w)."""
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"video must be (B,3,T,H,W), got {tuple(video.shape)}")
        B, _, T, H, W = video.shape
        t, h, w = self.cut(T, H, W)
        if t * h * w != self.n_tokens:
            raise ModelError(
                f"A clip of {T} frames of {H}x{W} px has {t * h * w} tokens, the model was built for {self.n_tokens} "
                f"({self.frames} frames of {self.image_size} px): change frames or image_size."
            )
        p = self.patch
        x = video.reshape(B, 3, t, self.tubelet, h, p, w, p).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return x.reshape(B, self.n_tokens, self.patch_values)

    def patchify(self, video: Tensor) -> Tensor:
        """The reconstruction target (B,N,P): raw pixels (Eq. 3), or standardised per tubelet and colour."""
        return self.target(self.tubelets(video))

    def target(self, pixels_BNP: Tensor) -> Tensor:
        if not self.norm_target:
            return pixels_BNP
        x = pixels_BNP.unflatten(-1, (3, -1))
        var, mean = torch.var_mean(x, dim=-1, keepdim=True)
        return ((x - mean) / (var + 1e-6).sqrt()).flatten(-2)

    def encode(self, video: Tensor) -> Tensor:
        """Tokens of the whole clip: (B,3,T,H,W) in [0,1] -> (B,N,D)."""
        x = self.embed(self.tubelets(video)) + self.positions
        return self._encode(x)

    def encode_visible(self, video: Tensor, visible_mask: Tensor) -> Tensor:
        """Tokens of the visible tubelets only: video, visible_mask (B,N) true = visible -> (B,V,D), raster order."""
        return self._encode_visible(self.tubelets(video), self.split(visible_mask)[0])

    def reconstruct(self, video: Tensor, visible_mask: Tensor) -> Tensor:
        """The predicted values of the masked tubelets: (B,M,P), in raster order."""
        return self.predict(self.tubelets(video), *self.split(visible_mask))

    def predict(self, pixels_BNP: Tensor, visible_BV: Tensor, masked_BM: Tensor) -> Tensor:
        """`reconstruct` for a caller that already has the tubelets and the indices of the mask."""
        if self.decoder is None:
            raise ModelError("This video model has no decoder: build or load it with its decoder to reconstruct.")
        return self.decoder(self._encode_visible(pixels_BNP, visible_BV), visible_BV, masked_BM)

    def split(self, visible_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the visible (B,V) and the masked tokens (B,M), each in raster order."""
        if visible_mask.shape[1:] != (self.n_tokens,) or visible_mask.dtype != torch.bool:
            raise ValueError(f"visible_mask must be bool (B,{self.n_tokens}), got {tuple(visible_mask.shape)}")
        counts = visible_mask.sum(1)
        n_visible = int(counts[0])
        if not bool((counts == n_visible).all()):
            raise ValueError("every clip of a batch must have the same number of visible tokens")
        order = visible_mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        return order[:, :n_visible], order[:, n_visible:]

    def _encode_visible(self, pixels_BNP: Tensor, visible_BV: Tensor) -> Tensor:
        x = self.embed(take(pixels_BNP, visible_BV))  # project the visible tubelets only
        return self._encode(x + self.positions[visible_BV])

    def _encode(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Decoder(nn.Module):
    """D_v: projected visible tokens and one learnt mask token, each with its position -> values of the masked ones."""

    positions: Tensor

    def __init__(self, encoder_dim: int, dim: int, depth: int, heads: int, n_tokens: int, patch_values: int):
        super().__init__()
        _check_heads("decoder", dim, heads)
        self.project = nn.Linear(encoder_dim, dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.register_buffer("positions", sincos_table(n_tokens, dim))
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(depth)])
        self.norm = LayerNorm(dim)
        self.head = nn.Linear(dim, patch_values)

    def forward(self, visible_BVD: Tensor, visible_BV: Tensor, masked_BM: Tensor) -> Tensor:
        """(B,V,D), indices (B,V) and (B,M) -> (B,M,P)."""
        visible = self.project(visible_BVD) + self.positions[visible_BV]
        hidden = self.mask_token + self.positions[masked_BM]
        x = torch.cat([visible, hidden.to(visible.dtype)], dim=1)  # in any order: every token includes its position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, visible.shape[1] :]))


def take(x_BNP: Tensor, index_BK: Tensor) -> Tensor:
    """Rows of every sample: (B,N,P), (B,K) -> (B,K,P)."""
    return x_BNP[torch.arange(len(x_BNP), device=x_BNP.device)[:, None], index_BK]


def _check_heads(part: str, dim: int, heads: int) -> None:
    if dim % heads:
        raise ModelError(f"The {part}'s width {dim} is not divisible by {heads} heads: change one of them.")
