"""ViT scale and mask ratio as a grid over the same stages, scored on inner validation subjects only."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from orchestrator.cohort import cohort
from orchestrator.cohort.cohort import Cohort, Person
from orchestrator.config.configuration import Config, compose
from orchestrator.config.model_inputs import TOKENS, needs
from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.estimate import costs, data_fingerprint, timed_steps
from orchestrator.evaluation import damage, fold_data, run_record
from orchestrator.evaluation.sweep_points import Point, SweepWork, open_point, ranked
from orchestrator.files.storage import exclusive, key_of, read_checked, remove_temporaries, write_checked
from orchestrator.plan import folds
from orchestrator.plan.folds import Plan
from orchestrator.runtime import progress, run_log
from orchestrator.stages import dry_run, make_clips, make_encoders, make_tokens


def grid(config: Config, overrides: tuple[str, ...]) -> dict[str, Config]:
    """The configurations of the grid, by name. Raises UserError if there is nothing to compare."""
    if any(word.partition("=")[0] == "encoder" for word in overrides):
        raise UserError("A sweep takes its scales from sweep.encoder: write sweep.encoder=[vit_tiny,vit_small] instead of "
                        "encoder=.")
    if config.protocol.name not in ("clean", "exclude_pretrain") or config.protocol.val != "inner":
        raise UserError(f"protocol={config.protocol.name} protocol.val={config.protocol.val} has no inner validation subjects "
                        "to choose a configuration with: sweep with protocol=clean.")
    if not needs(config) >= TOKENS:
        raise UserError(f"model={config.model.name} reads no video tokens, so scale and mask ratio change nothing: use "
                        "model=dual or model=video.")
    if config.pretrain.name == "none" and len(config.sweep.mask_ratio) > 1:
        raise UserError("pretrain=none masks nothing: leave it out, or give one value with sweep.mask_ratio=[0.9].")
    return {f"{encoder}-mask-{ratio:g}": compose(config.dataset, [*overrides, f"encoder={encoder}",
                                                                  f"pretrain.video.mask_ratio={ratio}"])
            for encoder in config.sweep.encoder for ratio in config.sweep.mask_ratio}


def run(config: Config, configs: dict[str, Config]) -> dict:
    """All configurations: stages, folds, table. Returns the content of sweep.json: one choice, or with sweep.halves one for
    each half of the subjects (cross-fitting)."""
    began, people = time.monotonic(), cohort.load(config)
    folder = sweep_dir(config)
    plans = [folds.make_plan(config, members) for members in parts_of(config, people.people)]
    for plan in plans:
        progress.say("plan", f"{len(configs)} configurations; " + plan.text().replace("\n", "; "))
    if (folder / "lineage.json").exists():
        raise UserError(f"{folder} holds a run of loso: choose another run.dir for the sweep.")
    with exclusive(folder / ".lock"), run_log.kept(folder, "sweep", people.raw_names(), run_record.places(config)):
        remove_temporaries(folder)
        if (folder / "sweep.json").exists() and read_checked(folder / "sweep.json") is None:
            progress.say("sweep", "sweep.json was damaged or changed after it was written, and is written again")
        places = [folder / f"half-{i + 1}" for i in range(len(plans))] if config.sweep.halves else [folder]
        found = [_choose(config, configs, people, plan, place) for plan, place in zip(plans, places, strict=True)]
        result = {**({"halves": found} if config.sweep.halves else found[0]), **_about(config, plans, people),
                  "wall_s": time.monotonic() - began}
        write_checked(folder / "sweep.json", result)
    progress.say("sweep", f"results in {folder / 'sweep.json'}")
    return result


def parts_of(config: Config, people: Sequence[Person]) -> list[list[Person]]:
    """All subjects; or for cross-fitting two random disjoint halves, each of which chooses for the folds of the other."""
    if not config.sweep.halves:
        return [list(people)]
    order = np.random.default_rng([config.pretrain.seed, len(people), 2]).permutation(len(people))
    return [[people[i] for i in sorted(part)] for part in (order[: len(people) // 2], order[len(people) // 2 :])]


def _choose(config: Config, configs: dict[str, Config], people: Cohort, plan: Plan, folder: Path) -> dict:
    """Every configuration on every fold of this plan, then the ranking."""
    remove_temporaries(folder)
    points = open_points(configs, people, plan, folder)
    for point in points.values():
        damage.entries("sweep", point.ledger, plan.folds, f" of configuration {point.name}")
    missing = {f"{point.name}-{fold.name}": (point.name, fold) for point in points.values()
               for fold in point.ledger.missing(list(plan.folds))}
    planned = len(points) * len(plan.folds)
    if missing:
        from orchestrator.evaluation.scheduler import run_grid

        def work(names: list[str]) -> SweepWork:
            return SweepWork({name: missing[name] for name in names}, points)

        folder.mkdir(parents=True, exist_ok=True)
        failed = run_grid(config, "sweep", folder.name, names=list(missing), planned=planned, work=work, scratch=folder)
        for name, reason in sorted(failed.items()):
            progress.say("sweep", f"{name} failed: {reason}", private=True)
    else:
        progress.say("sweep", f"all {planned} folds are already in the ledgers")
    return ranked(points, plan, people)


def sweep_dir(config: Config) -> Path:
    """run.dir, or runs/sweep-... by configuration and grid."""
    folder = run_record.run_dir(config)
    if config.run.dir:
        return folder
    return folder.with_name(f"sweep-{folder.name}-{key_of(config.sweep.model_dump(mode='json'), 4)}")


def open_points(configs: dict[str, Config], people: Cohort, plan: Plan, folder: Path) -> dict[str, Point]:
    """Preprocessing once, encoders and tokens for each configuration; arrays that are the same for all are shared."""
    first = next(iter(configs.values()))
    clips = make_clips.ensure(first, people)
    points: dict[str, Point] = {}
    for name, config in configs.items():
        progress.say("sweep", name)
        encoders = make_encoders.ensure(config, people, clips, plan.groups)
        tokens = make_tokens.ensure(config, people, clips, encoders)
        data = fold_data.build(config, people, clips, encoders, tokens)
        recipe = fold_data.recipe(config, False, plan.leaky)
        key = key_of(run_record.content(config, people, clips, encoders, tokens, recipe), 32)
        shared = next(iter(points.values())).data if points else data
        points[name] = open_point(name, config, folder=folder, key=key, data=data, shared=shared, recipe=recipe,
                                  encoders=encoders)
    return points


def _about(config: Config, plans: Sequence[Plan], people: Cohort) -> dict:
    commit, dirty = run_record.git_state()
    return {"dataset": config.dataset, "task": config.task.name, "model": config.model.name,
            "protocol": config.protocol.name, "plan": "\n".join(plan.text() for plan in plans),
            "n_subjects": len(people.people),
            "seeds": list(config.protocol.seeds), "synthetic": people.synthetic, "partial": people.partial,
            "key_fingerprint": people.key_fingerprint, "versions": run_record.versions(), "git_commit": commit, "dirty": dirty}


def forecast(configs: dict[str, Config]) -> int:
    """--dry-run: the configurations, with estimates for an empty store. Data and clips are counted once, for the first."""
    first = next(iter(configs.values()))
    people = cohort.preview(first)
    plans = [folds.make_plan(first, members) for members in parts_of(first, people.people)]
    for plan in plans:
        progress.say("plan", f"{len(configs)} configurations; " + plan.text().replace("\n", "; "))
    data, speed = data_fingerprint.take(first, people), costs.measured(first)
    spent, size = [], 0.0
    for number, (name, config) in enumerate(configs.items()):
        own = prices(config, data, plans, timed_steps.with_timed_step(speed, config, data), number == 0)
        spent += [p.seconds for p in own]
        size += sum(p.size for p in own)
        progress.say("sweep", f"{name}: {costs.span(costs.total([p.seconds for p in own]))}, "
                              f"{costs.size_text(sum(p.size for p in own))}")
    progress.say("sweep", f"all configurations: {costs.span(costs.total(spent))}, {costs.size_text(size)}, for an empty "
                          f"store on {speed.name} if nothing else runs on them")
    dry_run.say_excluded(first, people, data, plans)
    return EXIT_DONE


def prices(config: Config, data: data_fingerprint.Fingerprint, plans: Sequence[Plan], speed: costs.Speed,
           first: bool) -> list[costs.Cost]:
    """Costs of one configuration, without refit, audit and report. Shared stages count for the first one only."""
    config = config.model_copy(update={"audit": False})
    rows = costs.forecast(config, data, [replace(plan, refit=False) for plan in plans], speed)
    return [p for p in rows if p.stage != "report" and (first or p.stage not in ("start", "synthetic", "preprocess"))]
