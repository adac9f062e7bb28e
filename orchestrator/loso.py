"""Stage 4, and the whole road: how well does this work on a person it has never seen?

`python -m orchestrator.loso --dataset NAME [key=value ...]` runs whichever earlier stage is missing, then one trial
for every fold and seed that the ledger lacks, then writes the table and the report.
"""

import sys
import time

from orchestrator import cli, crossdata, embed, folddata, folds, pretrain, progress, report, runinfo, session
from orchestrator.cohort import Cohort
from orchestrator.config import Config, with_protocol
from orchestrator.errors import EXIT_DONE, EXIT_FAILED_FOLDS
from orchestrator.ledger import Ledger, claim, run_folder
from orchestrator.models_needed import ESTIMATORS, needs


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("loso", __doc__.splitlines()[0], argv)
    names = ["clean", "as_paper"] if call.config.protocol.name == "both" else [call.config.protocol.name]
    configs = [with_protocol(call.config, name) for name in names]
    if len(names) > 1:
        folder = runinfo.run_dir(call.config)
        configs = [c.model_copy(update={"run": c.run.model_copy(update={"dir": str(folder / c.protocol.name)})})
                   for c in configs]
    needs(call.config)
    if call.dry_run:
        from orchestrator import dryrun

        return dryrun.show(call.config, "loso")
    with session.session(call.config):
        people = crossdata.load(call.config)
        results = [evaluate(config, people, call.command) for config in configs]
    if len(results) == 2:
        report.write_optimism(*(runinfo.run_dir(config) for config in configs))
    return EXIT_FAILED_FOLDS if any(result["n_failed"] for result in results) else EXIT_DONE


def evaluate(config: Config, people: Cohort, command: str) -> dict:
    """One run under one protocol: plan, stages, folds, report. Returns the summary."""
    began = time.monotonic()
    plan = folds.make_plan(config, people.people)
    progress.say("plan", plan.text().replace("\n", "; "))
    folds.check_classes(plan.folds, people.label_counts(config.task.classes), folddata.names(config, people),
                        config.model.name in ESTIMATORS)
    folder = runinfo.run_dir(config)
    with run_folder(folder):
        clips = crossdata.ensure_clips(config, people)
        encoders = pretrain.ensure(config, people, clips, plan.groups)
        tokens = embed.ensure(config, people, clips, encoders)
        data = folddata.build(config, people, clips, encoders, tokens)
        folds.check_classes(plan.folds, data.counts(), data.class_names, config.model.name in ESTIMATORS)
        recipe = folddata.recipe(config, plan.refit, plan.leaky)
        key = runinfo.content_key(config, people, clips, encoders, tokens, recipe)
        claim(folder, key)
        runinfo.write_start(folder, config, runinfo.lineage_record(key, plan, people, encoders))
        ledger = Ledger(folder, key)
        ledger.sweep()
        from orchestrator.schedule import run_missing

        failed = run_missing(config, plan.folds, data, recipe, encoders, ledger)
        entries = [entry for fold in plan.folds if (entry := ledger.read(fold))]
        run = runinfo.facts(config, plan, people, clips, encoders, entries, failed, time.monotonic() - began, command)
        return report.write(folder, run, entries)


if __name__ == "__main__":
    sys.exit(cli.run(main))
