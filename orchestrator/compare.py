"""Compare finished runs, paired by person: `python -m orchestrator.compare RUN_A RUN_B ... [compare.margin=POINTS]`."""

import argparse
import sys
from pathlib import Path

from orchestrator import cli, places, surroundings
from orchestrator.comparison import Comparison, as_json, as_markdown, compare, print_comparison
from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.schema import TABLE
from orchestrator.storage import write_json, write_text

MARGIN = TABLE["compare.margin"]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.compare",
        description="Compare finished runs on the same people: sign-flip and Wilcoxon tests, Holm, effect size, and "
                    "the smallest gap these people could have shown. Prints a table; writes nothing without --out.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run.dir of a finished run; two or more. compare.margin=POINTS: "
                        "how many points worse is still \"no worse\"; tested with one-sided bounds of 95 %%")
    parser.add_argument("--dataset", metavar="NAME", help="refuse runs on any other data set")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the comparison to FILE.json or FILE.md")
    parser.add_argument("--dry-run", action="store_true", help="print, and write nothing even with --out")
    return parser.parse_intermixed_args(argv)


def taken(words: list[str]) -> tuple[list[str], float | None]:
    """(runs, margin as a fraction or None). Raises UserError for an option that is none, or a margin that is no margin."""
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


def write(found: Comparison, out: Path) -> None:
    if out.suffix == ".json":
        write_json(out, as_json(found))
    else:
        write_text(out, as_markdown(found))


def main(argv: list[str] | None = None) -> int:
    asked = parse(argv)
    if asked.out is not None and asked.out.suffix not in (".json", ".md"):
        raise UserError(f"--out {asked.out} has to end in .json or .md.")
    surroundings.light()
    writes = asked.out is not None and not asked.dry_run
    if writes and (wrong := places.trouble(asked.out.expanduser().resolve().parent)):
        raise UserError(f"--out {asked.out}: {wrong}; name a file in a folder of yours.")
    runs, margin = taken(asked.runs)
    found = compare(runs, margin)
    dataset = found.runs[0].summary["dataset"]
    if asked.dataset not in (None, dataset):
        raise UserError(f"These runs are on the data set {dataset}, not {asked.dataset}: leave --dataset out, or give "
                        "other runs.")
    print_comparison(found)
    if writes:
        write(found, asked.out)
        print(f"comparison: {asked.out}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
