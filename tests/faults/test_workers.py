"""Ctrl-C, a killed worker, and folds that never end: the codes of the contract, and results that are the undisturbed ones."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.faults.processes import FOLDS, all_gone, command, descendants, ledger, road, run, start, summary, wait_for

pytestmark = pytest.mark.faults


def predictions(run_dir: Path) -> bytes:
    return (run_dir / "predictions.parquet").read_bytes()


def test_interrupted_is_130_and_the_same_command_goes_on(undisturbed, tmp_path):
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    process = start(road(store, run_dir), log, DUALPAIN_TEST_FOLD_PAUSE_S="1.5")
    wait_for(lambda: len(ledger(run_dir)) >= 1, process, log)
    started = {pid: command(pid) for pid in descendants(process.pid)}
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, log.read_text()[-3000:]
    assert "goes on from here" in log.read_text() and "Traceback" not in log.read_text()
    before = ledger(run_dir)
    assert 1 <= len(before) < FOLDS
    all_gone(started, 40)
    run(road(store, run_dir), log)
    assert {name: ledger(run_dir)[name] for name in before} == before
    assert predictions(run_dir) == predictions(whole)


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


def test_a_killed_worker_costs_a_try_and_nothing_else(undisturbed, tmp_path):
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    process = start(road(store, run_dir), log, DUALPAIN_TEST_FOLD_PAUSE_S="2")
    wait_for(lambda: bool(trials(process.pid)) and len(ledger(run_dir)) >= 1, process, log)
    os.kill(trials(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=140) == 0, log.read_text()[-3000:]
    assert predictions(run_dir) == predictions(whole) and summary(run_dir) == summary(whole)


def test_folds_that_never_end_are_failed_folds_and_code_3(undisturbed, tmp_path):
    """One fold is in the ledger; the others exceed their time in every try. The mean says on how many it stands."""
    (store, _), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    run(road(store, run_dir, "max_folds=1"), log)
    words = road(store, run_dir, "max_folds=2", "resources.fold_timeout_s=0.5")
    process = start(words, log, DUALPAIN_TEST_FOLD_PAUSE_S="30")
    assert process.wait(timeout=140) == 3, log.read_text()[-3000:]
    found = summary(run_dir)
    assert (found["n_planned"], found["n_folds"], found["n_failed"]) == (2, 1, 1)
    assert found["accuracy_mean"] == found["folds"][0]["accuracy"] and list(ledger(run_dir)) == ["fold-000-seed-0.json"]
    said = log.read_text()
    assert "fold 1 seed 0 failed" in said and "fold_timeout_s=0.5" in said and "on 1 of 2 folds" in said


def test_a_mistake_ends_with_2_before_ray_starts(tmp_path):
    log = tmp_path / "log"
    process = start(["orchestrator.loso", "--dataset", "watch", "modle=ridge"], log)
    assert process.wait(timeout=60) == 2
    text = log.read_text()
    assert text.startswith("error: There is no option 'modle': did you mean") and len(text.splitlines()) == 1
    assert sys.executable not in text
