"""Which keys a configuration reads, so that an argument without effect is reported and not silently ignored.

The whole pipeline counts, whichever stage is called: the same arguments go with preprocess and with loso. Keys of the machine
(resources, store, run, data.max_*) and of the report are never checked.
"""

from collections.abc import Callable, Collection

from models.registry import MODELS, Model, find
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import (
    SIGNALS,
    TOKENS,
    VIDEO,
    has_signal_encoder,
    is_classifier,
    is_estimator,
    needs,
    reads_encoder,
    reads_video,
    tokenizer_of,
)
from preprocessing.datasets.registry import SOURCES
from preprocessing.datasets.registry import find as find_source

# With an estimator they only give a note: one command line serves all models that are compared.
ONLY_NOTED = ("pretrain", "protocol.val", "protocol.refit")
# Options that the stopping rule of the released code replaces (fit_fold.published).
PUBLISHED = ("max_epochs", "patience", "monitor", "stop", "plateau", "lr_decay", "lr_schedule")
TOKEN_MODELS = "model=dual or model=video"
Reason = tuple[str, str] | None  # (why the key has no effect, what would read it)


def without_effect(config: Config, key: str, stage: str = "") -> Reason:
    """Why `key` changes nothing in this configuration, and what would read it; None where something reads it."""
    for prefix, rule in RULES:
        if key == prefix or key.startswith(prefix + "."):
            return rule(config, key[len(prefix) + 1:], stage)
    return None


def sentence(word: str, reason: tuple[str, str]) -> str:
    return f"{word} has no effect with {reason[0]}: leave it out, or use {reason[1]}."


def _model(config: Config) -> str:
    return f"model={config.model.name}"


def _encoder(config: Config, leaf: str, stage: str) -> Reason:
    wanted = needs(config)
    if wanted & VIDEO and leaf in ("", "image_size"):  # the width of the frames
        return None
    if not wanted & TOKENS:
        return _model(config), TOKEN_MODELS
    if config.pretrain.checkpoint and leaf not in ("", "heads", "decoder_heads"):
        return "pretrain.checkpoint, whose file defines the encoder", "pretrain.checkpoint=null"
    return None


def _tokens(config: Config, leaf: str, stage: str) -> Reason:
    return None if needs(config) & TOKENS else (_model(config), TOKEN_MODELS)


def _clip_window(config: Config, leaf: str, stage: str) -> Reason:
    """clip.*: the window of keyframes that encoders and pixel models read."""
    return None if needs(config) & (TOKENS | VIDEO) else (_model(config), TOKEN_MODELS)


def _faces(config: Config, leaf: str, stage: str) -> Reason:
    """face.*, keyframe.*, frames: how stage 1 processes a video."""
    if not reads_video(config):
        return f"{_model(config)}, which reads no video", TOKEN_MODELS
    if not find_source(config.dataset).films:
        return f"--dataset {config.dataset}, which has no video", "a data set with video"
    provider = config.face.get("provider", "litert")
    if leaf in ("precomputed_dir", "precomputed_root") and provider != "precomputed":
        return f"face.provider={provider}", "face.provider=precomputed"
    if leaf == "quality" and config.face.get("image", "png") == "png":
        return "face.image=png, which is lossless", "face.image=jpeg"
    return None


def _smae(config: Config, leaf: str, stage: str) -> Reason:
    if not has_signal_encoder(config.model.name):
        return _model(config), "model=dual or model=signal"
    own = config.model.options().get("signal") or {}
    if leaf in own:
        return f"{_model(config)}, whose model.signal.{leaf}={own[leaf]} is used instead", f"model.signal.{leaf}"
    return _signal_encoder(config, leaf)


def _signal_encoder(config: Config, leaf: str) -> Reason:
    """smae.LEAF or model.signal.LEAF: options of tokens or of a decoder that this model does not build."""
    given = {**config.smae, **(config.model.options().get("signal") or {})}
    step = given.get("tokenizer", tokenizer_of(config.model.name)) == "step"
    if step and leaf in ("max_tokens", "conv_layers", "conv_kernel"):
        return "model.signal.tokenizer=step, one token a step", "model.signal.tokenizer=conv"
    if leaf == "decoder_depth" and given.get("decoder") == "linear":
        return "smae.decoder=linear", "smae.decoder=transformer"
    return None


def _train(config: Config, leaf: str, stage: str) -> Reason:
    if is_estimator(config.model.name):
        return f"{_model(config)}, which is fitted without epochs", "model=signal or another network"
    if config.protocol.name == "as_paper" and leaf in PUBLISHED:
        return "protocol=as_paper, which stops as the released code does", "protocol.as_paper_epochs, or protocol=clean"
    if leaf in ("patience", "plateau") and config.train.get("stop") == "rate":
        return "train.stop=rate, which stops as the released code does", "train.stop=patience"
    if leaf.startswith(("signal_", "augment")) and not needs(config) & SIGNALS:
        return f"{_model(config)}, which reads no signals", "model=dual or model=signal"
    if leaf == "lr_signal" and not has_signal_encoder(config.model.name):
        return f"{_model(config)}, which has no signal encoder", "model=dual or model=signal"
    return None


def _scale(config: Config, leaf: str, stage: str) -> Reason:
    return None if needs(config) & SIGNALS else (f"{_model(config)}, which reads no signals", "model=dual or model=signal")


def _pretrain(config: Config, leaf: str, stage: str) -> Reason:
    node, pretrain = leaf.partition(".")[0], config.pretrain
    if not reads_encoder(config):
        return f"{_model(config)}, which uses no encoder", "model=dual, model=video or model=signal"
    signal = has_signal_encoder(config.model.name)
    if node in ("checkpoint", "checkpoint_saw", "video") and not needs(config) & TOKENS:
        return f"{_model(config)}, which uses no video encoder", TOKEN_MODELS
    if node == "signal" and not signal:
        return f"{_model(config)}, which has no signal encoder", "model=dual or model=signal"
    if node == "checkpoint_saw" and not pretrain.checkpoint:
        return "pretrain.checkpoint=null", "pretrain.checkpoint=FILE"
    if node == "video" and pretrain.checkpoint:
        return "pretrain.checkpoint, whose file was pretrained elsewhere", "pretrain.checkpoint=null"
    if node in ("from", "seeds") and stage == "sweep":
        return "a sweep, which compares encoders of one pretraining each", "orchestrator.loso"
    if node in ("from", "seeds") and pretrain.checkpoint and (node == "from" or not signal):
        return "pretrain.checkpoint, whose file was pretrained elsewhere", "pretrain.checkpoint=null"
    if pretrain.given and pretrain.name == "mae" and (
            node in ("video", "seeds") or (node not in ("", "from") and not (signal and needs(config) & TOKENS))):
        return "pretrain.from, whose encoders are trained already", "pretrain.from=null"
    random = node in ("seed", "seeds") and needs(config) & TOKENS  # draws the weights of an untrained encoder
    if pretrain.name == "none" and node not in ("", "checkpoint", "checkpoint_saw") and not random:
        return "pretrain=none", "pretrain=mae"
    if leaf == "video.mask_ratio" and stage == "sweep":
        return "a sweep, which takes its ratios from sweep.mask_ratio", "sweep.mask_ratio"
    return None


def _protocol(config: Config, leaf: str, stage: str) -> Reason:
    if leaf not in ("val_subjects", "val", "refit", "as_paper_epochs"):
        return None
    if is_estimator(config.model.name):
        return f"{_model(config)}, which is fitted without epochs", "model=signal or another network"
    if leaf == "as_paper_epochs":
        return None if config.protocol.name in ("as_paper", "both") else (f"protocol={config.protocol.name}",
                                                                          "protocol=as_paper or protocol=both")
    if leaf in ("val_subjects", "refit"):
        if config.protocol.name == "as_paper":
            return "protocol=as_paper, where the epoch is chosen on the test subject", "protocol=clean"
        if config.protocol.val == "fixed_epochs":
            return "protocol.val=fixed_epochs", "protocol.val=inner"
    return None


def _synthetic(config: Config, leaf: str, stage: str) -> Reason:
    if "synthetic" in (config.dataset, config.split.test):
        return None
    return f"--dataset {config.dataset}", "--dataset synthetic"


def _data(config: Config, leaf: str, stage: str) -> Reason:
    lists = any(name in SOURCES and SOURCES[name].lists for name in (config.dataset, config.split.test))
    if leaf in ("source", "subjects") and not lists:
        return f"--dataset {config.dataset}", "--dataset biovid_a"
    if leaf == "root" and config.dataset == "synthetic":
        return "--dataset synthetic, which writes its own recordings", "the data set of that folder"
    return None


def _sweep(config: Config, leaf: str, stage: str) -> Reason:
    if leaf == "read":
        return ("a sweep, which makes its own choice", "orchestrator.loso") if stage == "sweep" else None
    return ("orchestrator.loso, which compares no configurations", "orchestrator.sweep") if stage == "loso" and leaf else None


def _audit(config: Config, leaf: str, stage: str) -> Reason:
    return ("a sweep, which has no test subjects", "orchestrator.loso") if stage == "sweep" else None


def _canaries(config: Config, leaf: str, stage: str) -> Reason:
    return None if config.audit else ("audit=false", "audit=true")


def _options(config: Config, leaf: str, stage: str) -> Reason:
    """model.*: the four classifiers share one signature, of which each reads a part. Other models: check_options."""
    name, given = config.model.name, config.model.options()
    node, _, rest = leaf.partition(".")
    if not is_classifier(name) or node not in CLASSIFIER_READERS:
        return None
    if not CLASSIFIER_READERS[node](find(name)):
        return _model(config), " or ".join(f"model={other.name}" for other in MODELS.values()
                                           if other.family == "classifier" and CLASSIFIER_READERS[node](other))
    if node == "hpa" and rest != "token_pool" and given.get("use_hpa", name != "signal_small") is False:
        return "model.use_hpa=false", "model.use_hpa=true"
    if leaf == "hpa.token_pool" and not needs(config) & TOKENS:
        return f"{_model(config)}, which reads no tokens", TOKEN_MODELS
    if node == "signal" and rest:
        return _signal_encoder(config, rest)
    if node == "dcan" and given.get("use_dcan") is False:
        return "model.use_dcan=false", "model.use_dcan=true"
    if node == "dcan" and rest:
        fusion = (given.get("dcan") or {}).get("fusion", "mlp")
        read = ("layers", "compress", "dropout", "regressor") if fusion == "released" else (
            "dim", "layers", "scale", "compress", *(("hidden",) if fusion == "mlp" else ()))
        if rest not in ("fusion", *read):
            return f"model.dcan.fusion={fusion}", "another model.dcan.fusion"
    return None


CLASSIFIER_READERS: dict[str, Callable[[Model], bool]] = {
    "dcan": lambda model: len(model.needs) > 1, "use_dcan": lambda model: len(model.needs) > 1,
    "signal": lambda model: bool(model.signal_encoder), "signal_output": lambda model: bool(model.signal_encoder),
    "hpa": lambda model: True}
RULES: tuple[tuple[str, Callable[[Config, str, str], Reason]], ...] = (
    ("encoder", _encoder), ("embed", _tokens), ("clip", _clip_window), ("face", _faces), ("keyframe", _faces),
    ("frames", _faces),
    ("smae", _smae), ("train", _train), ("train_from", _train), ("scale", _scale), ("pretrain", _pretrain),
    ("protocol", _protocol), ("synthetic", _synthetic), ("data", _data), ("sweep", _sweep),
    ("audit", _audit), ("canaries", _canaries), ("controls", _audit), ("model", _options))


def readers(leaf: str, known: Callable[[str], Collection[str]]) -> str:
    """The models that take the option model.<leaf>, by their signatures (known(name) -> names)."""
    return " or ".join(f"model={name}" for name in MODELS if leaf in known(name))
