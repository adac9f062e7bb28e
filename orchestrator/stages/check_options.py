"""Checks the options of the open nodes of a configuration against the classes that receive them, before anything runs.

The nodes encoder, model, smae, train, pretrain.video, pretrain.signal, face, keyframe and signal accept the options of the
class behind them; an unknown name is the user's mistake, and is reported at once instead of after hours.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from models.registry import MODELS, find
from orchestrator.config.configuration import GROUPS, PATHS, Config, key_of_word, like, nearest
from orchestrator.config.model_inputs import SIGNALS, TOKENS, VIDEO, has_signal_encoder, is_estimator, needs, reads_encoder
from orchestrator.config.schema import repeated
from orchestrator.config.signature import parameters, rows, written
from orchestrator.config.unread import ONLY_NOTED, readers, sentence, without_effect
from orchestrator.errors import UserError

# What the training loop of the MAEs reads in addition to the optimiser's recipe.
PRETRAIN_VIDEO = {"epochs", "batch", "accumulate", "lr", "warmup", "mask", "mask_ratio", "adv_weight", "gp"}
PRETRAIN_SIGNAL = {"epochs", "batch", "accumulate", "lr", "split", "clip", "loss_on", "mask_ratio", "mask_length",
                   "concurrent", "bernoulli", "harden"}


def check(config: Config, overrides: Sequence[str] | None = None, stage: str = "") -> None:
    """Raises UserError (or InputError of preprocessing) for an option that is unknown, of another type or out of bounds,
    that does not fit the other options, or that has no effect here.

    overrides: the arguments of the command line. A node that none of them changes has its shipped (and tested) values, so
    that its class need not be imported, which takes seconds. None checks every node. Values and bounds were checked against
    the table (schema.py) when the configuration was composed. stage: the command that is run.
    """
    from preprocessing.clip import ClipOptions

    if config.audit and config.protocol.name == "as_paper":
        raise UserError("audit=true tests for leakage, and protocol=as_paper leaks on purpose: use "
                        "protocol=clean or protocol=both.")
    if config.audit and config.sweep.read:
        raise UserError("audit=true cannot be combined with sweep.read, whose folds have several configurations: leave one "
                        "out.")
    for node, given, names in _nodes(config):
        if overrides is not None and not any(_touches(word, node) for word in overrides):
            continue
        known = names()
        for name in given:
            if name not in known:
                raise UserError(f"There is no option '{node}.{name}': did you mean {like(name, sorted(known), f'{node}.')}?")
    if overrides is None or any(_touches(word, "train") for word in overrides):
        _check_augmentations(config)
    for word in overrides or ():
        if not _only_noted(config, key_of_word(word)) and (reason := _idle(config, key_of_word(word), stage)):
            raise UserError(sentence(word, reason))
    ClipOptions.from_config(config.face, config.keyframe, config.signal, config.frames, video=True)
    _check_masks(config, overrides)
    if overrides is None or any(map(_sizes, overrides)):
        _check_sizes(config)


def _sizes(word: str) -> bool:
    """Whether the override sets a size of a model, or a mask; the choice of a group (encoder=vit_tiny) is a shipped file."""
    key = key_of_word(word)
    return key not in GROUPS and (key.startswith("pretrain.video.mask")
                                  or key.partition(".")[0] in ("model", "encoder", "smae", "clip", "embed", "signal"))


def remarks(config: Config, overrides: Sequence[str], stage: str = "") -> list[str]:
    """Notes on the arguments of the command line, which do not stop it."""
    keys, said = [key_of_word(word) for word in overrides], []
    for key in repeated(keys):
        last = [word for word in overrides if key_of_word(word) == key][-1]
        said.append(f"{key} is given more than once: the last value is used, {last}")
    for word, reason in ((word, _idle(config, key_of_word(word), stage)) for word in dict.fromkeys(overrides)
                         if _only_noted(config, key_of_word(word))):
        if reason:
            said.append(f"{word} has no effect with {reason[0]}")
    video = config.pretrain.video
    if "pretrain.video.epochs" in keys and "pretrain.video.warmup" not in keys and _trains_video(config) and \
            video.get("warmup", 0) > video["epochs"]:
        said.append(f"pretrain.video.warmup={video['warmup']} is longer than the {video['epochs']} epochs: the learning rate "
                    "only rises")
    return said


def _only_noted(config: Config, key: str) -> bool:
    """Whether a key without effect gives a note instead of an error, so that one command line can be used for all models
    that are compared: pretrain, options of networks for an estimator, and the recipe of an encoder that a network lacks."""
    other: tuple[str, ...] = ("pretrain.video.",) if not needs(config) & TOKENS else ()
    other += ("pretrain.signal.",) if not has_signal_encoder(config.model.name) else ()
    return key == "pretrain" or (key in ONLY_NOTED and is_estimator(config.model.name)) or (
        reads_encoder(config) and key.startswith(other))


def has_effect(config: Config, word: str, stage: str = "") -> bool:
    """Whether something in this configuration reads what the word sets."""
    return _idle(config, key_of_word(word), stage) is None


def _idle(config: Config, key: str, stage: str) -> tuple[str, str] | None:
    reason = without_effect(config, key, stage)
    if reason is None and key.startswith("model.") and key not in PATHS:
        leaf = key.split(".")[1]
        if leaf not in _options(config.model.name):
            return f"model={config.model.name}", readers(leaf, _options)
    return reason


def _trains_video(config: Config) -> bool:
    return config.pretrain.name == "mae" and TOKENS <= needs(config) and not (
        config.pretrain.checkpoint or config.pretrain.given)


def _check_augmentations(config: Config) -> None:
    """UserError or ModelError for an unregistered train.augment.NAME, or for an option that it does not have."""
    wanted = config.train.get("augment") or {}
    if not wanted:
        return
    if not isinstance(wanted, Mapping):
        raise UserError(f"train.augment={wanted!r} does not fit: write train.augment.NAME.OPTION=VALUE.")
    from models.classifier.augment import find

    for name, given in wanted.items():
        node, change = f"train.augment.{name}", find(name)
        known = parameters(change) - {next(iter(inspect.signature(change).parameters))}
        if not isinstance(given, Mapping):
            raise UserError(f"{node}={given!r} does not fit: give its options, {node}.OPTION=VALUE with one of "
                            f"{', '.join(sorted(known))}.")
        for leaf in given:
            if leaf not in known:
                raise UserError(f"There is no option '{node}.{leaf}': did you mean {nearest(leaf, sorted(known), f'{node}.')}?")
        for row in rows(change, node):
            if (leaf := row.key.rpartition(".")[2]) in given:
                row.check(given[leaf])


def _check_masks(config: Config, overrides: Sequence[str] | None) -> None:
    """UserError for a mask ratio that cannot be reached, or a warm-up that is longer than its training."""
    video, signal, keys = config.pretrain.video, config.pretrain.signal, [key_of_word(word) for word in overrides or ()]
    if "pretrain.video.warmup" in keys and _trains_video(config) and video["warmup"] > video["epochs"]:
        raise UserError(f"pretrain.video.warmup={video['warmup']} is longer than pretrain.video.epochs={video['epochs']}: use "
                        "a smaller one.")
    ratio, length = signal.get("mask_ratio", 0.3), signal.get("mask_length", 3)
    if config.pretrain.name == "mae" and not signal.get("bernoulli") and ratio / (1 - ratio) > length:
        raise UserError(f"pretrain.signal.mask_ratio={ratio} cannot be reached with masked segments of "
                        f"pretrain.signal.mask_length={length}: increase the length, or lower the ratio.")


def _check_sizes(config: Config) -> None:
    """Builds the models of the run without their weights, so that sizes that do not fit are reported before anything runs."""
    if is_estimator(config.model.name):
        return
    import torch

    from models import build
    from models.errors import ModelError
    from orchestrator.stores.encoder_store import signal_options, video_options

    where, length = "encoder", int(config.signal.get("length", 400))
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            token_dim, grid = None, (1, 1, 1)
            if TOKENS <= needs(config):
                mae = build("video_mae", **video_options(config))
                _check_mask_ratio(config, mae.grid)  # type: ignore[arg-type]
                token_dim, grid = int(mae.dim), _pooled(config, mae.grid)  # type: ignore[arg-type]
            if has_signal_encoder(config.model.name) and reads_encoder(config):
                where = "smae or model.signal"
                build("signal_mae", **signal_options(config, 1, length))
            where = f"model={config.model.name}"
            given = {name: value for name, value in config.model.options().items() if name != "weights"}
            if has_signal_encoder(config.model.name):
                given["signal"] = {**config.smae, **(given.get("signal") or {})}
            signals = SIGNALS <= needs(config)
            build(config.model.name, n_classes=len(config.task.classes), token_dim=token_dim, token_grid=grid,
                  n_channels=1 if signals else None, signal_length=length if signals else None,
                  **({"frames": config.clip.frames, "image_size": config.encoder.image_size} if needs(config) & VIDEO else {}),
                  **given)
    except UserError:
        raise
    except (ModelError, ValueError, TypeError, ArithmeticError, AssertionError, RuntimeError, LookupError) as error:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UserError(f"{where} cannot be built with these options: {text}.") from error


def _pooled(config: Config, grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """The grid of the stored tokens. Raises UserError where it cannot be halved."""
    t, h, w = grid
    if config.embed.pool == "2x2" and (h % 2 or w % 2):
        raise UserError(f"embed.pool=2x2 needs an even number of patches per side, but there are {h}: use embed.pool=none, or "
                        "another encoder.image_size.")
    return {"none": grid, "2x2": (t, h // 2, w // 2), "temporal": (t, 1, 1)}[config.embed.pool]


def _check_mask_ratio(config: Config, grid: tuple[int, int, int]) -> None:
    """UserError for a ratio that masks none of so few positions."""
    from models.mae.masks import n_masked

    if not _trains_video(config):
        return
    t, h, w = grid
    kind, ratio = config.pretrain.video.get("mask", "tube"), config.pretrain.video["mask_ratio"]
    places = {"tube": h * w, "random": t * h * w, "frame": t}[kind]
    if n_masked(places, ratio) < 1:
        raise UserError(f"pretrain.video.mask_ratio={ratio} masks none of {places} positions (mask={kind}): use a larger ratio "
                        "or more patches.")


def _touches(word: str, node: str) -> bool:
    """Whether an override sets something in the node; the choice of a group (encoder=vit_tiny) is a shipped file."""
    key = key_of_word(word)
    return key.startswith(f"{node}.") or (key == node and node not in GROUPS)


def _nodes(config: Config) -> Iterable[tuple[str, Mapping[str, Any], Callable[[], Collection[str]]]]:
    """(node, the options given, a function that returns the valid names)."""
    given = config.model.options()
    yield "encoder", config.encoder.options(), lambda: _of("mae.video_mae.VideoMAE") - {"decoder"}
    yield "smae", config.smae, lambda: _of("mae.signal_mae.SignalMAE") - {"batch_norm", "tokenizer"}
    yield "train", config.train, lambda: _of("classifier.training.ClassifierRecipe")
    yield "pretrain.video", config.pretrain.video, lambda: PRETRAIN_VIDEO | _of("mae.training.VideoMAERecipe") - {
        "warmup_epochs"}
    yield "pretrain.signal", config.pretrain.signal, lambda: PRETRAIN_SIGNAL
    yield "model", given, lambda: _of_model(config.model.name, given)
    yield "model.hpa", given.get("hpa") or {}, lambda: _of("hpa.block.HPA") | {"token_pool"}
    yield "model.signal", given.get("signal") or {}, lambda: _of("mae.signal_mae.SignalMAE") - {"batch_norm"}
    yield "model.dcan", given.get("dcan") or {}, lambda: (
        _of("classifier.dcan.DCAN") | _of("classifier.dcan.ReleasedDCAN") | {"scale"})


def _of(name: str) -> frozenset[str]:
    """Options of "folder.file.Class" in models/."""
    module, _, kind = name.rpartition(".")
    return written(f"models.{module}:{kind}")


def _of_model(name: str, given: Mapping[str, Any]) -> frozenset[str]:
    """Options of other models are accepted and ignored, so that model=ridge can follow experiment=demo."""
    own = _options(name)
    return own if set(given) <= own else own.union(*map(_options, MODELS))


def _options(model: str) -> frozenset[str]:
    """The options of this model."""
    entry = find(model)
    return written(entry.make) if isinstance(entry.make, str) else frozenset(parameters(entry.make))
