"""Where a Ray that this command starts keeps sockets and logs: its usual folder, or a private one while the command runs.

Ray's usual folder is `ray` in RAY_TMPDIR, TMPDIR or /tmp. A socket's path has at most 107 bytes (AF_UNIX), of which Ray
needs 64 itself: batch systems' TMPDIR is often too long. On a shared machine the folder may belong to another account,
which could change its content.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.runtime.places import trouble

SOCKET = 107 - len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
LISTENER = 107 - len("/pymp-12345678/listener-12345678")  # multiprocessing's sockets lie in TMPDIR
ROOTS = ("/tmp", "/var/tmp", "/dev/shm")
ROOM = 32 << 20  # bytes: logs of one command
PREFIX, LOCK = "dualpain-", "lock"
OLD_S = 3600


@dataclass(frozen=True)
class Place:
    """root: None if Ray's usual folder can be used, else the folder that will hold a private one; why: what is wrong with
    the usual one."""

    usual: Path
    root: Path | None = None
    why: str = ""

    @property
    def nowhere(self) -> bool:
        return bool(self.why) and self.root is None


def choose() -> Place:
    """Only checks; creates nothing."""
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    parent = Path(os.environ[named] if named else "/tmp")
    usual = parent / "ray"
    why = _unfit(usual)
    if not why:
        return Place(usual)
    why = f"{named}={parent}: {why}" if named else why
    return Place(usual, next((root for root in map(Path, ROOTS) if not _unfit(root, own=False)), None), why)


def _unfit(folder: Path, own: bool = True) -> str:
    """Why Ray cannot use `folder`, "" if it can. own: it must belong to this account."""
    if not folder.is_absolute():
        return "not an absolute path"
    room = SOCKET if own else SOCKET - len(f"/{PREFIX}12345678")
    if len(os.fsencode(folder)) > room:
        return f"a path of {len(os.fsencode(folder))} bytes is too long for Ray's sockets"
    if os.path.lexists(folder):
        if own and os.lstat(folder).st_uid != os.geteuid():
            return f"{folder} belongs to another account"
    elif not folder.parent.is_dir():
        return "there is no such folder"
    if wrong := trouble(folder):
        return wrong
    there = folder if folder.exists() else folder.parent
    if (free := shutil.disk_usage(there).free) < ROOM:
        return f"only {free / 1e6:.0f} MB are free"
    return ""


class Private:
    """A folder of this account only (0700), locked while in use. remove() deletes it, and restores what set() changed."""

    def __init__(self, place: Place):
        assert place.root is not None
        clean_up(place.root)
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place.root))
            self._lock = open(self.folder / LOCK, "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (self.folder / LOCK).exists():  # else another command's clean-up had the lock first
                break
            self._lock.close()
        self._before: dict[str, str | None] = {}
        temporary = os.environ.get("TMPDIR")
        # Ray's objects that do not fit into memory go to the user's TMPDIR, if it can be written.
        self.spill = temporary if temporary and not trouble(Path(temporary)) and Path(temporary).is_dir() else None
        if temporary and (self.spill is None or len(os.fsencode(temporary)) > LISTENER):
            self.set("TMPDIR", str(self.folder))
            tempfile.tempdir = None

    def set(self, name: str, value: str) -> None:
        self._before.setdefault(name, os.environ.get(name))
        os.environ[name] = value

    def remove(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if "TMPDIR" in self._before:
            tempfile.tempdir = None
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def clean_up(root: Path) -> None:
    """Remove what killed commands of this account left: folders whose lock is free, and old empty ones without a lock."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
                continue
            if not (folder / LOCK).exists() and time.time() - about.st_mtime > OLD_S:
                folder.rmdir()  # killed before it had its lock; a folder with anything in it may be the user's
                continue
            with open(folder / LOCK, "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, or not one of these
            continue
