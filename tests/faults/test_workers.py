"""A killed worker and folds that never end: three tries, the codes of the contract, and a mean that says what it stands on."""

import os
import shutil
import signal
import sys

import pytest

from tests.faults.processes import ledger, road, start, summary, trials, wait_for

pytestmark = pytest.mark.faults


def test_a_killed_worker_costs_a_try_and_nothing_else(undisturbed, tmp_path):
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    process = start(road(store, run_dir), log, DUALPAIN_TEST_FOLD_PAUSE_S="2")
    wait_for(lambda: bool(trials(process.pid)) and len(ledger(run_dir)) >= 1, process, log)
    os.kill(trials(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=140) == 0, log.read_text()[-3000:]
    assert (run_dir / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    assert summary(run_dir) == summary(whole)


def test_folds_that_never_end_are_failed_folds_and_code_3(undisturbed, tmp_path):
    """One fold is in the ledger; the other exceeds its time in every try."""
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    (run_dir / "ledger").mkdir(parents=True)
    shutil.copy2(whole / "ledger" / "fold-000-seed-0.json", run_dir / "ledger")
    kept = ledger(run_dir)
    words = road(store, run_dir, "max_folds=2", "resources.fold_timeout_s=0.5")
    process = start(words, log, DUALPAIN_TEST_FOLD_PAUSE_S="30")
    assert process.wait(timeout=140) == 3, log.read_text()[-3000:]
    found = summary(run_dir)
    assert (found["n_planned"], found["n_folds"], found["n_failed"]) == (2, 1, 1)
    assert found["accuracy_mean"] == found["folds"][0]["accuracy"] and ledger(run_dir) == kept
    said = log.read_text()
    assert "fold 1 seed 0 failed" in said and "fold_timeout_s=0.5" in said and "on 1 of 2 folds" in said


def test_a_mistake_ends_with_2_before_ray_starts(tmp_path):
    log = tmp_path / "log"
    process = start(["orchestrator.loso", "--dataset", "watch", "modle=ridge"], log)
    assert process.wait(timeout=60) == 2
    text = log.read_text()
    assert text.startswith("error: There is no option 'modle': did you mean") and len(text.splitlines()) == 1
    assert sys.executable not in text
