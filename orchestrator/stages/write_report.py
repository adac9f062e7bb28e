"""Stage 5: from the ledger to the table, the files of a run and report.html."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.evaluation import run_record
from orchestrator.evaluation.ledger import open_ledger
from orchestrator.files.storage import intact, read_json, write_checked
from orchestrator.plan.folds import Fold
from orchestrator.reporting import summary
from orchestrator.runtime import progress
from orchestrator.scores.fold_result import FoldResult


def write(folder: Path, run: dict, entries: Sequence[FoldResult]) -> dict:
    """All files that are computed from the ledger, and the last lines on the terminal. Returns the summary."""
    from orchestrator.reporting.page import write_report

    write_checked(folder / "facts.json", run)
    result = summary.write_run_files(folder, run, entries)
    write_report(folder, run, entries)
    show(folder, result, run["failed_folds"])
    return result


def show(folder: Path, result: Mapping, failed: Sequence[dict] = ()) -> None:
    """The last lines on the terminal, for a run whose files are written."""
    summary.print_table(result, folder / "report.html", failed)


def write_optimism(clean: Config, leaky: Config) -> None:
    """protocol=both: the optimism bias, paired by subject; each page shows the other run beside its own."""
    from orchestrator.reporting.comparison import optimism, optimism_words
    from orchestrator.reporting.page import write_report

    folders = {config.protocol.name: run_record.run_dir(config) for config in (clean, leaky)}
    stored = {config.protocol.name: stored_run(config) for config in (clean, leaky)}
    try:
        pair = optimism(folders["clean"], folders["as_paper"], stored["clean"][1], stored["as_paper"][1])
    except UserError as error:  # the runs themselves are done
        progress.say("loso", f"as_paper and clean cannot be compared: {error}")
        return
    between = "95 % CI {:+.1f} to {:+.1f}, ".format(*(100 * end for end in pair["gap_ci95"])) if pair["gap_ci95"] else ""
    progress.say("loso", f"as_paper minus clean: {100 * pair['gap']:+.1f} points ({between}paired over "
                         f"{pair['n_people']} subjects, {pair['n_left_out']} left out). {' '.join(optimism_words(pair))}")
    for config, other in ((clean, leaky), (leaky, clean)):
        run, entries = stored[config.protocol.name]
        beside = [read_json(folders[other.protocol.name] / "summary.json")]
        write_report(folders[config.protocol.name], {**run, "beside": beside, "optimism": pair}, entries)


def stored_run(config: Config) -> tuple[dict, list[FoldResult]]:
    """The facts and the valid ledger entries of a run; the facts name what is missing. UserError where there is no run."""
    folder = run_record.run_dir(config)
    run, lineage = read_json(folder / "facts.json"), read_json(folder / "lineage.json")
    for name, value in (("facts.json", run), ("lineage.json", lineage)):
        if (folder / name).exists() and not (isinstance(value, dict) and intact(value)):
            raise UserError(f"{folder / name} was truncated or changed after it was written: run the same python -m "
                            "orchestrator.loso command again, which rewrites it and keeps the finished folds.")
    if run is None or lineage is None:
        raise UserError(f"{folder} holds no finished run: run python -m orchestrator.loso first, or name another run.dir.")
    ledger = open_ledger(config, folder, lineage["content_key"])
    planned = [Fold(fold["fold"], fold["seed"], (), (), (), None) for fold in lineage["folds"]]
    entries = {fold: entry for fold in planned if (entry := ledger.read(fold))}
    return {**run, **_missing(run, planned, entries, dict(ledger.invalid(planned)))}, list(entries.values())


def _missing(run: dict, planned: Sequence[Fold], there: Collection[Fold], invalid: Mapping[Fold, str]) -> dict:
    """n_planned, n_failed and failed_folds as they are now; a fold that failed in loso keeps its reason."""
    known = {(row["fold"], row["seed"]): row["reason"] for row in run.get("failed_folds") or []}
    failed = []
    for fold in planned:
        if fold not in there:
            why = f"its ledger entry exists but is not valid ({invalid[fold]}): run the same loso command again" \
                if fold in invalid else "it has no ledger entry: run the same loso command again"
            failed.append({"fold": fold.index, "seed": fold.seed, "reason": known.get((fold.index, fold.seed), why)})
    return {"n_planned": len(planned), "n_failed": len(failed), "failed_folds": failed}
