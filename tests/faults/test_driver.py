"""SIGKILL of a driver or a trial, and Ctrl-C: the same command resumes, and the result is that of an uninterrupted run."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from orchestrator.config.configuration import compose
from tests.helpers.made_shards import shards_of
from tests.helpers.processes import (
    FOLDS,
    LEAN,
    actors,
    embedding,
    ended,
    kill_driver,
    ledger,
    road,
    run,
    start,
    started_by,
    tokens,
    trials,
    wait_for,
    whole_again,
)

PAUSE = {"DUALPAIN_TEST_FOLD_PAUSE_S": "3"}  # so that the signal arrives before the fold is finished


def shards(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in store.glob("clips/*/*") if not p.name.startswith(".")}


def test_killed_among_the_folds(undisturbed, remains, tmp_path):
    (store, whole), run_dir, log, again = undisturbed, tmp_path / "run", tmp_path / "log", tmp_path / "again"
    process = start(road(store, run_dir), log, **PAUSE)
    wait_for(lambda: len(ledger(run_dir)) >= 2, process, log)
    remains |= kill_driver(process)
    before = ledger(run_dir)
    assert 2 <= len(before) < FOLDS
    run(road(store, run_dir), again)
    whole_again(run_dir, whole, before, again)


def test_interrupted_then_a_trial_killed(undisturbed, remains, tmp_path):
    """Ctrl-C ends the first command with 130. In the second, a trial is killed and repeated."""
    (store, whole), run_dir, log, again = undisturbed, tmp_path / "run", tmp_path / "log", tmp_path / "again"
    process = start(road(store, run_dir), log, **PAUSE)
    wait_for(lambda: len(ledger(run_dir)) >= 1, process, log)
    remains |= started_by(process)
    process.send_signal(signal.SIGINT)
    ended(process, log, 130)
    assert "run the same command again to resume" in log.read_text() and "Traceback" not in log.read_text()
    before = ledger(run_dir)
    assert 1 <= len(before) < FOLDS
    process = start(road(store, run_dir), again, **PAUSE)
    wait_for(lambda: bool(trials(process.pid)), process, again)
    os.kill(trials(process.pid)[0], signal.SIGKILL)
    ended(process, again)
    whole_again(run_dir, whole, before, again)


@pytest.mark.slow  # the same path as with ridge above; that a network fits the same twice: tests/models
def test_killed_in_the_middle_of_a_networks_training(undisturbed, remains, tmp_path):
    store, whole, run_dir, log = undisturbed[0], tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    network = ("model=signal_small", "train.max_epochs=4", "protocol.refit=false")
    run(road(store, whole, *network), tmp_path / "other")
    process = start(road(store, run_dir, *network), log)
    wait_for(lambda: len(ledger(run_dir)) >= 1, process, log)
    time.sleep(1)  # a fold takes about four
    remains |= kill_driver(process)
    before = ledger(run_dir)
    assert 1 <= len(before) < FOLDS
    run(road(store, run_dir, *network), tmp_path / "again")
    whole_again(run_dir, whole, before, tmp_path / "again")


@pytest.mark.slow
def test_killed_while_embedding_then_an_actor(tree, remains, tmp_path):
    """Token files are complete or absent: the same command makes the others, and the file of a killed actor is repeated."""
    whole, store, log, again = tmp_path / "whole", tmp_path / "store", tmp_path / "log", tmp_path / "again"
    shards_of(compose("biovid_a", embedding(tree, store)[3:]), video=True)
    shutil.copytree(store, whole)
    run(embedding(tree, whole), tmp_path / "other")
    process = start(embedding(tree, store), log)
    wait_for(lambda: len(tokens(store)) >= 2, process, log)
    remains |= kill_driver(process)
    before = {p: p.stat().st_mtime_ns for p in tokens(store)}
    assert 2 <= len(before) < len(tokens(whole))

    process = start(embedding(tree, store), again)
    wait_for(lambda: len(tokens(store)) > len(before) and bool(actors(process.pid)), process, again)
    os.kill(actors(process.pid)[0], signal.SIGKILL)
    ended(process, again)
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a finished file was made again"
    assert [(p.name, p.read_bytes()) for p in tokens(store)] == [(p.name, p.read_bytes()) for p in tokens(whole)]
    assert not [p for p in store.rglob(".*") if p.name.endswith(".tmp")], "a killed writer's leftovers"


@pytest.mark.ci
def test_killed_in_preprocessing(undisturbed, remains, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    arguments = ["orchestrator.preprocess", "--dataset", "watch", *LEAN, f"store={store}"]
    process = start(arguments, log)
    wait_for(lambda: len(list(store.glob("clips/*/s*.json"))) >= 3, process, log)
    remains |= kill_driver(process)
    before = {p: p.stat().st_mtime_ns for p in store.glob("clips/*/s*.json")}
    assert 3 <= len(before) < 10
    run(arguments, log)
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a finished shard was made again"
    assert shards(store) == shards(undisturbed[0])
    assert not [p for p in store.rglob(".*") if p.name.endswith(".tmp")], "a killed writer's leftovers"
