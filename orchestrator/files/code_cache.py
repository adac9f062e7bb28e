"""A cache of code keys for unchanged sources: reading every file takes milliseconds, following its imports a second.

Kept beside Python's own compiled files (`__pycache__`, or where PYTHONPYCACHEPREFIX says), under the hash of the bytes of
every source file: times and sizes are not used, so that an edit that keeps both still changes the key. If the cache cannot
be read or written, or is damaged, the keys are computed again.
"""

import hashlib
import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path

from orchestrator.files.storage import read_checked, write_checked

READ = ("*.py", "*.jinja", "*.css")


def sources_sha256(root: Path, packages: tuple[str, ...]) -> str:
    """Hash of every source file and every template of the report in these packages: path and bytes."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())  # the version of the parser
    for path in sorted(path for package in packages for ending in READ for path in (root / package).rglob(ending)
                       if path.is_file()):  # an editor's lock file is a broken link
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def known(root: Path, sources: str) -> dict[str, str]:
    """roots -> key, for these sources; {} if none is cached."""
    found = read_checked(_place(root)) or {}
    return dict(found["keys"]) if found.get("sources") == sources else {}


def remember(root: Path, sources: str, keys: dict[str, str]) -> None:
    if sys.dont_write_bytecode or not _place(root).parent.parent.is_dir():
        return
    with suppress(OSError):  # an installation that is not this account's
        write_checked(_place(root), {"sources": sources, "keys": keys})


def _place(root: Path) -> Path:
    return Path(cache_from_source(str(root / "orchestrator" / "files" / "code_key.py"))).with_name("code_keys.json")
