"""Monitoring of pretraining: epochs counted once, TensorBoard curves without repeated steps, gauges."""

import pytest

from orchestrator.pretraining import monitor
from orchestrator.pretraining.monitor import Watch

PLACE = {"encoder": "encoder 1", "stage": "video MAE", "epochs": 3}
PLAN = "3 epochs of 4 steps, largest learning rate 1.50e-03 (lr 0.048 x batch 8 / 256, cosine after 1 epochs of warm-up)"


def step(n, loss=0.5):
    return {"kind": "step", **PLACE, "epoch": 1 + (n - 1) // 4, "step": n, "steps": 12, "lr": 0.1, "seconds": 1.0,
            "clips_per_s": 8.0, "eta_s": 90.0, "terms": {"reconstruction": loss, "grad_norm_generator": 2.0}}


@pytest.fixture
def gauges(monkeypatch):
    """Gauges without Ray: {(encoder, stage, name): last value}."""
    seen = {}

    class Seen:
        def step(self, encoder, stage, values):
            seen.update({(encoder, stage, name): value for name, value in values.items()})

    monkeypatch.setattr(monitor, "TrainingGauges", Seen)
    return seen


def test_a_worker_that_starts_again_counts_no_epoch_twice(tmp_path, gauges, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ticks, notes = [], []
    watch = Watch(tmp_path, {"encoder 1": "abcd"}, lambda n, note: (ticks.append(n), notes.append(note)))
    watch({"kind": "resumed", **PLACE, "epoch": 0, "step": 0, "plan": PLAN})
    for n in range(1, 7):
        watch(step(n, loss=9.0))
        if n % 4 == 0:
            watch({"kind": "epoch", **PLACE, "epoch": n // 4, "lr": 0.1, "loss": 0.5})
    watch({"kind": "resumed", **PLACE, "epoch": 1, "step": 4, "plan": PLAN})
    for n in range(5, 13):
        watch(step(n))
        if n % 4 == 0:
            watch({"kind": "epoch", **PLACE, "epoch": n // 4, "lr": 0.1, "loss": 0.5})
    watch.close()
    said = " ".join(capsys.readouterr().out.split())
    assert f"video MAE of encoder 1: {PLAN}" in said
    assert sum(ticks) == 3 and "resumes after step 4" in said
    line = "lr 0.1, reconstruction 9, grad_norm_generator 2; 8 clips/s, 1.5 min left"
    assert said.count(line) == 1 == said.count("grad_norm_generator"), "lines of epochs are 30 s apart"
    assert notes[-2] == "video MAE of encoder 1, epoch 3 of 3: loss 0.5, 8 clips/s, 1.5 min left"
    assert gauges["encoder 1", "video MAE", "eta_s"] == 90.0 and gauges["encoder 1", "video MAE", "reconstruction"] == 0.5
    found = EventAccumulator(str(tmp_path / "abcd" / "video-MAE")).Reload()
    assert {"lr", "clips_per_s", "epoch", "eta_s", "reconstruction", "grad_norm_generator"} <= set(found.Tags()["scalars"])
    curve = [(event.step, event.value) for event in found.Scalars("reconstruction")]
    assert curve == [(n, 9.0 if n < 5 else 0.5) for n in range(1, 13)]
