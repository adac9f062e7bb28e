"""--dry-run: the plan, and what it would cost: from an empty store, and what is still to do. Nothing is written."""

from collections.abc import Sequence

from rich.console import Console

from orchestrator.cohort import cohort
from orchestrator.config.configuration import Config, with_protocol
from orchestrator.errors import EXIT_DONE
from orchestrator.estimate import costs, data_fingerprint, finished, timed_steps
from orchestrator.evaluation import run_record
from orchestrator.plan import folds
from orchestrator.runtime import progress, surroundings
from orchestrator.stages import check
from orchestrator.stores import cross_dataset, origin


def show(config: Config, until: str) -> int:
    """Print people, sizes, time and disk of every stage up to `until`. Raises what the stage itself would raise first: a plan
    of what this machine does not let run is none."""
    surroundings.told(config, map(run_record.run_dir, run_record.runs(config)) if until == "loso" else ())
    people = cohort.preview(config) if until == "preprocess" else cross_dataset.load(config, preview=True)
    names = ["clean", "as_paper"] if config.protocol.name == "both" else [config.protocol.name]
    if until == "preprocess":
        plans = []
        progress.say("plan", f"{len(people.people)} people")
    else:
        given = origin.read(config, people)
        plans = [folds.make_plan(with_protocol(config, name), people.people, given) for name in names]
        for name, plan in zip(names, plans, strict=True):
            progress.say("plan", f"{name}: " + plan.text().replace("\n", "; "))
    if until == "loso":
        progress.say("plan", f"run.dir={run_record.run_dir(config)}")
    Console(highlight=False).print(check.bill(*prices(config, people, plans, until)))
    return EXIT_DONE


def prices(config: Config, people: cohort.Cohort, plans: Sequence[folds.Plan],
           until: str = "loso") -> tuple[list[costs.Cost], list[costs.Cost] | None, costs.Speed]:
    """(from an empty store, what is still to do or None where nothing is there, the speed that both go by)."""
    data, speed = data_fingerprint.take(config, people), costs.measured(config)
    if until == "loso":
        speed = timed_steps.tried(speed, config, data)
    whole, found = costs.forecast(config, data, plans, speed, until=until), finished.look(config, people, plans)
    left = costs.forecast(config, data, plans, speed, found, until) if found != finished.NOTHING else None
    return whole, left, speed
