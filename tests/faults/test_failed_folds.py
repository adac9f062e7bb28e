"""Folds that never end: three attempts, exit code 3, and a mean that states its number of folds."""

import shutil
import sys

from tests.helpers.processes import ended, ledger, road, start, summary


def test_folds_that_never_end_are_failed_folds_and_code_3(undisturbed, tmp_path):
    """One fold is in the ledger; the other exceeds its time limit in each attempt."""
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    (run_dir / "ledger").mkdir(parents=True)
    shutil.copy2(whole / "ledger" / "fold-000-seed-0.json", run_dir / "ledger")
    kept = ledger(run_dir)
    words = road(store, run_dir, "max_folds=2", "resources.fold_timeout_s=0.5")
    process = start(words, log, DUALPAIN_TEST_FOLD_PAUSE_S="30")
    ended(process, log, 3)
    found = summary(run_dir)
    assert (found["n_planned"], found["n_folds"], found["n_failed"]) == (2, 1, 1)
    assert found["accuracy_mean"] == found["folds"][0]["accuracy"] and ledger(run_dir) == kept
    said = log.read_text()
    assert "fold 1 seed 0 failed" in said and "fold_timeout_s=0.5" in said and "on 1 of 2 folds" in said


def test_a_mistake_ends_with_2_before_ray_starts(tmp_path):
    log = tmp_path / "log"
    process = start(["orchestrator.loso", "--dataset", "watch", "modle=ridge"], log)
    ended(process, log, 2)
    text = log.read_text()
    assert text.startswith("error: There is no option 'modle': did you mean") and len(text.splitlines()) == 1
    assert sys.executable not in text
