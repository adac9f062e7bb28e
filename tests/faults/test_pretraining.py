"""Pretraining under SIGKILL of the driver, of everything while a checkpoint is written, of a worker, of a node.

It goes on from the last whole checkpoint, and weights and the loss of every step are the undisturbed run's, byte for byte.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.processes import (
    all_gone,
    checkpoints,
    command,
    descendants,
    kill_driver,
    pretraining,
    run,
    start,
    train_workers,
    trained,
    wait_for,
)

pytestmark = pytest.mark.faults
SLOW = {"DUALPAIN_TEST_STEP_PAUSE_S": "0.5"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The store of a pretraining that nobody touches."""
    folder = tmp_path_factory.mktemp("pretrained")
    run(pretraining(folder / "store"), folder / "log")
    return folder / "store"


@pytest.fixture
def store(whole, tmp_path) -> Path:
    """The same clips, nothing trained."""
    for name in ("clips", "private"):
        shutil.copytree(whole / name, tmp_path / "store" / name)
    return tmp_path / "store"


def test_the_driver_is_killed_twice(whole, store, tmp_path):
    """In the middle of an epoch, and, with all its workers, while a checkpoint is written."""
    log = tmp_path / "log"
    process = start(pretraining(store), log, **SLOW)
    wait_for(lambda: len(checkpoints(store)) >= 2, process, log)
    started = kill_driver(process)
    assert not list(store.glob("encoders/*/encoder.json"))

    process = start(pretraining(store), log)
    wait_for(lambda: bool(train_workers(process.pid)) and bool(list(store.glob("encoders/*.partial/.signal-*"))), process, log)
    everything = {pid: command(pid) for pid in descendants(process.pid)}
    for pid in (*train_workers(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not list(store.glob("encoders/*/encoder.json")) and checkpoints(store)

    run(pretraining(store), log)
    assert log.read_text().count("signal MAE of encoder 1 goes on after step") >= 1
    assert trained(store) == trained(whole)
    assert not list(store.glob("encoders/*.partial")) and not list(store.glob("encoders/.*.tmp"))
    all_gone(started | everything)


def test_a_killed_worker_costs_a_restart_and_nothing_else(whole, store, tmp_path):
    log = tmp_path / "log"
    process = start(pretraining(store), log, **SLOW)
    wait_for(lambda: len(checkpoints(store)) >= 2, process, log)
    os.kill(train_workers(process.pid)[-1], signal.SIGKILL)
    assert process.wait(timeout=140) == 0, log.read_text()[-3000:]
    assert "goes on after step" in log.read_text() and trained(store) == trained(whole)


def test_a_lost_node_is_replaced_and_the_training_goes_on(whole, store, tmp_path):
    log = tmp_path / "log"
    process = start(["tests.faults.raylet", str(store)], log)
    assert process.wait(timeout=145) == 0, log.read_text()[-3000:]
    assert "goes on after step" in log.read_text() and trained(store) == trained(whole)
