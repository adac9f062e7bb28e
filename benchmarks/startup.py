"""Overhead of a small run: --help, the imports of a fold worker, one fold, a finished run again, and all ten folds
of `--dataset watch model=random_forest` compared with scikit-learn alone.

    python benchmarks/startup.py [--miniature] [--rounds 3] [--parts help imports again fold all ...] [--vs CHECKOUT]
                                 [--store DIR] [--out benchmarks/startup.md]

help      the slowest --help of all commands. Target: under 1 s.
imports   what a fold's worker imports before it fits a forest. Target: half of the time of the older checkout.
again     the command of a finished run once more. Target: 2 s.
fold      one fold, with everything before it in the store. Target: 6 s.
all       the ten folds, with everything before them in the store, compared with scikit-learn alone: LeaveOneGroupOut over the
          same stored clips, the same features and trees, joblib on as many cores, reading included. Target: 1.3 times its time.

Beside fold and all: the same features and trees in trials of Ray Tune, with nothing of this project but reading and features.
Starting, scheduling and ending are Ray's there; no run of ours on Ray is faster.

--vs: another checkout, measured in turns with this one. Every measurement is a new process, compiled files allowed; medians
of --rounds. Wall seconds and, in brackets, CPU seconds, of all processes together: on a machine with other load, compare the
CPU seconds. --miniature: the parts without Ray, one round, to test that the script runs; its numbers mean nothing.
"""

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)

from benchmarks.machine import cpu_name  # noqa: E402

TARGETS = {"help": "1 s", "imports": "half", "again": "2 s", "fold": "6 s", "all": "1.3 times scikit-learn alone"}
WHAT = {"help": "--help, the slowest command", "imports": "imports of a fold's worker", "again": "a finished run again",
        "fold": "one fold", "all": "ten folds"}
WORKER = {  # by a folder that only the one kind of checkout has
    "orchestrator/evaluation": "orchestrator.evaluation.fold_data, orchestrator.evaluation.fit_fold, "
                               "orchestrator.evaluation.scheduler, models.baselines.estimators",
    "orchestrator": "orchestrator.folddata, orchestrator.foldfit, orchestrator.schedule, models.baselines.estimators"}
ALONE = """
import sys
from pathlib import Path
import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import LeaveOneGroupOut
from models.baselines.window_statistics import window_statistics
from preprocessing.shard import read_signals

def fold(x, y, train, test, trees):
    forest = RandomForestClassifier(trees, random_state=0, n_jobs=1).fit(x[train], y[train])
    return (forest.predict(x[test]) == y[test]).mean()

shards = [read_signals(path) for path in sorted(Path(sys.argv[1]).glob("clips/watch-*/s*.parquet"))]
x = window_statistics(np.concatenate([shard.signals for shard in shards]))
y = np.concatenate([shard.label for shard in shards])
people = np.concatenate([np.full(len(shard.label), i) for i, shard in enumerate(shards)])
cuts = LeaveOneGroupOut().split(x, y, people)
jobs = (delayed(fold)(x, y, train, test, int(sys.argv[2])) for train, test in cuts)
print(np.mean(Parallel(n_jobs=int(sys.argv[3]))(jobs)))
"""

TUNE = """
import os
import sys
import tempfile
from pathlib import Path
os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
               "RAY_worker_niceness": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
import numpy as np
import ray
from ray import tune
from models.baselines.window_statistics import window_statistics
from preprocessing.shard import read_signals

def fold(config, x, y, people, trees):
    from sklearn.ensemble import RandomForestClassifier
    test = people == config["fold"]
    forest = RandomForestClassifier(trees, random_state=0, n_jobs=1).fit(x[~test], y[~test])
    tune.report({"accuracy": float((forest.predict(x[test]) == y[test]).mean())})

ray.init(address="local", num_cpus=int(sys.argv[3]), dashboard_host="127.0.0.1", _node_ip_address="127.0.0.1",
         log_to_driver=False, logging_level="ERROR")
shards = [read_signals(path) for path in sorted(Path(sys.argv[1]).glob("clips/watch-*/s*.parquet"))]
x = window_statistics(np.concatenate([shard.signals for shard in shards]))
y = np.concatenate([shard.label for shard in shards])
people = np.concatenate([np.full(len(shard.label), i) for i, shard in enumerate(shards)])
with tempfile.TemporaryDirectory() as folder:
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(fold, x=x, y=y, people=people, trees=int(sys.argv[2])), {"cpu": 1}),
        param_space={"fold": tune.grid_search(list(range(int(sys.argv[4]) or len(shards))))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="folds", storage_path=folder, verbose=0)).fit()
    assert not results.errors, results.errors
ray.shutdown()
"""


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float  # of the process and of everything below it, looked at every twentieth of a second


def measured(checkout: Path, words: list[str]) -> Took:
    """One fresh process of this interpreter, with the checkout's modules."""
    hidden = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    seen: dict[tuple[int, str], float] = {}
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], cwd=checkout, env=environment, stdout=said, stderr=said)
        while process.poll() is None:
            seen |= below(process.pid)
            time.sleep(0.05)
        wall = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(words)}\nended with {process.returncode}:\n{said.read().decode()[-2000:]}")
    return Took(wall, sum(seen.values()))


def below(root: int) -> dict[tuple[int, str], float]:
    """(process, its start) -> processor seconds, of the process and its descendants."""
    parents: dict[int, int] = {}
    found: dict[int, tuple[str, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            found[int(entry.name)] = fields[19], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    inside = {root}
    while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
        inside |= more
    return {(pid, found[pid][0]): found[pid][1] for pid in inside if pid in found}


class Checkout:
    """One version of the project, with a store and runs of its own."""

    def __init__(self, root: Path, folder: Path, trees: int):
        self.root, self.folder, self.trees = root.resolve(), folder, trees
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / "key"
        if not key.exists():
            key.write_text(secrets.token_hex(32))
            key.chmod(0o600)
        self.runs = 0

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def loso(self, run: str, *more: str) -> Took:
        return measured(self.root, ["-m", "orchestrator.loso", "--dataset", "watch", "model=random_forest",
                                    f"model.trees={self.trees}", f"store={self.store}", f"store.key={self.folder / 'key'}",
                                    f"run.dir={self.folder / run}", *more])

    def fresh(self) -> str:
        self.runs += 1
        return f"run-{os.getpid()}-{self.runs}"

    def help(self) -> Took:
        commands = [path.stem for path in sorted((self.root / "orchestrator").glob("*.py"))
                    if 'if __name__ == "__main__"' in path.read_text()]
        return max((measured(self.root, ["-m", f"orchestrator.{command}", "--help"]) for command in commands),
                   key=lambda took: took.wall)

    def imports(self) -> Took:
        names = next(names for folder, names in WORKER.items() if (self.root / folder).is_dir())
        return measured(self.root, ["-c", f"import {names}"])

    def again(self) -> Took:
        return self.loso("once", "max_folds=1")

    def fold(self) -> Took:
        return self.loso(self.fresh(), "max_folds=1")

    def all(self) -> Took:
        return self.loso(self.fresh())


def alone(checkout: Checkout) -> Took:
    return measured(checkout.root, ["-c", ALONE, str(checkout.store), str(checkout.trees), str(os.cpu_count())])


def tune(checkout: Checkout, folds: int) -> Took:
    """folds: 0 for all."""
    return measured(checkout.root, ["-c", TUNE, str(checkout.store), str(checkout.trees), str(os.cpu_count()), str(folds)])


BESIDE = {"fold": {"Ray Tune alone": lambda checkout: tune(checkout, 1)},
          "all": {"Ray Tune alone": lambda checkout: tune(checkout, 0), "scikit-learn alone": alone}}


def middle(rounds: list[Took]) -> Took:
    return Took(statistics.median(took.wall for took in rounds), statistics.median(took.cpu for took in rounds))


def words(took: Took) -> str:
    return f"{took.wall:.2f} s ({took.cpu:.2f})"


COLUMNS = ("other checkout", "Ray Tune alone", "scikit-learn alone")


def row(part: str, ours: Checkout, theirs: Checkout | None, rounds: int) -> str:
    """One line of the table: this checkout, and what it is compared with, in turns."""
    beside = {"other checkout": lambda _: getattr(theirs, part)()} if theirs else {}
    beside |= BESIDE.get(part, {})
    mine: list[Took] = []
    others: dict[str, list[Took]] = {name: [] for name in beside}
    for _ in range(rounds):
        mine.append(getattr(ours, part)())
        for name, run in beside.items():
            others[name].append(run(ours))
    own = middle(mine)
    cells = [f"{words(other)}: {own.wall / other.wall:.2f} ({own.cpu / other.cpu:.2f})" if (
        other := middle(others[name]) if name in others else None) else "-" for name in COLUMNS]
    return f"| {WHAT[part]} | {words(own)} | {' | '.join(cells)} | {TARGETS[part]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miniature", action="store_true", help="the parts without Ray, once: tests that the script runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=list(WHAT))
    parser.add_argument("--vs", type=Path, metavar="CHECKOUT")
    parser.add_argument("--store", type=Path, help="folder of the stores and runs; default a temporary one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rounds, trees = (1, 10) if options.miniature else (options.rounds, 300)
    parts = options.parts or (["help", "imports"] if options.miniature else list(WHAT))
    with tempfile.TemporaryDirectory(prefix="dualpain-startup-") as temporary:
        folder = (options.store or Path(temporary)).resolve()
        ours = Checkout(ROOT, folder / "ours", trees)
        theirs = Checkout(options.vs, folder / "theirs", trees) if options.vs else None
        for checkout in (ours, *([theirs] if theirs else ())):
            if {"again", "fold", "all"} & set(parts):
                checkout.again()  # fills the store, and leaves a finished run
        head = [f"| what | this checkout | {' | '.join(COLUMNS)} | target |", "|---|---|---|---|---|---|"]
        rows = []
        print("\n".join(head), flush=True)
        for part in parts:
            rows.append(row(part, ours, theirs, rounds))
            print(rows[-1], flush=True)
    if options.out:
        command = " ".join(["python benchmarks/startup.py", *sys.argv[1:]])
        options.out.write_text("\n".join([
            "# Overhead of a small run", "",
            f"{datetime.now(UTC):%Y-%m-%d} · {cpu_name()}, {os.cpu_count()} cores · medians of {rounds}; wall seconds, "
            "in brackets CPU seconds", "", f"    {command}", "", *head, *rows, "",
            "Behind each time of something else: this checkout's time over it. Ray Tune alone: the same features and trees in "
            "trials of Ray Tune, with nothing of this project but reading and features.", ""]))


if __name__ == "__main__":
    main()
