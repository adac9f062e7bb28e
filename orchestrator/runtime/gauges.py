"""Gauges on Ray's metrics port and dashboard: the progress of pretraining; folds done and planned, accuracy, seconds left."""

import sys
import time
from collections.abc import Mapping
from typing import Any


class NoGauge:
    """Used when Ray does not run, since there is no metrics port then."""

    def set_default_tags(self, tags: Mapping[str, str]) -> None: ...

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None: ...


def gauge(name: str, text: str, labels: tuple[str, ...]) -> Any:
    """dualpain_<name> on the metrics port of the Ray that runs."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return NoGauge()
    from ray.util.metrics import Gauge

    return Gauge(f"dualpain_{name}", description=text, tag_keys=labels)


class FoldGauges:
    """Built after Ray has started. Labels are the run's name, never a subject's."""

    def __init__(self, run: str, planned: int, done: int):
        self.began, self.planned, self.before, self.done = time.monotonic(), planned, done, done
        self.correct: list[float] = []
        self._gauges = {name: gauge(name, text, ("run",)) for name, text in (
            ("folds_done", "folds in the ledger"), ("folds_planned", "folds of the plan"),
            ("fold_accuracy", "accuracy of the last finished fold"),
            ("accuracy_mean", "mean accuracy of the folds finished by this command"), ("eta_s", "seconds left"))}
        for one in self._gauges.values():
            one.set_default_tags({"run": run})
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
        for name, value in values.items():
            if name not in self._gauges:
                self._gauges[name] = gauge(f"pretrain_{name}", f"pretraining: {name.replace('_', ' ')}", ("encoder", "stage"))
            self._gauges[name].set(value, {"encoder": encoder, "stage": stage})
