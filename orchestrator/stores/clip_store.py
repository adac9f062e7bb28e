"""The clip store: one Parquet shard and one sidecar file per subject; one that is incomplete or outdated is made again.

A shard's key is the hash of its configuration, the code that computes it and its source files' contents, so that
changing one option or one file redoes exactly what depends on it. The size limits are not part of it: the sidecar
records those under which the shard was made, and it is made again if other limits could give another result.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.cohort import lengths
from orchestrator.cohort.cohort import Clip, Cohort, private_folder
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import reads_video
from orchestrator.files.code_key import code_sha256
from orchestrator.files.storage import HashCache, file_sha256, hash_all, key_of, read_checked
from preprocessing.inputs.limits import Limits
from preprocessing.inputs.paths import is_file, is_folder
from preprocessing.moments import Moments, merge_all
from preprocessing.recordings import Channel
from preprocessing.shard import SCHEMA_VERSION, ShardSignals, read_signals
from preprocessing.signals.formats import FORMATS

if TYPE_CHECKING:  # the code that makes clips takes seconds to import; readers do not need it
    from preprocessing.clip import ClipOptions

# The code that makes clips of recordings. The loaders are not included: their files and windows are in the keys by content.
MAKES = ("orchestrator.stores.shard_maker:make_shard", "preprocessing.face.engine:FaceEngine")


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What one worker needs to make the shard of one subject.

    hashes: (video sha256, signal sha256) by sample; other_content: samples whose file differs from the declared one.
    odd_length: samples whose signal is much shorter or longer than the cohort's (orchestrator.cohort.lengths).
    video: whether the model reads video, also if the missing subjects have none. limits: the current size limits.
    """

    subject: int
    pseudonym: str
    path: Path
    key: str
    clips: tuple[Clip, ...]
    hashes: dict[str, tuple[str, ...]]
    other_content: frozenset[str] = frozenset()
    odd_length: frozenset[str] = frozenset()
    video: bool = True
    limits: Limits = Limits()


class ClipStore:
    """The finished shards of a cohort: sidecars by subject, signals and frames on demand."""

    def __init__(self, folder: Path, jobs: Sequence[ShardJob]):
        self.folder = folder
        self.paths = {job.subject: job.path for job in jobs}
        self.hashes = {job.subject: job.hashes for job in jobs}  # of the source files, by subject and sample
        self.sides: dict[int, dict] = {job.subject: read_checked(job.path.with_suffix(".json")) or {} for job in jobs}

    def sha256(self, subject: int) -> str:
        return self.sides[subject]["sha256"]

    def signals(self, subject: int) -> ShardSignals:
        return read_signals(self.paths[subject])

    def quarantine(self) -> list[dict]:
        return [row for subject in sorted(self.sides) for row in self.sides[subject]["quarantine"]]

    def length_warning(self, names: Mapping[int, str]) -> list[str]:
        """A warning if the lengths of the stored clips alone predict the class; names: by label, of the classes compared."""
        seconds = {name: [s for side in self.sides.values() for s in side["seconds"].get(str(label), [])]
                   for label, name in names.items()}
        return [text] if (text := lengths.by_class(seconds)) else []

    def notes(self) -> list[str]:
        """The notes of preprocessing on the stored clips, most frequent first: "N of M clips: sentence"."""
        said: Counter = Counter()
        for side in self.sides.values():
            said.update(side["notes"])
        total = sum(side["quality"].get("clips", 0) for side in self.sides.values())
        return [f"{n} of {total} clips: {text}" for text, n in sorted(said.items(), key=lambda pair: (-pair[1], pair[0]))]

    def comparable(self, subject: int, samples: Sequence[str]) -> np.ndarray:
        """(n,) bool: which clips of a subject hold enough data to be compared with clips of other subjects."""
        prints = self.sides[subject].get("prints", {})
        return np.array([prints.get(sample, {}).get("signal") is not None for sample in samples], bool)

    def moments(self, subject: int, labels: Sequence[int]) -> Moments | None:
        """The subject's signal moments over clips of `labels`, merged in the order of `labels`; None without any."""
        stored = self.sides[subject]["moments"]
        parts = [Moments.from_json(stored[str(label)]) for label in labels if str(label) in stored]
        return merge_all(parts) if parts else None


def clip_options(config: Config, video: bool) -> "ClipOptions":
    from preprocessing.clip import ClipOptions

    return ClipOptions.from_config(config.face, config.keyframe, config.signal, config.frames, video, config.data.limits())


def has_video(config: Config, cohort: Cohort) -> bool:
    """Whether stage 1 decodes videos: there are some, and the model reads them."""
    return cohort.has_video and reads_video(config)


def plan_shards(config: Config, cohort: Cohort, keep: bool = True) -> list[ShardJob]:
    """The shard of every subject with its key; reads (or remembers) the hash of every source file. keep=False writes nothing
    and reads no file without a remembered hash: the key of its subject then matches no shard."""
    options = clip_options(config, has_video(config, cohort))
    lengths.check_rates(cohort.clips, options.signal)
    odd_ones = lengths.measure(cohort.clips, options.signal).odd
    forms = {clip.recording.signal.format for clip in cohort.clips if clip.recording.signal} & FORMATS.keys()
    readers = [source for form in sorted(forms) for source in FORMATS[form].sources]
    common = key_of({"schema": SCHEMA_VERSION, "code": code_sha256(*MAKES, *readers), "video": options.video,
                     "options": options_key(options), "key": cohort.key_fingerprint,
                     **({"place": cohort.place} if cohort.place else {})})
    folder = config.store_dir / "clips" / f"{cohort.dataset}-{common}"
    cache = HashCache(private_folder(config) / "hashes.json", read=keep)
    jobs = []
    for person in cohort.people:
        clips = tuple(sorted(cohort.of(person.index), key=lambda clip: clip.sample))
        hashes = {clip.sample: _source_hashes(clip, cache, options) for clip in clips}
        other = frozenset(clip.sample for clip in clips if _is_other_content(clip, cache))
        odd = frozenset(clip.sample for clip in clips if (clip.subject, clip.sample) in odd_ones)
        # not the subject's index: a subject that is added or removed moves those of others, but changes none of their bytes
        key = key_of([common, person.pseudonym,
                      [[c.sample, c.index, c.label, _window(c), hashes[c.sample], c.sample in other, c.sample in odd,
                        *_unread(c, options)] for c in clips]])
        path = folder / f"{person.pseudonym}.parquet"
        jobs.append(ShardJob(subject=person.index, pseudonym=person.pseudonym, path=path, key=key, clips=clips, hashes=hashes,
                             other_content=other, odd_length=odd, video=options.video, limits=options.limits))
    if keep:
        cache.save()
    return jobs


def options_key(options: "ClipOptions") -> dict:
    """The options that change a shard. Not folders: face weights are hash-checked, landmark files hashed with the recording.
    Not limits: they decide whether a clip is excluded, see `other_limits`.

    Without video, the options of faces and frames have no effect.
    """
    value = asdict(options)
    del value["limits"]
    if not options.video:
        return {"signal": value["signal"], "video": False}
    for name in ("weights_dir", "precomputed_dir", "precomputed_root"):
        value["face"][name] = value["face"][name] is not None
    del value["face"]["hold_mb"]
    if options.face.image == "png":
        del value["face"]["quality"]
    return value


def _unread(clip: Clip, options: "ClipOptions") -> list[int]:
    """File size of a video that is not decoded: its length is compared with the signals, so another video changes the key."""
    video = clip.recording.video
    return [video.path.stat().st_size] if video is not None and not options.video and is_file(video.path) else []


def _source_hashes(clip: Clip, cache: HashCache, options: "ClipOptions") -> tuple[str, ...]:
    """(video, signal): hashes over every file they are read from; "" where there is no such file to read."""
    from preprocessing.signals.signals import source_files

    video, signal = clip.recording.video, clip.recording.signal
    pictures: list[Path] = []
    if video is not None and options.video:
        pictures = _pictures(video.path)
        if options.face.provider == "precomputed":
            pictures += _landmark_files(video.path, options)
    signals = source_files(signal) if signal is not None else ()
    return _hash_files(pictures, cache), _hash_files(signals, cache)


def _pictures(video: Path) -> list[Path]:
    try:
        return sorted(video.iterdir()) if is_folder(video) else [video]
    except OSError:  # a folder that may not be listed: the clip's own reader reports it
        return [video]


def _is_other_content(clip: Clip, cache: HashCache) -> bool:
    """Whether the loader gave a sha256 (of the video, or of the signal file where there is no video) and it differs."""
    declared = clip.recording.attributes.get("sha256")
    reference = clip.recording.video or clip.recording.signal
    if declared is None or reference is None:
        return False
    try:
        return cache.sha256(reference.path) != declared
    except OSError:  # missing or unreadable: the clip's own reader reports it
        return False


def _landmark_files(video: Path, options: "ClipOptions") -> list[Path]:
    """What preprocessing/face/precomputed.py may read for this video."""
    folder, root = options.face.precomputed_dir, options.face.precomputed_root
    place = video
    if folder is not None:
        place = folder / (video.relative_to(root) if root is not None and video.is_relative_to(root) else video.name)
    stem = place.name if is_folder(video) else place.stem
    return sorted(path for kind in ("landmarks", "boxes") for path in place.parent.glob(f"{escape(stem)}.{kind}.*"))


def _hash_files(files: Iterable[Path], cache: HashCache) -> str:
    """Contents in order, without names (they hold raw ids). A single file's hash is its own sha256."""
    found = []
    for file in files:
        try:
            found.append(cache.sha256(file))
        except OSError:  # missing or unreadable: the clip's own reader excludes the clip
            found.append("unreadable")
    return hash_all(found) if len(found) > 1 else "".join(found)


def _window(clip: Clip) -> list:
    """What defines the clip in addition to the bytes of its files; no path, so that a moved copy keeps its shards."""
    parts = []
    for reference in (clip.recording.video, clip.recording.signal):
        value = dict(vars(reference)) if reference else {}
        value.pop("path", None)
        if "channels" in value:
            value["channels"] = _channels(value["channels"])
        parts.append(value)
    return parts


@cache  # the clips of a data set share a few
def _channels(channels: tuple[Channel, ...]) -> list[dict]:
    return [asdict(channel) for channel in channels]


def current(job: ShardJob, cache: HashCache | None = None) -> bool:
    """Whether the shard on disk is the one this job would make."""
    side = read_checked(job.path.with_suffix(".json"))
    if side is None or side.get("key") != job.key or not job.path.exists() or _could_differ(side, job.limits):
        return False
    digest = cache.sha256(job.path) if cache else file_sha256(job.path)
    return digest == side.get("sha256")


def other_limits(job: ShardJob) -> bool:
    """Whether this job's shard was made under other limits, which may have included or excluded a clip."""
    side = read_checked(job.path.with_suffix(".json"))
    return side is not None and side.get("key") == job.key and _could_differ(side, job.limits)


def _could_differ(side: dict, limits: Limits) -> bool:
    """A lower limit may exclude a clip that is stored, a higher one may include one that was excluded for its size."""
    then, now = side["limits"], asdict(limits)
    lowered, raised = any(now[name] < then[name] for name in now), any(now[name] > then[name] for name in now)
    return lowered or (raised and any(row["reason"] == "too_large" for row in side["quarantine"]))


