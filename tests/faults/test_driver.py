"""SIGKILL of the driver, then the same command: only what is missing is done, and the result is the undisturbed one."""

from pathlib import Path

import pytest

from tests.faults.processes import FOLDS, all_gone, kill_driver, ledger, road, run, start, summary, wait_for

pytestmark = pytest.mark.faults


def shards(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in store.glob("clips/*/*") if not p.name.startswith(".")}


def test_killed_among_the_folds(undisturbed, tmp_path):
    store, whole = undisturbed
    run_dir, log = tmp_path / "run", tmp_path / "log"
    process = start(road(store, run_dir), log, DUALPAIN_TEST_FOLD_PAUSE_S="1.5")
    wait_for(lambda: len(ledger(run_dir)) >= 2, process, log)
    started = kill_driver(process)
    before = ledger(run_dir)
    assert 2 <= len(before) < FOLDS
    run(road(store, run_dir), log)
    after = ledger(run_dir)
    assert len(after) == FOLDS
    assert {name: after[name] for name in before} == before, "a finished fold was written again"
    assert f"{FOLDS - len(before)} folds in" in log.read_text(), "not only the missing folds ran"
    assert (run_dir / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    assert summary(run_dir) == summary(whole)
    assert not [p for p in run_dir.rglob(".*") if p.name.endswith(".tmp")], "a killed command's leftovers"
    all_gone(started)


def test_killed_in_preprocessing(undisturbed, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    arguments = ["orchestrator.preprocess", "--dataset", "watch", "resources.cpus=1", f"store={store}"]
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
