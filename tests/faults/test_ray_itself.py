"""SIGKILL of Ray's own processes: one sentence and exit code 2 at once, no process left, and the same command resumes."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from orchestrator.config.configuration import compose
from tests.helpers.made_shards import shards_of
from tests.helpers.processes import (
    FOLDS,
    actors,
    all_gone,
    checkpoints,
    embedding,
    ended,
    ledger,
    own_process,
    preprocessing,
    pretraining,
    road,
    run,
    start,
    started_by,
    summary,
    tokens,
    train_workers,
    trained,
    trials,
    wait_for,
    whole_again,
)

GCS, RAYLET = "gcs/gcs_server", "raylet/raylet"
FOLD = {"DUALPAIN_TEST_FOLD_PAUSE_S": "3"}
STEP = {"DUALPAIN_TEST_STEP_PAUSE_S": "0.5"}


def die(process, log: Path, word: str) -> None:
    """Kill this process of Ray. The command must report it in its last line; Ray alone would end with code 1 after a minute."""
    left = started_by(process)
    os.kill(own_process(process.pid, word), signal.SIGKILL)
    ended(process, log, 2)
    said = log.read_text()
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: Ray died during this command: its") and "run the same command again" in last
    assert word.rpartition("/")[2] in last and "Traceback" not in said and "defect" not in said
    all_gone(left, seconds=30)  # killed by the command itself: the system only has to clear them away


def test_the_gcs_in_preprocessing(undisturbed, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    process = start(preprocessing(store), log)
    wait_for(lambda: len(list(store.glob("clips/*/s*.json"))) >= 2, process, log)
    die(process, log, GCS)
    before = {p: p.stat().st_mtime_ns for p in store.glob("clips/*/s*.json")}
    assert 2 <= len(before) < 10
    run(preprocessing(store), tmp_path / "again")
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a finished shard was made again"
    mine, theirs = ({p.name: p.read_bytes() for p in s.glob("clips/*/*.parquet")} for s in (store, undisturbed[0]))
    assert mine == theirs and not [p for p in store.rglob(".*") if p.name.endswith(".tmp")]


def killed_among_folds(undisturbed, tmp_path, word: str) -> None:
    (store, whole), run_dir, log, again = undisturbed, tmp_path / "run", tmp_path / "log", tmp_path / "again"
    process = start(road(store, run_dir), log, **FOLD)
    wait_for(lambda: len(ledger(run_dir)) >= 1 and bool(trials(process.pid)), process, log)
    die(process, log, word)
    before = ledger(run_dir)
    assert 1 <= len(before) < FOLDS
    run(road(store, run_dir), again)
    whole_again(run_dir, whole, before, again)


@pytest.mark.ci
def test_the_raylet_among_the_folds(undisturbed, tmp_path):
    killed_among_folds(undisturbed, tmp_path, RAYLET)


@pytest.mark.slow
def test_the_gcs_among_the_folds(undisturbed, tmp_path):
    killed_among_folds(undisturbed, tmp_path, GCS)


@pytest.mark.slow
@pytest.mark.parametrize("word", [GCS, RAYLET])
def test_in_pretraining(signal_tree, tmp_path, word):
    whole, store, log, again = (tmp_path / name for name in ("whole", "store", "log", "again"))
    shards_of(compose("biovid_a", pretraining(signal_tree, store)[3:]), video=False)
    shutil.copytree(store, whole)
    run(pretraining(signal_tree, whole), tmp_path / "other")
    process = start(pretraining(signal_tree, store), log, **STEP)
    wait_for(lambda: len(checkpoints(store)) >= 2 and bool(train_workers(process.pid)), process, log)
    die(process, log, word)
    run(pretraining(signal_tree, store), again)
    assert "resumes after step" in again.read_text() and trained(store) == trained(whole)
    assert not list(store.glob("encoders/*.partial")) and not list(store.glob("encoders/.*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("word", [GCS, RAYLET])
def test_in_embedding(tree, tmp_path, word):
    whole, store, log = tmp_path / "whole", tmp_path / "store", tmp_path / "log"
    shards_of(compose("biovid_a", embedding(tree, store)[3:]), video=True)
    shutil.copytree(store, whole)
    run(embedding(tree, whole), tmp_path / "other")
    process = start(embedding(tree, store), log)
    wait_for(lambda: len(tokens(store)) >= 2 and bool(actors(process.pid)), process, log)
    die(process, log, word)
    run(embedding(tree, store), tmp_path / "again")
    assert [(p.name, p.read_bytes()) for p in tokens(store)] == [(p.name, p.read_bytes()) for p in tokens(whole)]


@pytest.mark.slow
def test_what_the_command_does_not_stand_on_may_go(undisturbed, tmp_path):
    """The command does not need the log monitor."""
    (store, whole), run_dir, log = undisturbed, tmp_path / "run", tmp_path / "log"
    process = start(road(store, run_dir), log, **FOLD)
    wait_for(lambda: len(ledger(run_dir)) >= 1, process, log)
    os.kill(own_process(process.pid, "log_monitor"), signal.SIGKILL)
    ended(process, log)
    assert summary(run_dir) == summary(whole)
