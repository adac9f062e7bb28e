"""The result of one fold: one type from the fit to the report, whose JSON is a ledger entry. Without Ray and torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for one clip: labels 0..K-1, K probabilities in prob; subject and sample are pseudonyms."""

    sample: str
    subject: str
    y_true: int
    y_pred: int
    prob: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """subjects: the test subjects. quarantined_*: number of excluded clips, by the class's number as text, or by pseudonym.

    The model is fitted on train_subjects, and the epoch is chosen on val_subjects; with refit, it is then fitted on both.
    train_label_counts: [K] of all subjects but the test subjects. Older versions do not write all fields; None: not known.
    """

    fold: int
    seed: int
    subjects: tuple[str, ...]
    leaky: bool = False
    n_quarantined: int = 0
    quarantined_by_class: Mapping[str, int] = field(default_factory=dict)
    quarantined_by_subject: Mapping[str, int] = field(default_factory=dict)
    epochs: int | None = None
    train_subjects: tuple[str, ...] = ()
    val_subjects: tuple[str, ...] = ()
    refit: bool = False
    train_label_counts: tuple[int, ...] = ()
    scaler_sha256: str | None = None
    encoder_sha256: str | None = None
    weights_sha256: str | None = None
    n_parameters: int = 0
    test_openings: int | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    wall_s: float | None = None
    peak_memory_mb: float | None = None
    predictions: tuple[Prediction, ...] = ()
    warnings: tuple[str, ...] = ()
    train_accuracy: float | None = None  # only for the audit

    @property
    def subject(self) -> str:
        """The first test subject, which an entry names in addition to the list."""
        return self.subjects[0]

    @property
    def n_test(self) -> int:
        return len(self.predictions)

    def joined_subjects(self) -> str:
        """The names of the test subjects, joined by "+"."""
        return "+".join(self.subjects)

    def fitted_subjects(self) -> set[str]:
        """Subjects of the final fit: with a refit, the inner validation subjects as well."""
        return {*self.train_subjects, *(self.val_subjects if self.refit else ())}

    def to_json(self) -> dict[str, Any]:
        """The content of a ledger entry."""
        value = {f.name: getattr(self, f.name) for f in fields(self)}
        value |= {name: list(part) for name, part in value.items() if isinstance(part, tuple)}
        value |= {"subject": self.subject, "n_test": self.n_test, "predictions": [
            {"sample": p.sample, "subject": p.subject, "y_true": p.y_true, "y_pred": p.y_pred, "prob": list(p.prob)}
            for p in self.predictions]}
        if self.train_accuracy is None:
            value.pop("train_accuracy")
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FoldResult":
        """From a ledger entry, or from a fold of a summary, which has no predictions. Unknown fields are ignored."""
        own = {f.name: value[f.name] for f in fields(cls) if value.get(f.name) is not None}
        own |= {name: tuple(part) for name, part in own.items() if isinstance(part, list)}
        own["subjects"] = tuple(value.get("subjects") or value["subject"].split("+"))
        own["predictions"] = tuple(Prediction(**{**row, "prob": tuple(row["prob"])}) for row in value.get("predictions") or ())
        return cls(**own)
