"""Shards for tests and benchmarks: a cohort's own, made without Ray; and made up, pictures of moving waves for faces."""

from pathlib import Path

import numpy as np

from orchestrator.cohort import cohort
from orchestrator.config.configuration import Config
from orchestrator.runtime.store_lock import check_keys
from orchestrator.stores.clip_store import ShardJob, clip_options, plan_shards
from orchestrator.stores.shard_maker import make_shard
from preprocessing.clip_format import PreparedClip, encode_image
from preprocessing.face.engine import FaceEngine
from preprocessing.shard import Row, write_shard

CROP = 224


def shards_of(config: Config, video: bool) -> list[ShardJob]:
    """What stage 1 leaves of the configuration's cohort, made in this process."""
    check_keys(config.store_dir)
    options, jobs = clip_options(config, video), plan_shards(config, cohort.load(config))
    engine = FaceEngine(options.face) if video else None
    for job in jobs:
        make_shard(job, options, engine)
    return jobs


def waves(person: int, clip: int, frames: int, size: int = CROP) -> np.ndarray:
    """(frames, size, size, 3) uint8: each person has a colour and a direction, each clip a phase, each frame a shift."""
    rng = np.random.default_rng([7, person])
    a, b, *colour = rng.uniform(0.02, 0.06), rng.uniform(0.02, 0.06), *rng.uniform(0.3, 1, 3)
    y, x = np.mgrid[:size, :size] * (CROP / size)
    t = np.arange(frames)[:, None, None]
    wave = 0.5 + 0.5 * np.sin(a * x + b * y + 0.15 * t + clip)
    return (255 * wave[..., None] * np.array(colour)).astype(np.uint8)


def made_shards(folder: Path, people: int, clips: int, frames: int = 20, length: int = 16,
                image: str = "jpeg") -> list[tuple[int, Path]]:
    """(subject index, path) as pretraining wants them."""
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(people):
        rows = []
        for clip in range(clips):
            pictures = tuple(encode_image(picture, image) for picture in waves(person, clip, frames))
            signal = np.random.default_rng([person, clip]).normal(size=(length, 2)).astype(np.float32)
            numbers = np.arange(frames, dtype=np.int32)
            prepared = PreparedClip(frames=pictures, frame_index=numbers, keyframes=numbers,
                                    landmarks=np.zeros((frames, 92, 2), np.float32), n_frames=frames, fps=25.0, padded=False,
                                    n_lost=0, max_faces=1, signal=signal, channels=("gsr", "ecg"), duration_s=5.5)
            rows.append(Row(f"c{person}-{clip}", clip, clip % 2, ("", ""), prepared))
        path = folder / f"s{person}.parquet"
        write_shard(path, rows)
        made.append((person, path))
    return made
