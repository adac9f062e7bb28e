"""Load published weights: the video MAE of MARLIN, the block of ConvTran, the mvts signal encoder.

Files are read as safetensors or by torch.load(weights_only=True), which builds tensors and runs no code; other pickles are
rejected. Dimensions and depths follow from the shapes. Every loader returns the model in eval mode.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ModelError
from models.hpa import HPA
from models.mae.positions import sincos_table
from models.mae.signal_mae import SignalLayer
from models.mae.video_mae import VideoMAE

M = TypeVar("M", bound=nn.Module)
State = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]  # (pattern of the published name, name in this project)

MARLIN_RULES: Rules = (
    (r"^encoder\.patch_embedding\.projection\.", "embed."),
    (r"^enc_dec_proj\.", "decoder.project."),
    (r"^encoder\.", ""),
    (r"pos_embedding\.emb$", "positions"),
    (r"mlp\.layers\.0\.linear\.", "mlp.fc1."),
    (r"mlp\.layers\.1\.linear\.", "mlp.fc2."),
)
MVTS_RULES: Rules = (
    (r"^project_inp\.", "embed."),
    (r"^transformer_encoder\.layers\.", "layers."),
    (r"\.self_attn\.in_proj_", ".qkv."),
    (r"\.self_attn\.out_proj\.", ".proj."),
    (r"^output_layer\.", "head."),
    (r"^pos_enc\.pe$", "positions"),
)
CONVTRAN_RULES: Rules = (
    (r"^embed_layer\.0\.", "embed.conv."),
    (r"^embed_layer\.1\.", "embed.conv_norm."),
    (r"^embed_layer2\.0\.", "embed.collapse."),
    (r"^embed_layer2\.1\.", "embed.collapse_norm."),
    (r"^attention_layer\.relative_bias_table$", "attention.relative_bias"),
    (r"^attention_layer\.to_out\.", "attention.norm."),
    (r"^attention_layer\.", "attention."),
    (r"^LayerNorm\.", "attention_norm."),
    (r"^LayerNorm2\.", "norm."),
    (r"^FeedForward\.", "feed_forward."),
)


def load_marlin(
    path_or_state: Path | str | State,
    heads: int | None = None,
    decoder_heads: int | None = None,
    frames: int | None = None,
) -> VideoMAE:
    """A released MARLIN checkpoint as a VideoMAE: with decoder, or the encoder only (then reconstruct raises ModelError).

    heads, decoder_heads: None: width / 64, ModelError if that is not an integer. frames: the position table only gives the
    product of frames and image size; None: 16 if that gives a square image.
    The pixels of a tubelet are in MARLIN's training order: channel, frame, row, column.
    """
    state = _rename(_read(path_or_state), MARLIN_RULES, drop=("discriminator.",))
    conv = _get(state, "embed.weight", "MARLIN", ndim=5)
    dim, colours, tubelet, patch, other_side = conv.shape
    if colours != 3 or other_side != patch:
        raise ModelError(f"This is not a MARLIN checkpoint: its patch projection has the shape {tuple(conv.shape)}.")
    state["embed.weight"] = conv.flatten(1)
    for name in ("positions", "decoder.positions"):
        if name in state:
            state[name] = state[name].squeeze(0)
    n_tokens = len(_get(state, "positions", "MARLIN", ndim=2))
    if frames is not None and (frames < 1 or frames % tubelet):
        raise ModelError(f"{frames} frames cannot be divided into tubelets of {tubelet}: give another number of frames.")
    t, side = _square_grid(n_tokens, None if frames is None else frames // tubelet, preferred=max(1, 16 // tubelet))
    decoder = "decoder.mask_token" in state
    width = 0
    if decoder:
        state["decoder.mask_token"] = state["decoder.mask_token"].flatten()
        width = len(state["decoder.mask_token"])
        decoder_heads = _heads("decoder", width, decoder_heads)
    model = VideoMAE(
        image_size=side * patch,
        frames=t * tubelet,
        tubelet=tubelet,
        patch=patch,
        depth=_depth(state, r"blocks\.(\d+)\."),
        dim=dim,
        heads=_heads("encoder", dim, heads),
        decoder=decoder,
        decoder_depth=_depth(state, r"decoder\.blocks\.(\d+)\."),
        decoder_dim=width or None,
        decoder_heads=decoder_heads,
    )
    return _fill(model, state, "MARLIN")


def load_convtran_block(path_or_state: Path | str | State) -> HPA:
    """A ConvTran block (embedding, tAPE, eRPE attention, feed-forward) as an HPA, called m(tokens (B,N,C)).

    Ignores what is computed again (relative index, tAPE table) and the classification head.
    """
    drop = ("attention_layer.relative_index", "Fix_Position.", "out.", "gap.", "flatten.")
    state = _rename(_read(path_or_state), CONVTRAN_RULES, drop=drop)
    bias = _get(state, "attention.relative_bias", "ConvTran", ndim=2)
    collapse = _get(state, "embed.collapse.weight", "ConvTran", ndim=4)
    _check_heads("block", collapse.shape[0], bias.shape[1])
    model = HPA(
        in_dim=collapse.shape[2],
        length=(len(bias) + 1) // 2,
        emb=collapse.shape[0],
        heads=bias.shape[1],
        ff=len(_get(state, "feed_forward.0.bias", "ConvTran", ndim=1)),
        filters=collapse.shape[1],
        kernel=_get(state, "embed.conv.weight", "ConvTran", ndim=4).shape[-1],
    )
    return _fill(model, state, "ConvTran")


def load_mvts_encoder(path_or_state: Path | str | State, n_heads: int) -> "MvtsEncoder":
    """The mvts transformer encoder (Zerveas et al. 2021), called m(x (B,L,C), keep (B,L)) -> latent (B,L,d).

    keep: key padding mask, true = a sample, false = padding."""
    state = mvts_state(path_or_state)
    positions = state.pop("positions", None)
    dim, n_channels = _get(state, "embed.weight", "mvts", ndim=2).shape
    _check_heads("mvts encoder", dim, n_heads)
    model = MvtsEncoder(
        n_channels,
        dim,
        depth=_depth(state, r"layers\.(\d+)\."),
        heads=n_heads,
        ff=len(_get(state, "layers.0.linear1.bias", "mvts", ndim=1)),
        batch_norm="layers.0.norm1.running_mean" in state,
        positions=positions,
        head="head.weight" in state,
        source="the weights given" if isinstance(path_or_state, Mapping) else str(path_or_state),
    )
    return _fill(model, state, "mvts")


def mvts_state(path_or_state: Path | str | State) -> dict[str, Tensor]:
    """The same weights under the names of SignalMAE (decoder="linear"); with `positions` (L,d) if the file has them."""
    state = _rename(_read(path_or_state), MVTS_RULES)
    if "positions" in state:
        state["positions"] = state["positions"].squeeze(1)  # (L,1,d) in the file
    return state


class MvtsEncoder(nn.Module):
    """The encoder of SignalMAE for any length: x sqrt(d), fixed positions or the table of the file, layers.

    head: whether the file has its output layer, which `reconstruct` needs. source: the file, for messages.
    """

    positions: Tensor | None

    def __init__(
        self,
        n_channels: int,
        dim: int,
        depth: int,
        heads: int,
        ff: int,
        batch_norm: bool = True,
        positions: Tensor | None = None,
        head: bool = True,
        source: str = "the weights given",
    ):
        super().__init__()
        self.source = source
        norm = nn.BatchNorm1d if batch_norm else nn.LayerNorm
        self.embed = nn.Linear(n_channels, dim)
        self.register_buffer("positions", positions, persistent=False)
        self.layers = nn.ModuleList([SignalLayer(dim, heads, ff, norm, dropout=0.0) for _ in range(depth)])
        self.head = nn.Linear(dim, n_channels) if head else None

    def forward(self, x_BLC: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B,L,C) -> (B,L,d) after the last layer; keep (B,L) bool: key padding mask, false = padding."""
        L, d = x_BLC.shape[1], self.embed.out_features
        if self.positions is not None and len(self.positions) < L:
            raise ModelError(f"This encoder has positions for {len(self.positions)} steps, the signals have {L}: shorten them.")
        table = sincos_table(L, d).to(x_BLC) if self.positions is None else self.positions[:L]
        x = self.embed(x_BLC) * math.sqrt(d) + table
        key_mask = None if keep is None else keep[:, None, None, :]
        for layer in self.layers:
            x = layer(x, key_mask)
        return x

    def reconstruct(self, x_BLC: Tensor, keep: Tensor | None = None) -> Tensor:
        """GELU and the output layer on the latent: (B,L,C)."""
        if self.head is None:
            raise ModelError(
                f"There is no output_layer.weight in {self.source}, so this mvts encoder can encode, not reconstruct: give the "
                "checkpoint of its pretraining (imputation of masked values), which has this layer."
            )
        return self.head(F.gelu(self(x_BLC, keep)))


def _read(path_or_state: Path | str | State) -> dict[str, Tensor]:
    """Tensors by name, from a file or as given. Raises ModelError for anything other than tensors."""
    state: object
    if isinstance(path_or_state, Mapping):
        state = path_or_state
    else:
        path = Path(path_or_state)
        try:
            if path.suffix == ".safetensors":
                state = safetensors.torch.load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise ModelError(f"There is no file {path}: give the path of a checkpoint.") from None
        except Exception as error:  # damaged or malicious files raise many types of exceptions
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"{path} holds other data than tensors and was not loaded ({reason}).") from None
        if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
            state = state["state_dict"]  # a Lightning checkpoint
    if not isinstance(state, Mapping) or not state or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ModelError("The checkpoint must be a dictionary of tensors by name; this one is not.")
    return dict(state)


def _rename(state: State, rules: Rules, drop: tuple[str, ...] = ()) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        if name.startswith(drop):
            continue
        for pattern, ours in rules:
            name = re.sub(pattern, ours, name)
        renamed[name] = value
    return renamed


def _get(state: State, name: str, family: str, ndim: int) -> Tensor:
    if name not in state:
        raise ModelError(f"This is not a {family} checkpoint: the tensor called {name} in this project is missing.")
    if state[name].ndim != ndim or 0 in state[name].shape:
        raise ModelError(f"This is not a {family} checkpoint: {name} has the shape {tuple(state[name].shape)}.")
    return state[name]


def _check_heads(part: str, dim: int, heads: int) -> None:
    if heads < 1 or dim % heads:
        raise ModelError(f"The {part}'s width {dim} is not divisible by {heads} heads: change one of them.")


def _depth(state: State, pattern: str) -> int:
    return 1 + max((int(m[1]) for name in state if (m := re.match(pattern, name))), default=-1)


def _heads(part: str, dim: int, heads: int | None) -> int:
    if heads is not None:
        _check_heads(part, dim, heads)
        return heads
    if dim % 64:
        option = "heads" if part == "encoder" else "decoder_heads"
        raise ModelError(f"The {part} is {dim} wide, which is not a multiple of 64: give its number of heads with {option}=.")
    return dim // 64


def _square_grid(n_tokens: int, t: int | None, preferred: int) -> tuple[int, int]:
    """(t, side) with t * side^2 = n_tokens: the given t, the preferred one, or the smallest that works."""
    for slices in [t] if t is not None else [preferred, *range(1, n_tokens + 1)]:
        side = math.isqrt(n_tokens // slices)
        if slices * side * side == n_tokens:
            return slices, side
    raise ModelError(f"{n_tokens} positions are not {t} time slices of a square grid: give another number of frames.")


def _fill(model: M, state: State, family: str) -> M:
    """File and model must have the same tensors with the same shapes (except BatchNorm's counter)."""
    own = model.state_dict()
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for name in sorted(own.keys() | state.keys()):
        if name.endswith("num_batches_tracked"):
            continue
        if name not in own or name not in state or own[name].shape != state[name].shape:
            here = tuple(own[name].shape) if name in own else "nothing"
            there = tuple(state[name].shape) if name in state else "nothing"
            raise ModelError(f"This {family} checkpoint does not match: {name} is {there} in the file and {here} in the model.")
    model.load_state_dict(state, strict=False)
    return model.eval()
