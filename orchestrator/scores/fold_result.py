"""What one fold gives, from the fit to the report: one type, whose JSON is an entry of the ledger. Free of ray and of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one clip: labels are 0..K-1, prob has K probabilities, subject and sample are pseudonyms."""

    sample: str
    subject: str
    y_true: int
    y_pred: int
    prob: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """subjects: the test subjects. quarantined_by_class: by the class's number as text; _by_subject: by pseudonym.

    train_subjects were fitted on, val_subjects kept for choosing the epoch; with refit the model was then fitted on both.
    train_label_counts [K] of all subjects but the test subjects. Entries of older versions lack some; None is "not known".
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
    train_accuracy: float | None = None  # where the audit asked for it

    @property
    def subject(self) -> str:
        """The first test subject, whom an entry names beside the list."""
        return self.subjects[0]

    @property
    def n_test(self) -> int:
        return len(self.predictions)

    def joined_subjects(self) -> str:
        """The test subjects in one word: joined by "+"."""
        return "+".join(self.subjects)

    def fitted_subjects(self) -> set[str]:
        """Whom the scored model was fitted on in the end: after a refit the inner validation subjects too."""
        return {*self.train_subjects, *(self.val_subjects if self.refit else ())}

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ledger."""
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
        """Of an entry of the ledger, or of a fold in a summary, which has no predictions. Names that are not known are left."""
        own = {f.name: value[f.name] for f in fields(cls) if value.get(f.name) is not None}
        own |= {name: tuple(part) for name, part in own.items() if isinstance(part, list)}
        own["subjects"] = tuple(value.get("subjects") or value["subject"].split("+"))
        own["predictions"] = tuple(Prediction(**{**row, "prob": tuple(row["prob"])}) for row in value.get("predictions") or ())
        return cls(**own)
