"""Stage 1: how close preprocessing comes to the speed of decoding.

    python benchmarks/preprocess.py [--repeats 5] [--clips 4] [--mbit 4] [--videos 200] [--out benchmarks/preprocess.md]

    python benchmarks/preprocess.py --miniature                                      # only shows that the script runs
    python benchmarks/preprocess.py --only-processes                                 # the two rows of two processes
    python benchmarks/preprocess.py --only-one-process --repeats 1                   # half a minute: two commits in turn

Every row does the same clips: 1388 x 1038, H.264, 138 frames, a real face that sways (scikit-image's astronaut,
public domain) under sensor noise, written on the spot; and below them the synthetic cohort, with signals. The rows
take turns, so that a slow moment of the machine hits all of them, and medians over the repeats are compared.
Single-process rows count CPU seconds of that process, pinned to one core. The two rows of two processes count wall
seconds from the first clip's start to the last shard's name, both on the stage's own `make_shard`, a person of
--person clips a job, every clip twenty times: starting is left out of both. The pool's workers are there from the
beginning and warm from the round that is not counted; an actor does a clip when it starts and then waits until both
actors have. Ray itself is started for its row alone, so that it idles beside no other. Between two jobs Ray Data takes
about a tenth of a second: --person 1 shows it. Both have the same priority and the same environment. Beside the wall
clock, which on a busy machine measures the others, stand the CPU seconds of everything that the row runs, Ray's own
processes included, from the first result to the last.

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
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import av  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from skimage.data import astronaut  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from orchestrator.cohort.cohort import Clip  # noqa: E402
from orchestrator.config.configuration import Config, compose  # noqa: E402
from orchestrator.runtime import ray_session  # noqa: E402
from orchestrator.stages import make_clips  # noqa: E402
from orchestrator.stores.clip_store import ShardJob, clip_options  # noqa: E402
from orchestrator.stores.shard_maker import make_shard  # noqa: E402
from preprocessing.clip import ClipOptions, prepare_clip  # noqa: E402
from preprocessing.clip_format import decode_image, encode_image  # noqa: E402
from preprocessing.datasets.registry import load  # noqa: E402
from preprocessing.face.engine import FaceEngine  # noqa: E402
from preprocessing.face.roi import Roi  # noqa: E402
from preprocessing.orphans import end_with_parent  # noqa: E402
from preprocessing.recordings import Recording, VideoRef  # noqa: E402
from preprocessing.shard import Row, write_shard  # noqa: E402
from preprocessing.signals import signals  # noqa: E402
from preprocessing.synthetic import cohort as synthetic  # noqa: E402
from preprocessing.video.frames import ImageFrame  # noqa: E402

WIDTH, HEIGHT, FRAMES, FPS = 1388, 1038, 138, 25
MINIATURE_FRAMES = 20
TARGET_MEMORY_MB, TARGET_ACTORS = 700, 0.9
PROCESSES = 2

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


def cpu(work: Callable[[], int]) -> Measure:
    def measure() -> tuple[int, float]:
        start = time.process_time()
        return work(), time.process_time() - start

    return measure


def interleaved(rows: dict[str, Measure], repeats: int, warm: str = "") -> dict[str, list[float]]:
    """Frames a second of every row and repeat, the rows in turn, after one round (without `warm`) that is not counted."""
    speed: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(repeats + 1):
        for name, measure in rows.items():
            if not repeat and name == warm:
                continue  # it warms itself every time, and starts Ray for it
            n, seconds = measure()
            if repeat:
                speed[name].append(n / seconds)
    return speed


# ------------------------------------------------------------------ two processes: a pool, and Ray Data's actors


class Done(NamedTuple):
    """One job: when it began and ended (seconds of this machine's clock), its clips, which process did it, how many clips
    that had done afterwards, and its high-water mark of memory in MB."""

    start: float
    end: float
    clips: int
    process: int
    n: int
    mb: float


def settings(folder: Path, executor: str = "ray") -> Config:
    return compose("synthetic", [f"store={folder}", f"resources.cpus={PROCESSES}", f"run.executor={executor}"])


def as_jobs(recordings: list[Recording], folder: Path, n: int, each: int = 1) -> list[ShardJob]:
    """n people of so many clips each, a person being the piece that the stage hands out; the clips in turn."""
    jobs = []
    for i in range(n):
        mine = [recordings[(i * each + j) % len(recordings)] for j in range(each)]
        clips = tuple(Clip(i, 0, f"c{i}-{j}", recording.label, recording) for j, recording in enumerate(mine))
        jobs.append(ShardJob(subject=i, pseudonym=f"s{i}", path=folder / f"s{i % 8}.parquet", key="", clips=clips,
                             hashes={c.sample: ("", "") for c in clips}))
    return jobs


class Stopwatch:
    """Times jobs within one process."""

    def __init__(self) -> None:
        self.n = 0

    def time(self, job: ShardJob, make: Callable[[], dict]) -> Done:
        start = time.time()
        made = make()
        assert made["clips"] == len(job.clips), f"a clip of the benchmark was quarantined: {made}"
        self.n += len(job.clips)
        mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Done(start, time.time(), len(job.clips), os.getpid(), self.n, mb)


_WORKER: tuple[FaceEngine, ClipOptions, Stopwatch] | None = None


def _start_worker(config: Config) -> None:
    global _WORKER
    end_with_parent()
    cv2.setNumThreads(1)
    options = clip_options(config, True)
    _WORKER = FaceEngine(options.face), options, Stopwatch()


def _pool_job(job: ShardJob) -> Done:
    assert _WORKER is not None
    engine, options, stopwatch = _WORKER
    return stopwatch.time(job, lambda: make_shard(job, options, engine))


class Cost:
    """CPU seconds of this process and all below it, between the first result and the last, for the clips between."""

    def __init__(self) -> None:
        self.frames_per_cpu_s: list[float] = []

    def watch(self, results: Iterable[Done]) -> list[Done]:
        done, start = [], 0.0
        for result in results:
            done.append(result)
            if len(done) == 1:
                start = tree_seconds()
        if len(done) > PROCESSES:  # when the first clip is done, the others of its round nearly are
            clips = sum(d.clips for d in done[PROCESSES:])
            self.frames_per_cpu_s.append(FRAMES * clips / (tree_seconds() - start))
        return done


def tree_seconds() -> float:
    """User and system time of this process and its descendants so far. Linux only."""
    spent, below = {}, defaultdict(list)
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()  # the name may hold blanks
        except OSError:
            continue  # it has just ended
        pid = int(place.parent.name)
        below[int(fields[1])].append(pid)
        spent[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total, todo = 0.0, [os.getpid()]
    while todo:
        pid = todo.pop()
        total += spent.get(pid, 0.0)
        todo += below[pid]
    return total


def in_actors(config: Config, jobs: list[ShardJob], folder: Path, cost: Cost) -> list[Done]:
    """The stage's own Ray Data pipeline on a Ray of its own, its workers with a stopwatch and a starting line."""
    marks, warm = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
    n_actors = min(ray_session.cpus(config), PROCESSES, len(jobs))

    class TimedWorker(make_clips.ShardWorker):
        def __init__(self, config: Config, video: bool, **plugins: tuple[str, ...]):
            super().__init__(config, video, **plugins)
            first = replace(jobs[0], clips=jobs[0].clips[:1], path=warm / f"{os.getpid()}.parquet")
            make_shard(first, make_clips.clip_options(self.config, first.video), self.engine)
            self.stopwatch = Stopwatch()
            (marks / f"{os.getpid()}").touch()

        def __call__(self, row: dict) -> dict:
            deadline = time.monotonic() + 120
            while len(list(marks.iterdir())) < n_actors:
                assert time.monotonic() < deadline, "an actor did not start within two minutes"
                time.sleep(0.01)
            call = super().__call__
            return self.stopwatch.time(row["item"], lambda: call(row))._asdict()

    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # Ray's processes inherit it
    try:
        with ray_session.session(config):
            return cost.watch(Done(**row) for row in make_clips.mapped(config, jobs, TimedWorker))
    finally:
        os.sched_setaffinity(0, mine)


def once_started(run: Callable[[], list[Done]]) -> Measure:
    def measure() -> tuple[int, float]:
        done = run()
        return FRAMES * sum(d.clips for d in done), max(d.end for d in done) - min(d.start for d in done)

    return measure


def why_no_ray() -> str | None:
    try:
        import ray  # noqa: F401
    except ImportError as error:
        return f"skipped: ray cannot be imported ({error})"
    return None


# ------------------------------------------------------------------ memory, images and signals


def high_water(done: list[Done], marks: list[int]) -> dict[int, float]:
    """The larger of the processes' high-water marks in MB, after so many videos each."""
    return {mark: max(d.mb for d in done if d.n <= mark) for mark in marks}


class ImageCost(NamedTuple):
    """bytes a crop; CPU ms to encode one; PSNR in dB; how far a mesh run on the crop moves (mean, pixels of the crop)."""

    size: float
    encode_ms: float
    psnr: float
    moved: float


def image_costs(engine: FaceEngine, recordings: list[Recording]) -> dict[str, ImageCost]:
    """Keyframe crops as PNG and as JPEG. Landmarks and keyframes come from the video, before anything is encoded."""
    crops = [crop for r in recordings if r.video for crop in engine.process(r.video).frames]
    roi = Roi(111.5, 111.5, 1.2 * 224)
    meshes = [engine._mesh.find(ImageFrame(0, 0.0, crop), roi)[0] for crop in crops]
    costs = {}
    for name, image, quality in (("PNG", "png", 0), ("JPEG 98", "jpeg", 98), ("JPEG 95", "jpeg", 95), ("JPEG 90", "jpeg", 90)):
        start = time.process_time()
        encoded = [encode_image(crop, image, quality) for crop in crops]
        seconds = time.process_time() - start
        decoded = [decode_image(data) for data in encoded]
        error = statistics.mean(float(((a.astype(float) - b) ** 2).mean()) for a, b in zip(crops, decoded, strict=True))
        again = [engine._mesh.find(ImageFrame(0, 0.0, crop), roi)[0] for crop in decoded]
        moved = statistics.mean(float(np.linalg.norm(a - b, axis=1).mean()) for a, b in zip(meshes, again, strict=True))
        psnr = 10 * np.log10(255**2 / error) if error else float("inf")
        costs[name] = ImageCost(statistics.mean(map(len, encoded)), 1e3 * seconds / len(crops), psnr, moved)
    return costs


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
    load = os.getloadavg()[0]
    return (
        f"{cpu_name()}, {os.cpu_count()} cores (load before the run {load:.1f}), Python {platform.python_version()}, "
        f"NumPy {np.__version__}, OpenCV {cv2.__version__}, PyAV {av.__version__}"
    )


def commit() -> str:
    call = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip() or "unknown"


def table(speed: dict[str, list[float]], limit: str) -> list[str]:
    """Ratios are medians of the repeats' own ratios: what slows one repeat slows its rows alike."""
    lines = ["| | frames/s | lowest - highest | of the limit |", "|---|---|---|---|"]
    for name, values in speed.items():
        part = ratio(speed, name, limit)
        lines.append(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} - {max(values):.0f} | {part:.2f} |")
    return lines


def ratio(speed: dict[str, list[float]], row: str, of: str) -> float:
    return statistics.median(a / b for a, b in zip(speed[row], speed[of], strict=True))


def image_table(costs: dict[str, ImageCost]) -> list[str]:
    lines = ["| | KB a crop | of PNG | ms to encode | PSNR, dB | landmarks move, px |", "|---|---|---|---|---|---|"]
    whole = costs["PNG"].size
    for name, cost in costs.items():
        lines.append(f"| {name} | {cost.size / 1e3:.1f} | {cost.size / whole:.2f} | {cost.encode_ms:.2f} | "
                     f"{'lossless' if cost.psnr == float('inf') else f'{cost.psnr:.1f}'} | {cost.moved:.2f} |")  # fmt: skip
    return lines


def run(arguments: argparse.Namespace, folder: Path) -> list[str]:
    head = machine()
    films = [write_film(folder / f"film{i}.mp4", i, arguments.mbit) for i in range(arguments.clips)]
    os.environ.update(ray_session.WORKER_ENVIRONMENT)  # the pool's workers inherit it as Ray's do
    os.environ["RAY_worker_niceness"] = "0"
    with multiprocessing.get_context("spawn").Pool(PROCESSES, _start_worker, (settings(folder),)) as pool:
        title = ["# Preprocessing against decoding", "",
                 f"`{command()}` at {commit()}, {datetime.now(UTC):%Y-%m-%d}. {head}. Medians of {arguments.repeats} "
                 "interleaved repeats.", ""]  # fmt: skip
        if arguments.only_processes:
            return title + two_processes(arguments, folder, films, pool)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])  # the pool's workers were started before
        return title + everything(arguments, folder, films, pool)


POOL, RAY = "pool of two processes (wall)", "Ray Data, two actors (wall)"


def rows_of_two(arguments: argparse.Namespace, folder: Path, films: list[Path], pool) -> dict[str, tuple[Measure, Cost]]:
    people = -(-arguments.rounds * arguments.clips // arguments.person)
    jobs, costs = as_jobs(as_recordings(films), folder / "shards", people, arguments.person), (Cost(), Cost())
    rows = {POOL: (once_started(lambda: costs[0].watch(pool.imap_unordered(_pool_job, jobs, 1))), costs[0])}
    if why_no_ray() is None:
        rows[RAY] = once_started(lambda: in_actors(settings(folder, arguments.executor), jobs, folder, costs[1])), costs[1]
    return rows


def ray_text(arguments: argparse.Namespace, speed: dict[str, list[float]], costs: dict[str, Cost]) -> list[str]:
    if RAY not in speed:
        return [f"Ray Data {why_no_ray()}."]
    spent = {row: statistics.median(cost.frames_per_cpu_s) for row, cost in costs.items() if cost.frames_per_cpu_s}
    cpu_text = f"For a CPU second of all processes of the row the pool does {spent[POOL]:.0f} frames and Ray Data with its " \
               f"daemons and driver {spent[RAY]:.0f} ({spent[RAY] / spent[POOL]:.2f})." if len(spent) == 2 else ""  # fmt: skip
    person = f"a person of {arguments.person} clips a job" if arguments.person > 1 else "a clip a job"
    return [f"Ray Data does {ratio(speed, RAY, POOL):.2f} of what the pool does (target {TARGET_ACTORS}). Both rows run the "
            f"stage's `make_shard`, {person}, until the shards are renamed, at the same priority, and count from the "
            "first clip's start to the last one's end. Starting is in neither: the pool's workers are warm from a round "
            f"before; an actor does a clip when it starts, which is not counted, and waits until both have. {cpu_text}",
            ""]  # fmt: skip


def two_processes(arguments: argparse.Namespace, folder: Path, films: list[Path], pool) -> list[str]:
    rows = rows_of_two(arguments, folder, films, pool)
    speed = interleaved({name: measure for name, (measure, _) in rows.items()}, arguments.repeats, warm=RAY)
    return [*table(speed, POOL), "", *ray_text(arguments, speed, {name: cost for name, (_, cost) in rows.items()})]


def everything(arguments: argparse.Namespace, folder: Path, films: list[Path], pool) -> list[str]:
    tree = synthetic.generate(folder / "cohort", subjects=arguments.people, clips_per_level=1, jobs=1, **arguments.cohort)
    cohort, recordings = list(load("biovid_a", tree).recordings), as_recordings(films)
    many = as_jobs(recordings, folder / "shards", PROCESSES * arguments.videos)
    limit, config, no_ray = "decoding to RGB", settings(folder, arguments.executor), why_no_ray()
    cv2.setNumThreads(1)
    engine = FaceEngine()
    two = {} if arguments.only_one_process else rows_of_two(arguments, folder, films, pool)
    rows = {
        limit: cpu(lambda: decode_to_rgb(films)),
        "landmarks and keyframe crops in memory": cpu(lambda: in_memory(engine, recordings, "keyframes")),
        "landmarks and all crops in memory": cpu(lambda: in_memory(engine, recordings, "all")),
        "until the shard is renamed": cpu(lambda: to_shard(engine, recordings, folder / "one.parquet")),
        **{name: measure for name, (measure, _) in two.items()},
    }
    speed = interleaved(rows, arguments.repeats, warm=RAY)
    paths = [r.video.path for r in cohort if r.video]
    small = interleaved(
        {
            limit: cpu(lambda: decode_to_rgb(paths)),
            "landmarks and keyframe crops in memory": cpu(lambda: in_memory(engine, cohort, "keyframes")),
            "until the shard is renamed, signals too": cpu(lambda: to_shard(engine, cohort, folder / "c.parquet")),
        },
        arguments.repeats,
    )
    if arguments.only_one_process:
        return [*table(speed, limit), "", *table(small, limit)]
    seconds, share = emd_share(cohort, engine)
    images = {f"{WIDTH} x {HEIGHT}, noisy": image_costs(engine, recordings[:1]),
              "the synthetic cohort": image_costs(engine, cohort[:5])}  # fmt: skip
    done = pool.map(_pool_job, many, 1) if no_ray else in_actors(config, many, folder, Cost())
    videos = sorted({min(10, arguments.videos), (arguments.videos + 1) // 2, arguments.videos})
    bits = films[0].stat().st_size * 8 / (FRAMES / FPS) / 1e6
    return [
        f"## {WIDTH} x {HEIGHT}, H.264, {bits:.1f} Mbit/s, {arguments.clips} clips of {FRAMES} frames", "",
        *table(speed, limit), "",
        *ray_text(arguments, speed, {name: cost for name, (_, cost) in two.items()}),
        f"## The synthetic cohort: 640 x 480, {len(cohort)} clips with GSR, ECG and one EMG", "",
        *table(small, limit), "",
        f"{seconds:.2f} CPU seconds a clip, of which EMD takes {100 * share:.0f} %.", "",
        "## Memory", "",
        f"High-water mark of the larger of two {'pool workers' if no_ray else 'actors'}: "
        + ", ".join(f"{mb:.0f} MB after {n} videos" for n, mb in high_water(done, videos).items())
        + f" each of {FRAMES} frames of {WIDTH} x {HEIGHT} (target: flat, below {TARGET_MEMORY_MB} MB).", "",
        "## Stored crops: PNG or JPEG", "",
        "`face.image=jpeg face.quality=95` stores the 224 x 224 crops smaller and no longer lossless. Keyframes and "
        "landmarks do not depend on it: they come from the video. Below, what the encoder gets instead: the error of the "
        "pixels, and how far the mesh moves when it is run on the decoded crop (the face is about 180 pixels wide).", "",
        *(line for name, costs in images.items() for line in (f"{name[0].upper()}{name[1:]}:", "", *image_table(costs), "")),
    ]  # fmt: skip


def command() -> str:
    return " ".join(["python benchmarks/preprocess.py", *sys.argv[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=4, help="1388 x 1038 clips a row")
    parser.add_argument("--mbit", type=float, default=4.0, help="bit rate of these clips in Mbit/s: decoding depends on it")
    parser.add_argument("--videos", type=int, default=200, help="videos a process of the memory row")
    parser.add_argument("--rounds", type=int, default=20, help="how often the rows of two processes do every clip")
    parser.add_argument("--person", type=int, default=10, help="clips of a person, the job of the rows of two processes")
    parser.add_argument("--only-processes", action="store_true", help="only the pool and Ray Data's actors")
    parser.add_argument("--only-one-process", action="store_true", help="only the rows that one process does, without Ray")
    parser.add_argument("--people", type=int, default=2, help="people of the synthetic cohort, 5 clips each")
    parser.add_argument("--out", type=Path, help="write the table there; default: print it")
    parser.add_argument("--miniature", action="store_true", help="a film of a second, each row once, without Ray")
    arguments = parser.parse_args()
    arguments.executor, arguments.cohort = "ray", {}
    if arguments.miniature:
        global FRAMES
        FRAMES, arguments.executor, arguments.cohort = MINIATURE_FRAMES, "inline", {"levels": ("BL1",), "size": (160, 120)}
        arguments.repeats = arguments.clips = arguments.videos = arguments.rounds = arguments.person = arguments.people = 1
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(run(arguments, Path(folder)))
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
