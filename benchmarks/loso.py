"""Stage 4: the overhead of scheduling the folds, and the time that stored tokens save.

    python benchmarks/loso.py [--miniature] [--workers 2] [--rounds 3] [--long-rounds 1] [--parts ridge overhead ...]
                              [--out benchmarks/loso.md]

ridge     all leave-one-subject-out ridge fits of 87 subjects, 8,700 x 512, from merged sums; difference to refits.
          Targets: under 2 s, 1e-10.
overhead  87 small folds on one Tune worker: wall time minus the time of the folds, per fold. Target: at most 0.4 s.
pool      87 small folds on two Tune workers, compared with a pool of two processes that run the same function. Both include
          the start of the workers, but not of Ray. Folds of some tenths of a second, where the start takes a quarter of the
          time, and of about a second. Target: at least 0.9 of the pool's speed.
authors   embedding once and four folds of three epochs here, compared with the procedure of the released code: the encoder runs
          again at every step, a new process per fold, the same model with naive operators. 40 clips, ViT-tiny, 224 x 224; the
          same with tokens pooled 2x2 and over space ("temporal"). Target: 3 times as fast.
memory    the driver's peak memory after 87 and after 1,000 folds. Target: at most 100 MB more.

Every measurement is a new process; parts that are compared alternate, and medians of --rounds are reported. The released code's
procedure and the 1,000 folds take minutes and are measured once (--long-rounds). --miniature: small sizes, in this process
and without Ray, to test that the script runs; its numbers mean nothing.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from orchestrator.cohort.lineage import Lineage  # noqa: E402
from orchestrator.config.configuration import Config, compose  # noqa: E402
from orchestrator.evaluation import scheduler  # noqa: E402
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder, fit_fold  # noqa: E402
from orchestrator.evaluation.ledger import Ledger  # noqa: E402
from orchestrator.evaluation.scheduler import FoldWork  # noqa: E402
from orchestrator.executors import choice  # noqa: E402
from orchestrator.plan.folds import Fold  # noqa: E402
from orchestrator.runtime import ray_session  # noqa: E402
from preprocessing.moments import Moments  # noqa: E402
from preprocessing.orphans import end_with_parent  # noqa: E402

POOLS = ("none", "2x2", "temporal")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    people: int = 87
    clips: int = 100
    features: int = 512
    many: int = 1000
    small_epochs: tuple[int, int] = (4, 12)  # of the folds of some tenths of a second, and of about a second
    frames: int = 16
    image: int = 224
    author_epochs: int = 3
    author_clips: int = 10  # for each of four subjects; all are tested
    scale: str = "vit_tiny"
    executor: str = "ray"


FULL = Sizes()
MINIATURE = Sizes(people=4, clips=12, features=16, many=8, small_epochs=(1, 2), frames=4, image=32, author_epochs=1,
                  author_clips=2, scale="vit_micro", executor="inline")


def made_up(people: int, clips: int, length: int, seed: int = 0) -> FoldData:
    """Signals of two classes, three channels."""
    rng = np.random.default_rng(seed)
    n = people * clips
    subject, labels = np.repeat(np.arange(people), clips), np.arange(n) % 2
    signals = (rng.normal(size=(n, length, 3)) + 0.3 * labels[:, None, None]).astype(np.float32)
    moments = {s: Moments.of(signals[subject == s]) for s in range(people)}
    return FoldData(samples=tuple(f"c{i:06d}" for i in range(n)), subject=subject, labels=labels, signals=signals,
                    channels=("gsr", "ecg", "emg"), tokens={}, token_grid=(1, 1, 1), numbers=np.zeros((n, 3)), moments=moments,
                    pseudonyms=tuple(f"p{i}" for i in range(people)), cohort="bench", n_classes=2, quarantined={},
                    class_names=("a", "b"))


def loso(people: int, index: int, n_val: int = 1) -> Fold:
    others = [i for i in range(people) if i != index]
    return Fold(index, 0, (index,), tuple(others[n_val:]), tuple(others[:n_val]), None)


def settings(sizes: Sizes, folder: Path, workers: int) -> Config:
    return compose("watch", [f"store={folder}", f"run.dir={folder}", f"resources.cpus={workers}",
                             f"run.executor={sizes.executor}"])


def tune(sizes: Sizes, work: FoldWork, folder: Path, workers: int) -> float:
    """Wall seconds of all folds on Tune; Ray is started before, its workers are not."""
    config = settings(sizes, folder, workers)
    folder.mkdir(parents=True, exist_ok=True)
    choice.of(config).start(config)
    began = time.perf_counter()
    failed = scheduler.run_grid(config, "bench", "bench", names=list(work.folds), planned=len(work.folds),
                                work=lambda names: work, scratch=folder)
    assert not failed, failed
    return time.perf_counter() - began


def small_work(sizes: Sizes, folder: Path, epochs: int) -> FoldWork:
    """One fold of signal_small per subject."""
    people = sizes.people
    recipe = FoldRecipe(model="signal_small", options={}, train={"max_epochs": epochs, "patience": epochs}, refit=False,
                        leaky=False, fixed_epochs=False, signal={"dim": 32, "depth": 1, "heads": 4, "ff": 64})
    folds = {f.name: f for f in (loso(people, i) for i in range(people))}
    return FoldWork(folds, made_up(people, 4, 200), recipe, {None: None}, Ledger(folder, "bench"))


def fit_seconds(work: FoldWork) -> float:
    return sum(entry.wall_s for fold in work.folds.values() if (entry := work.ledger.read(fold)))


def measure_ridge(sizes: Sizes, folder: Path) -> dict:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    from models.baselines.exact_ridge import leave_one_out

    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(sizes.people), sizes.clips)
    x, y = rng.normal(size=(len(people), sizes.features)), np.eye(2)[np.arange(len(people)) % 2]
    began = time.perf_counter()
    found = dict(leave_one_out(x, y, people, 1.0))
    seconds = time.perf_counter() - began
    worst = 0.0
    for person in range(0, sizes.people, max(1, sizes.people // 8)):
        rows = people != person
        scaler = StandardScaler().fit(x[rows])
        refit = Ridge(alpha=1.0).fit(scaler.transform(x[rows]), y[rows])
        worst = max(worst, float(np.abs(found[person].coef - refit.coef_).max()))
    return {"seconds": seconds, "difference": worst}


def measure_overhead(sizes: Sizes, folder: Path) -> dict:
    work = small_work(sizes, folder, sizes.small_epochs[0])
    wall = tune(sizes, work, folder, 1)
    return {"overhead": (wall - fit_seconds(work)) / len(work.folds), "fold": fit_seconds(work) / len(work.folds)}


POOLED: dict[str, FoldWork] = {}


def _start_pool(work: FoldWork) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    POOLED["work"] = work


def _pooled(name: str) -> None:
    POOLED["work"].run(name)


def measure_tune(sizes: Sizes, folder: Path, epochs: int) -> dict:
    work = small_work(sizes, folder, epochs)
    return {"seconds": tune(sizes, work, folder, 2), "fold": fit_seconds(work) / len(work.folds)}


def measure_pool(sizes: Sizes, folder: Path, epochs: int) -> dict:
    work = small_work(sizes, folder, epochs)
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2, _start_pool, (work,)) as pool:
        list(pool.imap_unordered(_pooled, list(work.folds)))
    return {"seconds": time.perf_counter() - began, "fold": fit_seconds(work) / len(work.folds)}


def author_data(sizes: Sizes) -> FoldData:
    """Clips of four subjects; the images are noise, which takes an encoder as long as faces."""
    data = made_up(4, sizes.author_clips, 400)
    shape = (len(data.labels), sizes.frames, sizes.image, sizes.image, 3)
    return replace(data, frames=np.random.default_rng(1).integers(0, 256, shape, np.uint8))


def author_encoder(sizes: Sizes):
    import torch

    from models import build

    torch.manual_seed(0)
    torch.set_num_threads(1)
    scale = compose("synthetic", [f"encoder={sizes.scale}"]).encoder
    return build("video_mae", scale=scale.scale, image_size=sizes.image, frames=sizes.frames, decoder=False).eval()


def author_recipe(sizes: Sizes, impl: str) -> FoldRecipe:
    train = {"max_epochs": sizes.author_epochs, "patience": sizes.author_epochs, "batch_size": 4}
    return FoldRecipe(model="dual", options={"hpa": {"impl": impl}}, train=train, refit=False, leaky=False, fixed_epochs=False)


class EncodedAgain:
    """Tokens that are computed every time they are read."""

    def __init__(self, encoder, frames: np.ndarray):
        self.encoder, self.frames = encoder, frames
        n = encoder.grid[0] * encoder.grid[1] * encoder.grid[2]
        self.shape, self.dtype = (len(frames), n, encoder.dim), np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        return encode(self.encoder, self.frames[np.atleast_1d(np.asarray(rows))])


def encode(encoder, frames: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        video = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 255
        return encoder.encode(video).numpy()


USED = UsedEncoder(0, "0" * 64, None, Lineage("encoder"))


def measure_ours(sizes: Sizes, folder: Path, pool: str = "none", workers: int = 2) -> dict:
    """Embedding and four folds; the clips' pictures are there before the clock starts, as they are for the other."""
    import torch

    from models.classifier.token_pool import TokenPool

    data, encoder = author_data(sizes), author_encoder(sizes)
    began = time.perf_counter()
    pooling = TokenPool(encoder.grid, pool)
    tokens = np.concatenate([pooling(torch.from_numpy(encode(encoder, data.frames[i : i + 8]))).numpy().astype(np.float16)
                             for i in range(0, len(data.labels), 8)])
    embedded = time.perf_counter() - began
    t, h, w = encoder.grid
    grid = {"none": (t, h, w), "2x2": (t, h // 2, w // 2), "temporal": (t, 1, 1)}[pool]
    stored = replace(data, frames=None, tokens={0: tokens}, token_grid=grid)
    folds = {f.name: f for f in (loso(4, i) for i in range(4))}
    work = FoldWork(folds, stored, author_recipe(sizes, "fused"), {None: USED}, Ledger(folder, "bench"))
    return {"seconds": embedded + tune(sizes, work, folder, workers), "embedding": embedded}


def measure_theirs(sizes: Sizes, folder: Path, workers: int = 2) -> dict:
    """Four processes, as many at a time as the other has workers; each fits one fold from pictures."""
    began = time.perf_counter()
    if sizes == MINIATURE:
        author_fold(sizes, 0)
        return {"seconds": time.perf_counter() - began}
    waiting, running = list(range(4)), []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(start_fresh("author_fold", waiting.pop(0)))
        for process in [p for p in running if p.poll() is not None]:
            assert process.returncode == 0, "a fold of the authors' way failed"
            running.remove(process)
        time.sleep(0.05)
    return {"seconds": time.perf_counter() - began}


def author_fold(sizes: Sizes, index: int) -> dict:
    import models.classifier.batches

    models.classifier.batches.KEEP_BYTES = 0  # nothing is kept between steps
    data, encoder = author_data(sizes), author_encoder(sizes)
    seen = replace(data, frames=None, tokens={0: EncodedAgain(encoder, data.frames)}, token_grid=tuple(encoder.grid))
    fit_fold(loso(4, index), seen, author_recipe(sizes, "naive"), USED)
    return {}


def measure_memory(sizes: Sizes, folder: Path, n: int) -> dict:
    """The driver's peak after n folds of almost nothing."""
    data = made_up(5, 4, 20)
    folds = {f.name: f for f in (Fold(i, 0, (i % 5,), tuple(j for j in range(5) if j != i % 5), (), None) for i in range(n))}
    work = FoldWork(folds, data, FoldRecipe(model="ridge", options={}, train={}, refit=False, leaky=False,
                                            fixed_epochs=False), {None: None}, Ledger(folder, "bench"))
    config = settings(sizes, folder, 2)
    folder.mkdir(parents=True, exist_ok=True)
    assert not scheduler.run_grid(config, "bench", "bench", names=list(folds), planned=n,
                                  work=lambda names: replace(work, folds={name: folds[name] for name in names}),
                                  scratch=folder)
    return {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def start_fresh(what: str, *words: object) -> subprocess.Popen:
    command = [sys.executable, __file__, "--one", what, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def fresh(what: str, sizes: Sizes, *words: object) -> dict:
    """One measurement in a process of its own, in miniature in this one; what it returns."""
    if sizes == MINIATURE:
        return one(what, sizes, list(map(str, words)))
    process = start_fresh(what, *words)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{what} failed:\n{out}")
    return json.loads(out.splitlines()[-1])


def one(what: str, sizes: Sizes, words: list[str]) -> dict:
    """What a fresh process does."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        try:
            if what == "author_fold":
                return author_fold(sizes, int(words[0]))
            if what == "ours":
                return measure_ours(sizes, folder, words[0], int(words[1]))
            if what == "theirs":
                return measure_theirs(sizes, folder, int(words[0]))
            if what == "memory":
                return measure_memory(sizes, folder, int(words[0]))
            if what in ("tune", "pool"):
                return {"tune": measure_tune, "pool": measure_pool}[what](sizes, folder, int(words[0]))
            return {"ridge": measure_ridge, "overhead": measure_overhead}[what](sizes, folder)
        finally:
            ray_session.stop()


def middle(rows: list[dict], name: str) -> float:
    return statistics.median(row[name] for row in rows)


def report(parts: list[str], sizes: Sizes, rounds: int, long: int, workers: int) -> list[str]:
    """The rows of the table; each is printed as soon as it is measured."""
    rows = ["| what | measured | target |", "|---|---|---|"]
    print("\n".join(rows))
    for part in parts:
        for row in ROWS[part](sizes, long if part in LONG else rounds, workers):
            print(row, flush=True)
            rows.append(row)
    return rows


def ridge_row(sizes: Sizes, rounds: int, workers: int) -> list[str]:
    found = [fresh("ridge", sizes) for _ in range(rounds)]
    return [f"| exact ridge, {sizes.people} folds of {sizes.people * sizes.clips:,} x {sizes.features} | "
            f"{middle(found, 'seconds'):.2f} s, difference to refits {middle(found, 'difference'):.0e} | 2 s, 1e-10 |"]


def overhead_row(sizes: Sizes, rounds: int, workers: int) -> list[str]:
    found = [fresh("overhead", sizes) for _ in range(rounds)]
    return [f"| overhead per fold, one worker, {sizes.people} folds of {middle(found, 'fold'):.2f} s | "
            f"{middle(found, 'overhead'):.3f} s | 0.4 s |"]


def pool_row(sizes: Sizes, rounds: int, workers: int) -> list[str]:
    rows = []
    for epochs, target in zip(sizes.small_epochs, ("-", "0.9"), strict=True):
        both = [(fresh("tune", sizes, epochs), fresh("pool", sizes, epochs)) for _ in range(rounds)]
        tuned, pooled = (middle([pair[i] for pair in both], "seconds") for i in (0, 1))
        fold = middle([pair[1] for pair in both], "fold")
        rows.append(f"| two Tune workers compared with a pool of two processes, {sizes.people} folds of {fold:.2f} s | "
                    f"{tuned:.1f} s and {pooled:.1f} s: {pooled / tuned:.2f} | {target} |")
    return rows


def author_rows(sizes: Sizes, rounds: int, workers: int) -> list[str]:
    turns = [({pool: fresh("ours", sizes, pool, workers) for pool in POOLS}, fresh("theirs", sizes, workers))
             for _ in range(rounds)]
    slow, rows = middle([theirs for _, theirs in turns], "seconds"), []
    for pool in POOLS:
        quick, embedding = (middle([ours[pool] for ours, _ in turns], name) for name in ("seconds", "embedding"))
        rows.append(f"| compared with the released code's procedure, {workers} at a time, tokens pooled: {pool} | "
                    f"{quick:.1f} s ({embedding:.1f} s embedding) and {slow:.1f} s: {slow / quick:.1f} times | "
                    f"{'3 times' if pool == 'none' else '-'} |")
    return rows


def memory_row(sizes: Sizes, rounds: int, workers: int) -> list[str]:
    few, many = (middle([fresh("memory", sizes, n) for _ in range(rounds)], "mb") for n in (sizes.people, sizes.many))
    return [f"| driver's peak memory after {sizes.people} and {sizes.many} folds | {few:.0f} MB and {many:.0f} MB: "
            f"{many - few:+.0f} MB | +100 MB |"]


LONG = ("authors", "memory")
ROWS = {"ridge": ridge_row, "overhead": overhead_row, "pool": pool_row, "authors": author_rows, "memory": memory_row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-rounds", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, *words = options.one
        print(json.dumps(one(what, FULL, words)))
        return
    sizes, rounds, long = (MINIATURE, 1, 1) if options.miniature else (FULL, options.rounds, options.long_rounds)
    rows = report(options.parts, sizes, rounds, long, options.workers)
    if options.out:
        command = " ".join(["python benchmarks/loso.py", *sys.argv[1:]])
        options.out.write_text("\n".join([
            "# Stage 4: overhead of scheduling the folds", "",
            f"{datetime.now(UTC):%Y-%m-%d} · {cpu_name()}, {os.cpu_count()} cores · medians of {rounds} "
            f"({' and '.join(LONG)}: {long})", "",
            f"    {command}", "", *rows, ""]))


if __name__ == "__main__":
    main()
