"""The command that writes the synthetic cohort (preprocessing/synthetic/cohort.py)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from preprocessing.errors import InputError
from preprocessing.synthetic import cohort
from preprocessing.synthetic.cohort import generate
from preprocessing.synthetic.people import LEVELS


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 640x480")
    return int(width), int(height)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m preprocessing.synthetic", description=cohort.__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", default="A", choices=("A", "B"))
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--clips-per-level", type=int, default=8)
    parser.add_argument("--effect", type=float, default=1.0, help="0: the classes do not differ; 1: default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--levels", default=",".join(LEVELS), help="such as BL1,PA4")
    parser.add_argument("--size", type=_size, default=(640, 480), metavar="WIDTHxHEIGHT")
    parser.add_argument("--jobs", type=int, default=None, help="processes; default: one per core")
    options = parser.parse_args(argv)
    show = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if show:
            print(f"\rsynthetic clips {done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    try:
        generate(
            options.out, part=options.part, subjects=options.subjects, clips_per_level=options.clips_per_level,
            effect=options.effect, seed=options.seed, levels=options.levels.split(","), size=options.size, jobs=options.jobs,
            on_progress=progress)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
