"""A run's configuration with the default of every option that was not given, flat: {"train.lr": 0.001, ...}.

The report compares a run with the shipped defaults; an option that is not given has the default of the class that receives
it, read from its signature, so that no default is written twice.
"""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from orchestrator.config.configuration import compose
from orchestrator.config.model_inputs import (
    SIGNALS,
    TOKENS,
    has_signal_encoder,
    is_classifier,
    is_estimator,
    needs_of,
    tokenizer_of,
)

Values = dict[str, Any]
NULL_IS_DEFAULT = ("encoder.", "model.")  # there null means the default; elsewhere it is a value: no filter, no limit


@cache
def shipped(dataset: str, model: str) -> Values:
    """The configuration if only the data set and the model are given. Do not change the result."""
    return filled(compose(dataset, [f"model={model}"]).model_dump(mode="json"), model)


def filled(config: Mapping[str, Any], model: str) -> Values:
    """The configuration (nested, as a run stores it) flat, with the defaults of the classes that read it."""
    flat = _flat(config)
    for prefix, defaults in _defaults(config, model):
        for name, value in defaults.items():
            key = f"{prefix}{name}"
            if key not in flat or (flat[key] is None and prefix in NULL_IS_DEFAULT):
                flat[key] = value
    own = (config.get("model") or {}).get("signal") or {}  # these override smae
    return flat | {f"smae.{name}": value for name, value in own.items()}


def _defaults(config: Mapping[str, Any], model: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(prefix of the keys, defaults), where the model reads them."""
    wanted = needs_of(model)
    found: list[tuple[str, Mapping[str, Any]]] = []
    keyframe = dict(config.get("keyframe") or {})
    if wanted - SIGNALS:
        from preprocessing.face.engine import FaceOptions
        from preprocessing.face.keyframes import KeyframeOptions

        found.append(("face.", asdict(FaceOptions())))
        found.append(("keyframe.", asdict(KeyframeOptions.preset(keyframe.get("preset", "default")))))
    if SIGNALS <= wanted:
        from preprocessing.signals.signals import SignalOptions

        found.append(("signal.", _flat(asdict(SignalOptions()))))
    if is_estimator(model):
        return found
    from models.classifier.training import ClassifierRecipe

    found.append(("train.", asdict(ClassifierRecipe())))
    if TOKENS <= wanted:
        found += _video(config)
    if has_signal_encoder(model):
        from models.mae.signal_mae import SignalMAE

        found.append(("smae.", {**_signature(SignalMAE), "tokenizer": tokenizer_of(model)}))
    if is_classifier(model):
        found += _classifier(config, model)
    return found


def _video(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    from models.mae.training import VideoMAERecipe
    from models.mae.video_mae import SCALES, VideoMAE

    given = config.get("encoder") or {}
    scale = SCALES.get(str(given.get("scale", "small")))
    sizes = {} if scale is None else {"depth": scale.depth, "dim": scale.dim, "heads": scale.heads,
                                      "decoder_depth": scale.decoder_depth,
                                      "decoder_dim": (given.get("dim") or scale.dim) // 2}
    return [("encoder.", {**_signature(VideoMAE), **sizes}), ("pretrain.video.", asdict(VideoMAERecipe()))]


def _classifier(config: Mapping[str, Any], model: str) -> list[tuple[str, Mapping[str, Any]]]:
    from models.classifier.classifier import SMALL_HEAD, SMALL_HPA
    from models.classifier.dcan import DCAN, ReleasedDCAN
    from models.hpa.block import HPA

    small, dcan = model == "signal_small", ((config.get("model") or {}).get("dcan") or {})
    head = SMALL_HEAD if small else {"pooling": "mean", "dropout": 0.0}
    fusion = ReleasedDCAN if dcan.get("fusion") == "released" else DCAN
    return [("model.", {"use_hpa": not small, "use_dcan": True, "signal_output": "latent", **head}),
            ("model.hpa.", {**_signature(HPA), **(SMALL_HPA if small else {}), "token_pool": "none"}),
            ("model.dcan.", {"fusion": "mlp", **_signature(fusion)})]


def _signature(kind: Any) -> Values:
    """The defaults of what a class is built with."""
    return {p.name: p.default for p in inspect.signature(kind).parameters.values()
            if p.default is None or isinstance(p.default, str | int | float | bool)}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Values:
    found: Values = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
