"""Names and paths that come from users' files: nothing outside the data set's folder is ever opened."""

import os
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from preprocessing.errors import InputError
from preprocessing.inputs.spelling import groups, shown

MOST_SHOWN = 10
MISSING = {"na", "n/a", "#n/a", "nan", "none", "null", "nil", "<na>"}  # how tools write a missing value


def check_name(name: str, where: str) -> str:
    """`name` unchanged if it is valid as a subject or sample name; InputError for empty, NUL, control, '..' or NaN."""
    if not name or name != name.strip():
        raise InputError(f"{where}: the name {name!r} is empty or has blanks around it; give it a plain name.")
    check_text(name, where)
    if name.casefold() in MISSING:
        raise InputError(f"{where}: the name {name!r} is how a missing value is written; give the row its name.")
    if name in (".", "..") or "/" in name or "\\" in name:
        raise InputError(f"{where}: the name {name!r} reads as a path; use a name without slashes, and not only dots.")
    return name


def check_text(text: str, where: str) -> str:
    """`text` unchanged; InputError for control characters (NUL among them) and halves of surrogate pairs."""
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise InputError(f"{where}: the text {text[:60]!r} holds a control character; remove it.")
    return text


def fold_name(name: str) -> str:
    """A normal form that is equal for two names that a file system or a reader could confuse (case, Unicode form)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def check_distinct(names: Iterable[str], what: str, where: str | Path, differ: Collection[str] = (), signs: bool = False,
                   remedy: str = "") -> None:
    """InputError with the list if two different names could be two spellings of one name (see spelling.spellings).

    differ: names that the user declared to be different; a group of only such names is accepted. remedy: another way out.
    """
    found = [group for group in groups(names, signs) if not set(group) <= set(differ)]
    if found:
        listed = "; ".join(shown(group[:MOST_SHOWN]) for group in found[:MOST_SHOWN])
        more = f"; and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        raise InputError(f"{where}: {what} names that differ only by case, Unicode form, blanks, separators, leading zeros or "
                         f"look-alike characters may be one {what} spelt in two ways ({listed}{more}); spell each "
                         f"in one way{remedy}.")


def inside(root: Path, relative: str, where: str) -> Path:
    """`root / relative`; InputError where it is absolute, holds '..' or NUL, or leaves `root` through a link.

    The file itself may be absent: the caller checks that.
    """
    if "\0" in relative:
        raise InputError(f"{where}: the path {relative!r} holds a NUL character; remove it.")
    parts = relative.replace("\\", "/").split("/")
    if relative.startswith(("/", "\\", "~")) or (len(relative) > 1 and relative[1] == ":"):
        raise InputError(f"{where}: the path {relative!r} is absolute; write it relative to {root}.")
    if ".." in parts:
        raise InputError(f"{where}: the path {relative!r} goes up with '..'; write it as a path below {root}.")
    path = root.joinpath(*[part for part in parts if part not in ("", ".")])
    return check_link(root, path, where)


def check_link(root: Path, path: Path, where: str) -> Path:
    """`path` unchanged; InputError if following its links ends outside `root`, or never ends."""
    try:
        # realpath(strict=False) resolves what exists and keeps the rest, so an absent file is no error here.
        real, base = os.path.realpath(path), os.path.realpath(root)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: the path {str(path)!r} cannot be followed ({error}); correct it.") from None
    if real != base and not real.startswith(base.rstrip(os.sep) + os.sep):
        raise InputError(f"{where}: the link {path} leads outside {root}; put the data itself below that folder.")
    return path


def is_file(path: Path) -> bool:
    """True for a regular file; False for anything else and for names that are not valid paths."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """True for a folder; False for anything else and for names that are not valid paths."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
