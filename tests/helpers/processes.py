"""Commands that are killed: start one, see what it started, kill it alone, see that nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.places import ROOT

FOLDS = 4
PATIENCE = float(os.environ.get("DUALPAIN_TEST_PATIENCE", 1))  # times every limit: for a machine that is busy
LEAN = ("resources.cpus=1", "resources.dashboard=false")


def road(store: Path, run_dir: Path, *more: str) -> list[str]:
    """The road's own stages in seconds: no video, no pretraining, ridge."""
    return ["orchestrator.loso", "--dataset", "watch", "model=ridge", f"max_folds={FOLDS}", *LEAN,
            f"store={store}", f"run.dir={run_dir}", *more]


def ledger(run_dir: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (run_dir / "ledger").glob("fold-*.json")}


def summary(run_dir: Path) -> dict:
    """Without what differs from one execution to the next."""
    return {name: value for name, value in json.loads((run_dir / "summary.json").read_text()).items() if name != "wall_s"}


def whole_again(run_dir: Path, whole: Path, before: dict[str, tuple[bytes, int]], log: Path) -> None:
    """Everything is there, equals the undisturbed run, and what was finished before was not touched."""
    after = ledger(run_dir)
    assert len(after) == FOLDS
    assert {name: after[name] for name in before} == before, "a finished fold was written again"
    assert f"{FOLDS - len(before)} folds in" in log.read_text(), "not only the missing folds ran"
    assert (run_dir / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    assert summary(run_dir) == summary(whole)
    assert not [p for p in run_dir.rglob(".*") if p.name.endswith(".tmp")], "a killed command's leftovers"


def start(arguments: list[str], log: Path, **environment: str) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with open(log, "ab") as out:
        # whoever runs the tests in the background has them ignore Ctrl-C
        return subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, env=env, stdout=out, stderr=out,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def run(arguments: list[str], log: Path, **environment: str) -> None:
    """Run to the end; shows the log when it did not end with 0."""
    ended(start(arguments, log, **environment), log)


def ended(process: subprocess.Popen, log: Path, code: int = 0, seconds: float = 140) -> None:
    """It ends by itself with this code; one that does not is ended, with what it started."""
    try:
        process.wait(timeout=PATIENCE * seconds)
    except subprocess.TimeoutExpired:
        end_all(process)
        raise AssertionError(f"not done after {PATIENCE * seconds:.0f} s:\n{log.read_text()[-3000:]}") from None
    assert process.returncode == code, log.read_text()[-3000:]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, log: Path, seconds: float = 130) -> None:
    """Until the condition holds; the process must still be alive then. Where it does not come to hold, the process is ended."""
    end = time.monotonic() + PATIENCE * seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended before it could be killed:\n{log.read_text()[-3000:]}")
        if time.monotonic() > end:
            end_all(process)
            raise AssertionError(f"waited {PATIENCE * seconds:.0f} s in vain:\n{log.read_text()[-3000:]}")
        time.sleep(0.02)


def end_all(process: subprocess.Popen) -> None:
    """SIGKILL of a process that this module started, and of its descendants."""
    for pid in (*descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> set[int]:
    """Process ids below `pid`, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def trials(pid: int) -> list[int]:
    """Worker processes below `pid` that hold a trial."""
    return [child for child in descendants(pid) if "ImplicitFunc" in command(child)]


@dataclass(frozen=True)
class Started:
    """A process that a command started. born: in clock ticks since the machine started; another may get its number later."""

    pid: int
    born: str
    command: str

    def alive(self) -> bool:
        state, born = _state(self.pid)
        return state not in ("", "Z") and born == self.born


def started_by(process: subprocess.Popen) -> set[Started]:
    return {Started(pid, _state(pid)[1], command(pid)) for pid in descendants(process.pid)}


def _state(pid: int) -> tuple[str, str]:
    """(state, birth), or empty for a process that is gone."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except OSError:
        return "", ""


def kill_driver(process: subprocess.Popen) -> set[Started]:
    """SIGKILL of the driver alone. Returns what it had started, for `all_gone`.

    Comes back when its trials have ended too: a fold that one of them still finishes counts as finished.
    """
    started = started_by(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + PATIENCE * 40
    while any(one.alive() for one in started if "ImplicitFunc" in one.command) and time.monotonic() < end:
        time.sleep(0.02)
    return started


def all_gone(started: set[Started], seconds: float = 100) -> None:
    """Everything must have ended by itself. Ray's agents try for 60 s to tell a GCS that is gone that theirs is gone."""
    end = time.monotonic() + PATIENCE * seconds
    while any(one.alive() for one in started) and time.monotonic() < end:
        time.sleep(0.2)
    left = [one for one in started if one.alive()]
    for one in left:
        os.kill(one.pid, signal.SIGKILL)
    assert not left, f"these outlived the command: {[one.command for one in left]}"


def command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except OSError:
        return "ended"


VIDEO = ("encoder=vit_micro", "encoder.image_size=32", "encoder.depth=1", "encoder.dim=16", "encoder.heads=2",
         "encoder.decoder_depth=1", "pretrain.video.epochs=3", "pretrain.video.batch=4", "pretrain.video.warmup=1")


def pretraining(tree: Path, store: Path, model: str = "signal_small") -> list[str]:
    """One MAE of synthetic people on two workers: 12 steps, checkpoints in an epoch's middle and at its end.

    Of their signals, or with model="video" of their faces.
    """
    words = ["orchestrator.pretrain", "--dataset", "biovid_a", f"data.root={tree}", f"model={model}", "pretrain=mae",
             "protocol=as_paper", "signal.length=32", "signal.emd=false", "resources.cpus=2", "resources.dashboard=false",
             "pretrain.workers=2", "pretrain.subjects=[0,1,2,3]", "pretrain.save_steps=3", f"store={store}"]
    if model == "video":
        return [*words, *VIDEO]
    words += ["pretrain.signal.epochs=3", "pretrain.signal.batch=4"]
    sizes = ["dim=16", "depth=1", "heads=2", "ff=16"]  # signal_small has its own, which count
    return words + ([] if model == "signal_small" else [f"smae.{size}" for size in sizes])


def embedding(tree: Path, store: Path) -> list[str]:
    """Random weights of an encoder that is slow enough to be interrupted, on one core: one file per subject."""
    encoder = [word for word in VIDEO[:6] if word != "encoder.depth=1"]
    return ["orchestrator.embed", "--dataset", "biovid_a", f"data.root={tree}", "model=video", "pretrain=none",
            "signal.length=32", "signal.emd=false", *LEAN, *encoder, "encoder.depth=48", f"store={store}"]


def tokens(store: Path) -> list[Path]:
    """Side files, which are written last."""
    return sorted(store.glob("tokens/*/*.json"))


def actors(pid: int) -> list[int]:
    """Worker processes below `pid` that embed: of Ray Data's map, not the ones that stand by."""
    return [child for child in descendants(pid) if "MapWorker" in command(child)]


def trained(store: Path) -> dict[str, bytes]:
    """What pretraining leaves that must not depend on what happened to it: weights, and the loss of every step."""
    (folder,) = [side.parent for side in store.glob("encoders/*/encoder.json")]
    (weights,) = folder.glob("*.safetensors")
    return {path.name: path.read_bytes() for path in (weights, folder / "steps.parquet", folder / "curve.json")}


def checkpoints(store: Path) -> list[str]:
    return sorted(p.name for p in store.glob("encoders/*.partial/*-*.json"))


def train_workers(pid: int) -> list[int]:
    return [child for child in descendants(pid) if "RayTrainWorker" in command(child)]


def own_process(pid: int, word: str) -> int:
    """The id of the one process of Ray below `pid` whose command holds `word`."""
    (found,) = [child for child in descendants(pid) if word in command(child)]
    return found


def preprocessing(store: Path) -> list[str]:
    return ["orchestrator.preprocess", "--dataset", "watch", *LEAN, f"store={store}"]
