"""Folds with baselines that read pixels: clips decoded from the clip store, small frames, small networks."""

import pickle

import numpy as np
import pytest

from models.classifier.batches import Batches
from orchestrator import cli, loso
from orchestrator.evaluation import fold_data
from orchestrator.evaluation.fit_fold import FoldRecipe
from orchestrator.stages import make_clips
from preprocessing.face.keyframes import window
from preprocessing.shard import FrameReader, decode_window
from tests.helpers.made_data import TRAIN, changed, encoder, fit_entry, fold, made_data
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, TINY, Road

pytestmark = pytest.mark.ci
SMALL = {
    "resnet3d": {}, "vit3d": {"width": 16, "depth": 1, "heads": 2, "mlp": 16},
    "vgg_rnn": {"backbone": "test_resnet", "width": 8},
    "e2e_mer": {"backbone": "test_resnet", "width": 8, "signal_width": 8},
    "mte_mer": {"backbone": "test_resnet", "width": 8, "layers": 1, "label_width": 4}}
WORDS = [w for w in TINY if not w.startswith(("model.", "encoder"))] + ["encoder=vit_micro", "encoder.image_size=32",
                                                                       "clip.frames=4", "train.max_epochs=1", "max_folds=1"]


@pytest.mark.parametrize("model", SMALL)
def test_a_fold_reads_clips_and_only_the_others(model):
    data = made_data(n_clips=2, tokens=False, frames=True)
    how = FoldRecipe(model=model, options=SMALL[model], train={**TRAIN, "max_epochs": 1}, refit=False, leaky=False,
                     fixed_epochs=False)
    plain, test, other = (fit_entry(fold(2), d, how, encoder()) for d in (data, changed(data, [2]), changed(data, [1])))
    assert plain["n_parameters"] > 100 and plain["n_test"] == 2 and plain["epochs"] == 1
    assert plain["weights_sha256"] == test["weights_sha256"] != other["weights_sha256"]
    assert [r["prob"] for r in plain["predictions"]] != [r["prob"] for r in test["predictions"]]


@pytest.mark.parametrize("model", ["vit3d", "mte_mer"])
def test_a_run_from_videos(road, inline, tmp_path, model):
    mine = Road(road.root, road.store, tmp_path / "run",
                [*WORDS, f"model={model}", *(f"model.{name}={value}" for name, value in SMALL[model].items())])
    assert mine.main() == 0
    found = mine.summary()
    assert (found["model"], found["encoder"], found["n_folds"]) == (model, None, 1) and found["n_parameters"] > 100
    assert found["folds"][0]["n_test"] == 2 * CLIPS_PER_LEVEL and inline["preprocess"] == inline["pretrain"] == []


def test_a_clip_is_its_centre_window_and_survives_the_way_to_a_worker(road, inline, tmp_path):
    mine = Road(road.root, road.store, tmp_path / "run", [*WORDS, "model=vit3d"])
    config, people = mine.config(), mine.cohort()
    clips = make_clips.ensure_clips(config, people)
    frames = fold_data.build(config, people, clips, [], []).frames
    assert frames.shape == (PEOPLE * 2 * CLIPS_PER_LEVEL, 4, 32, 32, 3)
    reader, shard = FrameReader(clips.paths[3]), clips.signals(3)
    stored = reader.frames(reader.rows()[shard.samples[1]])
    wanted = decode_window(stored, window(len(stored), 4, config.clip.rate), 32)
    row = 3 * 2 * CLIPS_PER_LEVEL + 1
    assert (frames[[row]][0] == wanted).all() and (frames[[row, 0, row]][2] == wanted).all()
    again = pickle.loads(pickle.dumps(frames))  # noqa: S301  our own object, as Ray would carry it
    assert not again._kept and (again[[row]][0] == wanted).all()


def test_pixels_become_batches_of_the_unit_interval():
    import torch

    class Model:
        needs = frozenset({"video"})

    data = made_data(n_clips=2, frames=True)
    batch, _ = Batches(Model(), {"video": data.frames}, np.arange(4), torch.device("cpu")).take(np.array([1]))
    assert batch["video"].shape == (1, 3, 4, 32, 32) and 0 <= batch["video"].min() and batch["video"].max() <= 1


@pytest.mark.parametrize("words", [["model=resnet3d"], ["model=e2e_mer"]])
def test_a_data_set_without_videos_is_refused(ridge, inline, tmp_path, words, capsys):
    mine = Road(ridge.root, ridge.store, tmp_path / "run", [*WORDS, *words])
    assert cli.run(loso.main, mine.argv()) == 2
    assert "reads video, which biovid_a does not have" in capsys.readouterr().err


def test_a_weight_file_is_content_not_a_path(road, tmp_path):
    from orchestrator.evaluation import run_record

    for name, text in (("a.pt", b"one"), ("b.pt", b"one"), ("c.pt", b"two")):
        (tmp_path / name).write_bytes(text)
    made = [Road(road.root, road.store, tmp_path / "run", [*WORDS, "model=resnet3d", f"model.weights={tmp_path / name}"])
            for name in ("a.pt", "b.pt", "c.pt")]
    contents = [run_record._content(m.config()) for m in made]
    assert contents[0] == contents[1] != contents[2]
    assert str(tmp_path) not in str(run_record.portable(made[0].config()))
