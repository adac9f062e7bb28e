"""The pretrained encoders: key, files and lineage of the artefact that stage 2 makes.

An encoder's key is the hash of its own subjects' shards, its configuration and the code that trains it: the
recordings of another subject cannot change it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lineage import Lineage
from orchestrator.cohort.study import in_one, marks
from orchestrator.config.configuration import PATHS, Config
from orchestrator.config.model_inputs import TOKENS, has_signal_encoder, tokenizer_of
from orchestrator.config.model_inputs import needs as what_is_read
from orchestrator.errors import UserError
from orchestrator.files.code_key import code_sha256
from orchestrator.files.storage import hash_all, key_of, read_checked, read_json
from orchestrator.plan.pretrain_groups import Group
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.public_checkpoint import PublicCheckpoint, read_public_checkpoint

# The code that computes an encoder: one that is trained, and one that is taken over unchanged.
TRAINS = ("orchestrator.pretraining.loop:train_job", "orchestrator.pretraining.encoder_maker:job_of")
TAKES_OVER = ("orchestrator.pretraining.encoder_maker:untrained",)
# Keys of the node `pretrain` for how a training runs and is saved, which do not change its result.
NOT_RECIPE = ("save_epochs", "save_steps", "save_seconds", "cache_mb")

if TYPE_CHECKING:  # torch and timm take seconds to import; processes that only plan do not need them
    from models.mae.video_mae import VideoMAE
    from orchestrator.stores.origin import Origin


@dataclass(frozen=True, kw_only=True)
class EncoderPlan:
    """The plan of an encoder: `group` None means random weights that were trained on no subject.

    foreign: a public checkpoint that the video weights come from; the group's origin: an encoder of ours that they (and the
    signal MAE's, where it fits) come from. about: its data and settings, by which pretrain.from finds it.
    """

    index: int
    group: Group | None
    folder: Path
    key: str
    video: dict | None  # options of VideoMAE; None where the cohort has no video
    signal: dict | None  # options of SignalMAE; None where it has no signals
    lineage: Lineage
    name: str = ""  # of the scale, as the configuration calls it
    foreign: PublicCheckpoint | None = None
    scale: str = "train_z"  # of the signals it learns from
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> "Origin | None":
        return self.group.origin if self.group is not None else None

    @property
    def trains(self) -> tuple[bool, bool]:
        """Whether the video MAE, and the signal MAE, are trained here."""
        return (self.group is not None and self.video is not None and self.foreign is None and self.origin is None,
                self.group is not None and self.signal is not None and (self.origin is None or self.origin.signal is None))


@dataclass(frozen=True)
class Encoder:
    """A finished encoder. `sha256` covers the weights of both masked auto-encoders.

    lineage: the training subjects that the artefact itself records, which the lineage check uses; not those of the plan.
    """

    plan: EncoderPlan
    sha256: str
    side: dict
    lineage: Lineage

    def load_video(self) -> "VideoMAE":
        from models import checkpoint
        from models.mae.video_mae import VideoMAE

        assert self.plan.video is not None
        model = VideoMAE(**self.plan.video)
        checkpoint.load(self.plan.folder / "video", model)
        return model.eval()

    def signal_state(self) -> dict | None:
        """Weights of the signal MAE, or None where it was not pretrained."""
        if self.plan.signal is None or self.plan.group is None:
            return None
        from models import checkpoint
        from models.mae.signal_mae import SignalMAE

        model = SignalMAE(**self.plan.signal)
        checkpoint.load(self.plan.folder / "signal", model)
        return model.state_dict()

    def curve(self) -> list[dict]:
        return read_json(self.plan.folder / "curve.json") or []


def video_options(config: Config) -> dict:
    foreign = read_public_checkpoint(config)
    if foreign is not None:
        return foreign.options
    return {"scale": config.encoder.scale, "image_size": config.encoder.image_size, "frames": config.clip.frames,
            **config.encoder.options()}


def signal_options(config: Config, n_channels: int, length: int) -> dict:
    own = config.model.options().get("signal") or {}  # as fit_fold has it: the classifier takes these weights over
    return {"n_channels": n_channels, "length": length, "tokenizer": tokenizer_of(config.model.name), **config.smae, **own}


def reads(config: Config) -> tuple[bool, bool]:
    """Whether the model reads a video encoder, and an encoder of signals that was pretrained."""
    return TOKENS <= what_is_read(config), has_signal_encoder(config.model.name) and config.pretrain.name == "mae"


def about_signals(config: Config, people: Cohort) -> dict[str, Any]:
    """Describes the input of a signal MAE by the files as the loader gives them: channels that all data sets have, their
    rates in Hz, the seconds of a clip where they are known, and their preprocessing and scaling."""
    found = [next((clip.recording.signal for clip in part.clips if clip.recording.signal), None)
             for part in getattr(people, "parts", ()) or (people,)]
    refs = [ref for ref in found if ref is not None]
    common = [c for c in refs[0].channels if all(c.name in {d.name for d in ref.channels} for ref in refs)] if refs else []
    lengths = [ref.end_s - ref.start_s for clip in people.clips if (ref := clip.recording.signal) is not None
               and ref.start_s is not None and ref.end_s is not None]
    return {"channels": [c.name for c in common], "rates": [c.fs for c in common],
            "seconds": round(median(lengths), 1) if lengths else None, "signal": dict(config.signal), "scale": config.scale}


def _about(config: Config, people: Cohort, groups: int) -> dict[str, Any]:
    """Of all encoders that are planned together; no path and no raw id."""
    pretrain = config.pretrain
    face = {name: value for name, value in config.face.items() if f"face.{name}" not in PATHS}
    return {"dataset": config.dataset, "data": people.store_name, "cohort": people.name,
            "key_fingerprint": people.key_fingerprint, "clip": config.clip.model_dump(), "pretrain": _recipe(config, None),
            "drawn": {"fraction": pretrain.fraction, "subjects": pretrain.subjects, "split": config.split.name},
            "preprocessing": {"face": face, "keyframe": dict(config.keyframe), "frames": config.frames},
            "signals": about_signals(config, people), "groups": groups, "code": code_sha256(*TRAINS)[:12]}


def plan_encoders(config: Config, people: Cohort, clips: ClipStore, groups: tuple[Group, ...],
                  needs: frozenset[str]) -> list[EncoderPlan]:
    """One plan per group, or one random encoder without pretraining. needs: what the model reads."""
    video = video_options(config) if "tokens" in needs else None
    foreign = read_public_checkpoint(config) if video is not None else None
    signal = None
    if "signals" in needs and groups and has_signal_encoder(config.model.name):
        length, n_channels = signal_shape(clips)
        signal = signal_options(config, n_channels, length)
    if video is None and signal is None:
        return []
    seen = foreign.lineage(people) if foreign else None
    together, everybody, plans = _about(config, people, len(groups)), marks(people, clips.hashes), []
    for group in groups or (None,):
        origin = group.origin if group else None
        trains = group is not None and (signal is not None or foreign is None)
        if origin is not None:
            trains, seen, video = origin.trains_signal, origin.lineage, origin.video
            if origin.signal is not None and origin.signal != signal:
                raise UserError(f"pretrain.from: the signal encoder of {origin.name} takes {origin.signal['n_channels']} "
                                f"channels of {origin.signal['length']} steps, but here there are {signal_shape(clips)[::-1]}: "
                                "use model=video, or leave pretrain.from out.")
        shards = [clips.sha256(subject) for subject in group.trained_here] if group and trains else []
        content = {"video": video, "signal": signal, "clip": config.clip.model_dump(), "shards": shards,
                   "pretrain": _recipe(config, foreign or origin) if trains else config.pretrain.seed,
                   "code": code_sha256(*(TRAINS if trains else TAKES_OVER))}
        if signal is not None and config.scale != "train_z":
            content["scale"] = config.scale
        if origin is not None:
            content["origin"] = origin.sha256()
        if foreign and seen:  # its training subjects are part of the artefact
            content["foreign"] = [foreign.sha256, seen.sha256()]
        key = key_of(content)
        names = people.keys(group.trained_here) if group and trains else []
        number = group.index if group else 0
        lineage = Lineage(f"encoder {number + 1} ({key})", frozenset(names), (seen,) if seen else ())
        name = "marlin" if foreign else config.encoder.name
        learnt = [everybody.get(name, {}) for name in people.pseudonyms(group.trained_here)] if group and trains else []
        plan = EncoderPlan(index=number, group=group, folder=config.store_dir / "encoders" / key, key=key, video=video,
                           signal=signal, lineage=lineage, name=name, foreign=foreign, scale=config.scale)
        plans.append(replace(plan, about={**together, "name": name, "group": number, "video": video, "signal": signal,
                                          "trained": list(plan.trains), "random": group is None and foreign is None,
                                          "recordings": in_one([*learnt, origin.recordings if origin else {}])}))
    return plans


def signal_shape(clips: ClipStore) -> tuple[int, int]:
    """(L, C) of the cohort's signals, from the first subject that has any."""
    for subject in sorted(clips.paths):
        signals = clips.signals(subject).signals
        if signals.size:
            return signals.shape[1], signals.shape[2]
    return 0, 0


def _recipe(config: Config, foreign: "PublicCheckpoint | Origin | None") -> dict:
    # the subjects of the group are in the shards; the number of workers depends on the machine and is recorded separately
    without = {"workers", "subjects", "fraction", "checkpoint", "checkpoint_saw", "given", "seeds", *NOT_RECIPE}
    return config.pretrain.model_dump(exclude=without | ({"video"} if foreign else set()))


def open_encoder(plan: EncoderPlan) -> Encoder | None:
    """The finished encoder, or None where a file is missing, damaged or of another key."""
    from models import checkpoint

    side = read_checked(plan.folder / "encoder.json")
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
