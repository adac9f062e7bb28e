"""The sections of the report: each a function of a Report that returns a Section, or None if it has no content."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import yaml

from orchestrator.config.model_inputs import is_estimator
from orchestrator.pretraining import quality
from orchestrator.reporting import plots
from orchestrator.reporting.blocks import Block, Columns, Listing, Note, Section, Sentences, Table
from orchestrator.reporting.comparison import optimism_words
from orchestrator.reporting.findings import Report, encoders_of, excluded_by_class, lineage_words
from orchestrator.reporting.paper_deviations import deviations
from orchestrator.reporting.published_results import NOTES, beside_run
from orchestrator.reporting.summary import percent
from orchestrator.scores import chance, metrics
from orchestrator.scores.results import interval

EXECUTORS = {"ray": "Ray", "inline": "inline: one process, without Ray"}
PM = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"


def plus_minus(mean: float | None, std: float | None) -> str:
    return percent(mean) if std is None else f"{percent(mean)}{PM}{percent(std)}"


def subjects_section(report: Report) -> Section | None:
    if not report.values:
        return None
    summary = report.summary
    figure = plots.subjects_plot(report.subjects, summary["accuracy_mean"], interval(report.values)[0], summary["chance"])
    role = "a test subject" if summary["leaky"] else "an unseen test subject"
    caption = (f"Each dot is {role}, named by a pseudonym. The thin line is the subject's 95 % interval (Wilson), from its "
               "number of clips alone. The subjects are sorted by accuracy, so the rise is no trend. Chance is the better of "
               "uniform guessing and the majority baseline.")
    return Section("subjects", "Accuracy by subject", [replace(figure, caption=caption)])


def confusion_section(report: Report) -> Section | None:
    if not report.values:
        return None
    clips, K = report.clips, len(report.names)
    matrix = metrics.confusion(clips.y_true, clips.y_pred, K, clips.weight())
    excluded, answers = excluded_by_class(report), len(clips.y_pred) / clips.n_clips()
    truth, predicted, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    rows = [(name, round(truth[k]), excluded.get(name, (0, 0))[0], percent(hits[k] / truth[k] if truth[k] else None),
             percent(hits[k] / predicted[k] if predicted[k] else None)) for k, name in enumerate(report.names)]
    figure = plots.confusion_plot(matrix, report.names)
    left: list[Block] = [
        replace(figure, caption="Per cent of the true class and, below it, the number of clips."),
        Table("Recall and precision", ("class", "clips", "excluded", "recall %", "precision %"), rows)]
    said = ("Recall: of the clips of this class, the share that the model predicted as this class. Precision: of the clips "
            "predicted as this class, the share that belongs to it."
            + (f" Each clip of each subject has the weight 1, shared by its predictions over seeds and test sets (on average "
               f"{answers:.3g})." if answers > 1 else ""))
    return Section("classes", "Results by class", [Columns([left, [scores_table(report), Note(said)]])])


def scores_table(report: Report) -> Table:
    pooled = metrics.score(report.clips.y_true, report.clips.y_pred, report.clips.prob, report.clips.weight())
    fields = (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy"), ("precision", "macro precision"),
              ("recall", "macro recall"), ("f1", "macro F1"), ("auroc", "AUROC"))
    rows = []
    for field, name in fields:
        several = chance.values_of(report.subjects, field) if field in ("balanced_accuracy", "auroc") else None
        each = several if several is not None else [
            value for subject in report.subjects if (value := subject.mean(field)) is not None]
        over = "" if len(each) == len(report.subjects) else f" ({len(each)} subjects)"
        # scores of different folds have different scales, so AUROC over all of them would be biased
        together = "" if field == "auroc" else percent(getattr(pooled, field))
        rows.append((name, plus_minus(*metrics.mean_std(each)) + over, _between(each), together))
    whole = accuracies_with_excluded(report)
    rows.insert(1, ("accuracy, excluded clips as errors", plus_minus(*metrics.mean_std(whole)), _between(whole), ""))
    brier = [value for subject in report.subjects if (value := subject.mean("brier")) is not None]
    mean, std = metrics.mean_std(brier)
    rows.append(("Brier score, 0 to 2", f"{mean:.3f}" + (f"{PM}{std:.3f}" if std is not None else ""), "",
                 f"{pooled.brier:.3f}"))
    return Table("Scores", ("in %", "mean ± std over subjects", "95 % interval", "all clips pooled"), rows)


def _between(values: Sequence[float]) -> str:
    ends = interval(values)[0]
    return f"{percent(ends[0])} to {percent(ends[1])}" if ends else ""


def accuracies_with_excluded(report: Report) -> list[float]:
    """Accuracy with excluded clips as errors, by test subject, seeds averaged; 0 where every clip is excluded."""
    right: dict[str, dict[int, list[int]]] = {}
    for fold in report.folds:
        subjects = fold.subjects
        excluded = fold.quarantined_by_subject or ({subjects[0]: fold.n_quarantined} if len(subjects) == 1 else {})
        for row in fold.predictions:
            right.setdefault(row.subject, {}).setdefault(fold.seed, []).append(row.y_true == row.y_pred)
        for subject, n in excluded.items():
            right.setdefault(subject, {}).setdefault(fold.seed, []).extend([0] * n)
    return [float(np.mean([np.mean(own) for own in seeds.values() if own])) for seeds in right.values() if any(seeds.values())]


def calibration_section(report: Report) -> Section | None:
    if not report.values:
        return None
    weight = report.clips.weight()
    bins = metrics.reliability(report.clips.y_true, report.clips.prob, weight=weight)
    sure = float(np.average(report.clips.prob.max(axis=1), weights=weight))
    right = float(np.average(report.clips.prob.argmax(axis=1) == report.clips.y_true, weights=weight))
    tilt = "is overconfident" if sure > right + 0.02 else "is underconfident" if sure < right - 0.02 else \
        "is neither over- nor underconfident"
    said = [f"The mean confidence is {percent(sure)} % and the accuracy {percent(right)} %: on average the model {tilt}.",
            f"The expected calibration error (ECE) is {percent(bins.ece)} points: the mean difference between confidence and "
            "accuracy over 10 bins, weighted by their clips, all folds pooled."]
    caption = "On the dashed line, confidence equals accuracy. Below it, the model is overconfident."
    return Section("calibration", "Calibration", [
        Columns([[replace(plots.reliability_plot(bins), caption=caption)], [Sentences(said)]])])


def variance_section(report: Report) -> Section | None:
    variance = report.variance
    parts = (("between subjects (without clips and seeds)", variance.between_people),
             ("same subject, other clips of the same classes", variance.clips_within_person),
             ("same subject and clips, another training seed", variance.seed_within_person),
             ("mean of the whole run, another training seed", variance.seed_of_mean),
             ("same subject and clips, another pretraining seed", variance.pretraining_within_person),
             ("mean of the whole run, another pretraining seed", variance.pretraining_of_mean))
    rows = [(name, percent(value)) for name, value in parts if value is not None]
    if not rows:
        return None
    said = f"From {variance.n_people} subjects and " + (
        f"{variance.n_seeds} seeds each." if variance.n_seeds > 1 else "one seed.")
    if variance.p_between is not None:
        differ = "Subjects differ by more than the random choice of clips explains" if variance.p_between < chance.ALPHA \
            else "It is not shown that subjects differ by more than the random choice of clips explains"
        said += f" {differ} (F test, {chance.p_words(variance.p_between)})."
    if variance.seed_within_person is not None:
        said += (" A training seed changes the estimator's own random numbers, if it uses any."
                 if is_estimator(report.summary["model"]) else
                 " A training seed changes initial weights, batches and the inner validation subjects, but neither encoders "
                 "nor pretraining groups.")
    if variance.pretraining_within_person is not None:
        trained = any(encoder["subjects"] for encoder in encoders_of(report.run))
        said += (" A pretraining seed changes the pretraining groups and trains the encoders again." if trained else
                 " A pretraining seed changes the random weights.")
    return Section("variance", "Variance components", [
        Table("Standard deviation of accuracy, in points", ("source", "standard deviation"), rows), Note(said)])


def excluded_section(report: Report) -> Section | None:
    excluded = report.run.get("quarantine") or {}
    by_class = {name: pair for name, pair in excluded_by_class(report).items() if pair[1]}
    if not any(pair[0] for pair in by_class.values()) and not any(excluded.values()):
        return Section("excluded", "Excluded clips", [Note("No clip was excluded.")]) if report.folds else None
    of = {subject: sum(own.values()) for subject, own in (report.run.get("clips") or {}).items()}
    columns: list[list[Block]] = [[Table("By class", ("class", "excluded", "of", "%"), [
        (name, n, total, percent(n / total)) for name, (n, total) in by_class.items()])]]
    if excluded.get("by_reason"):
        columns[0].append(Table("By reason", ("reason", "clips"), _most(excluded["by_reason"])))
    if excluded.get("by_subject"):
        rows = [(name, n, of.get(name, "-"), percent(n / of[name]) if of.get(name) else "-")
                for name, n in _most(excluded["by_subject"])[:20]]
        more = len([n for n in excluded["by_subject"].values() if n]) - len(rows)
        columns.append([Table("By subject", ("subject", "excluded", "of", "%"), rows),
                        *([Note(f"and {more} more subjects")] if more > 0 else [])])
    return Section("excluded", "Excluded clips", [Columns(columns), Note(
        "A clip is excluded if it cannot be used, for example because a file is damaged or no face was found. At the highest "
        "pain level this does not happen at random: subjects turn their heads and grimace. Therefore the accuracy is also "
        "given with excluded clips counted as errors.")])


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, n) for name, n in counts.items() if n), key=lambda pair: (-pair[1], pair[0]))


def lineage_section(report: Report) -> Section | None:
    blocks: list[Block] = [Sentences(lineage_words(report))]
    if report.folds:
        caption = "A row is a fold, a column a subject. The colour is the subject's role in that fold."
        blocks.append(replace(plots.roles_plot(report.folds, encoders_of(report.run)), caption=caption))
    return Section("lineage", "Which subjects were used for what", blocks)


def audit_section(report: Report) -> Section | None:
    rows = report.run.get("audit") or []
    if not rows:
        return None
    return Section("audit", "Leakage canaries", [
        Table("Questions", ("question", "verdict", "result"), [
            (r["question"], r["verdict"], r["text"]) for r in rows], 3),
        Note("Each question is tested on the data, model and folds of this run (first seed). FAILED means that information "
             "about test subjects reaches training. \"unclear\" proves neither that it does nor that it does not.")])


def curves_section(report: Report) -> Section | None:
    curves = report.run.get("curves") or []
    if not curves:
        return None
    said = quality.words(report.run.get("quality") or [])
    figure = replace(plots.curves_plot(curves), caption="Loss by epoch.")
    return Section("pretraining", "Pretraining", [figure, *([Sentences(said)] if said else []),
                                                  Note("Pretraining uses no labels.")])


def published_section(report: Report) -> Section | None:
    run, summary = report.run, report.summary
    known, absent = beside_run(run)
    beside = run.get("beside") or []
    if not known and not absent and not beside:
        return None
    ours = [our_row(summary), *map(our_row, beside)]
    theirs = [(a.name, a.inputs, f"{a.accuracy:.2f}" + (f"{PM}{a.std:.2f}" if a.std is not None else ""), a.chosen)
              for a in known]
    said = [*gap_words(run.get("optimism")), *absent]
    if known:
        said.append("These numbers are not directly comparable: where the epoch was chosen on the test subject or test set, "
                    "the number does not estimate the accuracy on unseen subjects. "
                    + NOTES.get(run["dataset"], ""))
    table = Table("Accuracies", ("method", "inputs", "accuracy %", "how it was chosen"), ours + theirs, 4, range(len(ours)))
    return Section("published", "Comparison with published results" if known or absent else "Comparison with another protocol",
                   [table, *map(Note, said)])


def our_row(summary: Mapping) -> tuple[str, str, str, str]:
    protocol = {"clean": "epoch chosen on inner validation subjects",
                "exclude_pretrain": "epoch chosen on inner validation subjects; pretraining subjects are not tested",
                "as_paper": "epoch chosen on the test subject, as in the paper's code (leaky on purpose)"}
    if is_estimator(summary["model"]):
        alone = "no epoch to choose; fitted and scaled without the test subject"
        protocol = {"clean": alone, "exclude_pretrain": alone,
                    "as_paper": "no epoch to choose; scaled with the test subject's clips too (leaky on purpose)"}
    elif summary.get("folds") and not any(fold["val_subjects"] for fold in summary["folds"]):
        fixed = "number of epochs fixed in advance"
        protocol |= {"clean": fixed, "exclude_pretrain": f"{fixed}; pretraining subjects are not tested"}
    return (f"this run, {summary['model']}", str(summary["encoder"] or "-"),
            plus_minus(summary["accuracy_mean"], summary["accuracy_std"]),
            f"{summary['protocol']}: {protocol.get(summary['protocol'], '')}")


def gap_words(pair: Mapping | None) -> list[str]:
    """The gap to the other protocol, in one paragraph; empty without it."""
    if pair is None:
        return []
    between = " (95 % interval {:+.1f} to {:+.1f})".format(*(100 * end for end in pair["gap_ci95"])) if pair["gap_ci95"] else ""
    alone = f" ({pair['n_left_out']} more were tested in one run only)" if pair["n_left_out"] else ""
    return [f"Same model, paired over {pair['n_people']} subjects{alone}: as_paper minus clean is {100 * pair['gap']:+.1f} "
            f"points{between}. {' '.join(optimism_words(pair))}"]


def deviations_section(report: Report) -> Section | None:
    rows = deviations(report.run, report.folds)
    if not rows:
        return None
    return Section("deviations", "Differences between the paper and our default",
                   [Table("Settings", ("setting", "paper", "our default", "this run"), rows, 4)])


def folds_section(report: Report) -> Section | None:
    rows = [(f["fold"], f["seed"], _short(f["subject"]), f["n_test"], f["n_quarantined"], percent(f["accuracy"]),
             percent(f["accuracy_with_quarantined"]), percent(f["macro_f1"]),
             "-" if f["epochs"] is None else f["epochs"], len(f["train_subjects"]), len(f["val_subjects"]),
             (f["weights_sha256"] or "-")[:8])
            for f in report.summary["folds"]]
    blocks: list[Block] = [Table("Finished folds", (
        "fold", "seed", "test subject", "clips", "excluded", "accuracy %", "excluded as errors %", "macro F1 %", "epochs",
        "train", "val", "weights"), rows, 3)]
    if any(fold.refit for fold in report.folds):
        blocks.append(Note("train: subjects of the fit that chose the epoch. The scored model was then fitted on these and on "
                           "the validation subjects."))
    if failed := report.run.get("failed_folds"):
        blocks.append(Table("Failed folds", ("fold", "seed", "reason"), [(f["fold"], f["seed"], no_paths(f["reason"]))
                                                                   for f in failed], 3))
    return Section("folds", "Folds", blocks)


def _short(subject: str) -> str:
    return subject if "+" not in subject else f"{subject.count('+') + 1} subjects"


def settings_section(report: Report) -> Section | None:
    run, summary = report.run, report.summary
    facts = [("data set", run["dataset"]), ("task", f"{run['task']}: {', '.join(report.names)}"),
             ("model", run["model"]), ("video encoder", run["encoder"] or "-"),
             ("parameters", f"{run['n_parameters']:,}" if run["n_parameters"] else "-"),
             ("protocol", run["protocol"]), ("seeds", ", ".join(map(str, run["seeds"]))),
             ("folds", f"{summary['n_folds']} of {summary['n_planned']}"), ("time", _duration(run["wall_s"])),
             ("commit", f"{(run['git_commit'] or '-')[:12]}{' (with uncommitted changes)' if run['dirty'] else ''}"),
             ("executor", EXECUTORS[run.get("executor") or "ray"]), ("pseudonym key", run["key_fingerprint"])]
    versions = [(name, run["versions"][name]) for name in sorted(run["versions"] or {})]
    blocks: list[Block] = [Columns([[Table("Run", ("setting", "value"), facts, 2)],
                                    [Table("Package versions", ("package", "version"), versions, 2)]])]
    if run.get("notes"):
        blocks.append(Sentences([no_paths(note) for note in run["notes"]], "Notes on the data"))
    config = yaml.safe_dump(_without_places(run["config"]), sort_keys=True) if run.get("config") else None
    command = re.sub(r"=\S*/\S*", "=(path)", run.get("command") or "")
    for title, value in (("Plan", run.get("plan")), ("Command", command), ("Configuration", config)):
        if value:
            blocks.append(Listing(title, value.rstrip()))
    return Section("settings", "Settings of this run", blocks)


def no_paths(value: str) -> str:
    """Without paths of this machine, because reports are shared."""
    return re.sub(r"(?<![\w.])~?(/[\w.@+-]+){2,}/?", "(path)", value)


def _without_places(config: Mapping) -> dict:
    places = {("data", "root"), ("store", "dir"), ("store", "key"), ("run", "dir"), ("pretrain", "checkpoint"),
              ("pretrain", "checkpoint_saw")}
    return {node: {name: "(path)" if (node, name) in places and "/" in str(value) else value
                   for name, value in own.items()} if isinstance(own, Mapping) else own
            for node, own in config.items()}


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.{0 if size == 1 else 1}f} {unit}"
