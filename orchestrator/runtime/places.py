"""Checks that a command can write into its folders, before it has worked for hours."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.config.configuration import Config
from orchestrator.files import owners
from orchestrator.runtime.finding import OK, STOP, WARN, Finding

PARTS = ("private", "clips", "encoders", "tokens", "synthetic", "tensorboard")  # of a store
RUN_PARTS = ("ledger", "audit")
GB = 1e9


def trouble(folder: Path) -> str:
    """Why nothing can be written in `folder`, which need not exist yet; "" if it can.

    It is tested: a small file is written, renamed and removed. Permissions alone do not show a read-only or full disk.
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        if not there.is_dir():
            return f"{there} is " + ("a broken link" if there.is_symlink() and not there.exists() else "not a folder")
        descriptor, name = tempfile.mkstemp(prefix=f".probe.{owners.tag()}.", suffix=".tmp", dir=there)
        second = f"{name.removesuffix('.tmp')}_.tmp"  # both names hold the owner's tag
        try:
            with open(descriptor, "wb") as handle:
                handle.write(bytes(4096))
            os.rename(name, second)  # every file of ours is renamed into its place
        finally:
            for left in (name, second):
                with suppress(FileNotFoundError):
                    os.unlink(left)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that points to itself
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return f"{there} cannot be written ({reason})"
    return ""


def store(config: Config) -> Finding:
    """Free space and permissions of the store, which need not exist yet."""
    folder = config.store_dir
    private = folder / "private"
    wrong = _first_trouble(folder, PARTS) or _lock_trouble(folder / ".lock")
    if not wrong and private.is_dir() and os.geteuid() not in (0, private.stat().st_uid):
        wrong = f"{private} belongs to another account"
    if wrong:
        return Finding("Store", STOP, wrong, "choose another folder with store=DIR, or give this account the right to write")
    if private.is_dir() and private.stat().st_mode & 0o077:
        return Finding("Store", WARN, f"{private} holds raw subject ids and is open to other accounts",
                       f"run chmod 700 {private}")
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return Finding("Store", OK, f"{folder}: {shutil.disk_usage(there).free / GB:.1f} GB free"
                   + ("" if folder.exists() else ", not created yet"))


def run_folders(folders: Iterable[Path]) -> list[Finding]:
    """One row for each that cannot be written, or one for all."""
    folders = [Path(folder).expanduser().resolve() for folder in folders]
    wrong = [text for folder in folders if (text := _first_trouble(folder, RUN_PARTS) or _lock_trouble(folder / ".lock"))]
    if wrong:
        return [Finding("Run folder", STOP, text, "choose another folder with run.dir=DIR") for text in wrong]
    return [Finding("Run folder", OK, "can be written: " + ", ".join(map(str, folders)))] if folders else []


def _first_trouble(folder: Path, parts: Iterable[str]) -> str:
    there = [folder / part for part in parts if os.path.lexists(folder / part)]
    return next((text for place in (folder, *there) if (text := trouble(place))), "")


def _lock_trouble(lock: Path) -> str:
    if not os.path.lexists(lock):
        return ""
    if not lock.is_file():
        return f"{lock} is not a file"
    return "" if os.access(lock, os.R_OK | os.W_OK) else f"{lock} cannot be written by this account"
