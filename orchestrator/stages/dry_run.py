"""--dry-run: the plan, with estimates for an empty store and for the remaining work. Nothing is written."""

import logging
from collections.abc import Sequence

from rich.console import Console

from orchestrator.cohort import cohort
from orchestrator.config.configuration import Config, with_protocol
from orchestrator.errors import EXIT_DONE
from orchestrator.estimate import costs, data_fingerprint, finished, timed_steps
from orchestrator.estimate.data_fingerprint import Fingerprint
from orchestrator.evaluation import run_record
from orchestrator.plan import folds
from orchestrator.runtime import progress, surroundings
from orchestrator.runtime.finding import STOP
from orchestrator.stages import check
from orchestrator.stores import cross_dataset, origin


def show(config: Config, until: str) -> int:
    """Print subjects, sizes, time and disk of every stage up to `until`. Raises the errors that the stage would raise at its
    start, since a plan that cannot run on this machine is of no use."""
    surroundings.require_and_warn(config, map(run_record.run_dir, run_record.runs(config)) if until == "loso" else ())
    people = cohort.preview(config) if until == "preprocess" else cross_dataset.load(config, preview=True)
    names = ["clean", "as_paper"] if config.protocol.name == "both" else [config.protocol.name]
    if until == "preprocess":
        plans = []
        progress.say("plan", f"{len(people.people)} subjects")
    else:
        given = origin.read(config, people)
        plans = [folds.make_plan(with_protocol(config, name), people.people, given) for name in names]
        for name, plan in zip(names, plans, strict=True):
            progress.say("plan", f"{name}: " + plan.text().replace("\n", "; "))
    if until == "loso":
        progress.say("plan", f"run.dir={run_record.run_dir(config)}")
    data = data_fingerprint.take(config, people)
    Console(highlight=False).print(check.cost_table(*prices(config, people, plans, until, data)))
    say_excluded(config, people, data, plans)
    return EXIT_DONE


def say_excluded(config: Config, people: cohort.Cohort, data: Fingerprint, plans: Sequence[folds.Plan]) -> None:
    """What a run would exclude, or stop at after it has prepared the clips: below the plan, since it is what to do next."""
    for finding in [*check.excluded(config, data), *(check.classes_left(config, people, data, plans) if plans else ())]:
        stops = "no run is possible. " if finding.state == STOP else ""
        progress.say("data", stops + finding.sentence(), logging.WARNING, private=True)


def prices(config: Config, people: cohort.Cohort, plans: Sequence[folds.Plan], until: str = "loso",
           data: Fingerprint | None = None) -> tuple[list[costs.Cost], list[costs.Cost] | None, costs.Speed]:
    """(estimate for an empty store, for the remaining work or None if nothing is finished, the speed assumed for both)."""
    data, speed = data or data_fingerprint.take(config, people), costs.measured(config)
    if until == "loso":
        speed = timed_steps.with_timed_step(speed, config, data)
    whole, found = costs.forecast(config, data, plans, speed, until=until), finished.find(config, people, plans)
    left = costs.forecast(config, data, plans, speed, found, until) if found != finished.NOTHING else None
    return whole, left, speed
