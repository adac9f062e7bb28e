"""SIGKILL of the driver, then the same command: only what is missing is done, and the result is the undisturbed one."""

import json
from pathlib import Path

import pytest
from processes import all_gone, kill_driver, run, start, wait_for

pytestmark = pytest.mark.faults
FOLDS = 6
TIMES = {"wall_s"}


def road(store: Path, run_dir: Path) -> list[str]:
    """Real people, signals only, the cheapest model: the road's own stages in seconds."""
    return ["orchestrator.loso", "--dataset", "watch", "model=ridge", f"max_folds={FOLDS}", "resources.cpus=1",
            f"store={store}", f"run.dir={run_dir}"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    """(store, run folder) of a run that nobody touched."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(road(folder / "store", folder / "run"), folder / "log")
    return folder / "store", folder / "run"


def shards(store: Path) -> dict[str, bytes]:
    files = [p for p in store.glob("clips/*/*") if not p.name.startswith(".")]
    return {p.name: p.read_bytes() for p in files}


def ledger(run_dir: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (run_dir / "ledger").glob("fold-*.json")}


def without_times(summary: Path) -> dict:
    return {name: value for name, value in json.loads(summary.read_text()).items() if name not in TIMES}


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
    assert without_times(run_dir / "summary.json") == without_times(whole / "summary.json")
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
