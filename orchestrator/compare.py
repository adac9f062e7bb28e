"""Compare finished runs, paired by subject: `python -m orchestrator.compare RUN_A RUN_B ... [compare.margin=POINTS]`."""

import sys

from orchestrator import cli
from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.stages import compare_runs


def main(argv: list[str] | None = None) -> int:
    asked = compare_runs.parse(argv)
    from orchestrator.reporting.comparison import compare, print_comparison
    from orchestrator.runtime import places, surroundings

    if asked.out is not None and asked.out.suffix not in (".json", ".md"):
        raise UserError(f"--out {asked.out} has to end in .json or .md.")
    surroundings.require_light()
    writes = asked.out is not None and not asked.dry_run
    if writes and (wrong := places.trouble(asked.out.expanduser().resolve().parent)):
        raise UserError(f"--out {asked.out}: {wrong}; choose a file in a folder that you can write to.")
    runs, margin = compare_runs.taken(asked.runs)
    found = compare(runs, margin)
    dataset = found.runs[0].summary["dataset"]
    if asked.dataset not in (None, dataset):
        raise UserError(f"These runs are on the data set {dataset}, not {asked.dataset}: leave --dataset out, or give "
                        "other runs.")
    print_comparison(found)
    if writes:
        compare_runs.write(found, asked.out)
        print(f"comparison: {asked.out}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
