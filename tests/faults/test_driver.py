"""SIGKILL of the driver, then the same command: only what is missing is done, and the result is the undisturbed one."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.processes import (
    FOLDS,
    LEAN,
    all_gone,
    command,
    descendants,
    kill_driver,
    ledger,
    road,
    run,
    start,
    summary,
    trials,
    wait_for,
)

pytestmark = pytest.mark.faults
PAUSE = {"DUALPAIN_TEST_FOLD_PAUSE_S": "3"}  # so that a signal meets a fold that is not done


def shards(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in store.glob("clips/*/*") if not p.name.startswith(".")}


def test_interrupted_then_a_trial_and_the_driver_killed(undisturbed, tmp_path):
    """One run that needs three commands: Ctrl-C ends the first with 130; SIGKILL meets a trial of the second, then itself."""
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    words = road(store, run_dir)
    process = start(words, log, **PAUSE)
    wait_for(lambda: len(ledger(run_dir)) >= 1, process, log)
    started = {pid: command(pid) for pid in descendants(process.pid)}
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, log.read_text()[-3000:]
    assert "goes on from here" in log.read_text() and "Traceback" not in log.read_text()
    first = ledger(run_dir)
    assert 1 <= len(first) < FOLDS - 2

    process = start(words, log, **PAUSE)
    wait_for(lambda: bool(trials(process.pid)), process, log)
    os.kill(trials(process.pid)[0], signal.SIGKILL)
    wait_for(lambda: len(ledger(run_dir)) > len(first), process, log)
    started |= kill_driver(process)
    second = ledger(run_dir)
    assert len(first) < len(second) < FOLDS and {name: second[name] for name in first} == first

    last = tmp_path / "last"
    run(words, last)
    after = ledger(run_dir)
    assert len(after) == FOLDS
    assert {name: after[name] for name in second} == second, "a finished fold was written again"
    assert f"{FOLDS - len(second)} folds in" in last.read_text(), "not only the missing folds ran"
    assert (run_dir / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    assert summary(run_dir) == summary(whole)
    assert not [p for p in run_dir.rglob(".*") if p.name.endswith(".tmp")], "a killed command's leftovers"
    all_gone(started)


def test_killed_in_preprocessing(undisturbed, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    arguments = ["orchestrator.preprocess", "--dataset", "watch", *LEAN, f"store={store}"]
    process = start(arguments, log)
    wait_for(lambda: len(list(store.glob("clips/*/s*.json"))) >= 3, process, log)
    started = kill_driver(process)
    before = {p: p.stat().st_mtime_ns for p in store.glob("clips/*/s*.json")}
    assert 3 <= len(before) < 10
    run(arguments, log)
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a finished shard was made again"
    assert shards(store) == shards(undisturbed[0])
    assert not [p for p in store.rglob(".*") if p.name.endswith(".tmp")], "a killed writer's leftovers"
    all_gone(started)
