"""A model that reads no video decodes none; one that reads video, or counts its keyframes, does."""

import shutil

import pytest

from models.registry import MODELS
from orchestrator.cohort import cohort
from orchestrator.config.configuration import compose
from orchestrator.config.model_inputs import TOKENS, VIDEO, reads_video
from orchestrator.stages import make_clips
from orchestrator.stores import clip_store
from preprocessing.face.engine import FaceEngine
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE

SIGNAL_MODELS = sorted(name for name in MODELS if not MODELS[name].needs & (TOKENS | VIDEO))


def config(tree, store, *words):
    return compose("biovid_a", [f"data.root={tree}", f"store={store}", "signal.length=32", "signal.emd=false", *words])


@pytest.mark.parametrize("model", SIGNAL_MODELS)
def test_what_reads_signals_alone_reads_no_video(model):
    assert not reads_video(compose("synthetic", [f"model={model}"]))


def test_what_reads_video():
    assert {name for name in MODELS if reads_video(compose("synthetic", [f"model={name}"]))} == set(MODELS) - set(SIGNAL_MODELS)
    for feature, wanted in (("gsr_peak", False), ("clip_length", False), ("n_frames", True), ("n_keyframes", True)):
        assert reads_video(compose("synthetic", ["model=one_number", f"model.feature={feature}"])) == wanted


@pytest.mark.parametrize("model", ["signal", "ridge", "signal_small"])
def test_no_video_is_decoded_for_signals(tree, signal_tree, tmp_path, model, inline, monkeypatch):
    def opened(*arguments, **options):
        raise AssertionError("a film was opened")

    monkeypatch.setattr(FaceEngine, "process", opened)
    own = config(tree, tmp_path / "store", f"model={model}")
    store = make_clips.ensure(own, cohort.load(own))
    assert sum(side["quality"]["clips"] for side in store.sides.values()) == 2 * PEOPLE * CLIPS_PER_LEVEL
    # the same signals as in a cohort without any video
    plain = config(signal_tree, tmp_path / "plain", f"model={model}")
    other = make_clips.ensure(plain, cohort.load(plain))
    for person in range(PEOPLE):
        assert (store.signals(person).signals == other.signals(person).signals).all()
        assert not store.signals(person).n_crops.any()


def test_a_store_with_video_and_one_without_exist_side_by_side(tree, tmp_path):
    jobs = {model: clip_store.plan_shards(own := config(tree, tmp_path, f"model={model}"), cohort.load(own))
            for model in ("dual", "signal", "ridge")}
    folders = {model: {job.path.parent for job in found} for model, found in jobs.items()}
    assert folders["signal"] == folders["ridge"] and not folders["signal"] & folders["dual"]


def test_a_missing_video_excludes_nothing_for_a_signal_model(tree, tmp_path, inline):
    root = tmp_path / "tree"
    shutil.copytree(tree, root)
    film = sorted(root.rglob("*.mp4"))[0]
    film.write_bytes(b"no film")
    own = config(root, tmp_path / "store", "model=ridge")
    assert make_clips.ensure(own, cohort.load(own)).quarantine() == []
    private = tmp_path / "store" / "private"
    other = private / "quarantine-biovid_a.json"
    other.write_text("[]")  # that of a store with videos stays
    make_clips.ensure(own, cohort.load(own))
    assert other.exists() and not (private / "quarantine-biovid_a-signals.json").exists()


def test_a_clip_with_only_a_video_is_excluded_with_a_reason(tree, tmp_path, inline):
    root = tmp_path / "tree"
    shutil.copytree(tree, root)
    sorted((root / "biosignals_raw").rglob("*.csv"))[0].unlink()
    own = config(root, tmp_path / "store", "model=ridge", "data.allow_partial=true")
    (row,) = make_clips.ensure(own, cohort.load(own)).quarantine()
    assert row["stage"] == "signal" and row["fix"].endswith(".")
    assert (tmp_path / "store" / "private" / "quarantine-biovid_a-signals.json").exists()
