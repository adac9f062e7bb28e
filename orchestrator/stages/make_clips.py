"""Stage 1: recordings to Parquet clips, subjects in parallel."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from orchestrator.cohort import cohort, duplicates
from orchestrator.cohort.cohort import Cohort, private_folder
from orchestrator.config import plugins
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import reads_video
from orchestrator.errors import UserError
from orchestrator.estimate import machine
from orchestrator.estimate.clip_costs import FRAMES_PER_CLIP, video_clip_bytes
from orchestrator.evaluation import damage
from orchestrator.evaluation.damage import is_damaged
from orchestrator.executors import choice
from orchestrator.files.storage import HashCache, atomic_path, disk_is_full, need_space, remove_temporaries, write_json
from orchestrator.runtime import progress, ray_session
from orchestrator.runtime.lost_workers import explain
from orchestrator.runtime.store_lock import clean_up_store, writing
from orchestrator.stages import make_clips
from orchestrator.stores.clip_store import (
    ClipStore,
    ShardJob,
    clip_options,
    current,
    has_video,
    options_key,
    other_limits,
    plan_shards,
)
from orchestrator.stores.cross_dataset import Joined, JoinedStore, tested
from orchestrator.stores.shard_maker import make_shard
from preprocessing.errors import InputError
from preprocessing.recordings import Recording
from preprocessing.shard import SCHEMA_VERSION

SIGNAL_BYTES = 20_000  # without video


def ensure(config: Config, people: Cohort, may_share: bool = False) -> ClipStore:
    """The clip store of this cohort, made where it is missing. Raises UserError (strict, full disk, duplicates).

    may_share: an identical recording of two subjects gives a warning instead of an error, as nothing is trained or tested yet.
    """
    clean_up_store(config)
    cohort.write_private_map(config, people)
    jobs = plan_shards(config, people)
    hashes = {sample: digests for job in jobs for sample, digests in job.hashes.items()}
    with _refusing(not may_share):
        duplicates.check_files(people, lambda clip: hashes[clip.sample], clip_options(config, False).limits)
    cache = HashCache(private_folder(config) / "hashes.json")
    if any(not current(job, cache) for job in jobs):
        with writing(config, "preprocess"):
            _make(config, [job for job in jobs if not current(job, cache)])
    else:
        progress.say("preprocess", f"clips of {len(jobs)} subjects are there already and up to date")
    cache.save()
    store = ClipStore(jobs[0].path.parent, jobs)
    with _refusing(not may_share):
        duplicates.check_prints(people, store.sides)
    _write_manifest(config, store, people)
    _report_quarantine(config, store, people)
    return store


@contextmanager
def _refusing(refuse: bool) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if refuse:
            raise
        progress.say("preprocess", f"a run will stop with this error: {error}", logging.WARNING, private=True)


def _make(config: Config, missing: list[ShardJob]) -> None:
    if not missing:
        return
    changed = [job for job in missing if other_limits(job)]
    if changed:
        progress.say("preprocess", f"clips of {len(changed)} subjects are made again, because data.max_pixels, max_channels or "
                                   "max_rows changed")
    damage.warn("preprocess", "clip shards", (is_damaged(job.path.with_suffix(".json"), job.key)
                                              for job in missing if job not in changed))
    progress.say("preprocess", forecast(config, missing))
    need_space(config.store_dir, _bytes(config, missing), "Preprocessing")
    _need_models(config, missing)
    folder = missing[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder)
    _run(config, missing)


def _need_models(config: Config, jobs: list[ShardJob]) -> None:
    """UserError before Ray starts if face models are missing: in a worker it would be a traceback."""
    for finding in machine.faces(config, _with_video(config, jobs) > 0):
        if finding.state == machine.STOP:
            raise UserError(finding.sentence())


def forecast(config: Config, jobs: list[ShardJob]) -> str:
    """A rough estimate and its assumptions; no file is opened for it. The doctor opens some videos and measures them."""
    from orchestrator.estimate import costs

    recordings = [clip.recording for job in jobs for clip in job.clips]
    signals = [one.signal for one in recordings if one.signal]
    seconds = costs.clip_seconds(config, len(jobs), _with_video(config, jobs), len(signals),
                                 emg=any(channel.kind == "emg" for ref in signals for channel in ref.channels))
    return (f"{len(jobs)} subjects, {len(recordings)} clips to do: {costs.span(costs.interval(seconds))} on "
            f"{ray_session.cpus(config)} cores" + (", without the start of Ray" if config.run.executor == "ray" else "")
            + f", {costs.size_text(_bytes(config, jobs))} of free disk needed"
            + (f", if videos have {FRAMES_PER_CLIP} frames as in BioVid (the doctor measures them)"
               if _with_video(config, jobs) else ""))


def _bytes(config: Config, jobs: list[ShardJob]) -> int:
    with_video = _with_video(config, jobs)
    return round(video_clip_bytes(config) * with_video + SIGNAL_BYTES * (sum(len(job.clips) for job in jobs) - with_video))


def _with_video(config: Config, jobs: list[ShardJob]) -> int:
    """Number of clips whose videos are decoded."""
    return sum(clip.recording.video is not None for job in jobs for clip in job.clips) if reads_video(config) else 0


class ShardWorker:
    """Loads the face models once, then processes one subject after the other."""

    def __init__(self, config: Config, video: bool, files: tuple[str, ...] = (), hashes: tuple[str, ...] = ()):
        import cv2

        plugins.load(files, hashes)

        cv2.setNumThreads(1)
        self.config = config
        self.engine = None
        if video:
            from preprocessing.face.engine import FaceEngine

            self.engine = FaceEngine(clip_options(config, True).face)

    def __call__(self, row: dict) -> dict:
        job = row["item"]
        done = {"subject": job.subject, "clips": 0, "quarantined": 0, "mistake": ""}
        try:
            return {**done, **make_shard(job, clip_options(self.config, job.video), self.engine)}
        except (UserError, InputError) as error:  # returned: Ray Data would wrap an exception, and retry
            return {**done, "mistake": str(error)}
        except OSError as error:
            if not disk_is_full(error):
                raise
            return {**done, "mistake": explain(error)}


def _run(config: Config, jobs: list[ShardJob]) -> None:
    with progress.bar("preprocess", sum(len(job.clips) for job in jobs), "clips") as tick:
        for row in mapped(config, jobs):
            if row["mistake"]:
                raise UserError(row["mistake"])
            tick(int(row["clips"] + row["quarantined"]))


def mapped(config: Config, jobs: list[ShardJob], worker: type[ShardWorker] = ShardWorker) -> Iterator[dict]:
    """The results of the jobs, in the order in which they finish."""
    # A job is one subject and takes a minute: no job waits behind another while a worker is idle.
    given = {"config": config, "video": _with_video(config, jobs) > 0, "files": plugins.named(),
             "hashes": plugins.hashes()}
    return choice.of(config).each(config, worker, given, jobs, one_by_one=True)


def _write_manifest(config: Config, store: ClipStore, people: Cohort) -> None:
    """A description of the store for readers and for moving it: schema, options and hashes, but no times and no paths."""
    write_json(store.folder / "manifest.json", {
        "schema": SCHEMA_VERSION, "dataset": people.dataset,
        "options": options_key(clip_options(config, has_video(config, people))),
        "class_names": list(people.class_names),
        "shards": {path.name: store.sides[subject]["sha256"] for subject, path in store.paths.items()}})


def _report_quality(store: ClipStore, classes: Mapping[int, str]) -> None:
    """Notes and warnings about the clips in the store. classes: the task's class names by label."""
    total: Counter = Counter()
    for side in store.sides.values():
        total.update(side["quality"])
    known = {"padded": "clips with too few keyframes, filled up evenly", "lost_frames": "frames without a face",
             "several_faces": "clips with several faces, of which the largest was kept"}
    said = [f"{total[name]} {words}" for name, words in known.items() if total[name]]
    if said:
        progress.say("preprocess", "in the store: " + "; ".join(said))
    for text in (*store.length_warning(classes), *store.notes()):
        progress.say("preprocess", text)


def _report_quarantine(config: Config, store: ClipStore, people: Cohort) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = store.quarantine()
    names = ("sample", "subject", "label", "stage", "reason", "fix")
    schema = pa.schema([(n, pa.int32() if n == "label" else pa.string()) for n in names])
    # pyarrow imports pandas, for a second, to look at any list, an empty one too
    columns = {n: pa.array([r[n] for r in rows], schema.field(n).type) for n in names} if rows else {}
    table = pa.table(columns) if rows else pa.Table.from_batches([], schema)
    with atomic_path(store.folder / "quarantine.parquet") as temporary:
        pq.write_table(table, temporary)
    _report_quality(store, {c: people.class_names[c] for c in config.task.classes})
    # a store with video and one without may exist side by side, and each lists the files that it excluded
    part = "-signals" if people.has_video and not has_video(config, people) else ""
    private = private_folder(config) / f"quarantine-{people.store_name}{part}.json"
    if not rows:
        private.unlink(missing_ok=True)
        return
    refs = {clip.sample: clip.recording for clip in people.clips}
    write_json(private, [{**row, **_files(refs[row["sample"]])} for row in rows], mode=0o600)
    text = _counts(f"{row['stage']}/{row['reason']}" for row in rows)
    progress.say("preprocess", f"{len(rows)} clips excluded ({text}); their files are listed in {private}")
    progress.say("preprocess", "by class: " + _counts(people.class_names[row["label"]] for row in rows))
    progress.say("preprocess", "by subject: " + _counts(row["subject"] for row in rows))
    if config.strict:
        raise UserError(f"strict=true and {len(rows)} clips were excluded ({text}): see {private} for the files.")


def _files(recording: Recording) -> dict:
    """The files of an excluded clip; where a column is missing or repeated, also the names of the columns."""
    from preprocessing.signals.signals import column_error

    files = [str(ref.path) for ref in (recording.video, recording.signal) if ref]
    error = column_error(recording.signal) if recording.signal else None
    return {"files": files, "columns": error.names} if error else {"files": files}


def _counts(names: Iterable[str], most: int = 20) -> str:
    """The names with their numbers, most frequent first."""
    counts = sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return ", ".join(f"{n} x {name}" for name, n in counts[:most]) + more


def ensure_clips(config: Config, people: Cohort) -> ClipStore:
    """The clip store of this run's cohort, made where it is missing."""
    if not isinstance(people, Joined):
        return make_clips.ensure(config, people)
    configs = (config, tested(config))
    store = JoinedStore(config, [make_clips.ensure(c, part) for c, part in zip(configs, people.parts, strict=True)])
    duplicates.check_prints(people, store.sides)
    return store
