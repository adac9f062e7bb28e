"""What the leakage canaries do to a run's data, and what they must then observe. Without Ray; audit.py runs them.

Each changes the shared FoldData so that the correct result is known in advance: random labels, clips that reveal subject
and label together, a subject whose data are noise. n clips, N tokens, D width, L samples, C channels, K classes.

Shuffled labels and codes are fitted twice (a cross-over). The second time (shift 1), only the labels of the test subjects
change, each to the next class. Without a leak, no part of the fold depends on them, so every prediction is the same in
both fits. A single prediction that changes with its test label is a leak, however small. A comparison of accuracies with
chance needs 4.7 standard errors of a mean over subjects instead: 15 points or more for eight subjects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil, log
from typing import Any

import numpy as np
import scipy  # which imports its parts when they are used

from orchestrator.config.model_inputs import is_estimator
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe
from orchestrator.evaluation.guarded_rows import Rows
from orchestrator.plan.folds import Fold
from orchestrator.scores import chance
from orchestrator.scores.fold_result import FoldResult
from orchestrator.scores.results import clips_of, interval
from preprocessing.moments import Moments

SEED = 20_250_927
ALARM_P = 0.001  # one in a thousand clean runs alarms by chance, for each canary of accuracies
SURE = 0.95  # probability of detecting a leak of the size that is reported
LEARNT = 0.95  # least training accuracy: only a memorised code tests for leaks
FEWEST = 3  # subjects; with fewer, no verdict is possible
MOST_REPEATS = 20
SHIFTS = (0, 1)  # of the test subjects' labels, in classes
FITTED = ("scaler_sha256", "weights_sha256", "epochs")  # the encoder is frozen earlier and has its own canary
PASSED, FAILED, UNCLEAR = "passed", "FAILED", "unclear"


@dataclass(frozen=True)
class PerturbedRows(Rows):
    """Rows in `mask` are generated when they are read; the others come from the inner array."""

    mask: np.ndarray
    make: Callable[[int], np.ndarray]

    def __getitem__(self, rows) -> np.ndarray:
        rows = np.atleast_1d(np.asarray(rows))
        out = np.array(self.inner[rows])
        for place in np.flatnonzero(self.mask[rows]):
            out[place] = self.make(int(rows[place]))
        return out


@dataclass(frozen=True)
class Drawn:
    """Random content of one row: normal values, or bytes for images, from (seed, what, *name of the row)."""

    what: int
    names: np.ndarray  # (n, any) what a row's content depends on
    shape: tuple[int, ...]
    dtype: np.dtype

    def __call__(self, row: int) -> np.ndarray:
        rng = np.random.default_rng([SEED, self.what, *self.names[row].tolist()])
        if self.dtype == np.uint8:
            return rng.integers(0, 256, self.shape, np.uint8)
        return (3 * rng.normal(size=self.shape)).astype(self.dtype)


def shuffled(data: FoldData, repeat: int = 0) -> FoldData:
    """Labels in random order within each subject: there is nothing to learn, and the class counts stay the same."""
    labels = data.labels.copy()
    for subject in np.unique(data.subject):
        own = data.subject == subject
        labels[own] = np.random.default_rng([SEED, repeat, int(subject)]).permutation(labels[own])
    return replace(data, labels=labels)


def coded(data: FoldData, repeat: int = 0) -> FoldData:
    """All clips of a subject and class become one random code, unique to that pair: useless for other subjects."""
    return _randomised(data, np.ones(len(data.labels), bool),
                       np.stack([np.full(len(data.labels), repeat), data.subject, data.labels], 1))


def with_shifted_labels(data: FoldData, subjects: Sequence[int], shift: int = 1) -> FoldData:
    """The same data, but the labels of these subjects are shifted by `shift` classes (modulo K)."""
    own = np.isin(data.subject, subjects)
    return replace(data, labels=np.where(own, (data.labels + shift) % data.n_classes, data.labels))


def noisy(data: FoldData, subjects: Sequence[int]) -> FoldData:
    """The data of these subjects become noise, and their labels shift to another class. This replaces arrays that are
    already processed; raw_noise.py replaces the recordings themselves."""
    mask = np.isin(data.subject, subjects)
    return with_shifted_labels(_randomised(data, mask, np.arange(len(data.labels))[:, None]), subjects)


KINDS: dict[str, Callable[[FoldData, int], FoldData]] = {"shuffled": shuffled, "coded": coded}


def perturbed(kind: str, data: FoldData, fold: Fold, repeat: int, shift: int) -> FoldData:
    """The data of one canary's fit: labels shuffled or clips coded, then the test subjects' labels shifted."""
    return with_shifted_labels(KINDS[kind](data, repeat), fold.test, shift)


def recipe_of(kind: str, recipe: FoldRecipe) -> FoldRecipe:
    """The run's own recipe. The codes must be memorised, so their training does not stop early on validation subjects."""
    if kind != "coded" or is_estimator(recipe.model):
        return recipe
    return replace(recipe, fixed_epochs=True, refit=False)


def repeats(n_clips: float, n_classes: int, points: float) -> int:
    """How often the labels are shuffled, so that a leak of `points` is detected on n_clips test clips; at most MOST_REPEATS.

    If a leak changes each prediction independently with probability f, it changes at least one of n with probability SURE
    when n >= log(1 - SURE) / log(1 - f). For small f this is the rule of three (Hanley and Lippman-Hand 1983).
    """
    share = min(0.999, points / 100 / (1 - 1 / n_classes))
    return int(min(MOST_REPEATS, max(1, ceil(log(1 - SURE) / log(1 - share) / max(1.0, n_clips) - 1e-9))))


def smallest_detectable(n_clips: int, n_classes: int) -> float:
    """The smallest leak, in points of accuracy, that changes at least one of n_clips predictions with probability SURE."""
    if n_clips < 1:
        return 100.0
    return 100 * (1 - (1 - SURE) ** (1 / n_clips)) * (1 - 1 / n_classes)


def _randomised(data: FoldData, mask: np.ndarray, names: np.ndarray) -> FoldData:
    signals, moments = data.signals, dict(data.moments)
    if signals.size:
        draw, signals = Drawn(0, names, signals.shape[1:], signals.dtype), signals.copy()
        for row in np.flatnonzero(mask):
            signals[row] = draw(int(row))
        for subject in np.unique(data.subject[mask]):
            moments[int(subject)] = Moments.of(signals[data.subject == subject])
    numbers = data.numbers.copy()
    draw = Drawn(1, names, numbers.shape[1:], numbers.dtype)
    for row in np.flatnonzero(mask):
        numbers[row] = draw(int(row))
    tokens = {index: PerturbedRows(t, mask, Drawn(2, names, t.shape[1:], t.dtype)) for index, t in data.tokens.items()}
    frames = data.frames
    if frames is not None:
        frames = PerturbedRows(frames, mask, Drawn(3, names, frames.shape[1:], frames.dtype))
    return replace(data, signals=signals, moments=moments, numbers=numbers, tokens=tokens, frames=frames)


@dataclass(frozen=True)
class Crossed:
    """Comparison of the two fits. followed: by subject, the share of clips whose prediction changed with the test label.

    A clip counts (correct for its own label minus correct for the other fit's label, over both fits) / 2. This is 1 where
    both predictions are correct, and 0 where both fits predict the same class, so no estimate of chance is needed.
    """

    followed: np.ndarray
    n_clips: int
    moved: int  # clips whose probabilities are not bit-identical
    refitted: int  # folds whose scaler, weights or epochs differ


def crossed(pairs: Sequence[tuple[FoldResult, FoldResult]]) -> Crossed:
    """pairs: the ledger entries with shift 0 and shift 1, one pair per fold and repeat."""
    own: dict[str, list[float]] = {}
    moved = 0
    for first, second in pairs:
        there = {row.sample: row for row in second.predictions}
        for a in first.predictions:
            b = there[a.sample]
            gain = ((a.y_pred == a.y_true) - (b.y_pred == a.y_true)
                    + (b.y_pred == b.y_true) - (a.y_pred == b.y_true))
            own.setdefault(a.subject, []).append(gain / 2)
            moved += a.prob != b.prob
    refitted = sum(any(getattr(a, name) != getattr(b, name) for name in FITTED) for a, b in pairs)
    return Crossed(np.array([np.mean(own[name]) for name in sorted(own)]), sum(map(len, own.values())), moved, refitted)


def judge_crossed(pairs: Sequence[tuple[FoldResult, FoldResult]], n_classes: int, points: float, exact: bool,
                  learnt: bool = False) -> dict:
    """A canary that was fitted twice: test subjects must be at chance, and no prediction may depend on the test labels.

    points: the leak that must be detectable, in points of accuracy. exact: whether repeated fits are bit-identical here;
    otherwise predictions of the two fits differ at random, and the leak is a mean over subjects with its standard error.
    learnt: also report the accuracy on training subjects, which must be near 1 (codes).
    """
    found = crossed(pairs)
    n_people = len(found.followed)
    if n_people < FEWEST:
        return {"verdict": UNCLEAR, "text": f"Only {n_people} subjects were tested."}
    beside = _against_chance([a for a, _ in pairs], n_classes)
    scale = 100 * (1 - 1 / n_classes)
    leak, smallest, p = scale * float(found.followed.mean()), smallest_detectable(found.n_clips, n_classes), None
    if not exact:
        error = scale * float(found.followed.std(ddof=1)) / np.sqrt(n_people)
        df = n_people - 1
        smallest = max(smallest, float(scipy.stats.t.ppf(1 - ALARM_P, df) + scipy.stats.t.ppf(SURE, df)) * error)
        p = float(scipy.stats.t.sf(leak / error, df)) if error > 0 else float(leak <= 0)
    leaks = (found.moved > 0 or found.refitted > 0) if exact else (p is not None and p < ALARM_P)
    verdict = FAILED if leaks or beside["p"] < ALARM_P else UNCLEAR if smallest > points else PASSED
    text = beside["text"]
    text += (f" With other test labels, {found.moved} of {found.n_clips} predictions change"
             + (f", and the fitted model or scaler in {found.refitted} of {len(pairs)} folds" if found.refitted else "")
             + f": a leak of {leak:.1f} points.")
    text += (f" Smallest leak of test labels that is detected with {100 * SURE:.0f} % probability, if it affects each "
             f"prediction independently: {smallest:.1f} points")
    text += "." if smallest <= points else (f", more than the required {points:g}: test more subjects or clips, or increase "
                                            "canaries.repeats.")
    if not exact:
        text += " Repeated fits are not bit-identical here, so the two fits are compared by a test over subjects."
    result: dict[str, Any] = {"smallest_leak_points": smallest, "leak_points": leak, "n_clips": found.n_clips,
                              "accuracy": beside["accuracy"], "p": beside["p"]}
    if learnt:
        result["train_accuracy"] = float(np.mean([entry.train_accuracy for pair in pairs for entry in pair]))
        text = f"Accuracy on training subjects {100 * result['train_accuracy']:.1f} %. On test subjects: {text}"
        if verdict == PASSED and result["train_accuracy"] < LEARNT:
            verdict, text = UNCLEAR, text + " The codes were not memorised, so this test cannot exclude a leak."
    elif verdict == PASSED and not any(len({row.y_pred for row in entry.predictions}) > 1 for entry in chain(*pairs)):
        verdict, text = UNCLEAR, text + " Every fold predicts the same class for all clips: a model that learns nothing " \
                                        "cannot reveal a leak."
    return {"verdict": verdict, "text": text, **result}


def _against_chance(entries: Sequence[FoldResult], n_classes: int) -> dict:
    """Accuracy over subjects minus that of the same predictions in random order: p_o - p_e of Cohen (1960). It is 0 on average
    for any class counts, also if the model prefers one class. One-sided t test over subjects."""
    clips = clips_of(entries, n_classes)
    subjects = sorted(set(clips.subject))
    accuracy, excess = [], []
    for subject in subjects:
        own = clips.subject == subject
        truth = np.bincount(clips.y_true[own], minlength=n_classes) / own.sum()
        predicted = np.bincount(clips.y_pred[own], minlength=n_classes) / own.sum()
        accuracy.append(float((clips.y_true[own] == clips.y_pred[own]).mean()))
        excess.append(accuracy[-1] - float(truth @ predicted))
    values, n = np.array(excess), len(excess)
    # subjects that are in each other's training sets are not independent, even on noise (chance.inflation)
    error = values.std(ddof=1) * np.sqrt(chance.inflation(entries) / n) if n > 1 else 0.0
    p = float(scipy.stats.t.sf(values.mean() / error, n - 1)) if error > 1e-12 else float(values.mean() < 1e-12)
    # without variance between subjects, t has no bound: p is never below that of one random prediction per class and subject
    p = max(p, float(n_classes) ** (-n_classes * n))
    low, high = interval(accuracy)[0] or (0.0, 1.0)
    return {"accuracy": float(np.mean(accuracy)), "p": p,
            "text": f"Accuracy {100 * np.mean(accuracy):.1f} % over {len(subjects)} subjects (95 % interval {100 * low:.1f} to "
                    f"{100 * high:.1f}); the same predictions in random order reach "
                    f"{100 * (np.mean(accuracy) - values.mean()):.1f} %; one-sided p {p:.3g}."}


def judge_again(plain: FoldResult, again: FoldResult) -> dict:
    """The same fit repeated: whether the canaries may require bit-identical results."""
    names = [name for name in FITTED if getattr(plain, name) != getattr(again, name)]
    if names or [row.prob for row in plain.predictions] != [row.prob for row in again.predictions]:
        return {"verdict": UNCLEAR, "text": f"No: {', '.join(names) or 'predictions'} differ. Repeated fits are not "
                                            "bit-identical on this machine, so leaks are tested over subjects."}
    return {"verdict": PASSED, "text": "Scaler, weights, epoch and predictions are identical."}


def judge_test(plain: FoldResult, noise: FoldResult) -> dict:
    """The test subjects' recordings may change predictions and nothing else."""
    changed = [name for name in FITTED if getattr(plain, name) != getattr(noise, name)]
    if changed:
        return {"verdict": FAILED, "text": f"The test recordings changed {', '.join(changed)} of the fold."}
    if not plain.predictions or not noise.predictions:
        return {"verdict": UNCLEAR, "text": "The test subjects have no usable clip."}
    if [row.prob for row in plain.predictions] == [row.prob for row in noise.predictions]:
        return {"verdict": UNCLEAR, "text": "The predictions did not change either: the model does not use the clips."}
    return {"verdict": PASSED, "text": "Scaler, weights and epoch are bit-identical; predictions change."}


def judge_other(plain: FoldResult, noise: FoldResult) -> dict:
    """The positive control: a training subject's recordings must change the weights, else the other canaries prove nothing."""
    if plain.weights_sha256 == noise.weights_sha256:
        return {"verdict": UNCLEAR, "text": "The weights did not change: the model learnt nothing from that subject."}
    return {"verdict": PASSED, "text": "The weights change."}
