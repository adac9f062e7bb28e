"""The configuration of a run: composed by Hydra from experiments/, then checked field by field.

`compose(dataset, overrides)` is the only entry point. A key or value that does not exist gets one sentence with the
nearest valid names (UserError, exit code 2).
"""

import builtins
import difflib
import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orchestrator.config.groups import EXPERIMENTS, GROUPS, choices, registered
from orchestrator.config.schema import check_values, check_word
from orchestrator.errors import UserError
from preprocessing.inputs.limits import Limits

# Short forms on the command line for a key inside a node.
SHORT = {"store": "store.dir"}
# Names of other programs for options, for the hint of a message.
USUAL = {"learning_rate": "train.lr", "lr": "train.lr", "batch": "train.batch_size", "batch_size": "train.batch_size",
         "epochs": "train.max_epochs", "n_epochs": "train.max_epochs", "seed": "protocol.seeds", "seeds": "protocol.seeds",
         "folds": "max_folds", "n_folds": "split.k", "root": "data.root", "data_dir": "data.root", "path": "data.root",
         "out": "run.dir", "output": "run.dir", "output_dir": "run.dir", "jobs": "resources.cpus", "n_jobs": "resources.cpus",
         "workers": "resources.cpus", "cpus": "resources.cpus", "classes": "task.classes"}
PATHS = {"data.root", "split.root", "model.weights", "store.dir", "store.key", "run.dir", "run.ledger", "sweep.read",
         "pretrain.checkpoint", "pretrain.checkpoint_saw", "pretrain.from", "face.weights_dir", "face.precomputed_dir",
         "face.precomputed_root"}


class Node(BaseModel):
    """Structure and types; the bounds of values are in one table in schema.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(Node):
    name: str
    classes: list[int]


class Open(Node):
    """A node whose further keys are checked by the class that receives them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Model(Open):
    name: str


class Encoder(Open):
    name: str
    scale: str
    image_size: int


class Protocol(Node):
    name: Literal["clean", "as_paper", "exclude_pretrain", "both"]
    seeds: list[int]
    val_subjects: int | None = None
    val: Literal["inner", "fixed_epochs"] = "inner"
    refit: bool | None = None
    as_paper_epochs: int = 1000

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, value: Any) -> Any:
        return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


class Split(Open):
    """The options of each split are in experiments/split/<name>.yaml, or in the registration of a plugin."""

    name: str
    n: int = 2
    k: int = 5
    seed: int = 0
    list: Literal["auto", "own", "random", "hold_out_26"] = "auto"
    test_subjects: int | None = None
    repeats: int = 5
    test: str | None = None
    root: str | None = None
    classes: builtins.list[int] | None = None


class Pretrain(Node):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    name: Literal["mae", "none"]
    fraction: float | None = None
    subjects: list[int] | None = None
    checkpoint: str | None = None
    checkpoint_saw: str = "unknown"
    given: str | None = Field(default=None, alias="from")  # `from` is a keyword of Python
    seed: int = 0
    seeds: int = 1
    workers: int | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    save_epochs: int | None = 1
    save_steps: int | None = None
    save_seconds: float | None = 300
    cache_mb: int = 512
    video: dict[str, Any] = {}
    signal: dict[str, Any] = {}


class Data(Node):
    root: str | None = None
    allow_partial: bool = False
    source: Literal["raw", "filtered"] = "raw"
    subjects: str = "all"
    max_pixels: int = Limits.max_pixels
    max_channels: int = Limits.max_channels
    max_rows: int = Limits.max_rows

    def limits(self) -> dict[str, int]:
        """Sizes beyond which an input is not opened: preprocessing.inputs.limits.Limits."""
        return {"max_pixels": self.max_pixels, "max_channels": self.max_channels, "max_rows": self.max_rows}

    @field_validator("subjects", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value)


class Store(Node):
    dir: str = "store"
    key: str | None = None


class Run(Node):
    dir: str | None = None
    ledger: str | None = None
    executor: Literal["ray", "inline"] = "ray"


class Synthetic(Node):
    subjects: int = 8
    clips_per_level: int = 8
    effect: float = 1.0
    seed: int = 0
    levels: list[str] | None = None
    size: tuple[int, int] = (640, 480)


class Clip(Node):
    frames: int = 16
    rate: int = 16


class Embed(Node):
    pool: Literal["none", "2x2", "temporal"] = "none"
    batch: int = 8
    dtype: Literal["float16", "int8"] = "float16"


class Sweep(Node):
    """The grid of orchestrator.sweep. halves: cross-fitting over two halves of the subjects; read: loso uses that choice."""

    encoder: list[str] = ["vit_tiny", "vit_small"]
    mask_ratio: list[float] = [0.75, 0.9]
    halves: bool = False
    read: str | None = None

    @field_validator("encoder")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in choices("encoder"):
                raise ValueError(f"{name} does not exist, did you mean {nearest(name, choices('encoder'))}")
        return value


class Canaries(Node):
    """What audit=true must be able to detect; see experiments/config.yaml."""

    repeats: int | None = None
    points: float = 5.0


class Resources(Node):
    cpus: int | None = None
    fold_timeout_s: float = 86400
    folds_per_gpu: int | None = None
    dashboard: bool = True


class Config(Node):
    """The whole configuration; see experiments/config.yaml for what each key means."""

    dataset: str
    task: Task
    model: Model
    encoder: Encoder
    protocol: Protocol
    split: Split
    pretrain: Pretrain
    data: Data
    store: Store
    run: Run
    synthetic: Synthetic
    frames: Literal["keyframes", "all"]
    strict: bool
    audit: bool
    canaries: Canaries = Canaries()
    controls: bool = True
    max_folds: int | None = None
    face: dict[str, Any]
    keyframe: dict[str, Any]
    clip: Clip
    signal: dict[str, Any]
    embed: Embed
    scale: Literal["train_z", "train_minmax", "clip_minmax", "subject_z"]
    smae: dict[str, Any]
    train: dict[str, Any]
    train_from: str | None
    resources: Resources
    sweep: Sweep = Sweep()

    @property
    def store_dir(self) -> Path:
        return Path(self.store.dir).expanduser().resolve()


def split_readers(leaf: str) -> list[str]:
    """The splits that read split.<leaf>."""
    from omegaconf import OmegaConf

    files = {path.stem: OmegaConf.load(path) for path in (EXPERIMENTS / "split").glob("*.yaml")}
    return [name for name, read in sorted({**files, **registered("split")}.items()) if leaf != "name" and leaf in read]


def nearest(word: str, valid: list[str], node: str = "") -> str:
    """Valid words like `word`, for a message. node: what stands before each on the command line, as "train."."""
    begun = [name for name in valid if name.startswith(word)]
    close = [*begun, *(name for name in difflib.get_close_matches(word, valid, n=3, cutoff=0.4) if name not in begun)]
    named = [node + name for name in close[:3] or valid[:12]]
    return " or ".join(named) if close else ", ".join(named)


def like(word: str, keys: list[str], node: str = "") -> str:
    """Options that a name may mean, for a message: by its usual name, by its last part, then by its letters. node: what stands
    before the keys on the command line, as "train."."""
    name = word.lower().replace("-", "_")
    usual = USUAL.get(name, "").removeprefix(node)
    if usual in keys:
        return node + usual
    same = [key for key in keys if key.rpartition(".")[2] == name] if "." not in word else []
    return " or ".join(node + key for key in same[:3]) or nearest(word, keys, node)


def _flat(node: Any, prefix: str = "") -> list[str]:
    keys = []
    for key, value in node.items():
        keys.append(prefix + key)
        if isinstance(value, dict):
            keys += _flat(value, prefix + key + ".")
    return keys


def key_of_word(word: str) -> str:
    """The key that an override sets, spelt out: Hydra's + and ++ set like = here."""
    key = word.partition("=")[0].lstrip("+~")
    return SHORT.get(key, key)


def _check_override(override: str, keys: list[str]) -> str:
    """The override with short names spelt out. Raises UserError for a key or a group choice that does not exist."""
    _, separator, value = override.partition("=")
    if not separator:
        raise UserError(f"'{override}' is not an override: write key=value, for example encoder=vit_tiny.")
    key = key_of_word(override)
    check_word(override, key, key in PATHS)
    if key == "dataset":
        raise UserError(f"Name the data set once, with --dataset {value}, and leave {override} out.")
    if key in GROUPS:
        if value not in choices(key):
            raise UserError(f"{key}={value} does not exist: did you mean {nearest(value, choices(key))}?")
        return f"{key}={value}"
    parent, _, leaf = key.rpartition(".")
    if leaf == "name" and parent in GROUPS and parent != "task":
        raise UserError(f"{override} cannot be set alone: write {parent}=NAME, which also sets its options; did you mean "
                        f"{nearest(value, choices(parent))}?")
    open_nodes = ("model", "encoder", "face", "keyframe", "signal", "smae", "train", "pretrain.video", "pretrain.signal")
    if key in PATHS and value != "null":
        _check_path(key, _bare(value))
    inside = [name for name in keys if name.startswith(key + ".")]
    if inside and not value.lstrip().startswith("{") and value != "null":
        raise UserError(f"{override} cannot be set: {key} is a group of options, write for instance "
                        f"{next((name for name in PATHS if name in inside), inside[0])}=VALUE.")
    if key in keys:
        return f"{key}={value}"
    if any(parent == node or parent.startswith(node + ".") for node in open_nodes):
        return f"++{key}={value}"  # options classes check these names themselves
    if parent == "split" and (reading := split_readers(leaf)):
        raise UserError(f"{override} has no effect with the chosen split: leave it out, or use "
                        f"{' or '.join(f'split={name}' for name in reading)}.")
    raise UserError(f"There is no option '{key}': did you mean {like(key, keys)}?")


def _bare(value: str) -> str:
    """A path without the quotes around it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def option_keys() -> list[str]:
    """Groups and options as they are written on the command line, of the shipped configuration."""
    from omegaconf import OmegaConf

    return [*GROUPS, *SHORT, *_flat(OmegaConf.to_container(_shipped("synthetic")))]


def _set(raw: dict[str, Any], key: str, value: str) -> None:
    *nodes, leaf = key.split(".")
    for node in nodes:
        raw = raw[node]
    raw[leaf] = value


def _check_path(key: str, value: str) -> None:
    """UserError for the home folder of an unknown user, or a link that points to itself."""
    try:
        Path(value).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{key}={value} cannot be resolved ({error}): give a valid path.") from error


def compose(dataset: str, overrides: list[str]) -> Config:
    """Compose and check. Raises UserError for whatever does not exist or does not fit."""
    return checked(composed(dataset, overrides))


def composed(dataset: str, overrides: list[str]) -> dict[str, Any]:
    """The configuration as nested dicts, its values not checked yet. Raises UserError for a name that does not exist."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    if dataset not in choices("dataset"):
        raise UserError(f"There is no data set '{dataset}': did you mean {nearest(dataset, choices('dataset'))}?")
    chosen = [_check_override(word, []) for word in overrides if key_of_word(word) in GROUPS]
    # a path may contain characters that have a meaning in Hydra's grammar, so it is set afterwards
    paths = {key_of_word(word): _bare(word.partition("=")[2]) for word in overrides
             if key_of_word(word) in PATHS and word.partition("=")[2] != "null"}
    try:
        tree = _shipped(dataset, *chosen)
        keys = _flat(OmegaConf.to_container(tree))
        options = [_check_override(word, keys) for word in overrides if key_of_word(word) not in GROUPS]
        for override in OverridesParser.create().parse_overrides([word for word in options if key_of_word(word) not in paths]):
            with open_dict(tree):  # _check_override has refused keys that nobody reads
                OmegaConf.update(tree, override.key_or_group, override.value(), merge=True)
        raw: dict[str, Any] = OmegaConf.to_container(tree, resolve=True)  # type: ignore[assignment]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"The command line does not fit: {' '.join(str(error).split())}") from error
    for key, value in paths.items():
        _set(raw, key, value)
    return raw


def _shipped(dataset: str, *chosen: str) -> Any:
    """What Hydra composes from experiments/ and the registers for these groups, as a tree that the caller may change."""
    entries = {group: registered(group) for group in ("dataset", "model", "split")}
    return deepcopy(_composition(json.dumps(entries, sort_keys=True, default=str), f"dataset={dataset}", *chosen))


@cache
def _composition(entries: str, *words: str) -> Any:
    """Hydra takes 0.35 s for a composition; the same words and the same registers compose the same."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore

    for group in ("dataset", "model", "split"):
        for name, node in registered(group).items():
            ConfigStore.instance().store(name, node, group, package="_global_" if group == "dataset" else None)
    with initialize_config_dir(str(EXPERIMENTS), version_base="1.3"):
        return hydra_compose("config", overrides=list(words))


def checked(raw: dict[str, Any]) -> Config:
    raw.pop("experiment", None)
    check_values(raw)
    try:
        return Config(**raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}={first['input']!r} does not fit: {first['msg']}.") from error


def with_pretrain_seed(config: Config, seed: int) -> Config:
    """The configuration of one of pretrain.seeds."""
    return config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"seed": seed, "seeds": 1})})


def with_protocol(config: Config, name: str) -> Config:
    """The same under another protocol. Within `both`, clean is refitted unless protocol.refit=false: as_paper trains on all
    but the test subject, and their difference must not come from the number of training subjects."""
    protocol = config.protocol
    refit = True if (protocol.name, name, protocol.refit) == ("both", "clean", None) else protocol.refit
    return config.model_copy(update={"protocol": protocol.model_copy(update={"name": name, "refit": refit})})
