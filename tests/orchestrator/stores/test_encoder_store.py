"""Encoders: key, subjects, what happens with a damaged one; and what the pretraining loop guarantees."""

import shutil

import pytest

from orchestrator.config.model_inputs import needs
from orchestrator.errors import UserError
from orchestrator.files.storage import read_checked, read_json
from orchestrator.plan import folds
from orchestrator.stages import make_encoders
from orchestrator.stores import encoder_store
from orchestrator.stores.clip_store import ClipStore, plan_shards
from tests.helpers.roads import hashes, snapshot


@pytest.fixture(scope="module")
def planned(road):
    """plan(*words) -> encoder plans of the session's road with these words."""
    people = road.cohort()

    def plan(*words, clips=None):
        config = road.config(*words)
        store = clips or ClipStore(road.store, plan_shards(road.config(), people))
        groups = folds.make_plan(config, people.people).groups
        return encoder_store.plan_encoders(config, people, store, groups, needs(config))

    return plan


def test_two_groups_two_encoders_and_their_subjects(road, planned):
    one, two = planned()
    assert one.key != two.key and one.lineage.people.isdisjoint(two.lineage.people)
    people = road.cohort()
    assert one.lineage.people == {f"{people.name}/{name}" for name in people.pseudonyms(one.group.subjects)}
    found = encoder_store.open_encoder(one)
    assert found.lineage == one.lineage and found.load_video().training is False
    assert found.signal_state() and len(found.sha256) == 64
    assert {row["stage"] for row in found.curve()} == {"video MAE", "signal MAE"}


@pytest.mark.parametrize("word", ["encoder.dim=32", "pretrain.video.epochs=2", "pretrain.seed=3", "pretrain.signal.lr=0.5",
                                  "smae.dim=8", "model.signal.dim=8", "clip.rate=8", "pretrain.precision=bf16",
                                  "pretrain.signal.split=true", "pretrain.video.accumulate=2"])
def test_what_changes_an_encoder(planned, word):
    assert {p.key for p in planned()}.isdisjoint(p.key for p in planned(word))


@pytest.mark.parametrize(("gpus", "said"), [(0, "3 is more than the 2 available cores: use pretrain.workers=2"),
                                            (1, "3 is more than the 1 available GPUs: use pretrain.workers=1")])
def test_more_workers_than_the_machine_has_are_refused_not_waited_for(road, monkeypatch, gpus, said):
    for name, value in {"start": None, "quiet": None, "cpus": 2, "gpus": gpus}.items():
        monkeypatch.setattr(make_encoders.ray_session, name, lambda *words, value=value: value)
    with pytest.raises(UserError, match=f"pretrain.workers={said}"):
        make_encoders.fit(road.config("pretrain.workers=3"), [], lambda row: None)


@pytest.mark.parametrize("word", ["train.lr=0.1", "task=bl_pa4", "embed.pool=none", "pretrain.workers=2", "protocol.seeds=2",
                                  "pretrain.save_steps=1", "pretrain.save_epochs=null", "pretrain.cache_mb=1",
                                  "model.dcan.dim=32"])
def test_what_does_not(planned, word):
    assert [p.key for p in planned()] == [p.key for p in planned(word)]


def test_recordings_of_other_subjects_do_not(road, planned):
    """An encoder's key depends on the shards of its own group only: no other subject can change it."""
    store = ClipStore(road.store, plan_shards(road.config(), road.cohort()))
    one, two = planned(clips=store)
    stranger = next(s for s in range(7) if s not in one.group.subjects)
    store.sides[stranger] = {**store.sides[stranger], "sha256": "0" * 64}
    assert planned(clips=store)[0].key == one.key
    store.sides[two.group.subjects[0]] = {**store.sides[two.group.subjects[0]], "sha256": "0" * 64}
    assert planned(clips=store)[1].key != two.key


def test_what_a_model_does_not_read_is_not_trained(planned):
    assert all(p.signal is None for p in planned("model=video")) and all(p.video is None for p in planned("model=signal"))
    assert planned("model=ridge") == [] == planned("model=random_forest")
    (random,) = planned("pretrain=none", "protocol.val=fixed_epochs")
    assert random.group is None and random.lineage.people == frozenset() and random.signal is None
    assert planned("model=signal", "pretrain=none") == []


@pytest.mark.parametrize("damage", ["video.safetensors gone", "video.safetensors cut", "video.safetensors changed",
                                    "video.json gone", "signal.safetensors changed", "encoder.json gone", "encoder.json cut",
                                    "encoder.json changed"])
def test_a_damaged_encoder_is_trained_again_to_the_same_bytes(road, inline, tmp_path, damage):
    mine = road.copy(tmp_path)
    name, how = damage.split()
    victim = sorted(mine.store.glob(f"encoders/*/{name}"))[0]
    data, weights = victim.read_bytes(), hashes(mine.store / "encoders")
    if how == "gone":
        victim.unlink()
    else:
        middle = len(data) - 40
        victim.write_bytes(data[: len(data) // 2] if how == "cut" else data[:middle] + b"7" + data[middle + 1:])
    assert victim.exists() == (how != "gone") and hashes(mine.store / "encoders") != weights
    ledger = snapshot(mine.run / "ledger")
    assert mine.main() == 0
    assert len(inline["pretrain"]) == 1 and inline["embed"] == inline["loso"] == []
    now = hashes(mine.store / "encoders")
    assert {n: d for n, d in now.items() if n.endswith(".safetensors")} == {
        n: d for n, d in weights.items() if n.endswith(".safetensors")}
    assert snapshot(mine.run / "ledger") == ledger and mine.summary() == road.summary()
    assert not list(mine.store.glob("encoders/.*.tmp"))


def test_the_files_of_a_killed_training_are_removed(road, inline, tmp_path):
    mine = road.copy(tmp_path, run=False)
    config = mine.config()
    left = mine.store / "encoders" / ".abcd.x.tmp"
    left.mkdir()
    (left / "video.safetensors").write_bytes(b"half")
    side = next(mine.store.glob("encoders/*/encoder.json"))
    side.unlink()
    unfinished = side.parent.with_name(f"{side.parent.name}.partial")
    unfinished.mkdir()
    (unfinished / ".video-00000003.safetensors.x").write_bytes(b"half")
    people = mine.cohort()
    clips, groups = ClipStore(mine.store, plan_shards(config, people)), folds.make_plan(config, people.people).groups
    make_encoders.ensure(config, people, clips, groups)
    assert not left.exists() and len(inline["pretrain"]) == 1 and side.exists() and not unfinished.exists()


def test_time_and_disk_are_reported_and_a_small_disk_is_refused(road, inline, tmp_path, monkeypatch, capsys):
    from orchestrator.files import storage

    mine = road.copy(tmp_path, run=False)
    shutil.rmtree(mine.store / "encoders")
    monkeypatch.setattr(storage, "free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match="Pretraining needs about .* free: choose another disk with store=DIR"):
        mine.main("max_folds=1")
    assert "2 encoders to train: about" in capsys.readouterr().out and inline["pretrain"] == []
    assert not list(mine.store.glob("encoders/*"))


def test_the_scaler_of_pretraining_is_fitted_on_its_group(road, planned):
    from preprocessing.moments import Scaler, fit_scaler

    store = ClipStore(road.store, plan_shards(road.config(), road.cohort()))
    for plan in planned():
        kept = Scaler.from_json(read_json(plan.folder / "scaler.json"))
        own = {s: store.moments(s, [0, 4]) for s in plan.group.subjects}
        assert kept.sha256() == fit_scaler(own, plan.group.subjects).sha256()
        assert read_checked(plan.folder / "encoder.json")["subjects"] == list(plan.group.subjects)


def test_a_group_without_a_usable_clip_is_reported_before_training(road, planned, inline, monkeypatch):
    from dataclasses import replace

    config, people = road.config("pretrain.seed=5"), road.cohort()
    store = ClipStore(road.store, plan_shards(road.config(), people))
    real = store.signals
    monkeypatch.setattr(store, "signals", lambda s: replace(real(s), n_crops=0 * real(s).n_crops))
    with pytest.raises(UserError, match=r"No subject of pretraining group 1 has a usable video clip"):
        make_encoders.ensure(config, people, store, folds.make_plan(config, people.people).groups)
    assert inline["pretrain"] == []
