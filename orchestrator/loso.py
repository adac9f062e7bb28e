"""Stage 4, and the whole pipeline: how well does a model work on a person it has never seen?

`python -m orchestrator.loso --dataset NAME [key=value ...]` runs the earlier stages that are missing, then one trial
for every fold and seed that is not yet in the ledger, then writes the table and the report.
"""

import sys

from orchestrator import cli
from orchestrator.errors import EXIT_DEFECT, EXIT_DONE, EXIT_FAILED_FOLDS


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("loso", __doc__.splitlines()[0], argv)
    if call.dry_run:
        from orchestrator.stages import dry_run

        return dry_run.show(call.config, "loso")
    from orchestrator.evaluation import run_record
    from orchestrator.runtime import progress, ray_session
    from orchestrator.stages import evaluate_run, write_report
    from orchestrator.stores import cross_dataset

    configs = run_record.runs(call.config)
    with ray_session.session(call.config, map(run_record.run_dir, configs)):
        people = cross_dataset.load(call.config)
        results = [evaluate_run.evaluate(config, people, call.command, call.overrides) for config in configs]
    if len(results) == 2:
        write_report.write_optimism(*configs)
    if call.config.audit:
        from orchestrator.evaluation import audit

        if not audit.clean(run_record.run_dir(config) for config in configs):
            progress.say("audit", "a canary failed: this is a defect of dualpain, please report the lines above")
            return EXIT_DEFECT
    return EXIT_FAILED_FOLDS if any(result["n_failed"] for result in results) else EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
