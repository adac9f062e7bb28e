"""The synthetic cohort: simulated subjects in exactly the layout of BioVid, to run everything without a data licence.

    python -m preprocessing.synthetic --out DIR --part A --subjects 8 --clips-per-level 8 --effect 1 --seed 0

<out>/starting_point/samples.csv, biosignals_raw/, biosignals_filtered/ and video/, then SYNTHETIC.json (expected
counts, parameters, hash of all files), written last. The folder appears complete or not at all.
"""

import errno
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from preprocessing.errors import InputError
from preprocessing.synthetic.people import LEVELS
from preprocessing.synthetic.tree import MARK, VERSION, listing_sha256, write_tree

ELSEWHERE_S = 2 * 86_400  # after this time an incomplete cohort of another machine counts as abandoned


def generate(
    out: Path | str,
    part: str = "A",
    subjects: int = 8,
    clips_per_level: int = 8,
    effect: float = 1.0,
    seed: int = 0,
    levels: Sequence[str] = LEVELS,
    size: tuple[int, int] = (640, 480),
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    videos: bool = True,
) -> Path:
    """Write the cohort to `out` and return it; a complete cohort with the same parameters is left unchanged.

    effect: 0 = the classes do not differ, 1 = default. levels: subset of BL1, PA1..PA4. size: (width, height).
    jobs: processes, default one per core; the files do not depend on it. on_progress(clips done, total number of clips).
    videos=False writes no videos. InputError: invalid parameters, or `out` holds something else.
    """
    out = Path(out)
    parameters = {
        "part": part, "subjects": subjects, "clips_per_level": clips_per_level, "effect": float(effect), "seed": seed,
        "levels": [level for level in LEVELS if level in levels], "size": list(size), "videos": videos,
    }  # fmt: skip
    _check(parameters, levels, jobs)
    _clean_up(out.parent)
    if out.exists():
        if _is_complete(out, parameters):
            return out
        if any(out.iterdir()):
            print(f"The synthetic cohort {out} is damaged or was changed: it is written again.", file=sys.stderr)
    work = _work_folder(out)
    try:
        write_tree(work, parameters, jobs, on_progress)
        _move_in(work, out, parameters)
    except BrokenProcessPool:
        raise InputError("A process that wrote the synthetic cohort was killed (by a user, or by the system for lack of "
                         "memory): run the same command again.") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"The disk is full while writing the synthetic cohort to {out}: free some space and run the same "
                         "command again.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def _check(parameters: dict[str, Any], levels: Sequence[str], jobs: int | None) -> None:
    unknown = [level for level in levels if level not in LEVELS]
    width, height = parameters["size"]
    problem = None
    if parameters["part"] not in ("A", "B"):
        problem = f"part is {parameters['part']!r}; use A or B"
    elif unknown or not levels:
        problem = f"levels {unknown or 'none'}; choose from {', '.join(LEVELS)}"
    elif not 1 <= parameters["subjects"] <= 999:
        problem = f"subjects is {parameters['subjects']}; use 1 to 999"
    elif not 1 <= parameters["clips_per_level"] <= 200:
        problem = f"clips_per_level is {parameters['clips_per_level']}; use 1 to 200"
    elif not 0 <= parameters["effect"] <= 10:
        problem = f"effect is {parameters['effect']}; use 0 (no difference) to 10"
    elif jobs is not None and jobs < 1:
        problem = f"jobs is {jobs}; use 1 or more"
    elif parameters["seed"] < 0:
        problem = f"seed is {parameters['seed']}; use 0 or more"
    elif min(width, height) < 64 or max(width, height) > 4096 or width % 4 or height % 4:
        problem = f"size is {width}x{height}; both sides must be multiples of 4 between 64 and 4096"
    if problem:
        raise InputError(f"synthetic cohort: {problem}.")


def _is_complete(out: Path, parameters: dict[str, Any]) -> bool:
    """Whether `out` already is this cohort. InputError for a folder that is no cohort or holds another one."""
    try:
        mark = json.loads((out / MARK).read_text(encoding="utf-8"))
        same, digest = mark["parameters"] == parameters, mark["listing_sha256"]
    except FileNotFoundError:
        if out.is_dir() and not any(out.iterdir()):
            return False
        raise InputError(f"{out} is not a synthetic cohort ({MARK} is missing): choose another --out.") from None
    except NotADirectoryError:
        raise InputError(f"{out} is a file: choose another --out.") from None
    except (ValueError, KeyError, TypeError, OSError):
        raise InputError(f"{out / MARK} is damaged: delete {out} and run again.") from None
    if not same or mark.get("generator") != VERSION:
        fix = "choose another --out or delete it"
        raise InputError(f"{out} holds another synthetic cohort (other parameters or version): {fix}.")
    return digest == listing_sha256(out)


def _clean_up(parent: Path) -> None:
    """Remove what killed processes left next to `out`, for any cohort: an incomplete one may take some gigabytes."""
    for left in parent.glob(".*.partial-*"):
        found = re.fullmatch(r"\..+\.partial-(.+)-(\d{1,7})(-old)?", left.name)
        if not found or not left.is_dir() or left.is_symlink():
            continue
        if found[1] == socket.gethostname():
            dead = not _is_running(int(found[2]))
        else:  # processes of another machine are unknown here, and a container gets a new host name
            dead = time.time() - os.lstat(left).st_mtime > ELSEWHERE_S
        if dead:
            shutil.rmtree(left, ignore_errors=True)


def _work_folder(out: Path) -> Path:
    """A temporary folder next to `out`."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = out.parent / f".{out.name}.partial-{socket.gethostname()}-{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    except OSError as error:
        raise InputError(f"cannot write to {out.parent} ({error.strerror}): choose another --out.") from None
    return work


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _move_in(work: Path, out: Path, parameters: dict[str, Any]) -> None:
    """Move the finished cohort to `out`; a damaged one (or an empty folder) is moved away first."""
    aside = work.with_name(work.name + "-old")
    if out.exists():
        out.rename(aside)
    try:
        work.rename(out)
    except OSError:  # another process was faster: fine if it wrote the same cohort
        if not (out.exists() and _is_complete(out, parameters)):
            raise
    shutil.rmtree(aside, ignore_errors=True)
