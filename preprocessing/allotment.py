"""The resources of the machine that this process may use: cores, memory, processes.

A batch system or a container may allow only a part of the machine: by an affinity mask (taskset, Slurm,
docker --cpuset-cpus) or by a limit of a control group (cgroup, version 1 or 2; docker --cpus, --memory), which is set on the
group of the process or on any group above it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

OWN_GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores(wanted: int | None = None, own: Path = OWN_GROUPS, mount: Path = MOUNT) -> int:
    """At least 1: the minimum of the affinity mask, the quota of the control groups (rounded down) and `wanted`."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [_quota(folder) for folder in _groups("cpu", own, mount)]
    return max(1, min([here, *(int(share) for share in shares if share), *([wanted] if wanted else [])]))


def memory_bytes(own: Path = OWN_GROUPS, mount: Path = MOUNT) -> tuple[int, int]:
    """(total, available) memory of this process: that of the machine, within the limits of its control groups."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, available = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = 1024 * int(rows["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        pass
    for folder in _groups("memory", own, mount):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if not limit or limit >= page * os.sysconf("SC_PHYS_PAGES"):
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        total, available = min(total, limit), min(available, max(0, limit - used + _reclaimable(folder)))
    return total, available


def processes_left(own: Path = OWN_GROUPS, mount: Path = MOUNT) -> int | None:
    """How many more processes and threads the control groups allow; None where they set no limit."""
    left = [limit - (_number(folder / "pids.current") or 0) for folder in _groups("pids", own, mount)
            if (limit := _number(folder / "pids.max")) is not None]
    return max(0, min(left)) if left else None


def _quota(folder: Path) -> float | None:
    """CPU time that a group may use, in cores; None without a limit."""
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
        return max(1.0, int(words[0]) / int(words[1]))
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return max(1.0, quota / period) if quota and period else None


def _reclaimable(folder: Path) -> int:
    """File cache: it counts as used, but the system frees it when memory is needed."""
    rows = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    value = rows.get("total_inactive_file", rows.get("inactive_file", ""))
    return int(value) if value.isdigit() else 0


def _groups(controller: str, own: Path, mount: Path) -> Iterator[Path]:
    """The folders of this process' group and of all above it, wherever this controller may be mounted.

    In a container the path of the group may be a path of the host that does not exist here: then the top folder of the
    mount is the group itself.
    """
    seen = set()
    for line in _text(own).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            tops = [mount, mount / "unified"]
        elif controller in names.split(","):
            tops = [mount / names, mount / controller]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(parts), -1, -1):
                folder = top.joinpath(*parts[:depth])
                if folder not in seen:
                    seen.add(folder)
                    yield folder


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """The number in the file; None where the file is absent or holds `max` or -1."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None
