"""Options of the open nodes of a configuration, held against what will receive them, before anything runs.

The nodes encoder, model, smae, train, pretrain.video, pretrain.signal, face, keyframe and signal take whatever the class
behind them takes; a name it does not know is the user's mistake, and is told at once rather than after hours.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from orchestrator.config import GROUPS, Config, nearest
from orchestrator.errors import UserError

# What mae_loop reads beside the optimiser's recipe.
PRETRAIN_VIDEO = {"epochs", "batch", "accumulate", "lr", "warmup", "mask", "mask_ratio", "adv_weight", "gp"}
PRETRAIN_SIGNAL = {"epochs", "batch", "accumulate", "lr", "split", "clip", "loss_on", "mask_ratio", "mask_length",
                   "concurrent", "bernoulli", "harden"}
GIVEN = {"self", "name", "n_classes", "seed", "channels", "n_channels", "length", "signal_length", "in_dim", "video_dim",
         "signal_dim", "token_dim", "token_grid", "video_tokens", "signal_tokens", "scale", "image_size", "frames"}


def check(config: Config, overrides: Sequence[str] | None = None) -> None:
    """Raises UserError (or InputError of preprocessing) for an option that nothing takes, or of another type.

    overrides: the words of the command line. A node that none of them touches is as it was shipped (and tested), so that
    what would receive it need not be imported, which takes seconds. None checks every node.
    """
    from pydantic import TypeAdapter, ValidationError

    from models.training import ClassifierRecipe
    from preprocessing.clip import ClipOptions

    if config.audit and config.protocol.name == "as_paper":
        raise UserError("audit=true asks whether anything leaks, which protocol=as_paper does on purpose: use "
                        "protocol=clean or protocol=both.")
    if config.audit and config.sweep.read:
        raise UserError("audit=true does not go with sweep.read, whose folds have several configurations: leave one out.")
    for node, given, names in _nodes(config):
        if overrides is not None and not any(_touches(word, node) for word in overrides):
            continue
        known = names()
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


def _touches(word: str, node: str) -> bool:
    """Whether an override sets something in the node; a group's choice (encoder=vit_tiny) is a shipped file."""
    key = word.lstrip("+~").partition("=")[0]
    return key.startswith(f"{node}.") or (key == node and node not in GROUPS)


def _nodes(config: Config) -> Iterable[tuple[str, Mapping[str, Any], Callable[[], set[str]]]]:
    """(node, what was given, what gives the names known there)."""
    given = config.model.options()
    yield "encoder", config.encoder.options(), lambda: _of("video_mae.VideoMAE") - {"decoder"}
    yield "smae", config.smae, lambda: _of("signal_mae.SignalMAE") - {"batch_norm", "tokenizer"}
    yield "train", config.train, lambda: _of("training.ClassifierRecipe")
    yield "pretrain.video", config.pretrain.video, lambda: PRETRAIN_VIDEO | _of("mae_training.VideoMAERecipe") - {
        "warmup_epochs"}
    yield "pretrain.signal", config.pretrain.signal, lambda: PRETRAIN_SIGNAL
    yield "model", given, lambda: _of_model(config.model.name, given)
    yield "model.hpa", given.get("hpa") or {}, lambda: _of("hpa.HPA") | {"token_pool"}
    yield "model.signal", given.get("signal") or {}, lambda: _of("signal_mae.SignalMAE") - {"batch_norm"}
    yield "model.dcan", given.get("dcan") or {}, lambda: _of("dcan.DCAN") | _of("dcan.ReleasedDCAN") | {"scale"}


def _of(name: str) -> set[str]:
    """parameters() of "file.Class" in models/."""
    module, _, kind = name.partition(".")
    return parameters(getattr(import_module(f"models.{module}"), kind))


def _of_model(name: str, given: Mapping[str, Any]) -> set[str]:
    """Options of another model are left aside, so that model=ridge can follow experiment=demo."""
    from models import BASELINES

    own = parameters(_kind(name))
    return own if set(given) <= own else own.union(*(parameters(_kind(other)) for other in ("dual", *BASELINES)))


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
