"""Watches Ray's own processes: if one that this command needs has died, the command reports it and ends at once.

Without this, Ray's C++ code waits for a minute and then ends the process with code 1, without a message.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.errors import EXIT_USER, UserError
from orchestrator.files import scratch
from orchestrator.runtime.lost_workers import AGAIN

NEEDED = {"gcs_server": "its gcs_server, which keeps the state of the cluster",
          "raylet": "its raylet, which starts workers and holds their objects"}
MARK = "DUALPAIN_COMMAND"  # in the environment of everything that a command starts
LOOK_S = 0.25
SETTLE_S = 1.0  # from an error that a dying Ray raises until its processes are seen to be gone
GONE_S = 3.0  # for killed processes to disappear, which is fast but not immediate
SILENT_S = 45.0  # of a cluster that we joined; after 60 s Ray would end this process without a message


_ask: Callable[[], str] | None = None  # of the Ray that is watched now
_leave: Callable[[], object] | None = None  # removes what belongs to it
_logs = ""  # folder that everything of a Ray that this command started writes to


def mark() -> None:
    """Call it before Ray starts: marks the processes that this command starts from now on."""
    os.environ[MARK] = f"{os.getpid()}-{os.urandom(4).hex()}"


def watch(leave: Callable[[], object] | None = None) -> None:
    """Call it right after Ray was started or joined; ends with it. A daemon thread, independent of the main one.

    leave: further clean-up when this process has to end.
    """
    import ray

    node = ray._private.worker._global_node
    if node is None:  # a test's
        return
    ours = {name: infos[0].process for name in NEEDED if (infos := node.all_processes.get(name))}
    global _ask, _leave, _logs
    _leave = leave
    _logs = node.get_logs_dir_path() if ours else ""
    _ask = ask = _dead(ours) if ours else _silent(*_place(node.gcs_address))
    threading.Thread(target=_follow, args=(ask, lambda: _is_node(node), end), name="raywatch", daemon=True).start()


def settle(ask: Callable[[], str] | None = None) -> None:
    """Call it before Ray is shut down because of an error: if Ray itself has died, that is what is reported.

    ask: returns what has died, in a sentence, or ""; by default it asks the Ray that is watched.
    """
    error, ask = sys.exc_info()[1], ask or _ask
    if ask is None or not isinstance(error, Exception) or isinstance(error, UserError):
        return
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        if said := ask():
            end(said)
        time.sleep(LOOK_S / 2)


def _is_node(node: Any) -> bool:
    """Whether this process still uses that Ray: it is disconnected before its processes are ended on purpose."""
    import ray

    return ray.is_initialized() and ray._private.worker._global_node is node


def _follow(ask: Callable[[], str], used: Callable[[], bool], then: Callable[[str], object], pause: float = LOOK_S) -> None:
    """Until Ray is not used any more, or `ask` has a sentence, which goes to `then`."""
    while used():
        sentence = ask()
        if sentence and used():
            then(sentence)
            return
        time.sleep(pause)


def _dead(processes: dict[str, Any]) -> Callable[[], str]:
    """processes: by Ray's name for them, each with poll() as subprocess has it."""
    def ask() -> str:
        for name, process in processes.items():
            if process.poll() is not None:
                return sentence(name, process.poll())
        return ""

    return ask


def sentence(name: str, code: int) -> str:
    """What happened to Ray's process `name`, which ended with `code` (negative: by that signal)."""
    how = f"ended with code {code}"
    if code < 0:
        with suppress(ValueError):
            how = f"was ended by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            how += " (by a user, or by the system for lack of memory)"
    return f"Ray died during this command: {NEEDED[name]}, {how}; {AGAIN}."


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _silent(host: str, port: int, limit: float = SILENT_S) -> Callable[[], str]:
    """For a cluster that another user started: whether its address still accepts connections."""
    answered = time.monotonic()

    def ask() -> str:
        nonlocal answered
        try:
            socket.create_connection((host, port), timeout=5).close()
            answered = time.monotonic()
        except OSError:
            pass
        if time.monotonic() - answered > limit:
            return (f"The connection to Ray at {host}:{port} (RAY_ADDRESS) was lost, it has not answered for {limit:.0f} s: "
                    f"start it again, then {AGAIN}.")
        time.sleep(min(2.0, limit / 4))
        return ""

    return ask


def end(text: str) -> NoReturn:
    """End this process and all that it started, without Ray's own shutdown. The sentence is the last line.

    It is printed when no process of Ray is left that could write after it: Ray's agents print messages of their own.
    """
    from orchestrator.runtime.progress import console

    try:
        until = time.monotonic() + GONE_S
        while (left := started_here()) and time.monotonic() < until:  # one that is just starting is found the next time
            kill(left)
            time.sleep(0.02)
        scratch.remove_all()
        if _leave is not None:
            _leave()
    finally:
        with suppress(Exception):
            if console.is_terminal:
                console.show_cursor(True)
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            os.write(2, f"error: {text}\n".encode())
        os._exit(EXIT_USER)


def started_here(logs: str = "") -> list[int]:
    """Living processes of this command, this one excepted. Empty where there is no /proc. logs: the folder of its Ray's logs,
    default of the Ray that is watched.

    They carry its mark; or, since Ray's workers and agents overwrite their environment with their title, write to a log of
    its Ray. A process that only reads a log, such as a user's `tail`, is not included.
    """
    logs = logs or _logs
    wanted, found = f"{MARK}={os.environ.get(MARK)}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if int(entry.name) != os.getpid() and (wanted in (entry / "environ").read_bytes().split(b"\0")
                                                   or _writes(entry, logs)):
                found.append(int(entry.name))
    return found


def _writes(entry: Path, logs: str) -> bool:
    """Whether the process of that folder of /proc has a file below `logs` open to write."""
    if not logs:
        return False
    for link in (entry / "fd").iterdir():
        with suppress(OSError):
            if os.readlink(link).startswith(logs + os.sep):
                flags = (entry / "fdinfo" / link.name).read_text().partition("flags:")[2].split()[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
