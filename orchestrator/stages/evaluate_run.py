"""Stage 4, and the whole pipeline: how well does a model work on a person it has never seen?"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Thread

from orchestrator.cohort import study
from orchestrator.cohort.cohort import Cohort
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import is_estimator
from orchestrator.evaluation import damage, fold_data, run_record, sweep_choice
from orchestrator.evaluation.ledger import Ledger, claim, open_ledger, run_folder
from orchestrator.files.code_key import sources_sha256
from orchestrator.files.storage import key_of, read_json
from orchestrator.plan import folds
from orchestrator.pretraining import quality
from orchestrator.reporting import cohort_ledger, written
from orchestrator.runtime import progress, run_log
from orchestrator.stages import make_clips, write_report
from orchestrator.stages.prepare import Prepared, prepare
from orchestrator.stores import origin
from orchestrator.stores.clip_store import ClipStore

LATER = ("models.baselines.estimators", "orchestrator.reporting.page")  # seconds of imports that the report needs
DRAWS = ("matplotlib", "Jinja2")  # in addition to run_record.versions()


def evaluate(config: Config, people: Cohort, command: str, overrides: Sequence[str]) -> dict:
    """One run under one protocol: plan, stages, folds, report. Returns the summary."""
    began = time.monotonic()
    given = origin.read(config, people)
    plan = folds.make_plan(config, people.people, given)
    progress.say("plan", plan.text().replace("\n", "; "))
    folds.check_classes(plan.folds, people.label_counts(config.task.classes), fold_data.names(config, people),
                        is_estimator(config.model.name))
    folder = run_record.run_dir(config)
    with run_folder(folder), run_log.kept(folder, "loso", people.raw_names(), run_record.places(config)) as log:
        clips = make_clips.ensure_clips(config, people)
        parts = [prepare(part, own, people, clips) for one, own in plan.parts(config)
                 for part in sweep_choice.parts(one, overrides, own, people)]
        content = run_record.together([part.content for part in parts])
        ledger = open_ledger(config, folder, key_of(content, 32))
        claim(ledger, content)
        if unfinished := ledger.missing(list(plan.folds)):
            _make_ready(config, parts)  # problems of the clips are reported before anything is written
        log.open()
        damaged = [*damage.facts("loso", folder), *damage.entries("loso", ledger, plan.folds)]
        served = [(p.part.folds, p.encoders, p.part.lineages) for p in parts]
        record = run_record.lineage_record(content, people, served, config.protocol.name, plan.leaky)
        run_record.write_start(folder, config, record | study.record(config, plan, people, clips.hashes))
        ledger.clean_up()
        number, by_now = cohort_ledger.register(config, people, plan, ledger.content_key, clips.hashes)
        failed = _run_missing(parts, ledger) if unfinished else {}
        if not unfinished:
            progress.say("loso", f"all {len(plan.folds)} folds are already in the ledger")
        rows = _audited(config, plan=plan, parts=parts, ledger=ledger, folder=folder, people=people,
                        clips=clips) if config.audit and not plan.leaky else []
        entries = [entry for fold in plan.folds if (entry := ledger.read(fold))]
        for text, n in sorted(Counter(text for entry in entries for text in entry.warnings).items()):
            progress.say("folds", f"{n} of {len(entries)} folds: {text}", logging.WARNING)
        encoders = [encoder for p in parts for encoder in p.encoders]
        warned = dict.fromkeys(text for p in parts for text in p.notes)  # the workers' warnings
        more = [*origin.notes(given), *warned, *damaged, *sweep_choice.notes([p.part for p in parts])]
        made_of = [content, number, by_now, [entry.to_json() for entry in entries], more, run_record.portable(config),
                   run_record.without_paths(command), run_record.versions(), run_record.git_state(), sources_sha256(),
                   [people.notes, people.partial, people.synthetic, people.class_names],
                   [version(name) for name in DRAWS], [side["checksum"] for side in clips.sides.values()],
                   quality.of(encoders), plan.text()]
        if not rows and not failed and (result := written.standing(folder, made_of)):
            write_report.show(folder, result)
            _say_doubts((read_json(folder / "facts.json") or {}).get("controls") or [])
            progress.say("loso", cohort_ledger.sentence(number, by_now))
            return result
        run = run_record.facts(config, plan=plan, cohort=people, clips=clips, encoders=encoders, entries=entries,
                               failed=failed, wall_s=time.monotonic() - began, command=command,
                               used=frozenset(parts[0].data.samples),
                               chosen=[lineage for p in parts for lineage in p.part.lineages])
        notes = [*run["notes"], *more]
        from orchestrator.reporting.controls import control_rows
        from orchestrator.reporting.subgroups import subgroup_rows

        controls = control_rows(plan.folds, parts[0].data, entries) if config.controls else []
        beside = {"configurations_on_cohort": number, "configurations_by_now": by_now, "controls": controls,
                  "subgroups": subgroup_rows(people, entries, len(config.task.classes))}
        result = write_report.write(folder, {**run, **beside, "audit": rows, "notes": notes}, entries)
        if not rows:
            written.remember(folder, made_of)
        _say_doubts(controls)
        progress.say("loso", cohort_ledger.sentence(number, by_now))
        return result


def _say_doubts(controls: Sequence[dict]) -> None:
    from orchestrator.reporting.controls import doubts

    for text in doubts(controls):
        progress.say("controls", text, logging.WARNING)


def _make_ready(config: Config, parts: Sequence[Prepared]) -> None:
    """Read what the folds read. With Ray this happens while Ray starts, and the report's imports while the folds run."""
    from orchestrator.executors import choice

    failed: list[BaseException] = []

    def read() -> None:
        try:
            for part in parts:
                part.data  # noqa: B018
        except BaseException as error:
            failed.append(error)

    executor = choice.of(config)
    if config.run.executor == "ray":  # daemon threads: an interrupted command ends without them
        reading = Thread(target=read, daemon=True)
        reading.start()
        executor.start(config)
        reading.join()
        Thread(target=lambda: [import_module(name) for name in LATER], daemon=True).start()
    else:
        read()
    if failed:
        raise failed[0]


def _run_missing(parts: Sequence[Prepared], ledger: Ledger) -> dict[str, str]:
    """Reasons by name for folds that failed every time."""
    from orchestrator.evaluation.scheduler import run_missing

    failed: dict[str, str] = {}
    for p in parts:
        failed |= run_missing(p.part.config, folds=p.part.folds, data=p.data, recipe=p.recipe, encoders=p.encoders,
                              ledger=ledger, lineages=p.part.lineages)
    return failed


def _audited(config: Config, plan: folds.Plan, parts: Sequence[Prepared], ledger: Ledger, folder: Path, people: Cohort,
             clips: ClipStore) -> list[dict]:
    """The canaries are fitted for one pretrain seed and one configuration, the first that has folds. The checks that need no
    fit cover all folds."""
    from orchestrator.evaluation import audit
    from orchestrator.evaluation.raw_noise import Pipeline

    one = next(p for p in parts if p.part.folds)
    own = replace(plan.parts(config)[0][1], folds=one.part.folds)
    return audit.run(config, plan=own, data=one.data, recipe=one.recipe, encoders=one.encoders, ledger=ledger, folder=folder,
                     pipeline=Pipeline(one.part.config, own, people, clips, one.encoders),
                     served=[(p.part.folds, p.encoders) for p in parts])
