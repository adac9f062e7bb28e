"""The sections of the report: each a function of a Report that returns HTML, or "" where the run has nothing to say."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from orchestrator.config.model_inputs import ESTIMATORS
from orchestrator.pretraining import quality
from orchestrator.reporting import plots
from orchestrator.reporting.comparison import optimism_words
from orchestrator.reporting.findings import Report, encoders_of, lineage_words, lost_by_class
from orchestrator.reporting.markup import note, section, table, text, words
from orchestrator.reporting.paper_deviations import choices
from orchestrator.reporting.published_results import NOTES, beside_run
from orchestrator.reporting.summary import percent
from orchestrator.scores import chance, metrics
from orchestrator.scores.results import interval

PM = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"


def plus_minus(mean: float | None, std: float | None) -> str:
    return percent(mean) if std is None else f"{percent(mean)}{PM}{percent(std)}"


def people_section(report: Report) -> str:
    if not report.values:
        return ""
    summary = report.summary
    body = plots.people_plot(report.people, summary["accuracy_mean"], interval(report.values)[0], summary["chance"])
    seen = "a test person" if summary["leaky"] else "a person whom the model had not seen"
    body += note(f"Each dot is {seen}, named by a pseudonym. The thin line is what that "
                 "person's number of clips alone leaves open (Wilson, 95 %). Sorting makes any cloud look like a "
                 "trend. Chance is the better of guessing and the training majority.")
    return section("people", "Person by person", body)


def confusion_section(report: Report) -> str:
    if not report.values:
        return ""
    clips, K = report.clips, len(report.names)
    matrix = metrics.confusion(clips.y_true, clips.y_pred, K, clips.weight())
    lost, answers = lost_by_class(report), len(clips.y_pred) / clips.n_clips()
    truth, said, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    rows = [(name, round(truth[k]), lost.get(name, (0, 0))[0], percent(hits[k] / truth[k] if truth[k] else None),
             percent(hits[k] / said[k] if said[k] else None)) for k, name in enumerate(report.names)]
    left = plots.confusion_plot(matrix, report.names)
    left += table(("class", "clips", "lost", "found %", "right when said %"), rows)
    right = "<h3>Scores</h3>" + scores_table(report)
    right += note("Found: of the clips of this class, how many the model recognised (recall). Right when said: of the "
                   "clips it gave this name, how many were it (precision)."
                   + (f" All clips of all people, each once: its answers over seeds and test sets (on average {answers:.3g}) "
                      "share its weight." if answers > 1 else ""))
    return section("classes", "Class by class", f'<div class="two"><div>{left}</div><div>{right}</div></div>')


def scores_table(report: Report) -> str:
    pooled = metrics.score(report.clips.y_true, report.clips.y_pred, report.clips.prob, report.clips.weight())
    fields = (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy"), ("precision", "macro precision"),
              ("recall", "macro recall"), ("f1", "macro F1"), ("auroc", "AUROC"))
    rows = []
    for field, name in fields:
        several = chance.values_of(report.people, field) if field in ("balanced_accuracy", "auroc") else None
        each = [value for person in report.people if (value := person.mean(field)) is not None] if several is None else several
        over = "" if len(each) == len(report.people) else f" ({len(each)} people)"
        # scores of different folds have different scales, so AUROC over all of them would be another, biased thing
        together = "" if field == "auroc" else percent(getattr(pooled, field))
        rows.append((name, plus_minus(*metrics.mean_std(each)) + over, _between(each), together))
    lost = _with_lost(report)
    rows.insert(1, ("accuracy, lost = wrong", plus_minus(*metrics.mean_std(lost)), _between(lost), ""))
    brier = [value for person in report.people if (value := person.mean("brier")) is not None]
    mean, std = metrics.mean_std(brier)
    rows.append(("Brier score, 0 to 2", f"{mean:.3f}" + (f"{PM}{std:.3f}" if std is not None else ""), "",
                 f"{pooled.brier:.3f}"))
    return table(("in %", "mean ± std over people", "95 % interval", "all clips pooled"), rows)


def _between(values: Sequence[float]) -> str:
    found = interval(values)[0]
    return f"{percent(found[0])} to {percent(found[1])}" if found else ""


def _with_lost(report: Report) -> list[float]:
    """Accuracy with lost clips counted as wrong, by test person, seeds averaged; 0 for a person who lost every clip."""
    right: dict[str, dict[int, list[int]]] = {}
    for fold in report.folds:
        people = fold.subjects
        lost = fold.quarantined_by_subject or ({people[0]: fold.n_quarantined} if len(people) == 1 else {})
        for row in fold.predictions:
            right.setdefault(row.subject, {}).setdefault(fold.seed, []).append(row.y_true == row.y_pred)
        for person, n in lost.items():
            right.setdefault(person, {}).setdefault(fold.seed, []).extend([0] * n)
    return [float(np.mean([np.mean(own) for own in seeds.values() if own])) for seeds in right.values() if any(seeds.values())]


def calibration_section(report: Report) -> str:
    if not report.values:
        return ""
    weight = report.clips.weight()
    found = metrics.reliability(report.clips.y_true, report.clips.prob, weight=weight)
    sure = float(np.average(report.clips.prob.max(axis=1), weights=weight))
    right = float(np.average(report.clips.prob.argmax(axis=1) == report.clips.y_true, weights=weight))
    tilt = "more sure than it is right" if sure > right + 0.02 else (
        "less sure than it could be" if sure < right - 0.02 else "about as sure as it is right")
    said = [f"On average the model was {percent(sure)} % sure, and right for {percent(right)} %: it is {tilt}.",
            f"The expected calibration error is {percent(found.ece)} points: over all clips, how far the stated "
            "certainty was from the share that was right (10 bins, all folds pooled)."]
    beside = words(said) + note("On the dashed line, certainty is honest. Below it, the model promises too much.")
    return section("calibration", "Does it know when it does not know?",
                   f'<div class="two"><div>{plots.reliability_plot(found)}</div><div>{beside}</div></div>')


def seeds_section(report: Report) -> str:
    found = report.variance
    parts = (("between people (clips and seeds taken out)", found.between_people),
             ("same person, other clips of the same classes", found.clips_within_person),
             ("same person and clips, another training seed", found.seed_within_person),
             ("mean of the whole run, another training seed", found.seed_of_mean),
             ("same person and clips, another pretraining seed", found.pretraining_within_person),
             ("mean of the whole run, another pretraining seed", found.pretraining_of_mean))
    rows = [(name, percent(value)) for name, value in parts if value is not None]
    if not rows:
        return ""
    said = f"From {found.n_people} people" + (f" with all {found.n_seeds} seeds." if found.n_seeds > 1 else " and one seed.")
    if found.p_between is not None:
        differ = "People differ by more than the clips that happened to be sampled explain" if found.p_between < chance.ALPHA \
            else "That people differ at all, beyond which clips happened to be sampled, is not shown"
        said += f" {differ} (F test, {chance.p_words(found.p_between)})."
    if found.seed_within_person is not None:
        said += (" A training seed moves the estimator's own random numbers, if it draws any."
                 if report.summary["model"] in ESTIMATORS else
                 " A training seed moves initial weights, batches and the inner validation people; encoders and groups stay.")
    if found.pretraining_within_person is not None:
        trained = any(encoder["subjects"] for encoder in encoders_of(report.run))
        said += (" A pretraining seed draws the groups and trains the encoders anew." if trained else
                 " A pretraining seed draws the random weights anew.")
    return section("seeds", "Variance components", table(("standard deviation of accuracy, in points", ""), rows) + note(said))


def losses_section(report: Report) -> str:
    lost = report.run.get("quarantine") or {}
    by_class = {name: pair for name, pair in lost_by_class(report).items() if pair[1]}
    if not any(pair[0] for pair in by_class.values()) and not any(lost.values()):
        return section("lost", "What was lost", note("No clip was lost on the way.")) if report.folds else ""
    of = {person: sum(own.values()) for person, own in (report.run.get("clips") or {}).items()}
    parts = ["<div>" + table(("class", "lost", "of", "%"), [(name, n, total, percent(n / total)) for name, (n, total)
                                                            in by_class.items()])]
    if lost.get("by_reason"):
        parts.append("<h3>Why</h3>" + table(("reason", "clips"), _most(lost["by_reason"])))
    parts.append("</div>")
    if lost.get("by_subject"):
        rows = [(name, n, of.get(name, "-"), percent(n / of[name]) if of.get(name) else "-")
                for name, n in _most(lost["by_subject"])[:20]]
        more = len([n for n in lost["by_subject"].values() if n]) - len(rows)
        parts.append("<div>" + table(("person", "lost", "of", "%"), rows)
                     + (note(f"and {more} more people") if more > 0 else "") + "</div>")
    return section("lost", "What was lost",
                   f'<div class="two">{"".join(parts)}</div>'
                   + note("A lost clip is one that could not be used, for example because a file is damaged or no face was "
                          "found. A face lost at the highest pain level is not lost at random: heads turn and grimace. That is "
                          "why the accuracy is also given with lost clips counted as wrong."))


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, n) for name, n in counts.items() if n), key=lambda pair: (-pair[1], pair[0]))


def lineage_section(report: Report) -> str:
    figure = plots.roles_plot(report.folds, encoders_of(report.run)) if report.folds else ""
    return section("lineage", "Who has seen whom", words(lineage_words(report)) + figure)


def audit_section(report: Report) -> str:
    rows = report.run.get("audit") or []
    if not rows:
        return ""
    body = table(("question", "verdict", "what was found"), [(r["question"], r["verdict"], r["text"]) for r in rows], left=3)
    return section("audit", "Leakage canaries", body + note(
        "Asked of this run's own data, model and folds (first seed). A canary that fails means that something of the test "
        "people reaches training; one that is unclear proves nothing either way."))


def curves_section(report: Report) -> str:
    curves = report.run.get("curves") or []
    if not curves:
        return ""
    body = plots.curves_plot(curves) + words(quality.words(report.run.get("quality") or []))
    return section("pretraining", "Pretraining", body + note("No labels are used in pretraining."))


def published_section(report: Report) -> str:
    run, summary = report.run, report.summary
    known, absent = beside_run(run)
    beside = run.get("beside") or []
    if not known and not absent and not beside:
        return ""
    ours = [our_row(summary), *map(our_row, beside)]
    theirs = [(a.name, a.inputs, f"{a.accuracy:.2f}" + (f"{PM}{a.std:.2f}" if a.std is not None else ""), a.chosen)
              for a in known]
    body = table(("method", "inputs", "accuracy %", "how it was chosen"), ours + theirs, left=4,
                 ours=range(len(ours)))
    body += gap_words(run.get("optimism"))
    body += "".join(map(note, absent))
    if known:
        body += note("These are not the same thing, whatever the digits say: where the epoch was chosen by looking at "
                     "the person or set that is reported, the number is not one for people never seen. "
                     + NOTES.get(run["dataset"], ""))
    return section("published", "Beside published numbers" if known or absent else "Beside another protocol", body)


def our_row(summary: Mapping) -> tuple[str, str, str, str]:
    protocol = {"clean": "stopping decided on other people than the test person",
                "exclude_pretrain": "stopping decided on other people; pretraining people are not tested",
                "as_paper": "on the test person itself, as the paper's code does (leaky on purpose)"}
    if summary["model"] in ESTIMATORS:
        alone = "no epoch to choose; fitted and scaled without the test person"
        protocol = {"clean": alone, "exclude_pretrain": alone,
                    "as_paper": "no epoch to choose; scaled with the test person's clips too (leaky on purpose)"}
    elif summary.get("folds") and not any(fold["val_subjects"] for fold in summary["folds"]):
        fixed = "a number of epochs that was fixed beforehand"
        protocol |= {"clean": fixed, "exclude_pretrain": f"{fixed}; pretraining people are not tested"}
    return (f"this run, {summary['model']}", str(summary["encoder"] or "-"),
            plus_minus(summary["accuracy_mean"], summary["accuracy_std"]),
            f"{summary['protocol']}: {protocol.get(summary['protocol'], '')}")


def gap_words(pair: Mapping | None) -> str:
    if pair is None:
        return ""
    between = " (95 % interval {:+.1f} to {:+.1f})".format(*(100 * end for end in pair["gap_ci95"])) if pair["gap_ci95"] else ""
    alone = f", {pair['n_left_out']} tested by one run alone" if pair["n_left_out"] else ""
    return note(f"Same model, paired over {pair['n_people']} people{alone}: the leaky protocol reports "
                f"{100 * pair['gap']:+.1f} points{between}. {' '.join(optimism_words(pair))}")


def choices_section(report: Report) -> str:
    rows = choices(report.run, report.folds)
    if not rows:
        return ""
    return section("choices", "Where the paper and the default differ",
                   table(("what", "paper", "our default", "what ran here"), rows, left=4))


def folds_section(report: Report) -> str:
    rows = [(f["fold"], f["seed"], _short(f["subject"]), f["n_test"], f["n_quarantined"], percent(f["accuracy"]),
             percent(f["accuracy_with_quarantined"]), percent(f["macro_f1"]),
             "-" if f["epochs"] is None else f["epochs"], len(f["train_subjects"]), len(f["val_subjects"]),
             (f["weights_sha256"] or "-")[:8])
            for f in report.summary["folds"]]
    body = table(("fold", "seed", "test person", "clips", "lost", "accuracy %", "lost = wrong %", "macro F1 %",
                  "epochs", "train", "val", "weights"), rows, left=3)
    if any(fold.refit for fold in report.folds):
        body += note("Train: people of the fit that chose the epoch; the model that is scored was then fitted on these and on "
                     "the validation people.")
    if failed := report.run.get("failed_folds"):
        body += "<h3>Failed</h3>" + table(("fold", "seed", "reason"), [(f["fold"], f["seed"], no_paths(f["reason"]))
                                                                       for f in failed], left=3)
    return section("folds", "Every fold", body)


def _short(subject: str) -> str:
    return subject if "+" not in subject else f"{subject.count('+') + 1} people"


def made_section(report: Report) -> str:
    run, summary = report.run, report.summary
    facts = [("data set", run["dataset"]), ("task", f"{run['task']}: {', '.join(report.names)}"),
             ("model", run["model"]), ("video encoder", run["encoder"] or "-"),
             ("parameters", f"{run['n_parameters']:,}" if run["n_parameters"] else "-"),
             ("protocol", run["protocol"]), ("seeds", ", ".join(map(str, run["seeds"]))),
             ("folds", f"{summary['n_folds']} of {summary['n_planned']}"), ("time", _duration(run["wall_s"])),
             ("commit", f"{(run['git_commit'] or '-')[:12]}{' (with changes)' if run['dirty'] else ''}"),
             ("pseudonym key", run["key_fingerprint"])]
    versions = [(name, run["versions"][name]) for name in sorted(run["versions"] or {})]
    tables = table(("this run", ""), facts, left=2) + table(("version of", ""), versions, left=2)
    body = f'<div class="two facts">{tables}</div>'
    if run.get("notes"):
        body += "<h3>Notes on the data</h3>" + words(map(no_paths, run["notes"]))
    config = yaml.safe_dump(_without_places(run["config"]), sort_keys=True) if run.get("config") else None
    command = re.sub(r"=\S*/\S*", "=(path)", run.get("command") or "")
    for title, value in (("Plan", run.get("plan")), ("Command", command), ("Configuration", config)):
        if value:
            body += f"<h3>{title}</h3><pre>{text(value.rstrip())}</pre>"
    return section("made", "How it was made", body)


def no_paths(value: str) -> str:
    """A report may travel; where things lie on somebody's machine may not."""
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
