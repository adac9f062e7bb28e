"""What the leakage canaries do to a run's data, and what they must then see. Ray-free; orchestrator/audit.py runs them.

Each changes the shared FoldData so that the answer is known beforehand: labels that mean nothing, clips that give away
person and label together, a person who is noise. n clips, N tokens, D width, L samples, C channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.foldfit import FoldData, FoldRecipe
from orchestrator.folds import Fold
from orchestrator.models_needed import ESTIMATORS
from orchestrator.people import clips_of, interval, people_of
from orchestrator.rows import Rows
from preprocessing.moments import Moments

SEED = 20_250_927
ALARM_P = 0.001  # one in a thousand clean runs alarms by chance, for each canary of accuracies
LEARNT = 0.95  # a code that is not learnt by heart tempts nobody
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


def shuffled(data: FoldData, fold: Fold) -> FoldData:
    """Labels in random order within every person: nothing is left to be learnt, and class counts stay."""
    labels = data.labels.copy()
    for subject in np.unique(data.subject):
        own = data.subject == subject
        labels[own] = np.random.default_rng([SEED, int(subject)]).permutation(labels[own])
    return replace(data, labels=labels)


def coded(data: FoldData, fold: Fold) -> FoldData:
    """Every clip of a person and class becomes the same code, unique to the two: of no use for anybody else."""
    return _made_up(data, np.ones(len(data.labels), bool), np.stack([data.subject, data.labels], 1))


def noisy(data: FoldData, people: Sequence[int]) -> FoldData:
    """Whatever these people recorded is noise, and their labels are another class's."""
    mask = np.isin(data.subject, people)
    changed = _made_up(data, mask, np.arange(len(data.labels))[:, None])
    return replace(changed, labels=np.where(mask, (data.labels + 1) % data.n_classes, data.labels))


def noisy_test(data: FoldData, fold: Fold) -> FoldData:
    return noisy(data, fold.test)


def noisy_other(data: FoldData, fold: Fold) -> FoldData:
    return noisy(data, fold.train[:1])


VARIANTS: dict[str, Callable[[FoldData, Fold], FoldData]] = {
    "shuffled": shuffled, "coded": coded, "noisy_test": noisy_test, "noisy_other": noisy_other}


def recipe_of(variant: str, recipe: FoldRecipe) -> FoldRecipe:
    """The run's own; but the code must be learnt by heart, so no validation people end its training."""
    if variant != "coded" or recipe.model in ESTIMATORS:
        return recipe
    return replace(recipe, fixed_epochs=True, refit=False)


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


def judge_accuracy(entries: Sequence[Mapping], n_classes: int, training: bool) -> dict:
    """Held-out people must be at chance. Chance of a person is what one constant answer can reach at best."""
    people = people_of(entries, n_classes)
    clips = clips_of(entries, n_classes)
    best = {name: np.bincount(clips.y_true[clips.subject == name]).max() / (clips.subject == name).sum()
            for name in set(clips.subject)}
    accuracy = [a for person in people if (a := person.mean("accuracy")) is not None]
    excess = np.array(accuracy) - [best[person.subject] for person in people]
    if len(excess) < 3:
        return {"verdict": UNCLEAR, "text": f"Only {len(excess)} people were tested."}
    p = float(stats.ttest_1samp(excess, 0, alternative="greater").pvalue) if excess.std() > 0 else float(excess.mean() <= 0)
    low, high = interval(accuracy)[0] or (0.0, 1.0)
    text = (f"Accuracy {100 * np.mean(accuracy):.1f} % over {len(people)} people (95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f}); a constant answer reaches {100 * np.mean(list(best.values())):.1f} %; one-sided p {p:.3g}.")
    found: dict[str, Any] = {"accuracy": float(np.mean(accuracy)), "p": p}
    verdict = FAILED if p < ALARM_P else PASSED
    if training:
        found["train_accuracy"] = float(np.mean([e["train_accuracy"] for e in entries]))
        text = f"On the people it was trained on {100 * found['train_accuracy']:.1f} %. Held out: {text}"
        if verdict == PASSED and found["train_accuracy"] < LEARNT:
            verdict, text = UNCLEAR, text + " The code was not learnt by heart, so that little follows."
    return {"verdict": verdict, "text": text, **found}


def judge_test(plain: Mapping, noise: Mapping) -> dict:
    """The held-out people's recordings may change predictions and nothing else."""
    changed = [name for name in FITTED if plain[name] != noise[name]]
    if changed:
        return {"verdict": FAILED, "text": f"Their recordings changed {', '.join(changed)} of the fold that tests them."}
    if not plain["predictions"]:
        return {"verdict": UNCLEAR, "text": "They have no usable clip."}
    if [row["prob"] for row in plain["predictions"]] == [row["prob"] for row in noise["predictions"]]:
        return {"verdict": UNCLEAR, "text": "Not even the predictions changed: the model does not look at the clips."}
    return {"verdict": PASSED, "text": "Scaler, weights and epoch stay the same to the last bit; predictions change."}


def judge_other(plain: Mapping, noise: Mapping) -> dict:
    """The counterpart: a training person's recordings must change the weights, else nothing above means anything."""
    if plain["weights_sha256"] == noise["weights_sha256"]:
        return {"verdict": UNCLEAR, "text": "The weights stayed the same: the model did not learn from that person."}
    return {"verdict": PASSED, "text": "The weights change."}
