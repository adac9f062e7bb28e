"""Code keys that another process has worked out from these very sources: reading every file takes milliseconds, following
its imports a second.

Kept beside Python's own compiled files (`__pycache__`, or where PYTHONPYCACHEPREFIX says), under the hash of the bytes of
every source file: no time and no size is believed, so that an edit that keeps both is another key. What cannot be written or
read, or was cut, is worked out again.
"""

import hashlib
import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path

from orchestrator.files.storage import read_sealed, write_sealed

READ = ("*.py", "*.jinja", "*.css")


def sources_sha256(root: Path, rooms: tuple[str, ...]) -> str:
    """Hash of every file of code and of the report's form in these rooms: its place and its bytes."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())  # whose parser reads them
    for path in sorted(path for room in rooms for ending in READ for path in (root / room).rglob(ending)
                       if path.is_file()):  # an editor's lock is a link to nowhere
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def known(root: Path, sources: str) -> dict[str, str]:
    """roots -> key, of these sources; {} where nothing is known of them."""
    found = read_sealed(_place(root)) or {}
    return dict(found["keys"]) if found.get("sources") == sources else {}


def remember(root: Path, sources: str, keys: dict[str, str]) -> None:
    if sys.dont_write_bytecode or not _place(root).parent.parent.is_dir():
        return
    with suppress(OSError):  # an installation that is not this account's
        write_sealed(_place(root), {"sources": sources, "keys": keys})


def _place(root: Path) -> Path:
    return Path(cache_from_source(str(root / "orchestrator" / "files" / "code_key.py"))).with_name("code_keys.json")
