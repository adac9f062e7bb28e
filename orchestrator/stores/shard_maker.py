"""One subject's shard, made: every clip is prepared, or excluded with a reason. What a Ray Data worker calls."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from operator import itemgetter

import numpy as np

from orchestrator.cohort.cohort import Clip
from orchestrator.files.storage import write_checked
from orchestrator.stores.clip_store import ShardJob
from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.duplicates.fingerprints import HOLDS_LITTLE, signal_fingerprint, video_fingerprint
from preprocessing.errors import ClipError
from preprocessing.face.engine import FaceEngine
from preprocessing.moments import Moments
from preprocessing.notes import gathered
from preprocessing.shard import Row, write_shard


def make_shard(job: ShardJob, options: ClipOptions, engine: FaceEngine | None) -> dict:
    """Prepare the clips of one subject; write shard and sidecar. Returns {"clips", "quarantined"}: at most one row per clip."""
    quarantine: list[dict] = []
    by_label: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)  # by label, of the signals that are stretched to one length
    quality: Counter = Counter()
    notes: Counter = Counter()
    prints: dict[str, dict] = {}
    usual = _usual_channels(job.clips)

    def rows():
        for clip in job.clips:
            film = clip.recording.video if options.video else None
            nothing = clip.recording.signal is None and film is None
            # a missing video that the model does not read excludes nothing, unless the clip has nothing else
            lacking = [_row(clip, job, stage, *why) for stage, why in sorted(clip.recording.lacks.items())
                       if options.video or nothing or stage != "video"][:1]
            if lacking and nothing:
                quarantine.extend(lacking)
                continue
            if nothing and clip.recording.video is not None:
                quarantine.append(_row(clip, job, "signal", "no_signals", "The clip has only a video, but the model reads "
                                       "signals: restore its signal file, or use a model that reads video."))
                continue
            try:
                if _channels(clip) not in ((), usual):
                    raise ClipError("signal", "other_channels", f"The clip has the signal channels {_channels(clip)}, the "
                                    f"subject's other clips {usual}: restore its signal file or give all clips the same.")
                if clip.sample in job.other_content:
                    raise ClipError("video" if clip.recording.video else "signal", "other_content",
                                    "The file's sha256 is not the one its row gives: restore the file or correct the row.")
                with gathered() as said:
                    prepared = prepare_clip(clip.recording, engine, options)
                if clip.sample in job.odd_length:  # last: a file that cannot be read or is cut off has a reason of its own
                    raise ClipError("signal", "odd_length", "The clip's signals last about half as long as those of the other "
                                    "clips or less, or about twice as long or more: correct fs, or give all clips one window "
                                    "(start_s, end_s, or signal.seconds).")
            except ClipError as error:
                quarantine.append(_row(clip, job, error.stage, error.reason, error.fix))
                continue
            notes.update(said)
            quarantine.extend(lacking)  # the clip is kept with what it has
            told = signal_fingerprint(prepared.signal) if prepared.distinctive else None
            prints[clip.sample] = {"signal": told, "video": video_fingerprint(prepared.frames)}
            notes.update([HOLDS_LITTLE] if prepared.signal.size and told is None else [])
            if prepared.signal.size:
                by_label[clip.label].append((clip.index, prepared.signal))
                if options.signal.window_mode == "resample":
                    seconds[str(clip.label)].append(min(prepared.duration_s, options.signal.seconds or prepared.duration_s))
            quality.update(clips=1, padded=int(prepared.padded), lost_frames=prepared.n_lost,
                           several_faces=int(prepared.max_faces > 1), keyframes=len(prepared.keyframes))
            yield Row(clip.sample, clip.index, clip.label, job.hashes[clip.sample], prepared)

    digest = write_shard(job.path, rows())
    # Sums go in the order of sample_index: that of the rows follows pseudonyms, and another key must change no bit.
    moments = {str(label): Moments.of(np.stack([x for _, x in sorted(by_label[label], key=itemgetter(0))])).to_json()
               for label in sorted(by_label)}
    write_checked(job.path.with_suffix(".json"), {
        "key": job.key, "sha256": digest, "moments": moments, "quarantine": quarantine,
        "quality": dict(quality), "notes": dict(notes), "prints": prints, "limits": asdict(options.limits),
        "seconds": dict(seconds)})
    return {"clips": quality["clips"], "quarantined": len(quarantine)}


def _row(clip: Clip, job: ShardJob, stage: str, reason: str, fix: str) -> dict:
    return {"sample": clip.sample, "subject": job.pseudonym, "label": clip.label, "stage": stage, "reason": reason, "fix": fix}


def _channels(clip: Clip) -> tuple[str, ...]:
    reference = clip.recording.signal
    return tuple(channel.name for channel in reference.channels) if reference else ()


def _usual_channels(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The channels of most clips of a subject: clips without a signal file, however many, must not exclude the others."""
    counts = Counter(map(_channels, clips))
    del counts[()]
    return min(counts, key=lambda names: (-counts[names], names), default=())
