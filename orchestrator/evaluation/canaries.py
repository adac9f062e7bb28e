"""What the leakage canaries do to a run's data, and what they must then see. Ray-free; audit.py runs them.

Each changes the shared FoldData so that the answer is known beforehand: labels that mean nothing, clips that give away
person and label together, a person who is noise. n clips, N tokens, D width, L samples, C channels, K classes.

Labels and codes are fitted twice, as a cross-over: the second time (turn 1) only the test people's own labels are other
ones, each turned by one class. Without a leak nothing of the fold may notice, so that every answer is the same in both
turns; an answer that follows its label is a leak of its own, however small. Seen one by one against chance, as accuracies
have to be, it would take 4.7 standard errors of a mean over people: 15 points and more on eight.
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
SURE = 0.95  # with this probability a leak of the size that is printed would have been seen
LEARNT = 0.95  # a code that is not learnt by heart tempts nobody
FEWEST = 3  # people, below whom nothing follows
MOST_REPEATS = 20
TURNS = (0, 1)
FITTED = ("scaler_sha256", "weights_sha256", "epochs")  # the encoder is frozen before: its guard is another canary
PASSED, FAILED, UNCLEAR = "passed", "FAILED", "unclear"


@dataclass(frozen=True)
class Spoilt(Rows):
    """Some rows are made up as they are read; the rest is the inner array's."""

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
    """Made-up content of one row: normal, or bytes for pictures, from (seed, what, *name of the row)."""

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
    """Labels in random order within every person: nothing is left to be learnt, and class counts stay."""
    labels = data.labels.copy()
    for subject in np.unique(data.subject):
        own = data.subject == subject
        labels[own] = np.random.default_rng([SEED, repeat, int(subject)]).permutation(labels[own])
    return replace(data, labels=labels)


def coded(data: FoldData, repeat: int = 0) -> FoldData:
    """Every clip of a person and class becomes the same code, unique to the two: of no use for anybody else."""
    return _made_up(data, np.ones(len(data.labels), bool),
                    np.stack([np.full(len(data.labels), repeat), data.subject, data.labels], 1))


def turned(data: FoldData, people: Sequence[int], turn: int = 1) -> FoldData:
    """The same with these people's labels each `turn` classes further."""
    own = np.isin(data.subject, people)
    return replace(data, labels=np.where(own, (data.labels + turn) % data.n_classes, data.labels))


def noisy(data: FoldData, people: Sequence[int]) -> FoldData:
    """Whatever these people recorded is noise, and their labels are another class's. Noise that enters here is noise in arrays
    that are processed already: raw_noise.py lets it enter where recordings are read."""
    mask = np.isin(data.subject, people)
    return turned(_made_up(data, mask, np.arange(len(data.labels))[:, None]), people)


KINDS: dict[str, Callable[[FoldData, int], FoldData]] = {"shuffled": shuffled, "coded": coded}


def spoilt(kind: str, data: FoldData, fold: Fold, repeat: int, turn: int) -> FoldData:
    """The data of one canary's fit: labels shuffled or clips coded, then the test people's labels turned."""
    return turned(KINDS[kind](data, repeat), fold.test, turn)


def recipe_of(kind: str, recipe: FoldRecipe) -> FoldRecipe:
    """The run's own; but the code must be learnt by heart, so no validation people end its training."""
    if kind != "coded" or is_estimator(recipe.model):
        return recipe
    return replace(recipe, fixed_epochs=True, refit=False)


def repeats(n_clips: float, n_classes: int, points: float) -> int:
    """How many times the labels are shuffled, so that `points` can be seen on so many test clips; at most MOST_REPEATS.

    Each clip follows its label with probability f on its own: at least one of n does with probability SURE if
    n >= log(1 - SURE) / log(1 - f). For small f that is the rule of three (Hanley and Lippman-Hand 1983).
    """
    share = min(0.999, points / 100 / (1 - 1 / n_classes))
    return int(min(MOST_REPEATS, max(1, ceil(log(1 - SURE) / log(1 - share) / max(1.0, n_clips) - 1e-9))))


def smallest_seen(n_clips: int, n_classes: int) -> float:
    """The smallest leak, in points of accuracy, of which n_clips answers would show at least one with probability SURE."""
    if n_clips < 1:
        return 100.0
    return 100 * (1 - (1 - SURE) ** (1 / n_clips)) * (1 - 1 / n_classes)


def _made_up(data: FoldData, mask: np.ndarray, names: np.ndarray) -> FoldData:
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
    tokens = {index: Spoilt(t, mask, Drawn(2, names, t.shape[1:], t.dtype)) for index, t in data.tokens.items()}
    frames = data.frames
    if frames is not None:
        frames = Spoilt(frames, mask, Drawn(3, names, frames.shape[1:], frames.dtype))
    return replace(data, signals=signals, moments=moments, numbers=numbers, tokens=tokens, frames=frames)


@dataclass(frozen=True)
class Crossed:
    """What the two turns say together. followed: by person, the share of clips whose answer went with its label.

    A clip counts (own label's hits minus the other turn's) / 2, which is 1 where its answer is right in both turns, and 0
    where it is one and the same in both, whichever: chance needs no estimate.
    """

    followed: np.ndarray
    n_clips: int
    moved: int  # clips whose probabilities differ in any bit
    refitted: int  # folds whose scaler, weights or epochs differ


def crossed(pairs: Sequence[tuple[FoldResult, FoldResult]]) -> Crossed:
    """pairs: the ledger entries of turn 0 and turn 1, a pair a fold and repeat."""
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
    """A canary that was fitted in two turns: held-out people must be at chance, and no answer may go with its label.

    points: the leak that must be seen, in points of accuracy. exact: whether a fit repeats here to the last bit; else the
    answers of the two turns differ by chance, and the leak is a mean over people with its standard error. learnt: with the
    training people's accuracy, which must be near 1 (codes).
    """
    found = crossed(pairs)
    n_people = len(found.followed)
    if n_people < FEWEST:
        return {"verdict": UNCLEAR, "text": f"Only {n_people} people were tested."}
    beside = _against_chance([a for a, _ in pairs], n_classes)
    scale = 100 * (1 - 1 / n_classes)
    leak, smallest, p = scale * float(found.followed.mean()), smallest_seen(found.n_clips, n_classes), None
    if not exact:
        error = scale * float(found.followed.std(ddof=1)) / np.sqrt(n_people)
        df = n_people - 1
        smallest = max(smallest, float(scipy.stats.t.ppf(1 - ALARM_P, df) + scipy.stats.t.ppf(SURE, df)) * error)
        p = float(scipy.stats.t.sf(leak / error, df)) if error > 0 else float(leak <= 0)
    leaks = (found.moved > 0 or found.refitted > 0) if exact else (p is not None and p < ALARM_P)
    verdict = FAILED if leaks or beside["p"] < ALARM_P else UNCLEAR if smallest > points else PASSED
    text = beside["text"]
    text += (f" With the test people's labels exchanged {found.moved} of {found.n_clips} answers change"
             + (f", and what is fitted in {found.refitted} of {len(pairs)} folds" if found.refitted else "")
             + f": a leak of {leak:.1f} points.")
    text += (f" The smallest leak of labels that would have been seen with {100 * SURE:.0f} % probability, if it reaches "
             f"answers one by one: {smallest:.1f} points")
    text += "." if smallest <= points else (f", more than the {points:g} that are asked for: test more people or clips, or "
                                            "raise canaries.repeats.")
    if not exact:
        text += " Fits do not repeat to the last bit here, so that differences between the turns are judged over people."
    result: dict[str, Any] = {"smallest_leak_points": smallest, "leak_points": leak, "n_clips": found.n_clips,
                              "accuracy": beside["accuracy"], "p": beside["p"]}
    if learnt:
        result["train_accuracy"] = float(np.mean([entry.train_accuracy for pair in pairs for entry in pair]))
        text = f"On the people it was trained on {100 * result['train_accuracy']:.1f} %. Held out: {text}"
        if verdict == PASSED and result["train_accuracy"] < LEARNT:
            verdict, text = UNCLEAR, text + " The code was not learnt by heart, so that little follows."
    elif verdict == PASSED and not any(len({row.y_pred for row in entry.predictions}) > 1 for entry in chain(*pairs)):
        verdict, text = UNCLEAR, text + " Every fold gave one and the same answer to all clips: a model that learns nothing " \
                                        "cannot show what it was shown."
    return {"verdict": verdict, "text": text, **result}


def _against_chance(entries: Sequence[FoldResult], n_classes: int) -> dict:
    """Accuracy over people minus what the same answers in any other order would reach: p_o - p_e of Cohen (1960), 0 on average
    whatever the class counts and however one-sided the answers. One-sided t over people."""
    clips = clips_of(entries, n_classes)
    people = sorted(set(clips.subject))
    accuracy, excess = [], []
    for person in people:
        own = clips.subject == person
        truth = np.bincount(clips.y_true[own], minlength=n_classes) / own.sum()
        said = np.bincount(clips.y_pred[own], minlength=n_classes) / own.sum()
        accuracy.append(float((clips.y_true[own] == clips.y_pred[own]).mean()))
        excess.append(accuracy[-1] - float(truth @ said))
    values, n = np.array(excess), len(excess)
    # people who train each other's models are not independent, even of noise (chance.inflation)
    error = values.std(ddof=1) * np.sqrt(chance.inflation(entries) / n) if n > 1 else 0.0
    p = float(scipy.stats.t.sf(values.mean() / error, n - 1)) if error > 1e-12 else float(values.mean() < 1e-12)
    # where people are all alike t knows no bounds: never below what one random answer a class of each person would give
    p = max(p, float(n_classes) ** (-n_classes * n))
    low, high = interval(accuracy)[0] or (0.0, 1.0)
    return {"accuracy": float(np.mean(accuracy)), "p": p,
            "text": f"Accuracy {100 * np.mean(accuracy):.1f} % over {len(people)} people (95 % interval {100 * low:.1f} to "
                    f"{100 * high:.1f}); the same answers in any other order reach "
                    f"{100 * (np.mean(accuracy) - values.mean()):.1f} %; one-sided p {p:.3g}."}


def judge_again(plain: FoldResult, again: FoldResult) -> dict:
    """The same fit once more: whether the canaries may compare to the last bit."""
    names = [name for name in FITTED if getattr(plain, name) != getattr(again, name)]
    if names or [row.prob for row in plain.predictions] != [row.prob for row in again.predictions]:
        return {"verdict": UNCLEAR, "text": f"No: {', '.join(names) or 'predictions'} differ. Comparisons to the last bit say "
                                            "little on this machine, and leaks are judged over people."}
    return {"verdict": PASSED, "text": "Scaler, weights, epoch and predictions are the same."}


def judge_test(plain: FoldResult, noise: FoldResult) -> dict:
    """The held-out people's recordings may change predictions and nothing else."""
    changed = [name for name in FITTED if getattr(plain, name) != getattr(noise, name)]
    if changed:
        return {"verdict": FAILED, "text": f"Their recordings changed {', '.join(changed)} of the fold that tests them."}
    if not plain.predictions or not noise.predictions:
        return {"verdict": UNCLEAR, "text": "They have no usable clip."}
    if [row.prob for row in plain.predictions] == [row.prob for row in noise.predictions]:
        return {"verdict": UNCLEAR, "text": "Not even the predictions changed: the model does not look at the clips."}
    return {"verdict": PASSED, "text": "Scaler, weights and epoch stay the same to the last bit; predictions change."}


def judge_other(plain: FoldResult, noise: FoldResult) -> dict:
    """The counterpart: a training person's recordings must change the weights, else nothing above means anything."""
    if plain.weights_sha256 == noise.weights_sha256:
        return {"verdict": UNCLEAR, "text": "The weights stayed the same: the model did not learn from that person."}
    return {"verdict": PASSED, "text": "The weights change."}
