"""FoldData made up for tests: people with a few clips, a signal that may or may not tell the class, small tokens."""

from dataclasses import replace

import numpy as np

from models.baselines import estimators
from orchestrator.cohort.lineage import Lineage
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder, fit_fold
from orchestrator.plan.folds import Fold
from preprocessing.moments import Moments

LENGTH, CHANNELS, GRID, WIDTH = 24, 2, (4, 1, 1), 8
TRAIN = {"max_epochs": 3, "batch_size": 16, "patience": 3}
SMALL = {"hpa": {"filters": 4, "emb": 8, "heads": 2, "ff": 16}, "dcan": {"dim": 16, "hidden": 16}}
SIGNAL = {"dim": 8, "depth": 1, "heads": 2, "ff": 16}


def made_data(n_people=7, n_clips=6, n_classes=2, effect=1.0, seed=0, tokens=True, frames=False) -> FoldData:
    """Class k lifts the signal's second half and the tokens' first value by `effect` k standard deviations."""
    rng = np.random.default_rng(seed)
    n = n_people * n_clips
    subject, labels = np.repeat(np.arange(n_people), n_clips), np.arange(n) % n_classes
    signals = rng.normal(size=(n, LENGTH, CHANNELS)).astype(np.float32)
    signals[:, LENGTH // 2:] += effect * labels[:, None, None]
    stored = rng.normal(size=(n, GRID[0], WIDTH))
    stored[:, :, 0] += effect * labels[:, None]
    data = FoldData(samples=tuple(f"c{i:04d}" for i in range(n)), subject=subject, labels=labels.astype(np.int64),
                    signals=signals, channels=("gsr", "ecg"),
                    tokens={0: stored.astype(np.float16), 1: (2 * stored).astype(np.float16)} if tokens else {},
                    token_grid=GRID, numbers=np.stack([np.full(n, 5.5), np.full(n, 138.0), 16 + rng.integers(0, 9, n)], 1),
                    moments={}, pseudonyms=tuple(f"p{i}" for i in range(n_people)), cohort="made", n_classes=n_classes,
                    quarantined={}, class_names=tuple(f"L{k}" for k in range(n_classes)),
                    frames=rng.integers(0, 256, (n, 4, 32, 32, 3), np.uint8) if frames else None)
    return with_moments(data)


def with_moments(data: FoldData) -> FoldData:
    """The moments that belong to the data's signals, as the clip store would keep them."""
    return replace(data, moments={int(s): Moments.of(data.signals[data.subject == s]) for s in np.unique(data.subject)})


def changed(data: FoldData, people, seed=99) -> FoldData:
    """The same with everything these people recorded replaced by noise, and their labels turned round."""
    rng, rows = np.random.default_rng(seed), np.isin(data.subject, people)
    signals, labels, numbers = data.signals.copy(), data.labels.copy(), data.numbers.copy()
    signals[rows] = 50 * rng.normal(size=signals[rows].shape) + 7
    labels[rows] = (labels[rows] + 1) % data.n_classes
    numbers[rows] = rng.integers(1, 99, numbers[rows].shape)
    tokens = {index: np.where(rows[:, None, None], rng.normal(size=t.shape) * 9, t).astype(np.float16)
              for index, t in data.tokens.items()}
    frames = data.frames
    if frames is not None:
        frames = np.where(rows[:, None, None, None, None], rng.integers(0, 256, frames.shape, np.uint8), frames)
    return with_moments(replace(data, signals=signals, labels=labels, numbers=numbers, tokens=tokens, frames=frames))


def recipe(model="ridge", leaky=False, refit=True, fixed_epochs=False, **train) -> FoldRecipe:
    network = model in ("dual", "video", "signal", "signal_small")
    return FoldRecipe(model=model, options=dict(SMALL) if network else {}, train={**TRAIN, **train}, refit=refit, leaky=leaky,
                      fixed_epochs=fixed_epochs, signal=dict(SIGNAL) if network and model != "video" else {})


def fit_entry(*given, **more) -> dict:
    """fit_fold's result as it stands in the ledger."""
    return fit_fold(*given, **more).to_json()


def fold(test=0, n_people=7, val=(5, 6), seed=0, leaky=False, index=None) -> Fold:
    val = (test,) if leaky else tuple(v for v in val if v != test)
    train = tuple(s for s in range(n_people) if s != test and s not in val)
    return Fold(test if index is None else index, seed, (test,), train, val, 0)


def encoder(index=0, people=(), proven=True) -> UsedEncoder:
    seen = frozenset(f"made/p{i}" for i in people)
    return UsedEncoder(index, f"{index:064d}", None, Lineage(f"encoder {index + 1} (abcd)", seen, proven=proven))


def watched(monkeypatch) -> list[dict]:
    """The arrays that estimators are fitted on and asked about from now on."""
    seen: list[dict] = []
    for name in ("fit", "predict_proba"):
        real = getattr(estimators.Estimator, name)

        def kept(self, arrays, *rest, real=real):
            seen.append(arrays)
            return real(self, arrays, *rest)

        monkeypatch.setattr(estimators.Estimator, name, kept)
    return seen
