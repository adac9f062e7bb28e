"""A public checkpoint in place of the video MAE: its architecture, its training subjects, and a run through to the folds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.interop import load_marlin
from orchestrator.cohort.lineage import guard
from orchestrator.config.model_inputs import needs
from orchestrator.errors import LineageError, UserError
from orchestrator.files.storage import read_json
from orchestrator.plan import folds
from orchestrator.stores import encoder_store
from orchestrator.stores.clip_store import ClipStore, plan_shards
from orchestrator.stores.public_checkpoint import read_public_checkpoint
from tests.helpers.places import GOLDEN
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE

MARLIN = GOLDEN / "marlin_full.pt"
WORDS = [f"pretrain.checkpoint={MARLIN}", "encoder.heads=3", "encoder.decoder_heads=3", "clip.frames=4"]


@pytest.fixture(scope="module")
def planned(road):
    people = road.cohort()
    clips = ClipStore(road.store, plan_shards(road.config(), people))

    def plan(*words):
        config = road.config(*WORDS, *words)
        return encoder_store.plan_encoders(config, people, clips, folds.make_plan(config, people.people).groups, needs(config))

    return plan


def raw(road, subject):
    return next(clip.recording.subject for clip in road.cohort().clips if clip.subject == subject)


def test_the_golden_file_goes_through_to_tokens_and_folds(road, inline, tmp_path):
    mine = road.copy(tmp_path, run=False)
    assert mine.main(*WORDS, "pretrain.checkpoint_saw=none", "max_folds=2") == 0
    assert len(inline["pretrain"]) == 2 and len(inline["loso"]) == 2
    assert len(inline["embed"]) == PEOPLE, "two encoders of the same weights have the same tokens"
    news = [p for p in mine.store.glob("tokens/*/*.npy") if np.load(p, mmap_mode="r").shape[-1] == 24]
    assert len(news) == PEOPLE and all(np.load(p).shape == (2 * CLIPS_PER_LEVEL, 2, 24) for p in news)
    summary = mine.summary()
    assert summary["unproven"] is False and summary["leaky"] is False and summary["encoder"] == "marlin"
    for side in mine.store.glob("encoders/*/encoder.json"):
        if read_json(side)["checkpoint"]:
            config = mine.config(*WORDS)
            stored, theirs = checkpoint.read_weights(side.parent / "video")[0], load_marlin(MARLIN, 3, 3, 4).state_dict()
            assert stored.keys() == theirs.keys() and all(torch.equal(stored[name], theirs[name]) for name in stored)
            assert read_public_checkpoint(config).sha256 == read_json(side)["checkpoint"]


def test_its_training_subjects_are_unknown(road, inline, tmp_path):
    mine = road.copy(tmp_path, run=False)
    assert mine.main(*WORDS, "model=video", "max_folds=1") == 0
    assert inline["pretrain"] == [], "nothing is trained where the signals are not read"
    summary = mine.summary()
    assert summary["unproven"] is True
    assert "unproven" in (mine.run / "report.html").read_text().lower()


def test_a_list_of_subjects_is_checked_against_the_folds(road, planned, tmp_path):
    seen = tmp_path / "seen.txt"
    people = road.cohort()
    seen.write_text(f"# who was in it\n{raw(road, 0)}\n{people.name}/{raw(road, 3)}  # and here\n\n"
                    f"elsewhere/{raw(road, 1)}\n")
    one, two = planned(f"pretrain.checkpoint_saw={seen}")
    for plan in (one, two):
        assert plan.lineage.everyone() == {*people.keys(plan.group.subjects), *people.keys([0, 3])}
        assert plan.lineage.is_proven()
        with pytest.raises(LineageError, match="checkpoint"):
            guard(people.keys([3]), [plan.lineage])


def test_without_the_signals_only_the_file_has_training_subjects(road, planned):
    one, two = planned("model=video", "pretrain.checkpoint_saw=none")
    assert one.lineage.everyone() == set() and one.key == two.key and one.trains == two.trains == (False, False)
    (none,) = planned("pretrain=none", "protocol.val=fixed_epochs", f"pretrain.checkpoint={MARLIN}")
    assert none.foreign and not none.lineage.is_proven() and none.signal is None


def test_who_was_seen_is_part_of_the_artefact(planned, tmp_path):
    keys = {planned(f"pretrain.checkpoint_saw={saw}")[0].key for saw in ("none", "unknown")}
    assert len(keys) == 2
    assert planned()[0].key == planned("pretrain.video.epochs=7")[0].key != planned("pretrain.signal.epochs=7")[0].key


@pytest.mark.parametrize("words, told", [
    (["pretrain.checkpoint=/x/marlin.pt"], "is not a file: give a MARLIN checkpoint"),
    (["clip.frames=6"], "clip.frames, encoder.heads"),
    (["encoder.heads=null"], "give its number of heads with heads="),
    (["pretrain.checkpoint_saw=/x/people.txt"], "give none, unknown, or a text file"),
    ([f"pretrain.checkpoint={Path(__file__)}"], "holds other data than tensors"),
])
def test_mistakes_are_one_sentence(planned, words, told):
    with pytest.raises(UserError, match=told) as error:
        planned(*words)
    assert "\n" not in str(error.value)


def test_a_stranger_in_the_list_is_a_mistake(planned, tmp_path):
    seen = tmp_path / "seen.txt"
    seen.write_text("no such person\n")
    with pytest.raises(UserError, match="names 'no such person', who is not a subject of this cohort"):
        planned(f"pretrain.checkpoint_saw={seen}")
