"""The command line that every stage shares: `python -m orchestrator.<stage> --dataset NAME [key=value ...]`."""

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator import options, progress
from orchestrator.config import Config, choices, compose
from orchestrator.errors import EXIT_DEFECT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER, UserError


@dataclass(frozen=True)
class Call:
    """What the user asked for: the checked configuration, and whether to plan only. overrides: as they were written."""

    config: Config
    dry_run: bool
    command: str
    overrides: tuple[str, ...] = ()


def parse(stage: str, summary: str, argv: list[str] | None = None) -> Call:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog=f"python -m orchestrator.{stage}", description=summary,
        epilog="Further words are overrides such as encoder=vit_tiny protocol.seeds=3 run.dir=DIR; every key stands in "
               "experiments/config.yaml. The same command with the same run.dir resumes.")
    parser.add_argument("--dataset", required=True, metavar="NAME", help=", ".join(choices("dataset")))
    parser.add_argument("--dry-run", action="store_true", help="print the plan, time and disk; write nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    # Overrides may stand before, between and after the flags.
    arguments = parser.parse_intermixed_args(argv)
    config = compose(arguments.dataset, arguments.overrides)
    if stage != "report":  # which computes nothing from the options
        options.check(config, arguments.overrides, stage)
        for remark in options.remarks(config, arguments.overrides, stage):
            progress.say("options", remark)
    return Call(config, arguments.dry_run, f"python -m orchestrator.{stage} {shlex.join(argv)}",
                tuple(arguments.overrides))


def run(main: Callable[[list[str] | None], int], argv: list[str] | None = None) -> int:
    """Call an entry point and turn what it raises into the exit codes of the contract."""
    from models.errors import ModelError
    from preprocessing.errors import InputError

    # Ray, BLAS and torch would each start a thread a core in every worker.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        return main(argv) or EXIT_DONE
    except (UserError, InputError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # argparse
        return stop.code if isinstance(stop.code, int) else EXIT_DONE if stop.code is None else EXIT_DEFECT
    except Exception as error:
        from orchestrator.lost import explain

        if said := explain(error):
            print(f"error: {said}", file=sys.stderr)
            return EXIT_USER
        traceback.print_exc()
        print("error: this is a defect of dualpain, please report the lines above", file=sys.stderr)
        return EXIT_DEFECT
