"""Checks of the machine that the doctor and every stage need, in one place.

They are cheap: files, sockets and limits, a tenth of a second. Only the doctor opens models or measures speed.
"""

import logging
import os
import pwd
import resource
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.runtime import cluster_address, places, progress, ray_folder
from orchestrator.runtime.finding import OK, STOP, WARN, Finding
from preprocessing.allotment import processes_left, usable_cores

FILES = (256, 4096)  # open files: with fewer than the first Ray stops, with fewer than the second it may
THREADS = (240, 45)  # of Ray itself, of each worker


def check(config: Config, folders: Iterable[Path] = (), ray: bool = True) -> list[Finding]:
    """folders: what the command writes in addition to the store. ray: whether this process will start or join it."""
    found = [versions(), places.store(config), *places.run_folders(folders)]
    if ray and config.run.executor == "ray":
        found += [cluster_address.check(), home(), open_files(), processes(config)]
        if not cluster_address.named():
            found.append(temporary())
    return found


def require(config: Config, folders: Iterable[Path] = (), ray: bool = True) -> list[Finding]:
    """UserError with the first finding that would stop the command; else all findings."""
    return _passed(check(config, folders, ray))


def require_and_warn(config: Config, folders: Iterable[Path] = (), ray: bool = True) -> None:
    """`require`, with the warnings printed on the terminal."""
    _say(require(config, folders, ray))


def require_light(folders: Iterable[Path] = (), draws: bool = False) -> None:
    """The same for a command that starts no Ray and opens no store. folders: existing ones that are written to."""
    found = [versions(), *(replace(row, fix="give this account the right to write there, or choose a disk with free space")
                           if row.state == STOP else row for row in places.run_folders(folders))]
    _say(_passed([*found, caches()] if draws else found))


def _passed(found: list[Finding]) -> list[Finding]:
    for finding in found:
        if finding.state == STOP:
            raise UserError(finding.sentence())
    return found


def _say(found: Iterable[Finding]) -> None:
    for finding in found:
        if finding.state == WARN:
            progress.say("machine", finding.sentence(), logging.WARNING)


@cache
def versions() -> Finding:
    """Packages that do not fit this project, such as another Ray that PYTHONPATH puts first."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in metadata.requires("dualpain") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        return Finding("Versions", OK, "not installed as a package: nothing to compare with")
    for need in asked:
        if need.marker and not need.marker.evaluate():
            continue
        try:
            have = metadata.distribution(need.name)
        except metadata.PackageNotFoundError:
            return Finding("Versions", STOP, f"{need.name} is missing", "run make install")
        if not need.specifier.contains(have.version, prereleases=True):
            where = Path(str(have.locate_file(""))).resolve()
            return Finding("Versions", STOP, f"{need.name} {have.version} in {where} does not fit, {need.specifier} is needed",
                           "unset PYTHONPATH, leave other environments, or run make install")
    return Finding("Versions", OK, f"{len(asked)} packages fit")


def temporary() -> Finding:
    """Where Ray's sockets and logs would go."""
    place = ray_folder.choose()
    if place.nowhere:
        return Finding("Temporary", STOP, f"{place.why}, and none of {', '.join(ray_folder.ROOTS)} can be written with "
                       f"{ray_folder.ROOM >> 20} MB free", "set RAY_TMPDIR to a short path of a folder of yours")
    if place.why:
        return Finding("Temporary", WARN, f"{place.why}; Ray gets a folder of its own in {place.root}, removed at the end",
                       "nothing to do, or set RAY_TMPDIR to a short path of a folder of yours")
    return Finding("Temporary", OK, f"{place.usual} can hold Ray's sockets and logs")


def home_trouble() -> str:
    """Why the home folder cannot hold Ray's token and the caches of libraries, "" if it can."""
    try:
        folder = Path.home()
    except RuntimeError:
        return "this account has no home folder"
    if not folder.is_dir():
        return f"{folder} is not a folder"
    token = folder / ".ray" / "auth_token"
    if token.exists() and not os.access(token, os.R_OK):
        return f"{token} cannot be read"
    return places.trouble(folder) or ("" if token.exists() else places.trouble(token.parent))


def home() -> Finding:
    wrong = home_trouble()
    if not wrong:
        return Finding("Home", OK, "can hold Ray's token")
    if cluster_address.named():
        return Finding("Home", OK, f"{wrong}; the cluster's token is read, nothing is written")
    return Finding("Home", WARN, f"{wrong}; Ray's token and the caches of libraries are kept only while the command runs",
                   "nothing to do, or set HOME to a folder of yours")


def caches() -> Finding:
    """Where matplotlib keeps its font cache: at home, or in a temporary folder while the command runs."""
    wrong = home_trouble()
    own = os.environ.get("MPLCONFIGDIR")
    if not wrong or (own and not places.trouble(Path(own))):
        return Finding("Home", OK, "can hold the caches of libraries")
    try:
        place = tempfile.gettempdir()
    except OSError:
        return Finding("Home", STOP, f"{wrong}, and no temporary folder can be written", "set TMPDIR to a folder of yours")
    return Finding("Home", WARN, f"{wrong}; the caches of libraries are kept in {place} while the command runs",
                   "nothing to do, or set HOME to a folder of yours")


def open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray raises the soft limit itself
    least, good = FILES
    if hard == resource.RLIM_INFINITY or hard >= good:
        return Finding("Open files", OK, "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}")
    return Finding("Open files", STOP if hard < least else WARN, f"only {hard} are allowed",
                   f"run ulimit -n {2 * good}, or ask for more where the limit is set")


def processes(config: Config) -> Finding:
    """Whether the limits of the account and of the container allow Ray's processes and threads."""
    base, each = THREADS
    needed = base + each * usable_cores(config.resources.cpus)
    left, where, fix = processes_left(), "in this container", "in a container: docker run --pids-limit=4096"
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and limit != resource.RLIM_INFINITY and limit < 32768:  # counted only where it may matter
        mine = max(0, limit - threads_of(os.geteuid()))
        if left is None or mine < left:
            left, where, fix = mine, "for this account", "run ulimit -u 4096, or end other programs"
    if left is None or left >= needed:
        return Finding("Processes", OK, "no limit found" if left is None else f"{left} more are allowed")
    return Finding("Processes", STOP, f"only {left} more processes and threads are allowed {where}, Ray needs about {needed}",
                   fix + "; or use fewer workers with resources.cpus=N")


def threads_of(uid: int) -> int:
    """Threads of this account's processes."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid:
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
            except OSError:
                continue
    return total


def nameless() -> bool:
    """Whether this account has no name, as with docker run --user 12345: libraries that ask for it fail."""
    if any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        return False
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return True
    return False
