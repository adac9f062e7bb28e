"""Compare finished runs, paired by subject: `python -m orchestrator.compare RUN_A RUN_B ... [compare.margin=POINTS]`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config import flags
from orchestrator.config.schema import TABLE
from orchestrator.errors import UserError
from orchestrator.files.storage import write_json, write_text

if TYPE_CHECKING:  # takes a second to import, and --help does not need it
    from orchestrator.reporting.comparison import Comparison

MARGIN = TABLE["compare.margin"]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.compare",
        description="Compare finished runs on the same subjects: sign-flip and Wilcoxon tests, Holm correction, effect size, "
                    "and the smallest detectable difference for these subjects. Prints a table; writes nothing without --out.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run.dir of a finished run; two or more. compare.margin=POINTS: "
                        "non-inferiority margin in percentage points; tested with one-sided 95 %% bounds")
    parser.add_argument("--dataset", metavar="NAME", help="stop if the runs are on another data set")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the comparison to FILE.json or FILE.md")
    parser.add_argument("--dry-run", action="store_true", help="print, and write nothing even with --out")
    flags.refuse_unknown(parser, sys.argv[1:] if argv is None else argv, lambda: [MARGIN.key])
    return parser.parse_intermixed_args(argv)


def taken(words: list[str]) -> tuple[list[str], float | None]:
    """(runs, margin as a fraction or None). Raises UserError for an unknown option, or a margin that is not valid."""
    runs, margin = [], None
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or Path(word).exists() or "/" in key:
            runs.append(word)
        elif key != MARGIN.key:
            raise UserError(f"There is no option '{key}': compare takes run folders and {MARGIN.key}=POINTS.")
        elif margin is not None:
            raise UserError(f"{MARGIN.key} is given more than once: give it once.")
        else:
            margin = _number(value)
            MARGIN.check(margin)
    return runs, None if margin is None else float(margin) / 100


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def write(found: "Comparison", out: Path) -> None:
    from orchestrator.reporting.comparison import as_json, as_markdown

    if out.suffix == ".json":
        write_json(out, as_json(found))
    else:
        write_text(out, as_markdown(found))
