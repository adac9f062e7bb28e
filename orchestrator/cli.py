"""The command line that every stage shares: `python -m orchestrator.<stage> --dataset NAME [key=value ...]`.

The modules that compose and check a configuration are imported only when they are needed, so that --help is fast.
"""

import argparse
import errno
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config import flags
from orchestrator.config.groups import EXPERIMENTS, choices
from orchestrator.errors import EXIT_DEFECT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER, UserError
from orchestrator.runtime import run_log, terminal

if TYPE_CHECKING:
    from orchestrator.config.configuration import Config


@dataclass(frozen=True)
class Call:
    """The parsed command line: the checked configuration, and whether it is a dry run. overrides: as they were typed."""

    config: "Config"
    dry_run: bool
    command: str
    overrides: tuple[str, ...] = ()


def parse(stage: str, summary: str, argv: list[str] | None = None,
          instead: Mapping[str, tuple[str, Callable[[], int]]] | None = None) -> Call:
    """instead: flags that run something else instead of the stage: {flag: (help text, function that returns the exit code)}."""
    argv = sys.argv[1:] if argv is None else argv
    run_log.start()
    parser = argparse.ArgumentParser(
        prog=f"python -m orchestrator.{stage}", description=summary, allow_abbrev=False,
        epilog="Further arguments are overrides such as encoder=vit_tiny protocol.seeds=3 run.dir=DIR; all keys are listed in "
               f"{EXPERIMENTS / 'config.yaml'}. The same command with the same run.dir resumes.")
    parser.add_argument("--dataset", required=True, metavar="NAME", help=", ".join(choices("dataset")))
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE.py",
                        help="a file that adds models, data sets, splits or augmentations (docs/how-to/extend.md); may be "
                             "repeated")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, time and disk; write nothing")
    for flag, (text, work) in (instead or {}).items():
        parser.add_argument(flag, nargs=0, action=_ending(work), help=text)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    flags.refuse_unknown(parser, argv, _option_keys)
    # Overrides may stand before, between and after the flags.
    arguments = parser.parse_intermixed_args(argv)
    from orchestrator.config import plugins
    from orchestrator.config.configuration import compose
    from orchestrator.runtime import progress
    from orchestrator.stages import check_options

    plugins.load(arguments.plugin)
    for file, names in plugins.added().items():
        progress.say("plugin", f"{file} adds {', '.join(names) or 'nothing: register something in it (docs/how-to/extend.md)'}")
    config = compose(arguments.dataset, arguments.overrides)
    if stage != "report":  # it computes nothing from the options
        check_options.check(config, arguments.overrides, stage)
        for remark in check_options.remarks(config, arguments.overrides, stage):
            progress.say("options", remark)
    return Call(config, arguments.dry_run, f"python -m orchestrator.{stage} {shlex.join(argv)}",
                tuple(arguments.overrides))


def _option_keys() -> list[str]:
    from orchestrator.config.configuration import option_keys

    return option_keys()


def _ending(work: Callable[[], int]) -> type[argparse.Action]:
    """An argparse action that ends the command as --help does, before required arguments are checked."""
    class Ending(argparse.Action):
        def __call__(self, *_: object) -> None:
            raise SystemExit(work())

    return Ending


def run(main: Callable[[list[str] | None], int], argv: list[str] | None = None) -> int:
    """Call an entry point and turn what it raises into the exit codes of the contract."""
    if argv is None and main.__module__ == "__main__":  # a command, not a call from Python or a test
        if terminal.needs_utf8():
            terminal.start_again_in_utf8()
        if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # until here: orchestrator/__init__.py
        os.environ.setdefault("PYTHONUTF8", "1")  # for child processes; this terminal may support less
        os.environ.pop("PYTHONIOENCODING", None)
    # Ray, BLAS and torch would each start one thread per core in every worker.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with terminal.safe_streams():
        code = _coded(main, argv)
    if argv is None and main.__module__ == "__main__":
        _settle(code)
    return code


def _coded(main: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    """Run an entry point: prints an error message on stderr and returns the exit code."""
    from models.errors import ModelError
    from preprocessing.errors import InputError

    try:
        return main(argv) or EXIT_DONE
    except (UserError, InputError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("interrupted: run the same command again to resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # argparse
        return stop.code if isinstance(stop.code, int) else EXIT_DONE if stop.code is None else EXIT_DEFECT
    except Exception as error:
        from orchestrator.runtime.lost_workers import explain

        if text := explain(error) or machines_fault(error):
            print(f"error: {text}", file=sys.stderr)
            return EXIT_USER
        traceback.print_exc()
        print("error: this is a defect of dualpain, please report the lines above", file=sys.stderr)
        return EXIT_DEFECT


# Errors of the file system or of a limit of the machine. "No such file" is not among them: it may be our own bug.
MACHINES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
            errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO, errno.EFBIG}
LIMITS = {errno.EAGAIN, errno.ENOMEM}  # raised when a process cannot be started
OURS = ("orchestrator", "models", "preprocessing")


def machines_fault(error: BaseException) -> str:
    """One sentence for an error that the machine causes and not this code; "" for any other error."""
    cause = getattr(error, "cause", None)  # as Ray wraps what a worker raised
    if not isinstance(error, OSError) or error.errno is None:
        error = cause if isinstance(cause, BaseException) else error
    if isinstance(error, OSError) and error.errno in MACHINES:
        where = f"{error.filename} cannot be used" if error.filename else "A file cannot be used"
        return (f"{where} ({error.strerror}): correct this, or choose another folder (store=DIR, run.dir=DIR), and run the "
                "same command again; finished work is kept.")
    if isinstance(error, OSError) and error.errno in LIMITS:
        return (f"This machine has no more memory or processes ({error.strerror}): close other programs, or use fewer "
                "workers with resources.cpus=N, and run the same command again; finished work is kept.")
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in OURS:
        return (f"A package cannot be used in {sys.prefix} ({' '.join(str(error).split())}): install dualpain "
                "again (make install, or pip), or start the command with .venv/bin/python.")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return ("This machine allows no more threads: raise ulimit -u or the container's limit, or use fewer workers with "
                "resources.cpus=N, and run the same command again; finished work is kept.")
    return ""


def _settle(code: int) -> None:
    """Keep this exit code, even with a Ctrl-C or with the exit handlers of libraries."""
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(code))
