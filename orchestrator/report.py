"""Stage 5: from the ledger to the table, the files of a run and report.html.

`python -m orchestrator.report --dataset NAME run.dir=DIR` writes them again for an existing run.
"""

import sys

from orchestrator import cli
from orchestrator.errors import EXIT_DONE, EXIT_FAILED_FOLDS


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("report", __doc__.splitlines()[0], argv)
    from orchestrator.evaluation import run_record
    from orchestrator.runtime import surroundings
    from orchestrator.stages import write_report

    configs = run_record.runs(call.config)
    stored = [write_report.stored_run(config) for config in configs]
    surroundings.require_light([] if call.dry_run else map(run_record.run_dir, configs), draws=not call.dry_run)
    for config, (run, entries) in zip(configs, stored, strict=True):
        folder = run_record.run_dir(config)
        if call.dry_run:
            print(f"report for {len(entries)} folds in {folder}")
        else:
            write_report.write(folder, run, entries)
    if len(configs) == 2 and not call.dry_run:
        write_report.write_optimism(*configs)
    return EXIT_FAILED_FOLDS if any(run["n_failed"] for run, _ in stored) else EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
