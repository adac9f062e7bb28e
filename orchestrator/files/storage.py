"""Files that are either complete or absent, and keys made of content.

Every write goes to a temporary name in the same folder, is flushed to disk, then renamed. A reader therefore
never sees an incomplete file, whatever was killed and when.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.files import owners


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN. Raises ValueError on NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def key_of(value: Any, length: int = 16) -> str:
    """The content key of a JSON value: the first `length` hex digits of its sha256."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_is_full(error: BaseException) -> bool:
    """No space or no quota, in the form of any library that writes: np.save gives no error number, safetensors a text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error)
    return ("requested and" in text and "written" in text) or f"os error {errno.ENOSPC}" in text


@contextmanager
def full_disk_as_user_error(path: Path):
    """UserError for a disk that fills up while `path` is written; everything else as it is."""
    try:
        yield
    except Exception as error:
        if not disk_is_full(error):
            raise
        raise UserError(f"The disk is full while writing {path}: free some space and run the same command again; finished "
                        "work is kept.") from error


@contextmanager
def atomic_path(path: Path):
    """Yield a temporary path beside `path`; on success it is synced and renamed, on failure removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{owners.tag()}.{os.urandom(4).hex()}.tmp"
    try:
        with full_disk_as_user_error(path):
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, mode: int | None = None) -> None:
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as handle:
            handle.write(data)
        if mode is not None:
            os.chmod(temporary, mode)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, mode: int | None = None) -> None:
    """Canonical but readable JSON: sorted keys, two-space indent, no NaN."""
    text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(), mode)


def read_json(path: Path) -> Any | None:
    """The value, or None where the file is absent or not JSON (a damaged sidecar counts as a missing artefact)."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None


def with_checksum(value: dict) -> dict:
    """The value with a checksum over everything else in it."""
    body = {name: part for name, part in value.items() if name != "checksum"}
    return {**body, "checksum": key_of(body, 64)}


def write_checked(path: Path, value: Mapping, mode: int | None = None) -> None:
    """As JSON with a checksum; numbers and keys as they will be read back."""
    write_json(path, with_checksum(json.loads(json.dumps(value, allow_nan=False))), mode)


def intact(value: dict) -> bool:
    return value.get("checksum") == with_checksum(value)["checksum"]


def read_checked(path: Path) -> dict | None:
    """A JSON object with a valid checksum, or None where it is absent, damaged or changed by hand."""
    value = read_json(path)
    return value if isinstance(value, dict) and intact(value) else None


def remove_temporaries(folder: Path) -> None:
    """Remove temporary files of killed processes; those of living processes stay (owners.py)."""
    for leftover in Path(folder).glob(".*.tmp"):
        if owners.is_living(leftover):
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    path = Path(path)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def need_space(path: Path, predicted: int, what: str) -> None:
    """Raises UserError, before anything is written, if the disk is too small."""
    free = free_bytes(path)
    if predicted > free:
        raise UserError(f"{what} needs about {predicted / 1e9:.2f} GB but {path} has {free / 1e9:.2f} GB free: "
                        "choose another disk with store=DIR or free some space.")


@contextmanager
def exclusive(path: Path, on_wait: Callable[[], None] | None = None):
    """Hold a lock file while working in a folder, so that two commands do not write the same artefacts.

    When another living process holds it: with `on_wait` call that once and wait, else raise UserError at once. The
    lock dies with its process.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if on_wait is None:
                raise UserError(f"Another command is working on {path.parent}: wait for it, or choose another "
                                "run.dir.") from error
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def in_new_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Fill a temporary folder, then rename it to `path`: a folder that is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.{owners.tag()}.", suffix=".tmp", dir=path.parent))
    try:
        with full_disk_as_user_error(path):
            fill(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def hash_all(values: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.encode() + b"\0")
    return digest.hexdigest()


class HashCache:
    """sha256 of files, remembered by (size, modification time, inode) so that warm runs do not read everything again.

    read=False: a file without a remembered hash is not read, and counts as one that cannot be read.
    """

    def __init__(self, path: Path, read: bool = True):
        self.path, self.read = path, read
        known = read_json(path)
        self.known: dict[str, list] = known if isinstance(known, dict) else {}
        self.changed = False

    def sha256(self, path: Path) -> str:
        """The file's hash. Raises OSError if it cannot be read."""
        stat = os.stat(path)
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = self.known.get(str(path))
        if not isinstance(entry, list) or len(entry) != 4 or entry[:3] != stamp:
            if not self.read:
                raise OSError(errno.ENODATA, "no hash of it is remembered", str(path))
            entry = [*stamp, file_sha256(path)]
            self.known[str(path)] = entry
            self.changed = True
        return entry[3]

    def save(self) -> None:
        if self.changed:
            write_bytes(self.path, canonical_json(self.known).encode(), mode=0o600)
            self.changed = False
