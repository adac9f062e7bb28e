"""Stage 4, and the whole road: how well does this work on a person it has never seen?

`python -m orchestrator.loso --dataset NAME [key=value ...]` runs whichever earlier stage is missing, then one trial
for every fold and seed that the ledger lacks, then writes the table and the report.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import (
    audit,
    chosen,
    cli,
    cohort_ledger,
    crossdata,
    damage,
    folddata,
    folds,
    origin,
    progress,
    report,
    runinfo,
    session,
    study,
)
from orchestrator.clipstore import ClipStore
from orchestrator.cohort import Cohort
from orchestrator.config import Config
from orchestrator.controls import control_rows
from orchestrator.errors import EXIT_DEFECT, EXIT_DONE, EXIT_FAILED_FOLDS
from orchestrator.ledger import Ledger, claim, open_ledger, run_folder
from orchestrator.models_needed import ESTIMATORS
from orchestrator.prepared import Prepared, prepare
from orchestrator.raw_noise import Road
from orchestrator.storage import key_of
from orchestrator.subgroups import subgroup_rows


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("loso", __doc__.splitlines()[0], argv)
    configs = runinfo.runs(call.config)
    if call.dry_run:
        from orchestrator import dryrun

        return dryrun.show(call.config, "loso")
    with session.session(call.config, map(runinfo.run_dir, configs)):
        people = crossdata.load(call.config)
        results = [evaluate(config, people, call.command, call.overrides) for config in configs]
    if len(results) == 2:
        report.write_optimism(*configs)
    if call.config.audit and not audit.clean(runinfo.run_dir(config) for config in configs):
        progress.say("audit", "a canary failed: this is a defect of dualpain, please report the lines above")
        return EXIT_DEFECT
    return EXIT_FAILED_FOLDS if any(result["n_failed"] for result in results) else EXIT_DONE


def evaluate(config: Config, people: Cohort, command: str, overrides: Sequence[str]) -> dict:
    """One run under one protocol: plan, stages, folds, report. Returns the summary."""
    began = time.monotonic()
    given = origin.read(config, people)
    plan = folds.make_plan(config, people.people, given)
    progress.say("plan", plan.text().replace("\n", "; "))
    folds.check_classes(plan.folds, people.label_counts(config.task.classes), folddata.names(config, people),
                        config.model.name in ESTIMATORS)
    folder = runinfo.run_dir(config)
    with run_folder(folder):
        clips = crossdata.ensure_clips(config, people)
        parts = [prepare(part, own, people, clips) for one, own in plan.parts(config)
                 for part in chosen.parts(one, overrides, own, people)]
        content = runinfo.together([part.content for part in parts])
        ledger = open_ledger(config, folder, key_of(content, 32))
        claim(ledger, content)
        damaged = [*damage.facts("loso", folder), *damage.entries("loso", ledger, plan.folds)]
        served = [(p.part.folds, p.encoders, p.part.lineages) for p in parts]
        record = runinfo.lineage_record(content, people, served, config.protocol.name, plan.leaky)
        runinfo.write_start(folder, config, record | study.record(config, plan, people, clips.hashes))
        ledger.sweep()
        number, by_now = cohort_ledger.meet(config, people, plan, ledger.content_key, clips.hashes)
        from orchestrator.schedule import run_missing

        failed: dict[str, str] = {}
        for p in parts:
            failed |= run_missing(p.part.config, p.part.folds, p.data, p.recipe, p.encoders, ledger, p.part.lineages)
        rows = _audited(config, plan, parts, ledger, folder, people, clips) if config.audit and not plan.leaky else []
        entries = [entry for fold in plan.folds if (entry := ledger.read(fold))]
        for text, n in sorted(Counter(text for entry in entries for text in entry.get("warnings", [])).items()):
            progress.say("folds", f"{n} of {len(entries)} folds: {text}")
        encoders = [encoder for p in parts for encoder in p.encoders]
        run = runinfo.facts(config, plan, people, clips, encoders, entries, failed, time.monotonic() - began, command,
                             frozenset(parts[0].data.samples), [lineage for p in parts for lineage in p.part.lineages])
        heard = dict.fromkeys(text for p in parts for text in p.notes)  # the workers' warnings
        notes = [*run["notes"], *origin.notes(given), *heard, *damaged, *chosen.notes([p.part for p in parts])]
        beside = {"configurations_on_cohort": number, "configurations_by_now": by_now,
                  "controls": control_rows(plan.folds, parts[0].data, entries) if config.controls else [],
                  "subgroups": subgroup_rows(people, entries, len(config.task.classes))}
        result = report.write(folder, {**run, **beside, "audit": rows, "notes": notes}, entries)
        progress.say("loso", cohort_ledger.sentence(number, by_now))
        return result


def _audited(config: Config, plan: folds.Plan, parts: Sequence[Prepared], ledger: Ledger, folder: Path, people: Cohort,
             clips: ClipStore) -> list[dict]:
    """Canaries are fits of one pretrain seed and one setting: the first that has folds. What is read off is of all folds."""
    one = next(p for p in parts if p.part.folds)
    own = replace(plan.parts(config)[0][1], folds=one.part.folds)
    return audit.run(config, own, one.data, one.recipe, one.encoders, ledger, folder,
                     Road(one.part.config, own, people, clips, one.encoders),
                     [(p.part.folds, p.encoders) for p in parts])


if __name__ == "__main__":
    sys.exit(cli.run(main))
