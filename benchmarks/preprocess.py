"""Stage 1: how close preprocessing comes to the speed of decoding.

    python benchmarks/preprocess.py [--repeats 5] [--clips 4] [--mbit 4] [--videos 200] [--out benchmarks/preprocess.md]

Every row does the same clips: 1388 x 1038, H.264, 138 frames, a real face that sways (scikit-image's astronaut,
public domain) under sensor noise, written on the spot; and below them the synthetic cohort, with signals. The rows
take turns, so that a slow moment of the machine hits all of them, and medians over the repeats are compared.
Single-process rows count CPU seconds of that process, pinned to one core; the others count wall seconds.

Targets: in memory >= 0.75 of decoding to RGB, until the shard is renamed >= 0.60, Ray Data >= 0.9 of the pool, memory
flat over 200 videos and below 700 MB a process.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import av  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from skimage.data import astronaut  # noqa: E402

from preprocessing import signals, synthetic  # noqa: E402
from preprocessing.clip import ClipOptions, prepare_clip  # noqa: E402
from preprocessing.datasets import load  # noqa: E402
from preprocessing.faces import FaceEngine  # noqa: E402
from preprocessing.recordings import Recording, VideoRef  # noqa: E402
from preprocessing.shard import Row, write_shard  # noqa: E402

WIDTH, HEIGHT, FRAMES, FPS = 1388, 1038, 138, 25
TARGET_MEMORY_MB = 700

Measure = Callable[[], tuple[int, float]]  # -> frames done, seconds


# ------------------------------------------------------------------ material


def write_film(path: Path, seed: int = 0, mbit: float = 4.0) -> Path:
    """The face about 230 pixels between the outer eye corners, swaying, with noise of sigma 2."""
    rng, portrait = np.random.default_rng(seed), astronaut()
    noise = rng.normal(0, 2, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.bit_rate = round(mbit * 1e6)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(FRAMES):
            tilt, zoom = 0.08 * np.sin(i / 15 + seed), 3.7
            c, s = zoom * np.cos(tilt), zoom * np.sin(tilt)
            middle = np.array([WIDTH / 2 + 20 * np.sin(i / 11), HEIGHT / 2 + 12 * np.sin(i / 17)])
            turn = np.array([[c, -s], [s, c]])
            matrix = np.column_stack([turn, middle - turn @ [224, 120]])
            image = cv2.warpAffine(portrait, matrix, (WIDTH, HEIGHT), borderValue=(90, 100, 110))
            y, x = rng.integers(0, 64, 2)
            image = np.clip(image + noise[y : y + HEIGHT, x : x + WIDTH], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def as_recordings(videos: list[Path]) -> list[Recording]:
    return [Recording("a", f"{i}", 0, "none", VideoRef(path)) for i, path in enumerate(videos)]


# ------------------------------------------------------------------ what is measured


def decode_to_rgb(videos: list[Path]) -> int:
    """The limit: PyAV on one thread, every frame converted to rgb24, nothing else."""
    n = 0
    for path in videos:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                frame.to_ndarray(format="rgb24")
                n += 1
    return n


def in_memory(engine: FaceEngine, recordings: list[Recording], frames: str) -> int:
    """Landmarks of every frame, keyframes, and the crops of keyframes or of all frames."""
    return sum(engine.process(r.video, frames=frames).n_frames for r in recordings if r.video)


def to_shard(engine: FaceEngine, recordings: list[Recording], path: Path) -> int:
    """Everything until the shard has its name: signals, encoded crops, Parquet, fsync, rename."""
    options = ClipOptions()
    rows = [Row(r.sample, i, r.label, (), prepare_clip(r, engine, options)) for i, r in enumerate(recordings)]
    write_shard(path, rows)
    return sum(row.clip.n_frames for row in rows)


_ENGINE: FaceEngine | None = None


def _start_worker() -> None:
    global _ENGINE
    cv2.setNumThreads(1)
    _ENGINE = FaceEngine()


def _pool_job(job: tuple[list[Recording], Path]) -> int:
    assert _ENGINE is not None
    return to_shard(_ENGINE, *job)


def cpu(work: Callable[[], int]) -> Measure:
    def measure() -> tuple[int, float]:
        start = time.process_time()
        return work(), time.process_time() - start

    return measure


def wall(work: Callable[[], int]) -> Measure:
    def measure() -> tuple[int, float]:
        start = time.perf_counter()
        return work(), time.perf_counter() - start

    return measure


def interleaved(rows: dict[str, Measure], repeats: int) -> dict[str, list[float]]:
    """Frames a second of every row and repeat, the rows in turn, after one round that is not counted."""
    speed: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(repeats + 1):
        for name, measure in rows.items():
            n, seconds = measure()
            if repeat:
                speed[name].append(n / seconds)
    return speed


# ------------------------------------------------------------------ memory and signals


def memory_over(engine: FaceEngine, path: Path, n_videos: int) -> dict[int, float]:
    """High-water mark in MB of a process after 10 and more one-second clips of 1388 x 1038."""
    marks = {}
    for i in range(1, n_videos + 1):
        engine.process(VideoRef(path, end_s=1.0))
        if i in (10, n_videos // 2, n_videos):
            marks[i] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return marks


def _memory_job(job: tuple[Path, int]) -> dict[int, float]:
    assert _ENGINE is not None
    return memory_over(_ENGINE, *job)


def emd_share(recordings: list[Recording], engine: FaceEngine) -> tuple[float, float]:
    """(CPU seconds a clip, share of it that EMD takes), signals and video."""
    spent = 0.0
    original = signals.denoise

    def timed(*arguments):
        nonlocal spent
        start = time.process_time()
        try:
            return original(*arguments)
        finally:
            spent += time.process_time() - start

    signals.denoise = timed
    try:
        start = time.process_time()
        for recording in recordings:
            prepare_clip(recording, engine, ClipOptions())
        total = time.process_time() - start
    finally:
        signals.denoise = original
    return total / len(recordings), spent / total


# ------------------------------------------------------------------ report


def machine() -> str:
    model = platform.processor()
    try:
        model = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores (load before the run {load:.1f}), Python {platform.python_version()}, "
        f"NumPy {np.__version__}, OpenCV {cv2.__version__}, PyAV {av.__version__}"
    )


def commit() -> str:
    call = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip() or "unknown"


def table(speed: dict[str, list[float]], limit: str) -> list[str]:
    """Ratios are medians of the repeats' own ratios: what slows one repeat slows its rows alike."""
    lines = ["| | frames/s | lowest - highest | of the limit |", "|---|---|---|---|"]
    for name, values in speed.items():
        ratio = statistics.median(v / l for v, l in zip(values, speed[limit], strict=True))
        lines.append(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} - {max(values):.0f} | {ratio:.2f} |")
    return lines


def run(arguments: argparse.Namespace, folder: Path) -> list[str]:
    head = machine()
    tree = synthetic.generate(folder / "cohort", subjects=2, clips_per_level=1, jobs=1)
    cohort = load("biovid_a", tree).recordings
    films = [write_film(folder / f"film{i}.mp4", i, arguments.mbit) for i in range(arguments.clips)]
    recordings, half = as_recordings(films), max(1, arguments.clips // 2)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with multiprocessing.get_context("spawn").Pool(2, _start_worker) as pool:
        if cores:  # the pool's workers were started before this process was pinned
            os.sched_setaffinity(0, cores[-1:])
        cv2.setNumThreads(1)
        engine = FaceEngine()
        pool_jobs = [(recordings[:half], folder / "p0.parquet"), (recordings[half:] or recordings, folder / "p1.parquet")]
        limit = "decoding to RGB"
        speed = interleaved(
            {
                limit: cpu(lambda: decode_to_rgb(films)),
                "landmarks and keyframe crops in memory": cpu(lambda: in_memory(engine, recordings, "keyframes")),
                "landmarks and all crops in memory": cpu(lambda: in_memory(engine, recordings, "all")),
                "until the shard is renamed": cpu(lambda: to_shard(engine, recordings, folder / "one.parquet")),
                "pool of two processes, until renamed (wall)": wall(lambda: sum(pool.map(_pool_job, pool_jobs, 1))),
                # Ray Data, two actors, until renamed (wall): added with orchestrator/preprocess.py
            },
            arguments.repeats,
        )
        paths = [r.video.path for r in cohort if r.video]
        small = interleaved(
            {
                limit: cpu(lambda: decode_to_rgb(paths)),
                "landmarks and keyframe crops in memory": cpu(lambda: in_memory(engine, list(cohort), "keyframes")),
                "until the shard is renamed, signals too": cpu(lambda: to_shard(engine, list(cohort), folder / "c.parquet")),
            },
            arguments.repeats,
        )
        seconds, share = emd_share(list(cohort), engine)
        (marks,) = pool.map(_memory_job, [(films[0], arguments.videos)])
    bits = films[0].stat().st_size * 8 / (FRAMES / FPS) / 1e6
    return [
        "# Preprocessing against decoding", "",
        f"`python benchmarks/preprocess.py --repeats {arguments.repeats} --clips {arguments.clips}` at {commit()}, "
        f"{datetime.now(UTC):%Y-%m-%d}. {head}. Medians of {arguments.repeats} interleaved repeats.", "",
        f"## {WIDTH} x {HEIGHT}, H.264, {bits:.1f} Mbit/s, {arguments.clips} clips of {FRAMES} frames", "",
        *table(speed, limit), "",
        f"## The synthetic cohort: 640 x 480, {len(cohort)} clips with GSR, ECG and one EMG", "",
        *table(small, limit), "",
        f"{seconds:.2f} CPU seconds a clip, of which EMD takes {100 * share:.0f} %.", "",
        "## Memory of one process", "",
        "High-water mark: " + ", ".join(f"{mb:.0f} MB after {n} videos" for n, mb in marks.items())
        + f" (target: flat, below {TARGET_MEMORY_MB} MB).", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=4, help="1388 x 1038 clips a row")
    parser.add_argument("--mbit", type=float, default=4.0, help="bit rate of these clips in Mbit/s: decoding depends on it")
    parser.add_argument("--videos", type=int, default=200, help="videos of the memory row")
    parser.add_argument("--out", type=Path, help="write the table there; default: print it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(run(arguments, Path(folder)))
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
