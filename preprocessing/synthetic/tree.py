"""The files of a synthetic cohort: folders of the subjects, worker processes that write clips, and the hash of all files."""

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from preprocessing.allotment import usable_cores
from preprocessing.orphans import end_with_parent
from preprocessing.synthetic.acting import act
from preprocessing.synthetic.people import LEVELS, Clip, draw_people, session
from preprocessing.synthetic.signals import draw_stimulus, make_signals, write_table

VERSION = 6  # increase it whenever the same arguments give other files
MARK = "SYNTHETIC.json"
_STIMULUS, _SIGNALS, _VIDEO = range(3)  # random streams of a clip
_CHUNK = 8  # clips that a worker writes before it reports


def write_tree(
    work: Path, parameters: dict[str, Any], jobs: int | None, on_progress: Callable[[int, int], None] | None
) -> None:
    """Write every file of the cohort below `work`, SYNTHETIC.json last. Single files are not synced to disk: after a power cut
    the stored hash does not match, and the cohort is written again."""
    people = draw_people(parameters["subjects"], parameters["seed"])
    levels, n = parameters["levels"], parameters["clips_per_level"]
    sessions = [session(person, n, parameters["effect"], levels) for person in people]
    for folder in ("biosignals_raw", "biosignals_filtered") + (("video",) if parameters["videos"] else ()):
        for person in people:
            (work / folder / person.raw_id).mkdir(parents=True)
    _write_samples(work / "starting_point" / "samples.csv", sessions)
    tasks = [
        (work, clips[i : i + _CHUNK], parameters["part"] == "B", tuple(parameters["size"]), parameters["videos"])
        for clips in sessions
        for i in range(0, len(clips), _CHUNK)
    ]
    done, total = 0, sum(map(len, sessions))
    for made in _run(tasks, jobs):
        done += made
        if on_progress:
            on_progress(done, total)
    mark = {
        "synthetic": True,
        "cohort": "synthetic",
        "generator": VERSION,
        "expected": {"subjects": len(people), "clips": total, "clips_per_subject": n * len(levels)},
        "parameters": parameters,
        "listing_sha256": listing_sha256(work),
    }
    with open(work / MARK, "w", encoding="utf-8") as file:
        file.write(json.dumps(mark, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _write_samples(path: Path, sessions: list[list[Clip]]) -> None:
    """samples.csv in the order of the sessions: the position of a row does not reveal its level."""
    path.parent.mkdir(parents=True)
    rows = ["subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"]
    sample = 0
    for clips in sessions:
        for clip in clips:
            sample += 1
            who = f"{clip.person.index + 1}\t{clip.person.raw_id}"
            rows.append(f"{who}\t{LEVELS.index(clip.level)}\t{clip.level}\t{sample}\t{clip.name}")
    path.write_text("\n".join(rows) + "\n", encoding="ascii")


def _run(tasks: list[tuple[Any, ...]], jobs: int | None) -> Iterator[int]:
    """Number of clips of each finished task; new processes are spawned, because the caller may have threads."""
    jobs = min(jobs or usable_cores(), len(tasks))
    if jobs <= 1:
        yield from map(_make_chunk, tasks)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker)
    try:
        for made in as_completed([pool.submit(_make_chunk, task) for task in tasks]):
            yield made.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    end_with_parent()
    import cv2

    cv2.setNumThreads(1)  # one process per core is enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers


def _make_chunk(task: tuple[Path, list[Clip], bool, tuple[int, int], bool]) -> int:
    work, clips, facial, size, videos = task
    for clip in clips:
        make_clip(work, clip, facial, size, videos)
    return len(clips)


def make_clip(root: Path, clip: Clip, facial: bool, size: tuple[int, int], videos: bool) -> None:
    """Write the files of one clip. They depend on its level only through `clip.intensity`."""
    stimulus = draw_stimulus(clip.intensity, clip.stream(_STIMULUS))
    raw, filtered = make_signals(clip.person, stimulus, facial, clip.stream(_SIGNALS))
    for folder, columns in (("biosignals_raw", raw), ("biosignals_filtered", filtered)):
        write_table(root / folder / clip.person.raw_id / f"{clip.name}_bio.csv", columns)
    if videos:
        from preprocessing.synthetic.video import write_video  # imports OpenCV, PyAV and scikit-image

        rng = clip.stream(_VIDEO)
        tracks = act(clip.person, stimulus, clip.n_frames, rng)
        write_video(root / "video" / clip.person.raw_id / f"{clip.name}.mp4", clip.person, tracks, size, rng)


def listing_sha256(root: Path) -> str:
    """Hash of every file's relative path, size and content, in path order; without SYNTHETIC.json itself."""
    lines = []
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != MARK):
        data = path.read_bytes()
        lines.append(f"{path.relative_to(root).as_posix()}\t{len(data)}\t{hashlib.sha256(data).hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
