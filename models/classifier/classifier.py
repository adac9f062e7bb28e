"""The complete stage 2: stored video tokens and signals to class logits (paper Figs. 5B and 7; ablations of Tables 5 and 6).

Shapes: B batch, N video tokens, D their width, L signal steps, C channels, S signal tokens, E embedding width,
K classes.

    video tokens (B,N,D) -> pooling -> HPA (B,N',E) --+
                                                      +--> DCAN -> logits (B,K)
    signals (B,L,C) -> signal encoder -> HPA (B,S,E) -+

Without HPA the tokens of a stream are used unchanged. Without DCAN, or with one stream, the mean over the tokens (with
pooling="mean_max" also the maximum; with pooling="tokens" all tokens, so that each region of the face has its own weights) is
concatenated over the streams, and dropout and a linear layer give the logits.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.classifier.dcan import DCAN, ReleasedDCAN
from models.classifier.signal_output import Reconstructed
from models.classifier.token_pool import TokenPool
from models.errors import ModelError
from models.hpa import HPA
from models.mae.signal_mae import SignalMAE

if TYPE_CHECKING:  # a classifier on stored tokens needs no video encoder and so no timm, whose import takes seconds
    from models.mae.video_mae import VideoMAE

CLASSIFIERS = ("dual", "video", "signal", "signal_small")
POOLINGS = ("mean", "mean_max", "tokens")
# Defaults of signal_small, chosen on inner validation subjects of `watch` (docs/explanation/watch.md): no HPA, and no
# positional encoding, as a window of a wearable sensor starts at a random phase of the movement
SMALL_SIGNAL = {"tokenizer": "conv", "max_tokens": 25, "conv_layers": 3, "conv_kernel": 7, "dim": 64, "depth": 1, "heads": 4,
                "ff": 128, "pos": "none"}
# for short windows the N x N matrices are faster than the FFT that avoids them
SMALL_HPA = {"embed": "linear", "emb": 32, "heads": 4, "ff": 64, "dropout": 0.0, "impl": "naive"}
SMALL_HEAD = {"pooling": "mean_max", "dropout": 0.2}


class Classifier(nn.Module):
    """Maps a batch (a dictionary) to logits. `needs`: the keys that it reads.

    video_dim None: no video stream; signal_encoder None: no signal stream.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        video_dim: int | None = None,
        token_grid: tuple[int, int, int] = (8, 14, 14),
        signal_encoder: SignalMAE | Reconstructed | None = None,
        hpa: Mapping[str, Any] | None = None,
        dcan: Mapping[str, Any] | None = None,
        use_hpa: bool = True,
        use_dcan: bool = True,
        pooling: str = "mean",
        dropout: float = 0.0,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ModelError(f"model.pooling cannot be {pooling!r}: choose one of {', '.join(POOLINGS)}.")
        hpa_options, dcan_options = dict(hpa or {}), dict(dcan or {})
        pool_kind = hpa_options.pop("token_pool", "none")
        self.pool = TokenPool(token_grid, pool_kind) if video_dim else None
        self.video_dim = video_dim
        self.signal_encoder = signal_encoder
        self.video_hpa: HPA | None = None
        self.signal_hpa: HPA | None = None
        widths: list[int] = []
        lengths: list[int] = []
        if self.pool is not None:
            assert video_dim is not None
            if use_hpa:
                self.video_hpa = HPA(video_dim, self.pool.n_tokens, **hpa_options)
            widths.append(self.video_hpa.emb if self.video_hpa else video_dim)
            lengths.append(self.pool.n_tokens)
        if signal_encoder is not None:
            if use_hpa:
                self.signal_hpa = HPA(signal_encoder.dim, signal_encoder.n_tokens, **hpa_options)
            widths.append(self.signal_hpa.emb if self.signal_hpa else signal_encoder.dim)
            lengths.append(signal_encoder.n_tokens)
        self.fusion = build_dcan(widths, lengths, n_classes, dcan_options) if use_dcan and len(widths) == 2 else None
        if self.fusion is not None and (pooling != "mean" or dropout):
            raise ModelError("DCAN has its own pooling: remove model.pooling and model.dropout, or set model.use_dcan=false.")
        self.pooling, self.dropout = pooling, nn.Dropout(dropout)
        sizes = [n if pooling == "tokens" else 2 if pooling == "mean_max" else 1 for n in lengths]
        n_pooled = sum(n * width for n, width in zip(sizes, widths, strict=True))
        self.head = nn.Linear(n_pooled, n_classes) if self.fusion is None else None
        self._video_encoder: list[VideoMAE] = []  # in a list, so that it is not part of this module's parameters or state

    @property
    def needs(self) -> frozenset[str]:
        keys = set()
        if self.pool is not None:
            keys.add("video" if self._video_encoder else "tokens")
        if self.signal_encoder is not None:
            keys.add("signals")
        return frozenset(keys)

    def attach_video_encoder(self, mae: "VideoMAE") -> None:
        """Accept clips (B, 3, T, H, W) as batch["video"]: the frozen `mae.encode` computes their tokens in eval mode."""
        if self.pool is None:
            raise ModelError(
                "This model reads signals only, so no video encoder can be attached to it: use model=dual or model=video."
            )
        if (tuple(mae.grid), mae.dim) != (self.pool.grid, self.video_dim):
            raise ModelError(
                f"the video encoder gives {mae.dim} values on a grid {mae.grid}, but this model expects {self.video_dim} on "
                f"{self.pool.grid}: build it with the encoder's token_dim and token_grid"
            )
        self._video_encoder = [mae.eval().requires_grad_(False)]

    def load_signal_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Load pretrained SignalMAE weights. The decoder is ignored unless signal_output is the reconstruction."""
        if self.signal_encoder is None:
            raise ModelError(
                "This model reads video tokens only, so no pretrained signal weights can be loaded into it: use model=dual, "
                "model=signal or model=signal_small."
            )
        encoder = self.signal_encoder.mae if isinstance(self.signal_encoder, Reconstructed) else self.signal_encoder
        own = encoder.state_dict()
        wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
        wrong += [k for k in state if k not in own and not k.startswith(("decoder.", "head."))]
        if wrong:
            raise ModelError(
                f"the signal encoder's checkpoint does not match this model at {wrong[0]!r} ({len(wrong)} of {len(own)} "
                "entries): pretrain it with the same channels, length and signal options"
            )
        encoder.load_state_dict({k: state[k] for k in own})

    def video_tokens(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Frozen tokens after pooling, (B, N', D) float32, from batch["tokens"] or, with an encoder attached, clips."""
        assert self.pool is not None
        if self._video_encoder and "video" in batch:
            encoder = self._video_encoder[0].to(batch["video"].device).eval()
            with torch.no_grad():
                tokens_BND = encoder.encode(batch["video"])
        else:
            tokens_BND = batch["tokens"]
        return self.pool(tokens_BND.float())

    def streams(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The inputs of the fusion: (B, N', E) of the video stream and (B, S, E) of the signal stream, if present."""
        found = []
        if self.pool is not None:
            tokens_BND = self.video_tokens(batch)
            found.append(self.video_hpa(tokens_BND) if self.video_hpa is not None else tokens_BND)
        if self.signal_encoder is not None:
            latent_BSE = self.signal_encoder.encode(batch["signals"], batch.get("keep"))
            found.append(self.signal_hpa(latent_BSE) if self.signal_hpa is not None else latent_BSE)
        return found

    def features(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pooled embeddings (B, .) by name: "video", "signal", and "fused", the input of the last linear layer."""
        streams = self.streams(batch)
        names = [n for n, there in (("video", self.pool), ("signal", self.signal_encoder)) if there is not None]
        pooled = {name: self.pooled(stream) for name, stream in zip(names, streams, strict=True)}
        fused = self.fusion.features(*streams) if self.fusion is not None else torch.cat([*pooled.values()], -1)
        return {**pooled, "fused": fused}

    def pooled(self, stream_BNE: Tensor) -> Tensor:
        """(B, E), with pooling="mean_max" (B, 2 E), with "tokens" (B, N E)."""
        if self.pooling == "tokens":
            return stream_BNE.flatten(1)
        mean_BE = stream_BNE.mean(1)
        return mean_BE if self.pooling == "mean" else torch.cat([mean_BE, stream_BNE.amax(1)], -1)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        streams = self.streams(batch)
        if self.fusion is not None:
            return self.fusion(*streams)
        assert self.head is not None
        return self.head(self.dropout(torch.cat([self.pooled(stream) for stream in streams], -1)))


def build_dcan(widths: list[int], lengths: list[int], n_classes: int, options: dict[str, Any]) -> DCAN | ReleasedDCAN:
    """DCAN for a (video, signal) pair of widths and lengths; fusion="released" reads layers and compress only."""
    (video_dim, signal_dim), (video_tokens, signal_tokens) = widths, lengths
    if options.get("fusion") == "released":
        known = {k: v for k, v in options.items() if k in ("layers", "compress", "dropout", "regressor")}
        return ReleasedDCAN(video_dim, signal_dim, n_classes, video_tokens, signal_tokens, **known)
    tokens: dict[str, Any] = {"video_tokens": video_tokens, "signal_tokens": signal_tokens}
    return DCAN(video_dim, signal_dim, n_classes, **options, **tokens)


def build_classifier(
    name: str,
    n_classes: int,
    token_dim: int | None = None,
    token_grid: tuple[int, int, int] = (8, 14, 14),
    n_channels: int | None = None,
    signal_length: int | None = None,
    hpa: Mapping[str, Any] | None = None,
    dcan: Mapping[str, Any] | None = None,
    signal_output: str = "latent",  # or "reconstruction": see signal_output.py
    signal: Mapping[str, Any] | None = None,
    use_hpa: bool | None = None,
    use_dcan: bool = True,
    pooling: str | None = None,
    dropout: float | None = None,
    seed: int | None = None,
    **_: Any,
) -> Classifier:
    """"dual", "video", "signal" or "signal_small". `seed` fixes the initial weights without changing the global random state.

    signal: options of SignalMAE. None: the default of the model (for signal_small no HPA and SMALL_HEAD, else HPA, mean
    pooling, no dropout). Raises ModelError on an unknown name, ValueError where a needed size is missing.
    """
    if name not in CLASSIFIERS:
        raise ModelError(f"there is no classifier {name!r}: choose one of {', '.join(CLASSIFIERS)}")
    video, signals = name in ("dual", "video"), name != "video"
    if video and token_dim is None:
        raise ValueError(f"{name} needs video tokens: give token_dim")
    if signals and (n_channels is None or signal_length is None):
        raise ValueError(f"{name} needs signals: give n_channels and signal_length")
    signal = {**(signal or {}), "output": signal_output}
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        encoder = None
        if signals:
            assert n_channels is not None and signal_length is not None
            encoder = signal_encoder(name, n_channels, signal_length, dict(signal or {}))
        head: dict[str, Any] = {k: v for k, v in (("pooling", pooling), ("dropout", dropout)) if v is not None}
        if name == "signal_small":
            hpa, head = {**SMALL_HPA, **(hpa or {})}, {**SMALL_HEAD, **head}
        return Classifier(
            n_classes,
            video_dim=token_dim if video else None,
            token_grid=token_grid,
            signal_encoder=encoder,
            hpa=hpa,
            dcan=dcan,
            use_hpa=name != "signal_small" if use_hpa is None else use_hpa,
            use_dcan=use_dcan,
            **head,
        )


def signal_encoder(name: str, n_channels: int, length: int, options: dict[str, Any]) -> SignalMAE | Reconstructed:
    """The paper's step tokens (3 layers x 64), or for signal_small at most 50 strided-convolution tokens per window."""
    output = options.pop("output", "latent")
    if output not in ("latent", "reconstruction"):
        raise ModelError(f"model.signal_output cannot be {output!r}: choose latent or reconstruction.")
    if name == "signal_small":
        options = {**SMALL_SIGNAL, **options}
    encoder = SignalMAE(n_channels, length, **options)
    if output == "reconstruction":
        return Reconstructed(encoder)
    encoder.decoder, encoder.head = nn.ModuleList(), nn.Identity()  # type: ignore[assignment]  # stage 2 uses E_ts only
    return encoder
