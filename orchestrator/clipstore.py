"""The clip store: one Parquet shard and one side file a person, each complete and current or made again.

A shard's key is the hash of its configuration, the code that computes it and its source files' contents, so that
changing one option or one file redoes exactly what depends on it.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import preprocessing
from orchestrator.cohort import Clip, Cohort, private_folder
from orchestrator.config import Config
from orchestrator.storage import HashCache, file_sha256, hash_all, key_of, read_json, sources_sha256, write_json
from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.errors import ClipError
from preprocessing.faces import FaceEngine
from preprocessing.moments import Moments, merge_all
from preprocessing.shard import SCHEMA_VERSION, Row, ShardSignals, read_signals, write_shard

# Loaders and the synthetic generator decide which files and windows there are, which the keys hold by content.
NOT_SOURCES = ("datasets", "biovid", "ai4pain", "watch", "manifest", "synthetic", "paths", "errors", "recordings")


def sources() -> str:
    """Hash of the code that turns a recording into a clip."""
    folder = Path(preprocessing.__file__).parent
    names = sorted(p.name for p in folder.glob("*.py") if not p.stem.startswith(NOT_SOURCES))
    return sources_sha256(*(f"preprocessing/{name}" for name in names))


@dataclass(frozen=True)
class ShardJob:
    """What one worker needs to make one person's shard. hashes: (video sha256, signal sha256) by sample."""

    subject: int
    pseudonym: str
    path: Path
    key: str
    clips: tuple[Clip, ...]
    hashes: dict[str, tuple[str, ...]]


class ClipStore:
    """The finished shards of a cohort: side files by person, signals and frames on demand."""

    def __init__(self, folder: Path, jobs: Sequence[ShardJob]):
        self.folder = folder
        self.paths = {job.subject: job.path for job in jobs}
        self.sides = {job.subject: read_json(job.path.with_suffix(".json")) for job in jobs}

    def sha256(self, subject: int) -> str:
        return self.sides[subject]["sha256"]

    def signals(self, subject: int) -> ShardSignals:
        return read_signals(self.paths[subject])

    def quarantine(self) -> list[dict]:
        return [row for subject in sorted(self.sides) for row in self.sides[subject]["quarantine"]]

    def moments(self, subject: int, labels: Sequence[int]) -> Moments | None:
        """The person's signal moments over clips of `labels`, merged in the order of `labels`; None without any."""
        stored = self.sides[subject]["moments"]
        parts = [Moments.from_json(stored[str(label)]) for label in labels if str(label) in stored]
        return merge_all(parts) if parts else None


def clip_options(config: Config, video: bool) -> ClipOptions:
    return ClipOptions.from_config(config.face, config.keyframe, config.signal, config.frames, video)


def plan_shards(config: Config, cohort: Cohort) -> list[ShardJob]:
    """Every person's shard with its key; reads (or remembers) the hash of every source file."""
    options = key_of({"schema": SCHEMA_VERSION, "sources": sources(), "video": cohort.has_video,
                      "options": asdict(clip_options(config, cohort.has_video)), "key": cohort.key_fingerprint})
    folder = config.store_dir / "clips" / f"{cohort.dataset}-{options}"
    cache = HashCache(private_folder(config) / "hashes.json")
    jobs = []
    for person in cohort.people:
        clips = tuple(sorted(cohort.of(person.index), key=lambda clip: clip.sample))
        hashes = {clip.sample: _source_hashes(clip, cache) for clip in clips}
        key = key_of([options, person.index, person.pseudonym,
                      [[c.sample, c.index, c.label, _window(c), hashes[c.sample]] for c in clips]])
        jobs.append(ShardJob(person.index, person.pseudonym, folder / f"{person.pseudonym}.parquet", key, clips, hashes))
    cache.save()
    return jobs


def _source_hashes(clip: Clip, cache: HashCache) -> tuple[str, ...]:
    hashes = []
    for reference in (clip.recording.video, clip.recording.signal):
        if reference is None:
            hashes.append("")
        elif reference.path.is_dir():
            files = sorted(p for p in reference.path.iterdir() if p.is_file())
            hashes.append(hash_all([part for p in files for part in (p.name, cache.sha256(p))]))
        else:
            try:
                hashes.append(cache.sha256(reference.path))
            except OSError:
                hashes.append("unreadable")
    return tuple(hashes)


def _window(clip: Clip) -> list:
    """What beside the bytes of the files decides the clip; no path, so that a moved copy keeps its shards."""
    parts = []
    for reference in (clip.recording.video, clip.recording.signal):
        value = asdict(reference) if reference else {}
        value.pop("path", None)
        parts.append(value)
    return parts


def current(job: ShardJob, cache: HashCache | None = None) -> bool:
    """Whether the shard on disk is the one this job would make."""
    side = read_json(job.path.with_suffix(".json"))
    if not isinstance(side, dict) or side.get("key") != job.key or not job.path.exists():
        return False
    digest = cache.sha256(job.path) if cache else file_sha256(job.path)
    return digest == side["sha256"]


def make_shard(job: ShardJob, options: ClipOptions, engine: FaceEngine | None) -> dict:
    """Prepare one person's clips and write shard and side file. Returns {"clips", "quarantined"}."""
    quarantine: list[dict] = []
    by_label: dict[int, list[np.ndarray]] = defaultdict(list)
    quality: Counter = Counter()

    def rows():
        shape = None
        for clip in job.clips:
            try:
                prepared = prepare_clip(clip.recording, engine, options)
                if shape is not None and prepared.signal.shape != shape:
                    raise ClipError("signal", "other_shape", f"The signal has shape {prepared.signal.shape}, the "
                                    f"person's other clips {shape}: cut all clips to one length and channel list.")
            except ClipError as error:
                quarantine.append({"sample": clip.sample, "subject": job.pseudonym, "label": clip.label,
                                   "stage": error.stage, "reason": error.reason, "fix": error.fix})
                continue
            shape = prepared.signal.shape
            if prepared.signal.size:
                by_label[clip.label].append(prepared.signal)
            quality.update(clips=1, padded=int(prepared.padded), lost_frames=prepared.n_lost,
                           several_faces=int(prepared.max_faces > 1), keyframes=len(prepared.frames))
            yield Row(clip.sample, clip.index, clip.label, job.hashes[clip.sample], prepared)

    digest = write_shard(job.path, rows())
    moments = {str(label): Moments.of(np.stack(by_label[label])).to_json() for label in sorted(by_label)}
    write_json(job.path.with_suffix(".json"), {
        "key": job.key, "sha256": digest, "subject": job.subject, "moments": moments, "quarantine": quarantine,
        "quality": dict(quality)})
    return {"clips": quality["clips"], "quarantined": len(quarantine)}
