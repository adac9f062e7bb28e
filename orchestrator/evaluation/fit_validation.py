"""How a sweep scores a fold: fitted on its training subjects, scored on its inner validation subjects only.

Without Ray, like fit_fold.py, whose parts it shares. The fold names the test subject, but its data are never read.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from orchestrator.cohort.lineage import check_roles, guard
from orchestrator.config.model_inputs import is_estimator
from orchestrator.errors import FoldError
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder, fit_network, predict
from orchestrator.plan.folds import Fold


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """people: accuracy by inner validation subject. No field holds anything of a test subject."""

    fold: int
    seed: int
    accuracy: float
    people: dict[str, float]
    val_loss: float
    epochs: int
    n_val: int
    train_subjects: list[str]
    val_subjects: list[str]
    test_openings: int
    scaler_sha256: str | None
    encoder_sha256: str | None
    weights_sha256: str
    wall_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ValidationResult":
        return cls(**{f.name: value[f.name] for f in fields(cls)})


def fit_validation(fold: Fold, data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None) -> ValidationResult:
    """The sweep's result of one fold. accuracy: mean over the inner validation subjects, with equal weights.

    The epoch is chosen on the same subjects, so the number serves only to choose between settings. Raises LineageError
    if the encoder was pretrained on a validation or test subject, ValueError for a recipe without inner validation.
    """
    if recipe.leaky or recipe.fixed_epochs or is_estimator(recipe.model):
        raise ValueError("this recipe has no inner validation")
    began = time.monotonic()
    check_roles(fold.test, fold.train, fold.val, leaky=False)
    guard(data.keys([*fold.test, *fold.val]), data.lineages(encoder))
    fitted, epochs, scaler, history = fit_network(fold, data, replace(recipe, refit=False), encoder)
    assert scaler is None or not set(scaler.subjects) & {*fold.test, *fold.val}, "the scaler was fitted on a scored subject"
    rows = data.rows(fold.val)
    right = predict(fitted, data, rows, scaler, encoder).argmax(1) == data.labels[rows]
    people = {data.pseudonyms[s]: float(right[data.subject[rows] == s].mean())
              for s in fold.val if (data.subject[rows] == s).any()}
    if not people:
        raise FoldError(f"{fold.name}: the inner validation subjects have no usable clip: see the table of "
                        "excluded clips (quarantine.parquet in the store).")
    from models.checkpoint import weights_sha256

    return ValidationResult(
        fold=fold.index, seed=fold.seed, accuracy=float(np.mean(list(people.values()))), people=people,
        val_loss=history[epochs - 1]["val_loss"], epochs=epochs, n_val=int(len(rows)),
        train_subjects=[data.pseudonyms[s] for s in fold.train], val_subjects=[data.pseudonyms[s] for s in fold.val],
        test_openings=0, scaler_sha256=scaler.sha256() if scaler else None, encoder_sha256=encoder.sha256 if encoder else None,
        weights_sha256=weights_sha256(fitted), wall_s=time.monotonic() - began)
