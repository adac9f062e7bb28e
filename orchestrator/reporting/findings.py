"""The results of a run in words, and its warnings.

Everything is derived from the ledger and the summary; each function returns plain sentences (no markup).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import scipy  # which imports its parts when they are used

from orchestrator.pretraining import quality
from orchestrator.reporting.controls import doubts
from orchestrator.reporting.summary import draws_words, percent
from orchestrator.scores import chance, metrics
from orchestrator.scores.results import (
    Clips,
    Fold,
    Run,
    SubjectScores,
    clips_of,
    correct_clips_of,
    excluded_of,
    in_order,
    seed_table,
    subject_scores,
)


class Report:
    """One run, with cached values that several sections need."""

    def __init__(self, run: Run, folds: Sequence[Fold], summary: Mapping[str, Any]):
        self.run, self.folds, self.summary = run, in_order(folds), summary
        self.names = tuple(run["class_names"])

    @cached_property
    def subjects(self) -> list[SubjectScores]:
        return subject_scores(self.folds, len(self.names))

    @cached_property
    def clips(self) -> Clips:
        return clips_of(self.folds, len(self.names))

    @cached_property
    def values(self) -> list[float]:
        return [value for subject in self.subjects if (value := subject.mean("accuracy")) is not None]

    @cached_property
    def variance(self) -> metrics.Variance:
        seeds, of = sorted({fold.seed for fold in self.folds}), self.run.get("seed_of") or {}
        pretraining = [of[str(seed)]["pretrain"] for seed in seeds] if all(str(seed) in of for seed in seeds) else None
        return metrics.variance_parts(seed_table(self.subjects), correct_clips_of(self.folds, len(self.names)), pretraining)


def count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def subjects(n: int) -> str:
    return count(n, "subject", "subjects")


def excluded_by_class(report: Report) -> dict[str, tuple[int, int]]:
    """{class: (excluded clips, all clips)}: of the whole cohort if the caller gave it, else the test clips of one seed."""
    excluded, clips = (report.run.get("quarantine") or {}).get("by_class"), report.run.get("clips")
    if excluded is not None and clips:
        of = {name: sum(own.get(name, 0) for own in clips.values()) for name in report.names}
        return {name: (excluded.get(name, 0), of[name]) for name in report.names if of[name]}
    if not report.folds:
        return {}
    first = [fold for fold in report.folds if fold.seed == report.folds[0].seed]
    used = np.bincount(clips_of(first, len(report.names)).y_true, minlength=len(report.names))
    excluded = {name: sum(excluded_of(fold, k, name) for fold in first) for k, name in enumerate(report.names)}
    return {name: (excluded[name], int(used[k]) + excluded[name]) for k, name in enumerate(report.names)}


def plain_words(report: Report) -> list[str]:
    """The main result in words, for readers without statistics."""
    summary, n_classes = report.summary, len(report.names)
    mean = summary["accuracy_mean"]
    if mean is None:
        return ["No fold finished, so there is no result."]
    whom = "subjects that had a part in its training" if summary["leaky"] else "unseen subjects"
    said = [f"On {whom}, the model predicts the right one of {n_classes} classes for about {100 * mean:.0f} of 100 clips. "
            f"Uniform guessing would be right for {100 * summary['chance_uniform']:.0f}, and the majority baseline (always "
            f"predicting the most frequent class of the training subjects) for {100 * summary['majority_baseline']:.0f}."]
    spread = f"The accuracy of single subjects is {percent(min(report.values))} to {percent(max(report.values))} %"
    said.append(f"{spread}; {_subjects_above(report)}")
    if over := draws_words(summary):
        again = summary["draws"]["n_more_than_once"]
        twice = f" {subjects(again)} in several test sets count{'s' if again == 1 else ''} once in the mean over subjects."
        said.append(f"Accuracy {over}. Compare this number with other results of a fixed split or of folds."
                    + (twice if again else ""))
    return said + verdict_sentences(report)


def _subjects_above(report: Report) -> str:
    """How many subjects are above chance in the metric of the verdict, and the expected number for guessing."""
    summary, metric = report.summary, report.summary["verdict"]["metric"]
    values, bar = np.round(chance.values_of(report.subjects, metric), 9), 0.5 if metric == "auroc" else summary["chance"]
    above, at = int((values > bar + 1e-9).sum()), int((abs(values - bar) <= 1e-9).sum())
    name = "an AUROC above 50" if metric == "auroc" else f"an accuracy above {percent(bar)} %"
    exactly = f" ({at} exactly at it)" if at else ""
    if metric == "auroc":
        return f"{above} of {subjects(len(values))} have {name}{exactly}, where guessing would put about half."
    n = Counter(report.clips.subject)
    guessed, even = chance.expected_by_guessing([n[subject.subject] for subject in report.subjects], bar)
    tied = f" and {even:.1f} exactly at it" if even >= 0.05 else ""
    return (f"{above} of {subjects(len(values))} have {name}{exactly}, where guessing every clip at that rate would put "
            f"{guessed:.1f} above{tied}.")


def verdict_sentences(report: Report) -> list[str]:
    """Whether the run is above chance: the metric of the verdict and its test over subjects (chance.py)."""
    summary = report.summary
    found, bar = summary["verdict"], chance.level(chance.label_shares(report.clips, len(report.names)),
                                                  summary["majority_baseline"])
    areas = metric_words(summary, "auroc")
    if found["metric"] == "auroc":
        said = (f"Always predicting one class is right for {percent(bar)} % of the clips, so the test uses AUROC instead of "
                f"accuracy: AUROC {areas}")
        against = "50"
    else:
        best = summary["chance"] < bar - 5e-4
        against = percent(bar) + (" (always predicting the class that is best for these clips)" if best else "")
        said = f"Accuracy {metric_words(summary, 'accuracy')}"
    if found["above_chance"] is None:
        return ["No verdict: the test subjects were used in training, scaling or the choice of the epoch, so a result above "
                "chance would prove nothing." if summary["leaky"] else
                f"No verdict: fewer than {chance.FEWEST} subjects have a value for the test."]
    n = len(chance.values_of(report.subjects, found["metric"]))
    least = f", the smallest p that {n} subjects can give" if found["p"] <= 0.5**n else ""
    test = (f"(one-sided t test over subjects, corrected for shared training, {chance.p_words(found['p'])}{least}; level "
            f"{chance.ALPHA})")
    if found["above_chance"]:
        return [f"{said} is above chance, {against} {test}."]
    ends = summary[f"{found['metric']}_ci95"]
    if ends and ends[1] < (0.5 if found["metric"] == "auroc" else summary["chance"]):
        alone = " Where a subject has one label only, leaving the subject out makes that label rarer in training." \
            if (chance.label_shares(report.clips, len(report.names)) == 1).any(axis=1).all() else ""
        return [f"{said}: the whole 95 % interval is below chance. Look for the cause.{alone}"]
    return [f"{said} is not shown to be above chance, {against} {test}: this run does not show that the model "
            "generalises to new subjects."]


def metric_words(summary: Mapping[str, Any], metric: str) -> str:
    ends = summary[f"{metric}_ci95"]
    between = f" (95 % interval {percent(ends[0])} to {percent(ends[1])})" if ends else ""
    return f"{percent(summary[f'{metric}_mean'])}{between}"


def warnings(report: Report) -> list[str]:
    """What limits the result of this run, most serious first."""
    run, summary, said = report.run, report.summary, []
    if summary["n_folds"] < summary["n_planned"]:
        said.append(f"The mean is over {summary['n_folds']} of {summary['n_planned']} planned folds; "
                    f"{summary['n_failed']} failed.")
    if not_asked := run.get("n_not_asked"):  # a mean over selected folds is not comparable
        asked = run["n_planned"] // len(run["seeds"])
        said.append(f"max_folds: only {asked} of the {asked + not_asked} test folds were run; the subjects of the others are "
                    "in no mean.")
    if overlapping := [fold.fold for fold in report.folds if used_in_training(fold)]:
        said.append(f"In {count(len(overlapping), 'fold')} the test subject was also used for training, validation or "
                    "scaling.")
    if failed := [row["name"] for row in run.get("audit") or [] if row["verdict"] == "FAILED"]:
        said.append(f"Leakage canaries failed: {', '.join(failed)}. Do not use this result.")
    said += doubts(run.get("controls") or [])
    if opened := [fold.fold for fold in report.folds if fold.test_openings not in (None, 1)]:
        said.append(f"The test clips were read more than once in {count(len(opened), 'fold')}.")
    if run.get("synthetic", run["dataset"] == "synthetic"):
        said.append("The subjects are synthetic. This run shows that the program works, and nothing about pain.")
    if (run.get("config") or {}).get("scale") == "subject_z":
        said.append("Transductive: the signals of each subject, the test subject included, are scaled with all clips of that "
                    "subject, without labels. A subject with a single clip would be scaled differently.")
    if report.values and len(report.values) < metrics.T_BELOW:
        said.append(f"Only {len(report.values)} subjects: the interval is wide. It is Student's t and assumes that the "
                    "accuracies of subjects are about normally distributed.")
    if len(report.values) > 1 and max(report.values) == min(report.values):
        said.append("All subjects have the same accuracy, so the interval has no width. This does not mean certainty.")
    if len(report.clips.y_pred) and len(np.unique(report.clips.y_pred)) == 1:
        said.append(f"The model predicted {report.names[report.clips.y_pred[0]]} for every clip.")
    one_sided = sum(len({row.y_pred for row in fold.predictions}) == 1 < len({row.y_true for row in fold.predictions})
                    for fold in report.folds)
    if one_sided:
        said.append(f"In {count(one_sided, 'fold')} the model predicted the same class for every clip.")
    never = [name for k, name in enumerate(report.names) if report.folds and k not in report.clips.y_true]
    said += [f"No test clip of class {name} was scored." for name in never]
    said += _absent(report, set(never))
    if without := [p for p in report.subjects if p.mean("auroc") is None]:
        said.append(f"No balanced accuracy and no AUROC for {subjects(len(without))} of {len(report.subjects)}, whose clips "
                    "are all of one class.")
    said += _excluded_unevenly(report)
    said += quality.warnings(run.get("quality") or [])
    if run.get("dirty"):
        said.append("The code had uncommitted changes, so the commit below does not describe it fully.")
    own = Counter(text for fold in report.folds for text in fold.warnings)
    return said + [f"In {count(n, 'fold')}: {text}." for text, n in sorted(own.items())]


def _absent(report: Report, never: set[str]) -> list[str]:
    """Classes of which a subject has no usable clip: its means over classes are without them."""
    said = []
    for k, name in enumerate(report.names):
        without = [p.subject[:6] for p in report.subjects if not (report.clips.y_true[report.clips.subject == p.subject]
                                                                == k).any()]
        if without and name not in never:
            shown = ", ".join(without[:6]) + (" and others" if len(without) > 6 else "")
            said.append(f"No usable clip of class {name} from {subjects(len(without))} ({shown}).")
    return said


def _excluded_unevenly(report: Report) -> list[str]:
    """The class with most exclusions against the one with fewest (Fisher's exact test, as a screen only)."""
    counts = {name: pair for name, pair in excluded_by_class(report).items() if pair[1]}
    if len(counts) < 2:
        return []
    rates = {name: excluded / of for name, (excluded, of) in counts.items()}
    worst, least = max(rates, key=lambda n: rates[n]), min(rates, key=lambda n: rates[n])
    table = [[counts[name][0], counts[name][1] - counts[name][0]] for name in (worst, least)]
    if scipy.stats.fisher_exact(table).pvalue >= 0.05:
        return []
    return [f"Classes differ in excluded clips: {percent(rates[worst])} % of class {worst}, but {percent(rates[least])} % of "
            f"{least}. See also the accuracy with excluded clips as errors."]


def used_in_training(fold: Fold) -> set[str]:
    """Test subjects that were used for training, for choosing the epoch or, under the leaky protocol, for scaling."""
    own = set(fold.subjects)
    return own if fold.leaky else own & {*fold.train_subjects, *fold.val_subjects}


def shared_training(folds: Sequence[Fold]) -> float | None:
    """Mean Jaccard index of the training subjects over pairs of folds (first seed), with the inner validation subjects after
    a refit."""
    first = [fold.fitted_subjects() for fold in folds if fold.seed == folds[0].seed]
    shares = [len(a & b) / len(a | b) for a, b in combinations(first, 2) if a | b]
    return metrics.mean_std(shares)[0]


def lineage_words(report: Report) -> list[str]:
    """Which subjects each part of the run has used."""
    folds = report.folds
    if not folds:
        return ["No fold finished."]

    def sizes(name: str) -> str:
        counts = sorted({len(getattr(fold, name)) for fold in folds})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    tested = sorted({len(fold.subjects) for fold in folds})
    many = "one subject" if tested == [1] else subjects(tested[0]) if len(tested) == 1 else \
        f"{tested[0]} to {tested[-1]} subjects"
    clean = not any(used_in_training(fold) for fold in folds)
    stop, epochs = "there was no epoch to choose", any(fold.epochs for fold in folds)
    if not epochs and not clean:
        stop = "it has no epochs to choose, so the scaling over all subjects is the only leak"
    elif any(used_in_training(fold) & set(fold.val_subjects) for fold in folds):
        stop = "the epoch was chosen on the test subject"
    elif any(fold.val_subjects for fold in folds):
        stop = f"the epoch was chosen on {sizes('val_subjects')} others" if epochs else \
            f"it has no epochs to choose, so it was also trained on the {sizes('val_subjects')} inner validation subjects"
    said = [f"Each fold tests {many}. Its classifier was trained on {sizes('train_subjects')} subjects; {stop}.",
            "In no fold was the test subject used for training or validation." if clean else
            "In some or all folds the test subject WAS USED for training, for scaling or to choose the epoch."]
    if report.run.get("refit") and not report.run["leaky"] and epochs:
        said.insert(1, "Then it was trained again on all of these subjects, for the chosen number of epochs.")
    if clean and all(fold.test_openings == 1 for fold in folds):
        said.append("The test clips of every fold were read once, after all choices had been made.")
    said += _encoder_words(report)
    share = shared_training(folds)
    if share is not None:
        said.append(f"Folds share training subjects: two folds have on average {percent(share, 0)} % in common. "
                    "Therefore the accuracies of subjects are not fully independent, and the interval is approximate.")
    return said


def _encoder_words(report: Report) -> list[str]:
    serves: dict[str, list[Fold]] = {}
    for fold in report.folds:
        if fold.encoder_sha256:
            serves.setdefault(fold.encoder_sha256, []).append(fold)
    said = []
    for encoder in encoders_of(report.run):
        folds = serves.get(encoder["sha256"] or "", [])
        included = {subject for fold in folds for subject in fold.subjects} & encoder["subjects"]
        text = f"{encoder['name']} was pretrained on {subjects(len(encoder['subjects']))}"
        if folds:
            text += f" and is used in {len(folds)} folds; " + (
                f"its pretraining INCLUDES {len(included)} of their test subjects" if included else
                "none of their test subjects is among them" if encoder["proven"] else
                "the other subjects of its pretraining are not known")
        said.append(text[0].upper() + text[1:] + ".")
    return said


def encoders_of(run: Run) -> list[dict[str, Any]]:
    """[{name, sha256, subjects, proven}]: the subjects of each encoder's pretraining, parents included, by pseudonym."""
    def everyone(lineage: Mapping[str, Any]) -> set[str]:
        return set(lineage["people"]).union(*(everyone(parent) for parent in lineage.get("parents") or []))

    def proven(lineage: Mapping[str, Any]) -> bool:
        return lineage.get("proven", True) and all(proven(parent) for parent in lineage.get("parents") or [])

    return [{"name": lineage["artefact"], "sha256": lineage.get("sha256"), "proven": proven(lineage),
             "subjects": {subject.rpartition("/")[2] for subject in everyone(lineage)}}
            for lineage in run.get("lineage") or []]
