"""quality.json: measured on unseen subjects if there are any; printed, with warnings; changes nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import build, checkpoint
from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import compose
from orchestrator.files.storage import read_checked, with_checksum, write_json
from orchestrator.plan.pretrain_groups import Group
from orchestrator.pretraining import quality
from orchestrator.pretraining.loop import train_job
from orchestrator.pretraining.objectives import Job, Rank
from orchestrator.stores.encoder_store import EncoderPlan
from preprocessing.moments import Moments, fit_scaler
from preprocessing.shard import read_signals
from tests.helpers.made_shards import made_shards
from tests.helpers.roads import hashes

VIDEO = {"scale": "micro", "image_size": 32, "depth": 1, "dim": 16, "heads": 2, "decoder_depth": 1, "frames": 16}
SIGNAL = {"n_channels": 2, "length": 16, "dim": 16, "depth": 1, "heads": 2, "ff": 16, "decoder_depth": 1}
WORDS = ["pretrain.video.epochs=2", "pretrain.video.batch=8", "pretrain.video.lr=0.064", "pretrain.video.warmup=1",
         "pretrain.video.mask_ratio=0.5", "pretrain.signal.epochs=2", "pretrain.signal.batch=4", "pretrain.signal.lr=0.002",
         "pretrain.save_epochs=null"]
FIELDS = {"masked_error", "visible_mean_error", "ratio", "on", "effective_lr"}


class Store:
    """The part of a ClipStore that is needed here. opened: subjects whose shards were read."""

    def __init__(self, shards):
        self.paths, self.opened = dict(shards), set()
        self.sides = {s: {"moments": {"0": None}} for s in self.paths}

    def signals(self, subject):
        self.opened.add(subject)
        return read_signals(self.paths[subject])

    def moments(self, subject, labels):
        assert labels == [0]
        return Moments.of(read_signals(self.paths[subject]).signals.reshape(-1, 2))


class Cast:
    """Subject 4, if there is one, is subject 0 under another index: one subject in two data sets."""

    def keys(self, subjects):
        return [f"made/p{s % 4}" for s in subjects]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder of the first two of five subjects, as pretraining leaves it: config, store, plan, folder, scaler."""
    place = tmp_path_factory.mktemp("quality")
    config = compose("synthetic", WORDS)
    store, folder = Store(made_shards(place, people=5, clips=3)), place / "encoder"
    folder.mkdir()
    group = Group(0, (0, 1))
    scaler = fit_scaler({s: store.moments(s, [0]) for s in group.subjects}, list(group.subjects))
    np.save(folder / "signals.npy", np.concatenate([scaler.apply(store.signals(s).signals) for s in group.subjects]))
    lineage = Lineage("encoder 1 (x)", frozenset(Cast().keys(group.subjects)))
    job = Job(name="encoder 1", out=folder, shards=[(s, store.paths[s]) for s in group.subjects], video=VIDEO, signal=SIGNAL,
              signals=folder / "signals.npy", samples=[], lineage={}, recipe=config.pretrain.model_dump(),
              clip={"frames": 16, "rate": 16}, seed=0)
    train_job(job, Rank(), lambda row: None)
    return config, store, EncoderPlan(index=0, group=group, folder=folder, key="x", video=VIDEO, signal=SIGNAL,
                                      lineage=lineage), folder, scaler


def measured(trained, **changes):
    config, store, plan, folder, scaler = trained
    store.opened.clear()
    return quality.measure(config, changes.get("people", Cast()), store, changes.get("plan", plan), folder, scaler)


def test_quality_is_measured_on_unseen_subjects(trained, capsys):
    folder = trained[3]
    before = hashes(folder)
    found = measured(trained)
    assert read_checked(folder / quality.FILE) == with_checksum(found)
    assert FIELDS <= found.keys() and FIELDS <= found["signal"].keys()
    after = hashes(folder)
    assert {name: after[name] for name in before if name != quality.FILE} == \
        {name: digest for name, digest in before.items() if name != quality.FILE}
    for part, kind in ((found, "video"), (found["signal"], "signal")):
        assert (part["kind"], part["on"], part["n_clips"], part["n_subjects"]) == (kind, "held_out", 6, 2)
        assert part["ratio"] == pytest.approx(part["masked_error"] / part["visible_mean_error"]) and part["steps"] == (2, 4)[
            kind == "signal"]
    assert found["effective_lr"] == pytest.approx(0.064 * 8 / 256) and found["signal"]["effective_lr"] == 0.002
    assert trained[1].opened == {2, 3}, "not the group's own subjects, nor one of them in another data set"
    said = " ".join(capsys.readouterr().out.split())
    assert f"video MAE of encoder 1: masked error {found['masked_error']:.4g}" in said
    assert "6 clips of 2 unseen subjects. Largest learning rate 2.00e-03, 2 steps." in said


def test_without_unseen_subjects_quality_uses_its_own(trained, capsys):
    class One(Cast):
        def keys(self, subjects):
            return ["made/p0" for _ in subjects]

    found = measured(trained, people=One())
    assert found["on"] == found["signal"]["on"] == "own" and found["n_subjects"] == 2 and trained[1].opened == {0, 1}
    assert "2 subjects of its own pretraining, because there are no others" in " ".join(capsys.readouterr().out.split())


def test_an_encoder_as_bad_as_the_visible_mean_is_warned_of(trained, capsys):
    folder = trained[3]
    kept = {path: path.read_bytes() for path in folder.glob("video.*")}
    model = build("video_mae", **VIDEO)
    torch.nn.init.constant_(model.decoder.head.bias, 9.0)  # far from any pixel
    checkpoint.save(folder / "video", model, VIDEO, {})
    found = measured(trained)
    for path, data in kept.items():
        path.write_bytes(data)
    assert found["ratio"] > 1
    said = " ".join(capsys.readouterr().out.split())
    assert ("warning: The video MAE of encoder 1 reconstructs masked patches no better than the visible mean: its error is "
            f"{found['ratio']:.2f} times that of the visible mean.") in said
    rows = [{**found, "encoder": "encoder 1"}]
    assert len(quality.words(rows)) == 2 and any("video MAE" in text for text in quality.warnings(rows))
    assert not quality.warnings([{**found, "ratio": 0.99, "signal": {**found["signal"], "ratio": None}, "encoder": "e"}])
    again = quality.warnings([{**found, "ratio": 1.0, "encoder": "e"}])[0]
    assert again.startswith("The video MAE of e reconstructs masked patches no better")


def test_signals_alone_stand_by_themselves(trained):
    config, store, plan, folder, scaler = trained
    alone = EncoderPlan(index=0, group=plan.group, folder=folder, key="x", video=None, signal=SIGNAL, lineage=plan.lineage)
    found = measured(trained, plan=alone)
    assert found["kind"] == "signal" and "signal" not in found and FIELDS <= found.keys()


def test_a_damaged_quality_file_is_reported(trained, tmp_path, capsys):
    found = measured(trained)
    encoder = SimpleNamespace(plan=SimpleNamespace(group=None, folder=trained[3], index=0))
    assert quality.of([encoder]) == [{**found, "encoder": "encoder 1"}]
    write_json(tmp_path / quality.FILE, {**with_checksum(found), "ratio": 0.1})
    rows = quality.of([SimpleNamespace(plan=SimpleNamespace(group=None, folder=tmp_path, index=0))])
    assert rows == [{"encoder": "encoder 1", "damaged": True}] and not quality.words(rows)
    assert quality.warnings(rows)[0].startswith("The reconstruction error of encoder 1 is not known: its quality.json is")
    capsys.readouterr()
    origin = SimpleNamespace(folder=tmp_path, video={}, signal=None)
    assert quality._adopted(SimpleNamespace(origin=origin)) == {}
    assert "quality.json is damaged or was edited" in " ".join(capsys.readouterr().out.split())
    (tmp_path / quality.FILE).unlink()
    assert quality.of([SimpleNamespace(plan=SimpleNamespace(group=None, folder=tmp_path, index=0))]) == []
    assert quality.words([{"encoder": "encoder 1"}]) == []


@pytest.mark.parametrize(("count", "each"), [({0: 100, 1: 3}, 12), ({s: 5 for s in range(86)}, 1), ({}, 0), ({3: 0}, 0)])
def test_clips_are_spread_over_subjects(count, each):
    chosen = quality._spread(count)
    assert len(set(chosen)) == len(chosen) <= quality.CLIPS and all(i < count[s] for s, i in chosen)
    assert all(sum(s == person for s, _ in chosen) <= each for person in count)
    assert {s for s, _ in chosen} == set(count) - {3} or len(count) > quality.CLIPS and len(chosen) == quality.CLIPS
