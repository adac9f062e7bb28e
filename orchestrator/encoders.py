"""The pretrained encoders: key, files and lineage of the artefact stage 2 leaves behind.

An encoder's key is the hash of its own people's shards, its configuration and the code that trains it: another
person's recordings cannot change it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.clipstore import ClipStore
from orchestrator.cohort import Cohort
from orchestrator.config import Config
from orchestrator.foreign import Foreign, read_foreign
from orchestrator.groups import Group
from orchestrator.lineage import Lineage
from orchestrator.storage import hash_all, key_of, read_json, read_sealed, sources_sha256

SOURCES = ("models/video_mae.py", "models/vit.py", "models/masks.py", "models/critic.py", "models/signal_mae.py",
           "models/conv_tokens.py", "models/mae_training.py", "models/checkpoint.py", "models/shared_norm.py",
           "models/training_state.py", "models/interop.py", "orchestrator/mae_loop.py", "orchestrator/mae_stages.py",
           "orchestrator/mae_state.py", "orchestrator/mae_curves.py", "orchestrator/mae_data.py", "orchestrator/encoders.py",
           "orchestrator/foreign.py", "orchestrator/pretrain.py", "models/positions.py", "preprocessing/keyframes.py",
           "preprocessing/shard.py", "preprocessing/moments.py", "preprocessing/clip.py")
# Of the node `pretrain`: how a training is carried out and kept, which changes nothing that it gives.
NOT_RECIPE = ("save_epochs", "save_steps", "save_seconds", "cache_mb")

if TYPE_CHECKING:  # torch and timm take seconds to import; the processes that only plan do without
    from models.video_mae import VideoMAE


@dataclass(frozen=True)
class EncoderPlan:
    """What an encoder is to be: `group` None means random weights that have seen nobody.

    foreign: a public checkpoint that the video weights come from.
    """

    index: int
    group: Group | None
    folder: Path
    key: str
    video: dict | None  # options of VideoMAE; None where the cohort has no video
    signal: dict | None  # options of SignalMAE; None where it has no signals
    lineage: Lineage
    name: str = ""  # of the scale, as the configuration calls it
    foreign: Foreign | None = None
    scale: str = "train_z"  # of the signals it learns from

    @property
    def trains(self) -> tuple[bool, bool]:
        """Whether the video MAE, and the signal MAE, are trained here."""
        return (self.group is not None and self.video is not None and self.foreign is None,
                self.group is not None and self.signal is not None)


@dataclass(frozen=True)
class Encoder:
    """A finished encoder. `sha256` covers the weights of both masked auto-encoders.

    lineage: the people that the artefact itself says it has seen, which the guard asks; not what the plan expects.
    """

    plan: EncoderPlan
    sha256: str
    side: dict
    lineage: Lineage

    def load_video(self) -> "VideoMAE":
        from models import checkpoint
        from models.video_mae import VideoMAE

        assert self.plan.video is not None
        model = VideoMAE(**self.plan.video)
        checkpoint.load(self.plan.folder / "video", model)
        return model.eval()

    def signal_state(self) -> dict | None:
        """Weights of the signal MAE, or None where it was not pretrained."""
        if self.plan.signal is None or self.plan.group is None:
            return None
        from models import checkpoint
        from models.signal_mae import SignalMAE

        model = SignalMAE(**self.plan.signal)
        checkpoint.load(self.plan.folder / "signal", model)
        return model.state_dict()

    def curve(self) -> list[dict]:
        return read_json(self.plan.folder / "curve.json") or []


def video_options(config: Config) -> dict:
    foreign = read_foreign(config)
    if foreign is not None:
        return foreign.options
    return {"scale": config.encoder.scale, "image_size": config.encoder.image_size, "frames": config.clip.frames,
            **config.encoder.options()}


def signal_options(config: Config, n_channels: int, length: int) -> dict:
    tokenizer = "conv" if config.model.name == "signal_small" else "step"
    own = config.model.options().get("signal") or {}  # as foldfit has it: the classifier takes these weights over
    return {"n_channels": n_channels, "length": length, "tokenizer": tokenizer, **config.smae, **own}


def plan_encoders(config: Config, people: Cohort, clips: ClipStore, groups: tuple[Group, ...],
                  needs: frozenset[str]) -> list[EncoderPlan]:
    """One plan a group, or one random encoder without pretraining. needs: what the model reads."""
    video = video_options(config) if "tokens" in needs else None
    foreign = read_foreign(config) if video is not None else None
    signal = None
    if "signals" in needs and groups and config.model.name in ("dual", "signal", "signal_small"):
        length, n_channels = signal_shape(clips)
        signal = signal_options(config, n_channels, length)
    if video is None and signal is None:
        return []
    seen = foreign.lineage(people) if foreign else None
    plans = []
    for group in groups or (None,):
        trains = group is not None and (signal is not None or foreign is None)
        shards = [clips.sha256(subject) for subject in group.subjects] if group and trains else []
        content = {"video": video, "signal": signal, "clip": config.clip.model_dump(), "shards": shards,
                   "pretrain": _recipe(config, foreign) if trains else config.pretrain.seed,
                   "sources": sources_sha256(*SOURCES)}
        if signal is not None and config.scale != "train_z":
            content["scale"] = config.scale
        if foreign and seen:  # whom it has seen is part of what the artefact says
            content["foreign"] = [foreign.sha256, seen.sha256()]
        key = key_of(content)
        names = people.keys(group.subjects) if group and trains else []
        number = group.index if group else 0
        lineage = Lineage(f"encoder {number + 1} ({key})", frozenset(names), (seen,) if seen else ())
        plans.append(EncoderPlan(number, group, config.store_dir / "encoders" / key, key, video, signal, lineage,
                                 "marlin" if foreign else config.encoder.name, foreign, config.scale))
    return plans


def signal_shape(clips: ClipStore) -> tuple[int, int]:
    """(L, C) of the cohort's signals, from the first person that has any."""
    for subject in sorted(clips.paths):
        signals = clips.signals(subject).signals
        if signals.size:
            return signals.shape[1], signals.shape[2]
    return 0, 0


def _recipe(config: Config, foreign: Foreign | None) -> dict:
    # who is in the group stands in the shards; the number of workers is the machine's and is recorded beside
    without = {"workers", "subjects", "fraction", "checkpoint", "checkpoint_saw", *NOT_RECIPE}
    return config.pretrain.model_dump(exclude=without | ({"video"} if foreign else set()))


def open_encoder(plan: EncoderPlan) -> Encoder | None:
    """The finished encoder, or None where a file is missing, damaged or of another key."""
    from models import checkpoint

    side = read_sealed(plan.folder / "encoder.json")
    if side is None or side.get("key") != plan.key:
        return None
    hashes = []
    for name, options in (("video", plan.video), ("signal", plan.signal)):
        if options is None:
            continue
        try:
            state, stored = checkpoint.read_weights(plan.folder / name)
        except checkpoint.ModelError:
            return None
        if stored["weights_sha256"] != side["weights"].get(name):
            return None
        hashes.append(stored["weights_sha256"])
        del state
    return Encoder(plan, hash_all(hashes), side, Lineage.from_json(side["lineage"]))
