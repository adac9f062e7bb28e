"""Why a worker was lost, from the errors that Ray, Train and the system raise."""

import errno

import pytest
import ray.exceptions as rx
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from orchestrator import cli
from orchestrator.runtime import lost_workers
from orchestrator.runtime.lost_workers import explain, kernel_kills

MONITOR = "Task was killed due to the node running low on memory.\nIt was 95 %.\nSet RAY_memory_usage_threshold."


def wrapped(inner: BaseException) -> BaseException:
    try:
        raise RuntimeError("Ray Data says something else") from inner
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(("error", "said"), [
    (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
    (wrapped(OSError(errno.EDQUOT, "Disk quota exceeded")), "disk is full"),
    (rx.OutOfDiskError("The object cannot be created because the local disk is full"), "disk is full"),
    (rx.OutOfMemoryError(MONITOR), "low on memory"),
    (wrapped(rx.OutOfMemoryError(MONITOR)), "low on memory"),
    (rx.RayActorError(error_msg=f"The actor died: {MONITOR}"), "low on memory"),
    (rx.ActorDiedError(), "worker process ended"),
    (rx.WorkerCrashedError(), "worker process ended"),
    (WorkerGroupError("x", {0: ValueError("y"), 1: rx.ActorDiedError()}), "worker process ended"),
    (ControllerError(rx.NodeDiedError("gone")), "worker process ended"),
    (wrapped(wrapped(rx.WorkerCrashedError())), "worker process ended")])
def test_a_fault_of_the_machine_is_one_sentence_and_code_2(error, said, capsys):
    def main(argv):
        raise error

    assert cli.run(main, []) == 2
    text = capsys.readouterr().err
    assert said in text and lost_workers.AGAIN in text and len(text.splitlines()) == 1 and "defect" not in text


@pytest.mark.parametrize("error", [
    ValueError("a shape"), FileNotFoundError(errno.ENOENT, "no"), wrapped(KeyError("k")), MemoryError(),
    rx.RayActorError(error_msg="raised in __init__", actor_init_failed=True), rx.GetTimeoutError("late")])
def test_what_may_be_a_defect_stays_one(error, capsys):
    def main(argv):
        raise error

    assert explain(error) is None and cli.run(main, []) == 1
    assert "defect of dualpain" in capsys.readouterr().err


def test_rays_list_of_possible_causes_does_not_count_as_memory():
    """Ray names the kernel's OOM killer in every sudden end."""
    hint = "The process is killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called."
    assert "low on memory" not in (explain(rx.RayActorError(error_msg=hint)) or "")


def test_errors_that_wrap_each_other_end():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert list(lost_workers.causes(one)) == [one, two]


def test_what_the_kernel_counts(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    (tmp_path / "events").write_text("low 0\noom 9\noom_kill 5\noom_group_kill 0\n")
    assert kernel_kills((str(tmp_path / "vmstat"), str(tmp_path / "events"), str(tmp_path / "absent"))) == 5
    assert kernel_kills(()) == 0 and kernel_kills() >= 0
