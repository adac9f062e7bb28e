"""Monitoring of a running pretraining: progress bar, gauges on Ray's metrics port, TensorBoard curves."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.runtime import progress
from orchestrator.runtime.gauges import TrainingGauges
from orchestrator.runtime.progress import duration

LINE_EVERY_S = 30.0


class Watch:
    """Called with each report of a worker. keys: encoder's name -> key; tick: advances the progress bar, in epochs."""

    def __init__(self, tensorboard: Path, keys: Mapping[str, str], tick: Callable):
        self.folder, self.keys, self.tick = tensorboard, keys, tick
        self.gauges: TrainingGauges | None = None
        self.writers: dict[tuple[str, str], object] = {}
        self.done: dict[tuple[str, str], int] = {}
        self.note = ""
        self.last: dict | None = None
        self.next_line = 0.0

    def __call__(self, row: dict) -> None:
        place = row["encoder"], row["stage"]
        if row["kind"] == "resumed":
            self._open(place, row["step"])
            progress.say("pretrain", f"{row['stage']} of {row['encoder']}: {row['plan']}")
            self._epochs(place, row["epoch"])
        elif row["kind"] == "epoch":
            self._epochs(place, row["epoch"])
        else:
            self._step(place, row)

    def _step(self, place: tuple[str, str], row: dict) -> None:
        shown = {**{name: row[name] for name in ("lr", "clips_per_s", "epoch", "eta_s")}, **row["terms"]}
        writer = self.writers[place]
        for name, value in shown.items():
            writer.add_scalar(name, value, row["step"])  # type: ignore[attr-defined]
        self.gauges = self.gauges or TrainingGauges()
        self.gauges.step(*place, shown)
        self.last = row
        self.note = _line(row, f"loss {row['terms']['reconstruction']:.4g}, ")
        self.tick(0, self.note)

    def _epochs(self, place: tuple[str, str], done: int) -> None:
        """A restarted worker reports epochs that were counted before: the bar counts each once."""
        new = max(0, done - self.done.get(place, 0))
        self.done[place] = max(done, self.done.get(place, 0))
        if new:
            self.tick(new, self.note)
            if self.last and time.monotonic() >= self.next_line:  # one line in the log, and on the terminal above the bar
                terms = {"lr": self.last["lr"], **self.last["terms"]}
                values = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
                progress.say("pretrain", _line(self.last, f"{values}; "))
                self.next_line = time.monotonic() + LINE_EVERY_S

    def _open(self, place: tuple[str, str], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        encoder, stage = place
        if step:
            progress.say("pretrain", f"{stage} of {encoder} resumes after step {step}")
        folder = self.folder / self.keys[encoder] / stage.replace(" ", "-")
        self.writers[place] = SummaryWriter(str(folder), purge_step=step + 1)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()  # type: ignore[attr-defined]


def _line(row: dict, values: str) -> str:
    return (f"{row['stage']} of {row['encoder']}, epoch {row['epoch']} of {row['epochs']}: {values}"
            f"{row['clips_per_s']:.3g} clips/s, {duration(row['eta_s'])} left")
