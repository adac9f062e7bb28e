"""The owner of a temporary file: its name holds a tag of the process that made it, so that files in use are not removed.

A tag is <process id>-<when it began>-<its machine>: process ids are reused.
"""

import hashlib
import os
import re
import socket
import time
from functools import cache
from pathlib import Path

ELSEWHERE_S = 86_400  # a process of another machine cannot be asked: what it left is old after a day
_TAG = re.compile(r"\.(\d+)-(\d+)-([0-9a-f]{6})\.\w+\.tmp$")


def tag() -> str:
    """Of this process."""
    return f"{os.getpid()}-{_born(os.getpid())}-{_machine()}"


def is_living(path: Path) -> bool:
    """Whether the process that made the temporary file or folder `path` may still be at work on it; a name without a tag has
    no owner."""
    found = _TAG.search(path.name)
    if not found:
        return False
    if found[3] != _machine():
        try:
            return time.time() - path.stat().st_mtime < ELSEWHERE_S
        except OSError:  # another process removed it first
            return False
    born = _born(int(found[1]))
    return born is not None and str(born) == found[2]


@cache
def _machine() -> str:
    """Host name and namespace of process ids: two containers with one host name do not share their processes."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()}{space}".encode()).hexdigest()[:6]


def _born(pid: int) -> int | None:
    """Clock ticks since the machine started; 0 where the system does not tell, None for no living process."""
    try:
        state, *fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else int(fields[18])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, ValueError):
        return 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
