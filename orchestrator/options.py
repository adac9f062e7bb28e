"""Options of the open nodes of a configuration, held against what will receive them, before anything runs.

The nodes encoder, model, smae, train, pretrain.video, pretrain.signal, face, keyframe and signal take whatever the class
behind them takes; a name it does not know is the user's mistake, and is told at once rather than after hours.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from orchestrator.config import Config, nearest
from orchestrator.errors import UserError

# What mae_loop reads beside the optimiser's recipe.
PRETRAIN_VIDEO = {"epochs", "batch", "accumulate", "lr", "warmup", "mask", "mask_ratio", "adv_weight", "gp"}
PRETRAIN_SIGNAL = {"epochs", "batch", "accumulate", "lr", "split", "clip", "loss_on", "mask_ratio", "mask_length",
                   "concurrent", "bernoulli", "harden"}
GIVEN = {"self", "name", "n_classes", "seed", "channels", "n_channels", "length", "signal_length", "in_dim", "video_dim",
         "signal_dim", "token_dim", "token_grid", "video_tokens", "signal_tokens", "scale", "image_size", "frames"}


def check(config: Config) -> None:
    """Raises UserError (or InputError of preprocessing) for an option that nothing takes, or of another type."""
    from pydantic import TypeAdapter, ValidationError

    from models.training import ClassifierRecipe
    from preprocessing.clip import ClipOptions

    if config.audit and config.protocol.name == "as_paper":
        raise UserError("audit=true asks whether anything leaks, which protocol=as_paper does on purpose: use "
                        "protocol=clean or protocol=both.")
    if config.audit and config.sweep.read:
        raise UserError("audit=true does not go with sweep.read, whose folds have several configurations: leave one out.")
    for node, given, known in _nodes(config):
        for name in given:
            if name not in known:
                raise UserError(f"There is no option '{node}.{name}': did you mean {nearest(name, sorted(known))}?")
    try:
        TypeAdapter(ClassifierRecipe).validate_python(dict(config.train))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(f"train.{name}={first['input']!r} does not fit: {first['msg']}.") from error
    ClipOptions.from_config(config.face, config.keyframe, config.signal, config.frames, video=True)


def _nodes(config: Config) -> Iterable[tuple[str, Mapping[str, Any], set[str]]]:
    """(node, what was given, what is known there)."""
    from models import BASELINES
    from models.dcan import DCAN, ReleasedDCAN
    from models.hpa import HPA
    from models.mae_training import VideoMAERecipe
    from models.signal_mae import SignalMAE
    from models.training import ClassifierRecipe
    from models.video_mae import VideoMAE

    signal_mae = parameters(SignalMAE) - {"batch_norm"}
    yield "encoder", config.encoder.options(), parameters(VideoMAE) - {"decoder"}
    yield "smae", config.smae, signal_mae - {"tokenizer"}
    yield "train", config.train, {f.name for f in fields(ClassifierRecipe)}
    yield "pretrain.video", config.pretrain.video, PRETRAIN_VIDEO | parameters(VideoMAERecipe) - {"warmup_epochs"}
    yield "pretrain.signal", config.pretrain.signal, PRETRAIN_SIGNAL
    given = config.model.options()
    own = parameters(_kind(config.model.name))
    # options of another model are left aside, so that model=ridge can follow experiment=demo
    every = ("dual", *BASELINES)
    yield "model", given, own if set(given) <= own else own.union(*(parameters(_kind(name)) for name in every))
    for name, known in (("hpa", parameters(HPA) | {"token_pool"}), ("signal", signal_mae),
                        ("dcan", parameters(DCAN) | parameters(ReleasedDCAN) | {"scale"})):
        yield f"model.{name}", given.get(name) or {}, known


def parameters(kind: Any) -> set[str]:
    """Names the caller of `kind` may choose."""
    found = inspect.signature(kind).parameters.values()
    return {p.name for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD} - GIVEN


def _kind(model: str) -> Any:
    """What is called with the options of this model. Imports its file alone."""
    from models import CLASSIFIERS
    from models.baselines import NETWORKS

    if model in CLASSIFIERS:
        return import_module("models.classifier").build_classifier
    if model in NETWORKS:
        module, name = NETWORKS[model]
        return getattr(import_module(module), name)
    return import_module("models.baselines.estimators").ESTIMATORS[model]
