"""Canaries that replace the recordings themselves: a subject's files become noise and pass through the whole pipeline, from
decoding to the arrays that a fold reads, in a separate folder. Without Ray.

Signals become normal noise with each channel's mean and three times its standard deviation, at the same rate and length.
Videos are reversed, mirrored, darkened, and get noise on every pixel. They are not pure noise, because no face would be
found in it, and a subject without clips is a weaker test than a subject with other clips.
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
from orchestrator.evaluation.canaries import SEED, noisy, with_shifted_labels
from orchestrator.evaluation.fit_fold import FoldData
from orchestrator.files.storage import hash_all
from orchestrator.plan.folds import Fold, Plan
from orchestrator.stores.clip_store import ClipStore, ShardJob, clip_options, has_video
from orchestrator.stores.cross_dataset import Joined
from orchestrator.stores.encoder_store import Encoder, plan_encoders
from orchestrator.stores.shard_maker import make_shard
from orchestrator.stores.token_store import TokenJob, plan_tokens
from preprocessing.clip import ClipOptions
from preprocessing.clip_format import encode_image
from preprocessing.errors import ClipError
from preprocessing.recordings import Channel, SignalRef, VideoRef
from preprocessing.signals.signals import read_signal
from preprocessing.video.video import Video

SIGNAL_NOISE = 3.0  # in standard deviations of the channel
PIXEL_NOISE = 12.0  # standard deviation of the noise on a pixel, of 255
QUALITY = 90
LAST = 9_000_000  # images are numbered downwards from here, so the video is reversed


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run before its folds, so that they can be repeated with other files of a subject."""

    config: Config
    plan: Plan
    cohort: Cohort
    clips: ClipStore
    encoders: Sequence[Encoder]


@dataclass(frozen=True)
class Reprocessed:
    """The folds' data after some subjects' recordings became noise. where: where the noise was inserted, in words.
    other_encoder: whether the key of the fold's encoder would change."""

    data: FoldData
    where: str
    other_encoder: bool


def reprocess(pipeline: Pipeline | None, data: FoldData, fold: Fold, subjects: Sequence[int], folder: Path) -> Reprocessed:
    """The data with noise instead of the recordings of `subjects`, and with shifted labels. folder: emptied, then filled.

    Without a pipeline (tests), or in a cohort of two data sets, the noise replaces the processed arrays; `where` says so.
    """
    if pipeline is None or isinstance(pipeline.cohort, Joined):
        return Reprocessed(noisy(data, subjects), "in the processed arrays", False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config, cohort = pipeline.config, pipeline.cohort
    jobs = [_noisy_shard(pipeline, subject, folder) for subject in subjects]
    store = _beside(pipeline.clips, jobs)
    plans = plan_encoders(config, cohort, store, pipeline.plan.groups, needs(config))
    keys = {e.plan.index: e.plan.key for e in pipeline.encoders}
    other = any(p.key != keys.get(p.index) for p in plans if p.index == (fold.group or 0))
    tokens = []
    for token in plan_tokens(config, cohort, store, pipeline.encoders):
        if token.subject in subjects:
            token = replace(token, path=folder / f"{token.encoder}-{token.path.name}")
            _embed(token, next(e for e in pipeline.encoders if e.plan.index == token.encoder), config)
        tokens.append(token)
    found = fold_data.build(config, cohort, store, pipeline.encoders, tokens)
    n_clips = sum(len(job.clips) for job in jobs)
    return Reprocessed(with_shifted_labels(found, subjects), f"in the files of {n_clips} recordings", other)


def _noisy_shard(pipeline: Pipeline, subject: int, folder: Path) -> ShardJob:
    """The shard of this subject's clips of the task, with noise instead of the recordings."""
    config, person = pipeline.config, pipeline.cohort.people[subject]
    video = has_video(config, pipeline.cohort)
    options = clip_options(config, video)
    rng = np.random.default_rng([SEED, 4, subject])
    own = sorted((c for c in pipeline.cohort.of(subject) if c.label in config.task.classes), key=lambda clip: clip.sample)
    clips = tuple(_with_noise(clip, options, folder, rng) for clip in own)
    job = ShardJob(subject=subject, pseudonym=person.pseudonym, path=folder / f"{person.pseudonym}.parquet",
                   key=hash_all(c.sample for c in clips), clips=clips, hashes={c.sample: ("noise", "noise") for c in clips},
                   video=video)
    make_shard(job, options, _NoisyVideos(options, rng) if video else None)  # type: ignore[arg-type]
    return job


def _with_noise(clip: Clip, options: ClipOptions, folder: Path, rng: np.random.Generator) -> Clip:
    """The clip with a signal file of noise. A file that cannot be read is left as it is and excluded as in the run."""
    reference = clip.recording.signal
    if reference is None:
        return clip
    try:
        raw = read_signal(reference, options.limits)
    except ClipError:
        return clip
    arrays = {f"c{i}": c.values.mean() + SIGNAL_NOISE * (c.values.std() or 1.0) * rng.normal(size=len(c.values))
              for i, c in enumerate(raw.channels)}
    path = folder / f"{clip.sample}.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    channels = tuple(Channel(c.name, f"c{i}:0", c.kind, c.fs) for i, c in enumerate(raw.channels))
    return replace(clip, recording=replace(clip.recording, signal=SignalRef(path, "npz", channels),
                                           attributes={k: v for k, v in clip.recording.attributes.items() if k != "sha256"}))


class _NoisyVideos:
    """A face engine that receives an altered video: images in a temporary folder."""

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
        noise = self.rng.normal(scale=PIXEL_NOISE, size=rgb.shape).astype(np.float32)
        return np.clip(light * rgb[:, ::-1] + noise, 0, 255).astype(np.uint8)


def _beside(clips: ClipStore, jobs: Sequence[ShardJob]) -> ClipStore:
    """The run's clip store with other shards for these subjects."""
    found, own = copy.copy(clips), ClipStore(jobs[0].path.parent, jobs)
    found.paths, found.sides = {**clips.paths, **own.paths}, {**clips.sides, **own.sides}
    return found


def _embed(job: TokenJob, encoder: Encoder, config: Config) -> None:
    import torch

    from orchestrator.pretraining.embedding import write_tokens

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write_tokens(job, encoder.load_video().to(device), config, device)
