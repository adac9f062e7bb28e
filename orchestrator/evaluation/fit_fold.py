"""Fit and score one fold. Without Ray: the same function runs in a trial, in a test and in a benchmark.

The order: check that nothing was fitted on the test subject, fit the scaler on the training subjects, train, choose the
epoch on the inner validation subjects, optionally refit on all subjects but the test subject, and only then access the
test subject's clips, once.

n clips of the task, L samples, C channels, K classes.
"""

import resource
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from orchestrator.cohort.lineage import Lineage, check_roles, guard, subject_key
from orchestrator.config.model_inputs import has_signal_encoder, is_estimator
from orchestrator.errors import FoldError, UserError
from orchestrator.evaluation.guarded_rows import RowsOnly
from orchestrator.files.storage import hash_all
from orchestrator.plan.folds import Fold
from orchestrator.runtime.worker_warnings import every_time
from orchestrator.scores.fold_result import FoldResult, Prediction
from preprocessing.moments import Moments, Scaler, fit_scaler
from preprocessing.notes import gathered


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """What all folds share, read-only: labels (n,) in 0..K-1, subject (n,) indices, signals (n, L, C) unscaled.

    tokens: by encoder index, (n, N, D) float16. moments: by subject, over the task's classes. numbers (n, 6):
    clip length in seconds, frames, keyframes, sex (0 female, 1 male), age, trial order (0 to 1), NaN where not known, for the
    one-number baseline and the controls.
    """

    samples: tuple[str, ...]
    subject: np.ndarray
    labels: np.ndarray
    signals: np.ndarray
    channels: tuple[str, ...]
    tokens: Mapping[int, Any]
    token_grid: tuple[int, int, int]
    numbers: np.ndarray
    moments: Mapping[int, Moments]
    pseudonyms: tuple[str, ...]
    cohort: str
    n_classes: int
    quarantined: Mapping[int, Mapping[int, int]] = field(default_factory=dict)  # subject -> class -> excluded clips
    class_names: tuple[str, ...] = ()
    frames: Any = None  # (n, T, S, S, 3) uint8 by row, for models that read pixels
    cohorts: tuple[str, ...] = ()  # by subject, where they are not all of `cohort`
    token_lineages: Mapping[int, Lineage] = field(default_factory=dict)  # by encoder index, as recorded in the token files

    def keys(self, subjects: Sequence[int]) -> list[str]:
        """Their keys in a lineage: cohort and pseudonym."""
        return [subject_key(self.cohorts[s] if self.cohorts else self.cohort, self.pseudonyms[s]) for s in subjects]

    def counts(self) -> dict[int, Counter]:
        """subject -> class -> usable clips."""
        found: dict[int, Counter] = {}
        for subject, label in zip(self.subject.tolist(), self.labels.tolist(), strict=True):
            found.setdefault(subject, Counter())[label] += 1
        return found

    def lineages(self, encoder: "UsedEncoder | None") -> list[Lineage]:
        """Lineages of the encoder and of its tokens."""
        if encoder is None:
            return []
        return [encoder.lineage, *([self.token_lineages[encoder.index]] if encoder.index in self.token_lineages else [])]

    def rows(self, subjects: Sequence[int]) -> np.ndarray:
        return np.flatnonzero(np.isin(self.subject, np.asarray(subjects)))


@dataclass(frozen=True, kw_only=True)
class FoldRecipe:
    """What is fitted: the model and its options, the training recipe, the protocol. JSON-like, hashed into the run."""

    model: str
    options: dict[str, Any]
    train: dict[str, Any]
    refit: bool
    leaky: bool
    fixed_epochs: bool
    signal: dict[str, Any] = field(default_factory=dict)
    scale: str = "train_z"  # preprocessing.moments.KINDS
    as_paper_epochs: int | None = None  # leaky: most epochs of the released code's stopping rule; None: train.max_epochs


@dataclass(frozen=True)
class UsedEncoder:
    """The encoder of a fold: its tokens' key in FoldData.tokens, weights of E_ts, hash and lineage."""

    index: int
    sha256: str
    signal_state: Any
    lineage: Lineage


class TestClips:
    """The test subjects' clips; every access to the test set is counted."""

    def __init__(self, data: FoldData, fold: Fold):
        self._rows, self.accesses = data.rows(fold.test), 0

    def access(self) -> np.ndarray:
        """The rows. Raises RuntimeError at a second access."""
        self.accesses += 1
        if self.accesses > 1:
            raise RuntimeError("the test clips of a fold may be accessed only once")
        return self._rows


def fit_fold(fold: Fold, data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None,
             extra_lineage: Sequence[Lineage] = (), score_training: bool = False) -> FoldResult:
    """The fold's result. Raises LineageError before any fit if an artefact was fitted on a test subject.

    score_training: also compute train_accuracy, on the rows of the fit; the audit needs it.
    """
    with every_time(), gathered() as said:
        result = _fit_fold(fold, data, recipe, encoder, extra_lineage, score_training)
    return replace(result, warnings=(*result.warnings, *(text.rstrip(". ") for text in said)))


def _fit_fold(fold: Fold, data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None,
              extra_lineage: Sequence[Lineage], score_training: bool) -> FoldResult:
    began = time.monotonic()
    check_roles(fold.test, fold.train, fold.val, recipe.leaky)
    if not recipe.leaky:
        trained = Lineage("the training subjects", frozenset(data.keys([*fold.train, *fold.val])))
        guard(data.keys(fold.test), [*extra_lineage, *data.lineages(encoder), trained])
    test = TestClips(data, fold)
    if is_estimator(recipe.model):
        fitted, epochs, scaler, history = fit_estimator(fold, data, recipe)
    else:
        fitted, epochs, scaler, history = fit_network(fold, data, recipe, encoder)
    if not recipe.leaky and scaler is not None:  # checks the fitted scaler, not only the plan
        guard(data.keys(fold.test), [Lineage("the scaler", frozenset(data.keys(scaler.subjects)))])
    rows = test.access()
    probabilities = predict(fitted, data, rows, scaler, encoder) if len(rows) else np.zeros((0, data.n_classes))
    if wrong := int((~np.isfinite(probabilities)).any(axis=1).sum()):
        raise FoldError(f"{fold.name}: the model's probabilities for {wrong} of {len(rows)} test clips are NaN or "
                        "infinite: its training diverged or its input is damaged; use a lower train.lr, or inspect the clips.")
    # the paper's code evaluates on the test clips after every epoch; this is counted
    accesses = test.accesses + (len(history) if set(fold.test) & set(fold.val) else 0)
    known = data.rows([*fold.train, *fold.val] if is_estimator(recipe.model) or recipe.refit else fold.train)
    weights_sha256, n_parameters = _weights(fitted)
    fitted_on, chose = roles(fold, recipe)
    quarantined = {c: sum(data.quarantined.get(s, {}).get(c, 0) for s in fold.test) for c in range(data.n_classes)}
    others = data.rows(sorted({*fold.train, *fold.val} - set(fold.test)))
    return FoldResult(
        fold=fold.index, seed=fold.seed, leaky=recipe.leaky, subjects=tuple(data.pseudonyms[s] for s in fold.test),
        n_quarantined=sum(quarantined.values()), quarantined_by_class={str(c): n for c, n in quarantined.items() if n},
        quarantined_by_subject={data.pseudonyms[s]: sum(data.quarantined[s].values()) for s in fold.test
                                if data.quarantined.get(s)},
        epochs=epochs, train_subjects=tuple(data.pseudonyms[s] for s in fitted_on),
        val_subjects=tuple(data.pseudonyms[s] for s in chose), refit=recipe.refit and bool(chose) and not recipe.leaky,
        train_label_counts=tuple(np.bincount(data.labels[others], minlength=data.n_classes).tolist()),
        scaler_sha256=scaler.sha256() if scaler else hash_all([]),
        encoder_sha256=encoder.sha256 if encoder else hash_all([]), weights_sha256=weights_sha256, n_parameters=n_parameters,
        test_openings=accesses, history=tuple(history), wall_s=time.monotonic() - began,
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        predictions=_predictions(data, rows, probabilities), warnings=_warnings(fold, data),
        train_accuracy=float((predict(fitted, data, known, scaler, encoder).argmax(1) == data.labels[known]).mean())
        if score_training else None)


def fit_network(fold: Fold, data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None):
    """(model, epochs, scaler, history): the epoch chosen on the inner validation subjects, then the refit, if any."""
    from models.classifier.training import ClassifierRecipe, fit_classifier

    settings = _classifier_recipe(ClassifierRecipe, recipe)
    seed = fold.protocol_seed * 1_000_003 + fold.test[0]
    train_rows = _trainable(data, fold.train)
    if recipe.fixed_epochs:
        model, scaler = _network(data, recipe, encoder, seed), _scaler(data, fold.train, recipe)
        fit = fit_classifier(model, _arrays(data, train_rows, scaler, encoder), _labels(data, train_rows), train_rows,
                             val_rows=None, recipe=settings, seed=seed)
        return model, fit.epochs, scaler, fit.history
    # the paper's code scales with all subjects and chooses the epoch on the test subject
    known = [*fold.train, *fold.val] if recipe.leaky else fold.train
    model, scaler = _network(data, recipe, encoder, seed), _scaler(data, known, recipe)
    val_rows = data.rows(fold.val)
    if not len(val_rows) and recipe.leaky:
        return model, 0, scaler, []  # the epoch would be chosen on the test subject, who has no usable clip
    if not len(val_rows):
        raise FoldError(f"{fold.name}: the inner validation subjects have no usable clip: choose another "
                        "protocol.val_subjects, or see the table of excluded clips (quarantine.parquet in the store).")
    both = np.concatenate([train_rows, val_rows])
    arrays = _arrays(data, both, scaler, encoder)
    fit = fit_classifier(model, arrays, _labels(data, both), train_rows, val_rows=val_rows, recipe=settings, seed=seed)
    if not recipe.refit:
        return model, fit.epochs, scaler, fit.history
    both_sets = tuple(sorted([*fold.train, *fold.val]))
    model, scaler = _network(data, recipe, encoder, seed), _scaler(data, both_sets, recipe)
    rows = _trainable(data, both_sets)
    fit_classifier(model, _arrays(data, rows, scaler, encoder), _labels(data, rows), rows, val_rows=None,
                   recipe=replace(settings, max_epochs=fit.epochs), seed=seed)
    return model, fit.epochs, scaler, fit.history


def fit_estimator(fold: Fold, data: FoldData, recipe: FoldRecipe):
    """Baselines without epochs: fitted on all subjects but the test subjects, validation subjects included.

    Under as_paper they differ in one respect only: the scaler is fitted on all subjects, the test subjects included.
    """
    from models import build

    known = tuple(sorted({*fold.train, *fold.val} - set(fold.test)))
    scaled_on = sorted({*known, *fold.test}) if recipe.leaky else known
    scaler, rows = _scaler(data, scaled_on, recipe), _trainable(data, known)
    estimator: Any = build(recipe.model, n_classes=data.n_classes, seed=fold.protocol_seed, channels=data.channels,
                           **recipe.options)
    estimator.fit(_arrays(data, rows, scaler, None), _labels(data, rows), rows, data.subject)
    return estimator, 0, scaler, []


def _trainable(data: FoldData, subjects: Sequence[int]) -> np.ndarray:
    rows = data.rows(subjects)
    absent = sorted(set(range(data.n_classes)) - set(data.labels[rows].tolist()))
    if absent:
        raise FoldError(f"No training subject has a usable clip of class {absent[0]}: complete the data, choose another "
                        "task, or see the table of excluded clips (quarantine.parquet in the store).")
    return rows


def _scaler(data: FoldData, subjects: Sequence[int], recipe: FoldRecipe) -> Scaler | None:
    known = [s for s in sorted(subjects) if s in data.moments]
    return fit_scaler(data.moments, known, kind=recipe.scale) if known else None


def _scaled(data: FoldData, rows: np.ndarray, scaler: Scaler) -> np.ndarray:
    """Signals (len(rows), L, C) of these rows, with each subject's own moments where the recipe scales by subject."""
    if scaler.kind != "subject_z":
        return scaler.apply(data.signals[rows])
    out = np.empty((len(rows), *data.signals.shape[1:]), np.float32)
    for subject in np.unique(data.subject[rows]):
        own = data.subject[rows] == subject
        out[own] = scaler.apply(data.signals[rows[own]], data.moments[int(subject)])
    return out


def _arrays(data: FoldData, rows: np.ndarray, scaler: Scaler | None, encoder: UsedEncoder | None) -> dict[str, Any]:
    """Arrays for these rows only: signals and numbers of other rows are zero, reading their tokens or frames raises an error.
    So a test subject's clips can be read only through the rows that TestClips gives."""
    arrays: dict[str, Any] = {"numbers": _only(data.numbers, rows)}
    if scaler is not None and data.signals.size:
        signals = np.zeros_like(data.signals)
        signals[rows] = _scaled(data, rows, scaler)
        arrays["signals"] = signals
    if encoder is not None and encoder.index in data.tokens:
        arrays["tokens"] = RowsOnly.of(data.tokens[encoder.index], rows)
    if data.frames is not None:
        arrays["video"] = RowsOnly.of(data.frames, rows)
    return arrays


def _labels(data: FoldData, rows: np.ndarray) -> np.ndarray:
    """The labels of these rows, -1 for all others, which no loss accepts as a class."""
    return _only(data.labels, rows, -1)


def _only(values: np.ndarray, rows: np.ndarray, elsewhere: int = 0) -> np.ndarray:
    out = np.full_like(values, elsewhere)
    out[rows] = values[rows]
    return out


def _network(data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None, seed: int):
    import torch

    from models import build

    torch.set_num_threads(1)
    tokens = data.tokens.get(encoder.index) if encoder else None
    pixels = {} if data.frames is None else {"frames": data.frames.shape[1], "image_size": data.frames.shape[2]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(recipe.model, n_classes=data.n_classes, token_dim=tokens.shape[-1] if tokens is not None else None,
                      token_grid=data.token_grid, n_channels=len(data.channels) or None,
                      signal_length=data.signals.shape[1] if data.signals.size else None, **pixels,
                      **{**recipe.options, **({"signal": {**recipe.signal, **recipe.options.get("signal", {})}}
                                              if has_signal_encoder(recipe.model) else {})})
    if encoder is not None and encoder.signal_state is not None and getattr(model, "signal_encoder", None) is not None:
        state = {name: torch.from_numpy(np.array(value)) for name, value in encoder.signal_state.items()}
        model.load_signal_encoder(state)  # type: ignore[operator]
    if not torch.cuda.is_available():
        return model
    torch.use_deterministic_algorithms(True, warn_only=True)  # a resumed run equals an uninterrupted one, also on GPUs
    return model.to("cuda")


def _classifier_recipe(kind: type, recipe: FoldRecipe):
    from dataclasses import fields

    known = {f.name for f in fields(kind)}
    for name in recipe.train:
        if name not in known:
            raise UserError(f"There is no option 'train.{name}': the options are {', '.join(sorted(known))}.")
    settings = kind(**recipe.train)
    return published(settings, recipe.as_paper_epochs) if recipe.leaky else settings


def published(settings: Any, epochs: int | None) -> Any:
    """The recipe with the stopping rule of the paper's code: best accuracy on the test subject, until the learning rate is
    down to 1e-6, at most `epochs` epochs. Optimiser, first learning rate, batch and augmentation stay those of the run."""
    return replace(settings, monitor="val_accuracy", stop="rate", lr_decay=1.0, lr_schedule="constant",
                   max_epochs=epochs or settings.max_epochs)


def predict(fitted: Any, data: FoldData, rows: np.ndarray, scaler: Scaler | None,
             encoder: UsedEncoder | None) -> np.ndarray:
    arrays = _arrays(data, rows, scaler, encoder)
    if not hasattr(fitted, "parameters"):
        return fitted.predict_proba(arrays, rows)
    from models.classifier.training import predict_proba

    return predict_proba(fitted, arrays, rows)


def _weights(fitted: Any) -> tuple[str, int]:
    """(weights_sha256, number of parameters); the arrays of an estimator do not count."""
    if hasattr(fitted, "weights_sha256"):
        return fitted.weights_sha256(), 0
    from models.checkpoint import weights_sha256

    return weights_sha256(fitted), sum(p.numel() for p in fitted.parameters())


def _predictions(data: FoldData, rows: np.ndarray, probabilities: np.ndarray) -> tuple[Prediction, ...]:
    return tuple(Prediction(sample=data.samples[row], subject=data.pseudonyms[data.subject[row]],
                            y_true=int(data.labels[row]), y_pred=int(probability.argmax()),
                            prob=tuple(float(p) for p in probability))
                 for row, probability in zip(rows, probabilities, strict=True))


def roles(fold: Fold, recipe: FoldRecipe) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(subjects the model is fitted on, subjects kept for choosing the epoch).

    A model that chooses no epoch is also fitted on the validation subjects; an estimator is never fitted on test subjects.
    If a network is refitted, these are the subjects of the fit that chose the epoch; the refit uses both.
    """
    if is_estimator(recipe.model):
        return tuple(sorted({*fold.train, *fold.val} - set(fold.test))), ()
    return fold.train, () if recipe.fixed_epochs else fold.val


def _warnings(fold: Fold, data: FoldData) -> tuple[str, ...]:
    present = set(data.labels[data.rows(fold.test)].tolist())
    names = data.class_names or tuple(map(str, range(data.n_classes)))
    return tuple(f"no usable clip of class {name} among the test clips" for c, name in enumerate(names) if c not in present)
