"""Gauges on Ray's metrics port and dashboard: what pretraining is at; folds done and planned, accuracy, seconds left."""

import time
from collections.abc import Mapping
from typing import Any


class FoldGauges:
    """Built after Ray has started. Labels are the run's name, never a person's."""

    def __init__(self, run: str, planned: int, done: int):
        from ray.util.metrics import Gauge

        self.began, self.planned, self.before, self.done = time.monotonic(), planned, done, done
        self.correct: list[float] = []
        tags = {"tag_keys": ("run",)}
        self._gauges = {name: Gauge(f"dualpain_{name}", description=text, **tags) for name, text in (
            ("folds_done", "folds in the ledger"), ("folds_planned", "folds of the plan"),
            ("fold_accuracy", "accuracy of the last finished fold"),
            ("accuracy_mean", "mean accuracy of the folds finished by this command"), ("eta_s", "seconds left"))}
        for gauge in self._gauges.values():
            gauge.set_default_tags({"run": run})
        self._set(folds_done=done, folds_planned=planned)

    def _set(self, **values: float) -> None:
        for name, value in values.items():
            self._gauges[name].set(value)

    def fold(self, accuracy: float | None) -> None:
        self.done += 1
        per_fold = (time.monotonic() - self.began) / (self.done - self.before)
        self._set(folds_done=self.done, eta_s=per_fold * (self.planned - self.done))
        if accuracy is not None:
            self.correct.append(accuracy)
            self._set(fold_accuracy=accuracy, accuracy_mean=sum(self.correct) / len(self.correct))


class TrainingGauges:
    """Built after Ray has started. dualpain_pretrain_<quantity>, labelled with encoder ("encoder 1") and stage."""

    def __init__(self) -> None:
        self._gauges: dict[str, Any] = {}

    def step(self, encoder: str, stage: str, values: Mapping[str, float]) -> None:
        """values: clips_per_s, lr, epoch, eta_s, and the terms of the loss."""
        from ray.util.metrics import Gauge

        for name, value in values.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"dualpain_pretrain_{name}", description=f"pretraining: {name.replace('_', ' ')}",
                                           tag_keys=("encoder", "stage"))
            self._gauges[name].set(value, {"encoder": encoder, "stage": stage})
