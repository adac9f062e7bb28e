"""--dry-run: the plan, and what it would cost from an empty store. Nothing is written."""

from collections.abc import Sequence

from rich.console import Console

from orchestrator import cohort, costs, crossdata, doctor, fingerprint, folds, progress, runinfo
from orchestrator.config import Config, with_protocol
from orchestrator.errors import EXIT_DONE

ORDER = ("synthetic", "preprocess", "pretrain", "embed", "loso")


def show(config: Config, until: str) -> int:
    """Print people, sizes, time and disk of every stage up to `until`. Raises what the stage itself would raise first."""
    people = cohort.preview(config) if until == "preprocess" else crossdata.load(config, preview=True)
    names = ["clean", "as_paper"] if config.protocol.name == "both" else [config.protocol.name]
    if until == "preprocess":
        plans = []
        progress.say("plan", f"{len(people.people)} people")
    else:
        plans = [folds.make_plan(with_protocol(config, name), people.people) for name in names]
        for name, plan in zip(names, plans, strict=True):
            progress.say("plan", f"{name}: " + plan.text().replace("\n", "; "))
    if until == "loso":
        progress.say("plan", f"run.dir={runinfo.run_dir(config)}")
    Console(highlight=False).print(doctor.bill(*_prices(config, people, plans, ORDER[: ORDER.index(until) + 1])))
    return EXIT_DONE


def _prices(config: Config, people: cohort.Cohort, plans: Sequence[folds.Plan], stages: Sequence[str]):
    speed = costs.measured(config)
    prices = costs.forecast(config, fingerprint.take(config, people), plans, speed)
    return [price for price in prices if price.stage in stages], speed
