"""Stage 5: from the ledger to the table, the files of a run and report.html.

`python -m orchestrator.report --dataset NAME run.dir=DIR` writes them again for a run that is there.
"""

import sys
from pathlib import Path

from orchestrator import cli, progress, runinfo, summary
from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.storage import read_json, read_sealed, write_json


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("report", __doc__.splitlines()[0], argv)
    folder = runinfo.run_dir(call.config)
    run, entries = _stored(folder)
    if call.dry_run:
        print(f"report for {len(entries)} folds in {folder}")
    else:
        write(folder, run, entries)
    return EXIT_DONE


def write(folder: Path, run: dict, entries: list[dict]) -> dict:
    """All files that are computed from the ledger, and the last lines on the terminal. Returns the summary."""
    from orchestrator.page import write_report

    write_json(folder / "facts.json", run)
    result = summary.write_run_files(folder, run, entries)
    page = write_report(folder, run, entries)
    summary.print_table(result, page, run["failed_folds"])
    return result


def write_optimism(clean: Path, leaky: Path) -> None:
    """protocol=both: the gap, paired by person, and on each page the other run beside its own."""
    from orchestrator.comparison import optimism
    from orchestrator.page import write_report

    pair = optimism(clean, leaky)
    low, high = pair.gap_ci95 or (pair.gap, pair.gap)
    progress.say("loso", f"as_paper minus clean: {100 * pair.gap:+.1f} points of optimism (95 % CI {100 * low:+.1f} to "
                         f"{100 * high:+.1f}, paired by person)")
    for folder, other in ((clean, leaky), (leaky, clean)):
        run, entries = _stored(folder)
        write_report(folder, {**run, "beside": [read_json(other / "summary.json")]}, entries)


def _stored(folder: Path) -> tuple[dict, list[dict]]:
    """The facts and the intact ledger entries of a run folder. Raises UserError where there is no run."""
    run, lineage = read_json(folder / "facts.json"), read_json(folder / "lineage.json")
    if run is None or lineage is None:
        raise UserError(f"{folder} holds no finished run: run python -m orchestrator.loso first, or name another run.dir.")
    names = [f"fold-{fold['fold']:03d}-seed-{fold['seed']}.json" for fold in lineage["folds"]]
    found = [read_sealed(folder / "ledger" / name) for name in names]
    return run, [e for e in found if e and e["content_key"] == lineage["content_key"]]


if __name__ == "__main__":
    sys.exit(cli.run(main))
