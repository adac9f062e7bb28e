"""Canaries whose noise enters where recordings are read: files of noise take the place of a person's own, and go the whole
way from decoding to what a fold reads, into a folder of their own. Ray-free.

Signals become normal noise of each channel's own mean and three times its spread, in a file of the same rate and length.
Films run backwards, mirrored, in other light and with noise on every pixel: of pure noise no face would be found, and a
person without clips changes less than one with other clips.
"""

import copy
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.cohort.cohort import Clip, Cohort
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import needs
from orchestrator.evaluation import fold_data
from orchestrator.evaluation.canaries import SEED, noisy, turned
from orchestrator.evaluation.fit_fold import FoldData
from orchestrator.files.storage import hash_all
from orchestrator.plan.folds import Fold, Plan
from orchestrator.stores.clip_store import ClipStore, ShardJob, clip_options, has_video
from orchestrator.stores.cross_dataset import Joined
from orchestrator.stores.encoder_store import Encoder, plan_encoders
from orchestrator.stores.shard_maker import make_shard
from orchestrator.stores.token_store import CENTRE, TokenJob, plan_tokens
from preprocessing.clip import ClipOptions
from preprocessing.clip_format import encode_image
from preprocessing.errors import ClipError
from preprocessing.recordings import Channel, SignalRef, VideoRef
from preprocessing.signals.signals import read_signal
from preprocessing.video.video import Video

LOUD = 3.0  # standard deviations of a channel's own
GRAIN = 12.0  # standard deviation of the noise on a pixel, of 255
QUALITY = 90
LAST = 9_000_000  # pictures are named downwards from it: the film runs backwards


@dataclass(frozen=True)
class Road:
    """What a run went through before its folds, to go again with another person's files."""

    config: Config
    plan: Plan
    people: Cohort
    clips: ClipStore
    encoders: Sequence[Encoder]


@dataclass(frozen=True)
class Reread:
    """Folds' data after some people's recordings became noise. where: in words. other_encoder: by its key the fold's encoder
    would be another one."""

    data: FoldData
    where: str
    other_encoder: bool


def reread(road: Road | None, data: FoldData, fold: Fold, subjects: Sequence[int], folder: Path) -> Reread:
    """The data with noise in place of what `subjects` recorded, and with other labels. folder: emptied, then filled.

    Without a road (tests), or in a cohort of two data sets, noise enters the processed arrays, which `where` says.
    """
    if road is None or isinstance(road.people, Joined):
        return Reread(noisy(data, subjects), "in arrays that were processed already", False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config, people = road.config, road.people
    jobs = [_noisy_shard(road, subject, folder) for subject in subjects]
    store = _beside(road.clips, jobs)
    plans = plan_encoders(config, people, store, road.plan.groups, needs(config))
    keys = {e.plan.index: e.plan.key for e in road.encoders}
    other = any(p.key != keys.get(p.index) for p in plans if p.index == (fold.group or 0))
    tokens = []
    for token in plan_tokens(config, people, store, road.encoders):
        if token.view != CENTRE:
            continue
        if token.subject in subjects:
            token = replace(token, path=folder / f"{token.encoder}-{token.path.name}")
            _embed(token, next(e for e in road.encoders if e.plan.index == token.encoder), config)
        tokens.append(token)
    found = fold_data.build(config, people, store, road.encoders, tokens)
    return Reread(turned(found, subjects), f"in the files of {sum(len(job.clips) for job in jobs)} recordings", other)


def _noisy_shard(road: Road, subject: int, folder: Path) -> ShardJob:
    """The shard of this person's clips of the task, made of noise."""
    config, person = road.config, road.people.people[subject]
    video = has_video(config, road.people)
    options = clip_options(config, video)
    rng = np.random.default_rng([SEED, 4, subject])
    own = sorted((c for c in road.people.of(subject) if c.label in config.task.classes), key=lambda clip: clip.sample)
    clips = tuple(_with_noise(clip, options, folder, rng) for clip in own)
    job = ShardJob(subject=subject, pseudonym=person.pseudonym, path=folder / f"{person.pseudonym}.parquet",
                   key=hash_all(c.sample for c in clips), clips=clips, hashes={c.sample: ("noise", "noise") for c in clips},
                   video=video)
    make_shard(job, options, _NoisyFilms(options, rng) if video else None)  # type: ignore[arg-type]
    return job


def _with_noise(clip: Clip, options: ClipOptions, folder: Path, rng: np.random.Generator) -> Clip:
    """The clip with a signal file of noise; what cannot be read stays as it is, to be excluded for its own reason."""
    reference = clip.recording.signal
    if reference is None:
        return clip
    try:
        raw = read_signal(reference, options.limits)
    except ClipError:
        return clip
    arrays = {f"c{i}": channel.values.mean() + LOUD * (channel.values.std() or 1.0) * rng.normal(size=len(channel.values))
              for i, channel in enumerate(raw.channels)}
    path = folder / f"{clip.sample}.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    channels = tuple(Channel(c.name, f"c{i}:0", c.kind, c.fs) for i, c in enumerate(raw.channels))
    return replace(clip, recording=replace(clip.recording, signal=SignalRef(path, "npz", channels),
                                           attributes={k: v for k, v in clip.recording.attributes.items() if k != "sha256"}))


class _NoisyFilms:
    """A face engine that is shown another film: pictures in a folder, gone again when they were looked at."""

    def __init__(self, options: ClipOptions, rng: np.random.Generator):
        from preprocessing.face.engine import FaceEngine

        self.engine, self.rng = FaceEngine(options.face), rng

    def process(self, ref: VideoRef, keyframes: Any, frames: str, limits: Any) -> Any:
        with tempfile.TemporaryDirectory(prefix="dualpain-canary-") as place:
            with Video(ref, limits=limits) as video:
                light = float(self.rng.uniform(0.7, 1.0))
                for i, frame in enumerate(video):
                    picture = encode_image(self._other(frame.rgb(), light), "jpeg", QUALITY)
                    (Path(place) / f"{LAST - i:07d}.jpg").write_bytes(picture)
                fps = video.fps
            kind = "cropped" if ref.kind == "cropped" else "frames"
            return self.engine.process(VideoRef(Path(place), kind, fps or None), keyframes, frames, limits)

    def _other(self, rgb: np.ndarray, light: float) -> np.ndarray:
        """(H, W, 3) uint8, mirrored, darker, with noise."""
        noise = self.rng.normal(scale=GRAIN, size=rgb.shape).astype(np.float32)
        return np.clip(light * rgb[:, ::-1] + noise, 0, 255).astype(np.uint8)


def _beside(clips: ClipStore, jobs: Sequence[ShardJob]) -> ClipStore:
    """The run's clip store with these people's shards from elsewhere."""
    found, own = copy.copy(clips), ClipStore(jobs[0].path.parent, jobs)
    found.paths, found.sides = {**clips.paths, **own.paths}, {**clips.sides, **own.sides}
    return found


def _embed(job: TokenJob, encoder: Encoder, config: Config) -> None:
    import torch

    from orchestrator.pretraining.embedding import write_tokens

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write_tokens(job, encoder.load_video().to(device), config, device)
