"""What the numbers of a run mean in words, and what a careful reader should be warned of.

Everything is derived from the ledger and the summary; each function returns plain sentences (no markup).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.pretraining import quality
from orchestrator.reporting.summary import draws_words, percent
from orchestrator.scores import chance, metrics
from orchestrator.scores.results import (
    Clips,
    Fold,
    Person,
    Run,
    answers_of,
    clips_of,
    in_order,
    lost_of,
    people_of,
    seed_table,
)


class Report:
    """One run, with what several sections need computed once."""

    def __init__(self, run: Run, folds: Sequence[Fold], summary: Mapping[str, Any]):
        self.run, self.folds, self.summary = run, in_order(folds), summary
        self.names = tuple(run["class_names"])

    @cached_property
    def people(self) -> list[Person]:
        return people_of(self.folds, len(self.names))

    @cached_property
    def clips(self) -> Clips:
        return clips_of(self.folds, len(self.names))

    @cached_property
    def values(self) -> list[float]:
        return [value for person in self.people if (value := person.mean("accuracy")) is not None]

    @cached_property
    def variance(self) -> metrics.Variance:
        seeds, of = sorted({fold.seed for fold in self.folds}), self.run.get("seed_of") or {}
        pretraining = [of[str(seed)]["pretrain"] for seed in seeds] if all(str(seed) in of for seed in seeds) else None
        return metrics.variance_parts(seed_table(self.people), answers_of(self.folds, len(self.names)), pretraining)


def count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def people(n: int) -> str:
    return count(n, "person", "people")


def lost_by_class(report: Report) -> dict[str, tuple[int, int]]:
    """{class: (lost, of)}. From the whole cohort where the caller gave it, else from the test clips of one seed."""
    lost, clips = (report.run.get("quarantine") or {}).get("by_class"), report.run.get("clips")
    if lost is not None and clips:
        of = {name: sum(own.get(name, 0) for own in clips.values()) for name in report.names}
        return {name: (lost.get(name, 0), of[name]) for name in report.names if of[name]}
    if not report.folds:
        return {}
    first = [fold for fold in report.folds if fold.seed == report.folds[0].seed]
    used = np.bincount(clips_of(first, len(report.names)).y_true, minlength=len(report.names))
    gone = {name: sum(lost_of(fold, k, name) for fold in first) for k, name in enumerate(report.names)}
    return {name: (gone[name], int(used[k]) + gone[name]) for k, name in enumerate(report.names)}


def plain_words(report: Report) -> list[str]:
    """The headline in words for a reader who knows no statistics."""
    summary, n_classes = report.summary, len(report.names)
    mean = summary["accuracy_mean"]
    if mean is None:
        return ["No fold finished, so there is no number."]
    before = "On people who were partly known to it" if summary["leaky"] else "On a person it has never seen"
    said = [f"{before}, the model names the right one of {n_classes} classes for about {100 * mean:.0f} of 100 clips; "
            f"guessing would be right for {100 * summary['chance_uniform']:.0f}, and always giving the answer that is most "
            f"frequent in training for {100 * summary['majority_baseline']:.0f}."]
    spread = f"By person it is right for {percent(min(report.values))} to {percent(max(report.values))} %"
    said.append(f"{spread}; {_people_above(report)}")
    if over := draws_words(summary):
        again = summary["draws"]["n_more_than_once"]
        twice = f" {people(again)} in several test sets weigh{'s' if again == 1 else ''} once in the mean over people."
        said.append(f"{over[0].upper()}{over[1:]}: the number to hold beside one of a fixed split or of folds."
                    + (twice if again else ""))
    return said + verdict_sentences(report)


def _people_above(report: Report) -> str:
    """How many people are above chance on the metric that speaks, and how many guessing alone would put there."""
    summary, metric = report.summary, report.summary["verdict"]["metric"]
    values, bar = np.round(chance.values_of(report.people, metric), 9), 0.5 if metric == "auroc" else summary["chance"]
    above, at = int((values > bar + 1e-9).sum()), int((abs(values - bar) <= 1e-9).sum())
    name = "an AUROC above 50" if metric == "auroc" else f"an accuracy above {percent(bar)} %"
    exactly = f" ({at} exactly at it)" if at else ""
    if metric == "auroc":
        return f"{above} of {people(len(values))} have {name}{exactly}, where guessing alone puts about half."
    n = Counter(report.clips.subject)
    lucky, even = chance.expected_by_guessing([n[person.subject] for person in report.people], bar)
    tied = f" and {even:.1f} exactly at it" if even >= 0.05 else ""
    return (f"{above} of {people(len(values))} have {name}{exactly}, where guessing every clip at that rate would put "
            f"{lucky:.1f} above{tied}.")


def verdict_sentences(report: Report) -> list[str]:
    """Whether the run is above chance, by the metric that speaks and its test over people (chance.py)."""
    summary = report.summary
    found, bar = summary["verdict"], chance.level(chance.label_shares(report.clips, len(report.names)),
                                                  summary["majority_baseline"])
    areas = metric_words(summary, "auroc")
    if found["metric"] == "auroc":
        said = f"Always giving one answer is right for {percent(bar)} % here, so accuracy cannot tell and AUROC speaks: {areas}"
        against = "50"
    else:
        best = summary["chance"] < bar - 5e-4
        against = percent(bar) + (" (the best single answer for these clips)" if best else "")
        said = f"Accuracy {metric_words(summary, 'accuracy')}"
    if found["above_chance"] is None:
        return ["No verdict: whoever is tested here has had a part in training, scaling or the choice of the epoch, so that "
                "being above chance would prove nothing." if summary["leaky"] else
                f"No verdict: fewer than {chance.FEWEST} people have a value of their own to judge by."]
    n = len(chance.values_of(report.people, found["metric"]))
    least = f", the least that {n} people can show" if found["p"] <= 0.5**n else ""
    test = (f"(one-sided t test over people, corrected for shared training, {chance.p_words(found['p'])}{least}; \"above\" is "
            f"said below {chance.ALPHA})")
    if found["above_chance"]:
        return [f"{said} is above chance, {against} {test}."]
    ends = summary[f"{found['metric']}_ci95"]
    if ends and ends[1] < (0.5 if found["metric"] == "auroc" else summary["chance"]):
        alone = " Where a person has one label only, leaving them out tips the training majority away from it." \
            if (chance.label_shares(report.clips, len(report.names)) == 1).any(axis=1).all() else ""
        return [f"{said}: the whole 95 % interval lies below chance, which calls for an explanation.{alone}"]
    return [f"{said} is not shown to be above chance, {against} {test}: this run does not show that the model has learnt "
            "anything that carries over to new people."]


def metric_words(summary: Mapping[str, Any], metric: str) -> str:
    ends = summary[f"{metric}_ci95"]
    between = f" (95 % interval {percent(ends[0])} to {percent(ends[1])})" if ends else ""
    return f"{percent(summary[f'{metric}_mean'])}{between}"


def warnings(report: Report) -> list[str]:
    """Everything in this run that should make a reader careful, most serious first."""
    run, summary, said = report.run, report.summary, []
    if summary["n_folds"] < summary["n_planned"]:
        said.append(f"The mean stands on {summary['n_folds']} of {summary['n_planned']} planned folds; "
                    f"{summary['n_failed']} failed.")
    if not_asked := run.get("n_not_asked"):  # a mean over the folds that somebody picked is another number
        asked = run["n_planned"] // len(run["seeds"])
        said.append(f"max_folds: only {asked} of the {asked + not_asked} test folds were asked for; the others' people are in "
                    "no mean.")
    if overlapping := [fold.fold for fold in report.folds if used_in_training(fold)]:
        said.append(f"In {count(len(overlapping), 'fold')} the test person is also a training or validation person, or "
                    "in the scale.")
    if failed := [row["name"] for row in run.get("audit") or [] if row["verdict"] == "FAILED"]:
        said.append(f"Leakage canaries failed: {', '.join(failed)}. Do not use the number.")
    if opened := [fold.fold for fold in report.folds if fold.test_openings not in (None, 1)]:
        said.append(f"Test data was opened more than once in {count(len(opened), 'fold')}.")
    if run.get("synthetic", run["dataset"] == "synthetic"):
        said.append("The people are synthetic. The run shows that the program works, and nothing about pain.")
    if (run.get("config") or {}).get("scale") == "subject_z":
        said.append("Transductive: signals are scaled by all clips of their own person, the test person's included; no label "
                    "is used. A person of whom one clip is there would be scaled otherwise.")
    if report.values and len(report.values) < metrics.T_BELOW:
        said.append(f"Only {len(report.values)} people: the interval is Student's t and wide, and assumes that "
                    "accuracies over people are roughly bell-shaped.")
    if len(report.values) > 1 and max(report.values) == min(report.values):
        said.append("Everybody's accuracy is the same, so that the interval has no width: that is no certainty.")
    if len(report.clips.y_pred) and len(np.unique(report.clips.y_pred)) == 1:
        said.append(f"The model answered {report.names[report.clips.y_pred[0]]} for every clip.")
    one_sided = sum(len({row.y_pred for row in fold.predictions}) == 1 < len({row.y_true for row in
                                                                                    fold.predictions})
                    for fold in report.folds)
    if one_sided:
        said.append(f"In {count(one_sided, 'fold')} the model gave one and the same answer to every clip.")
    never = [name for k, name in enumerate(report.names) if report.folds and k not in report.clips.y_true]
    said += [f"No test clip of class {name} was scored." for name in never]
    said += _absent(report, set(never))
    if without := [p for p in report.people if p.mean("auroc") is None]:
        said.append(f"No balanced accuracy and no AUROC of {people(len(without))} of {len(report.people)}, whose clips are all "
                    "of one class.")
    said += _lost_unevenly(report)
    said += quality.warnings(run.get("quality") or [])
    if run.get("dirty"):
        said.append("The code had changes that are not in the named commit.")
    own = Counter(text for fold in report.folds for text in fold.warnings)
    return said + [f"In {count(n, 'fold')}: {text}." for text, n in sorted(own.items())]


def _absent(report: Report, never: set[str]) -> list[str]:
    """A class that a person has no usable clip of: scores over classes mean less there."""
    said = []
    for k, name in enumerate(report.names):
        without = [p.subject[:6] for p in report.people if not (report.clips.y_true[report.clips.subject == p.subject]
                                                                == k).any()]
        if without and name not in never:
            shown = ", ".join(without[:6]) + (" and others" if len(without) > 6 else "")
            said.append(f"No usable clip of class {name} from {people(len(without))} ({shown}).")
    return said


def _lost_unevenly(report: Report) -> list[str]:
    """The class that lost most against the one that lost least (Fisher's exact test as a screen, no more than that)."""
    counts = {name: pair for name, pair in lost_by_class(report).items() if pair[1]}
    if len(counts) < 2:
        return []
    rates = {name: lost / of for name, (lost, of) in counts.items()}
    worst, least = max(rates, key=lambda n: rates[n]), min(rates, key=lambda n: rates[n])
    table = [[counts[name][0], counts[name][1] - counts[name][0]] for name in (worst, least)]
    if stats.fisher_exact(table).pvalue >= 0.05:
        return []
    return [f"Clips are lost unevenly: {percent(rates[worst])} % of class {worst}, but {percent(rates[least])} % of "
            f"{least}. Read the accuracy with lost clips counted as wrong."]


def used_in_training(fold: Fold) -> set[str]:
    """Test people who trained, chose the epoch or, under the leaky protocol, are in the scale."""
    own = set(fold.subjects)
    return own if fold.leaky else own & {*fold.train_subjects, *fold.val_subjects}


def shared_training(folds: Sequence[Fold]) -> float | None:
    """Mean over pairs of folds (first seed) of the share they have in common (Jaccard) of the people their models were fitted
    on in the end, after a refit the inner validation people too."""
    first = [fold.fitted_people() for fold in folds if fold.seed == folds[0].seed]
    shares = [len(a & b) / len(a | b) for a, b in combinations(first, 2) if a | b]
    return metrics.mean_std(shares)[0]


def lineage_words(report: Report) -> list[str]:
    """Who each part has seen."""
    folds = report.folds
    if not folds:
        return ["No fold finished."]

    def sizes(name: str) -> str:
        counts = sorted({len(getattr(fold, name)) for fold in folds})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    tested = sorted({len(fold.subjects) for fold in folds})
    many = "one person" if tested == [1] else people(tested[0]) if len(tested) == 1 else \
        f"{tested[0]} to {tested[-1]} people"
    clean = not any(used_in_training(fold) for fold in folds)
    stop, epochs = "nobody had to decide when to stop", any(fold.epochs for fold in folds)
    if not epochs and not clean:
        stop = "it has no epochs to choose, so that of the leaks only the scale over everybody is left"
    elif any(used_in_training(fold) & set(fold.val_subjects) for fold in folds):
        stop = "the test person itself decided when to stop"
    elif any(fold.val_subjects for fold in folds):
        stop = f"{sizes('val_subjects')} more decided when to stop" if epochs else \
            f"it has no epochs to choose, so the {sizes('val_subjects')} inner validation people trained it too"
    said = [f"Each fold tests {many}. Its classifier was trained on {sizes('train_subjects')} people; {stop}.",
            "In no fold is the test person among its training or validation people." if clean else
            "The test person IS among the people who trained, or chose the epoch or the scale, in some or all folds."]
    if report.run.get("refit") and not report.run["leaky"] and epochs:
        said.insert(1, "Then it was trained again on all of these together, for the number of epochs found.")
    if clean and all(fold.test_openings == 1 for fold in folds):
        said.append("The test clips of every fold were opened once, after everything had been decided.")
    said += _encoder_words(report)
    share = shared_training(folds)
    if share is not None:
        said.append(f"Folds share training people: two folds have {percent(share, 0)} % of theirs in common on "
                    "average. The accuracies of two people are therefore not quite independent, and the interval is "
                    "approximate.")
    return said


def _encoder_words(report: Report) -> list[str]:
    serves: dict[str, list[Fold]] = {}
    for fold in report.folds:
        if fold.encoder_sha256:
            serves.setdefault(fold.encoder_sha256, []).append(fold)
    said = []
    for encoder in encoders_of(report.run):
        folds = serves.get(encoder["sha256"] or "", [])
        met = {person for fold in folds for person in fold.subjects} & encoder["subjects"]
        text = f"{encoder['name']} was pretrained on {people(len(encoder['subjects']))}"
        if folds:
            text += f" and serves {len(folds)} folds; " + (
                f"it HAS SEEN {len(met)} of their test people" if met else
                "it has seen none of their test people" if encoder["proven"] else
                "whom else it has seen is not known")
        said.append(text[0].upper() + text[1:] + ".")
    return said


def encoders_of(run: Run) -> list[dict[str, Any]]:
    """[{name, sha256, subjects, proven}]: who each encoder has seen, parents included, by pseudonym."""
    def everyone(lineage: Mapping[str, Any]) -> set[str]:
        return set(lineage["people"]).union(*(everyone(parent) for parent in lineage.get("parents") or []))

    def proven(lineage: Mapping[str, Any]) -> bool:
        return lineage.get("proven", True) and all(proven(parent) for parent in lineage.get("parents") or [])

    return [{"name": lineage["artefact"], "sha256": lineage.get("sha256"), "proven": proven(lineage),
             "subjects": {person.rpartition("/")[2] for person in everyone(lineage)}}
            for lineage in run.get("lineage") or []]
