"""Ctrl-C, a killed worker, and folds that never end: the codes of the contract, and results that are the undisturbed ones."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from orchestrator.folds import Fold
from orchestrator.ledger import Ledger
from tests.faults.processes import all_gone, command, descendants, run, start, wait_for

pytestmark = pytest.mark.faults
FOLDS = 4


def road(folder: Path, *more: str) -> list[str]:
    return ["orchestrator.loso", "--dataset", "watch", "model=ridge", f"max_folds={FOLDS}", "resources.cpus=2",
            f"store={folder / 'store'}", f"run.dir={folder / 'run'}", *more]


def ledger(run_dir: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (run_dir / "ledger").glob("fold-*.json")}


def predictions(folder: Path) -> bytes:
    return (folder / "run" / "predictions.parquet").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(road(folder), folder / "log")
    return folder


def test_interrupted_is_130_and_the_same_command_goes_on(whole, tmp_path):
    (tmp_path / "store").symlink_to(whole / "store")
    log = tmp_path / "log"
    process = start(road(tmp_path), log, DUALPAIN_TEST_FOLD_PAUSE_S="1.5")
    wait_for(lambda: len(ledger(tmp_path / "run")) >= 1, process, log)
    started = {pid: command(pid) for pid in descendants(process.pid)}
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, log.read_text()[-3000:]
    assert "goes on from here" in log.read_text() and "Traceback" not in log.read_text()
    before = ledger(tmp_path / "run")
    assert 1 <= len(before) < FOLDS
    all_gone(started, 40)
    run(road(tmp_path), log)
    assert {name: ledger(tmp_path / "run")[name] for name in before} == before
    assert predictions(tmp_path) == predictions(whole)


def trials(pid: int) -> list[int]:
    """Worker processes that hold a trial."""
    found = []
    for child in descendants(pid):
        try:
            if b"ImplicitFunc" in (Path("/proc") / str(child) / "cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found


def test_a_killed_worker_costs_a_try_and_nothing_else(whole, tmp_path):
    (tmp_path / "store").symlink_to(whole / "store")
    log = tmp_path / "log"
    process = start(road(tmp_path), log, DUALPAIN_TEST_FOLD_PAUSE_S="2")
    wait_for(lambda: bool(trials(process.pid)) and len(ledger(tmp_path / "run")) >= 1, process, log)
    os.kill(trials(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=140) == 0, log.read_text()[-3000:]
    assert predictions(tmp_path) == predictions(whole)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["n_folds"], summary["n_failed"]) == (FOLDS, 0)


def test_folds_that_never_end_are_failed_folds_and_code_3(whole, tmp_path):
    """One fold is in the ledger; the others exceed their time in every try. The mean says on how many it stands."""
    (tmp_path / "store").symlink_to(whole / "store")
    log = tmp_path / "log"
    run(road(tmp_path, "max_folds=1"), log)
    words = road(tmp_path, "max_folds=2", "resources.fold_timeout_s=0.5")
    process = start(words, log, DUALPAIN_TEST_FOLD_PAUSE_S="30")
    assert process.wait(timeout=140) == 3, log.read_text()[-3000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["n_planned"], summary["n_folds"], summary["n_failed"]) == (2, 1, 1)
    assert summary["accuracy_mean"] == summary["folds"][0]["accuracy"]
    said = log.read_text()
    assert "fold 1 seed 0 failed" in said and "fold_timeout_s=0.5" in said and "on 1 of 2 folds" in said
    assert Ledger(tmp_path / "run", summary_key(tmp_path)).missing([Fold(1, 0, (1,), (), (), None)])
    run(road(tmp_path, "max_folds=2"), log)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["n_failed"] == 0


def summary_key(folder: Path) -> str:
    return json.loads((folder / "run" / "lineage.json").read_text())["content_key"]


def test_a_mistake_ends_with_2_before_ray_starts(tmp_path):
    log = tmp_path / "log"
    process = start(["orchestrator.loso", "--dataset", "watch", "modle=ridge"], log)
    assert process.wait(timeout=60) == 2
    text = log.read_text()
    assert text.startswith("error: There is no option 'modle': did you mean") and len(text.splitlines()) == 1
    assert sys.executable not in text
