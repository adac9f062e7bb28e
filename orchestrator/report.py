"""Stage 5: from the ledger to the table, the files of a run and report.html.

`python -m orchestrator.report --dataset NAME run.dir=DIR` writes them again for a run that is there.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from orchestrator import cli, progress, runinfo, summary
from orchestrator.config import Config
from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.ledger import open_ledger
from orchestrator.storage import read_json, write_json


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("report", __doc__.splitlines()[0], argv)
    configs = runinfo.runs(call.config)
    stored = [_stored(config) for config in configs]
    for config, (run, entries) in zip(configs, stored, strict=True):
        folder = runinfo.run_dir(config)
        if call.dry_run:
            print(f"report for {len(entries)} folds in {folder}")
        else:
            write(folder, run, entries)
    if len(configs) == 2 and not call.dry_run:
        write_optimism(*configs)
    return EXIT_DONE


def write(folder: Path, run: dict, entries: list[dict]) -> dict:
    """All files that are computed from the ledger, and the last lines on the terminal. Returns the summary."""
    from orchestrator.page import write_report

    write_json(folder / "facts.json", run)
    result = summary.write_run_files(folder, run, entries)
    page = write_report(folder, run, entries)
    summary.print_table(result, page, run["failed_folds"])
    return result


def write_optimism(clean: Config, leaky: Config) -> None:
    """protocol=both: the gap, paired by person, and on each page the other run beside its own."""
    from orchestrator.comparison import optimism
    from orchestrator.page import write_report

    folders = {config.protocol.name: runinfo.run_dir(config) for config in (clean, leaky)}
    try:
        pair = optimism(*folders.values())
    except UserError as error:  # the runs themselves are done
        progress.say("loso", f"no gap between as_paper and clean: {error}")
        return
    low, high = pair.gap_ci95 or (pair.gap, pair.gap)
    progress.say("loso", f"as_paper minus clean: {100 * pair.gap:+.1f} points of optimism (95 % CI {100 * low:+.1f} to "
                         f"{100 * high:+.1f}, paired over {pair.n_people} people, {pair.n_left_out} left out)")
    for config, other in ((clean, leaky), (leaky, clean)):
        run, entries = _stored(config)
        beside = [read_json(folders[other.protocol.name] / "summary.json")]
        write_report(folders[config.protocol.name], {**run, "beside": beside, "optimism": asdict(pair)}, entries)


def _stored(config: Config) -> tuple[dict, list[dict]]:
    """The facts and the intact ledger entries of a run. Raises UserError where there is no run."""
    folder = runinfo.run_dir(config)
    run, lineage = read_json(folder / "facts.json"), read_json(folder / "lineage.json")
    if run is None or lineage is None:
        raise UserError(f"{folder} holds no finished run: run python -m orchestrator.loso first, or name another run.dir.")
    ledger = open_ledger(config, folder, lineage["content_key"])
    names = [f"fold-{fold['fold']:03d}-seed-{fold['seed']}.json" for fold in lineage["folds"]]
    return run, [entry for name in names if (entry := ledger.read_named(name))]


if __name__ == "__main__":
    sys.exit(cli.run(main))
