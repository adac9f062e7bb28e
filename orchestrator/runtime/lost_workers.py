"""Why a worker was lost, in one sentence: memory, the disk, or a signal from outside are not bugs of this code."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.files.storage import disk_is_full

LOST = {"RayActorError", "WorkerCrashedError", "NodeDiedError", "OwnerDiedError", "LocalRayletDiedError"}
FULL = {"OutOfDiskError", "ObjectStoreFullError"}
AGAIN = "run the same command again to resume"


def explain(error: BaseException) -> str | None:
    """A sentence for the user if the machine, and not the code, ended the command; None otherwise."""
    for one in causes(error):
        if disk_is_full(one) or FULL & _kinds(one):
            return f"The disk is full (of the store, the run, or Ray's temporary folder): free some space, then {AGAIN}."
        if low_on_memory(one):
            return ("The machine ran low on memory, and Ray ended a worker for this reason: use a smaller "
                    f"resources.cpus or batch size, then {AGAIN}.")
        if LOST & _kinds(one) and not getattr(one, "actor_init_failed", False):
            return ("A worker process ended repeatedly, or its node was lost (killed by a user, or by the system for "
                    f"lack of memory): {AGAIN}; if it ends at the same place, try a smaller resources.cpus.")
    return None


def low_on_memory(error: BaseException) -> bool:
    """Whether Ray's memory monitor ended it. Ray's list of possible causes does not count: it always names the OOM killer."""
    text = str(error)
    return ("OutOfMemoryError" in _kinds(error) and "RayError" in _kinds(error)) or "running low on memory" in text


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps, as Python, Ray and Ray Train do it."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        workers = getattr(one, "worker_failures", None)
        inner = [one.__cause__, one.__context__, getattr(one, "cause", None), getattr(one, "controller_failure", None),
                 *(workers.values() if isinstance(workers, dict) else ())]
        waiting += [e for e in inner if isinstance(e, BaseException)]


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def kernel_kills(counters: tuple[str, ...] = ("/proc/vmstat", "/sys/fs/cgroup/memory.events")) -> int:
    """How many processes the kernel has ended for lack of memory, of this machine or of our control group, since it started."""
    most = 0
    for place in counters:
        with suppress(OSError, ValueError):
            for line in Path(place).read_text().splitlines():
                if line.startswith("oom_kill "):
                    most = max(most, int(line.split()[1]))
    return most
