"""Pretraining under SIGKILL of the driver, of a worker, of a node; of the writer of a checkpoint: tests/orchestrator.

It resumes from the last complete checkpoint; weights and losses are byte-identical to those of an uninterrupted run.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest

from orchestrator.config.configuration import compose
from tests.helpers.made_shards import shards_of
from tests.helpers.processes import (
    checkpoints,
    ended,
    kill_driver,
    pretraining,
    run,
    start,
    train_workers,
    trained,
    wait_for,
)

SLOW = {"DUALPAIN_TEST_STEP_PAUSE_S": "0.7"}  # so that the signal arrives before the training is finished


@pytest.fixture(scope="module")
def whole(signal_tree, tmp_path_factory) -> Path:
    """The store of an uninterrupted pretraining; its clips are made here, which is faster than with Ray."""
    folder = tmp_path_factory.mktemp("pretrained")
    shards_of(compose("biovid_a", pretraining(signal_tree, folder / "store")[3:]), video=False)
    run(pretraining(signal_tree, folder / "store"), folder / "log")
    return folder / "store"


@pytest.fixture
def store(whole, tmp_path) -> Path:
    """The same clips, nothing trained."""
    shutil.copytree(whole / "clips", tmp_path / "store" / "clips")
    shutil.copy(whole / "store.json", tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.ci  # a driver and a worker are killed among the folds too
def test_the_driver_is_killed_then_a_worker(signal_tree, whole, store, remains, tmp_path):
    """The same command resumes after the driver was killed; a killed worker is restarted."""
    first, again = tmp_path / "first", tmp_path / "again"
    process = start(pretraining(signal_tree, store), first, **SLOW)
    wait_for(lambda: len(checkpoints(store)) >= 2, process, first)
    remains |= kill_driver(process)
    assert not list(store.glob("encoders/*/encoder.json"))

    process = start(pretraining(signal_tree, store), again, **SLOW)
    wait_for(lambda: went_on(again) == 1 and bool(train_workers(process.pid)), process, again)
    os.kill(train_workers(process.pid)[-1], signal.SIGKILL)
    ended(process, again)
    assert went_on(again) == 2, again.read_text()
    assert trained(store) == trained(whole)
    assert not list(store.glob("encoders/*.partial")) and not list(store.glob("encoders/.*.tmp"))


def test_a_lost_node_is_replaced_and_the_training_goes_on(signal_tree, whole, store, tmp_path):
    log = tmp_path / "log"
    ended(start(["tests.helpers.raylet", str(signal_tree), str(store)], log), log, seconds=145)
    assert went_on(log) == 1, log.read_text()
    assert trained(store) == trained(whole)


@pytest.mark.slow  # the same path as above; a killed video training without Ray: tests/orchestrator
def test_a_video_training_goes_on_too(tree, remains, tmp_path):
    whole, store, log = tmp_path / "whole", tmp_path / "store", tmp_path / "log"
    shards_of(compose("biovid_a", pretraining(tree, store, "video")[3:]), video=True)
    shutil.copytree(store, whole)
    run(pretraining(tree, whole, "video"), log)
    process = start(pretraining(tree, store, "video"), log, **SLOW)
    wait_for(lambda: len(checkpoints(store)) >= 2, process, log)
    remains |= kill_driver(process)
    run(pretraining(tree, store, "video"), log)
    assert went_on(log) == 1 and trained(store) == trained(whole)


def went_on(log: Path) -> int:
    """How often the training resumed from a checkpoint."""
    return log.read_text().count(" MAE of encoder 1 resumes after step") if log.exists() else 0
