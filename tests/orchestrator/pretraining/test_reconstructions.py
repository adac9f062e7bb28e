"""Reconstructions: whose face may be shown, frames from tubelets, and reconstructions of unseen subjects."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from models import checkpoint
from models.mae.masks import mask_from_seeds
from models.mae.scores import against_visible_mean
from models.mae.video_mae import VideoMAE
from orchestrator.config.configuration import compose
from orchestrator.pretraining import reconstructions
from orchestrator.pretraining.data import GroupClips
from orchestrator.pretraining.loop import train_job
from orchestrator.pretraining.objectives import Job, Rank, as_video
from orchestrator.stores.cross_dataset import join
from tests.helpers.made_shards import shards_of, waves


def test_only_real_faces_that_the_paper_shows_are_shown(road, monkeypatch):
    people = road.cohort()
    assert people.synthetic and reconstructions.may_show(people) == list(range(7))
    real = replace(people, synthetic=False, name="biovid")
    assert reconstructions.may_show(real) == [] == reconstructions.may_show(replace(real, name="watch"))
    shown = next(clip.recording.subject for clip in real.clips if clip.subject == 2)
    monkeypatch.setattr(reconstructions, "SHOWN_IN_PAPER", (shown,))
    assert reconstructions.may_show(real) == [2] and reconstructions.may_show(replace(real, name="ai4pain")) == []


def test_real_subjects_beside_synthetic_ones_stay_protected(road):
    people = road.cohort()
    real = replace(people, synthetic=False, name="biovid")
    config = road.config("split=cross_dataset", "split.test=synthetic")
    for first, second, shown in ((real, people, range(7, 14)), (people, real, range(7)), (people, people, range(14))):
        joined = join(config, first, second)
        assert reconstructions.may_show(joined) == list(shown) and joined.synthetic == (len(shown) == 14)
        assert any("are synthetic" in note for note in joined.notes) == (len(shown) == 7)


def test_every_encoder_leaves_its_picture(road):
    pictures = sorted(road.store.glob("encoders/*/reconstructions.png"))
    assert len(pictures) == 2
    for path in pictures:
        assert cv2.imread(str(path)).shape == (3 * reconstructions.SUBJECTS * 32, reconstructions.FRAMES * 32, 3)


@pytest.mark.parametrize("norm_target", [False, True])
def test_tubelets_go_back_where_they_were(norm_target):
    torch.manual_seed(0)
    mae = VideoMAE("micro", image_size=32, depth=1, decoder_depth=1, norm_target=norm_target).eval()
    clip = waves(0, 0, 16, 32)[None]
    assert np.array_equal(reconstructions.frames(mae, mae.tubelets(as_video(clip, torch.device("cpu")))), clip)
    with torch.no_grad():
        picture = reconstructions.reconstruct(mae, clip, "tube", 0.5)
    assert picture.shape == (3 * 32, 4 * 32, 3)
    original, seen, restored = picture[:32], picture[32:64], picture[64:]
    visible = (seen == original).all(-1)
    assert np.array_equal(restored[visible], original[visible]) and 0.3 < visible.mean() < 0.7
    assert not np.array_equal(restored, original) and (seen[~visible] == 128).mean() > 0.9  # half of 255, rounded


@pytest.mark.slow
def test_unseen_faces_are_reconstructed_twice_as_well_as_by_the_visible_mean(tmp_path):
    """A tiny video MAE with critic, trained on twelve subjects; three quarters are masked for four others."""
    config = compose("synthetic", [f"store={tmp_path}", "synthetic.subjects=16", "synthetic.clips_per_level=1",
                                   "synthetic.size=[160,120]", "signal.emd=false"])
    shards = [(job.subject, job.path) for job in shards_of(config, video=True)]
    options = {"scale": "micro", "image_size": 32, "patch": 4, "frames": 4, "depth": 2, "decoder_dim": 64}
    recipe = {"video": {"epochs": 240, "batch": 8, "lr": 0.096, "warmup": 24, "mask": "tube", "mask_ratio": 0.75},
              "save_epochs": None, "save_seconds": None}
    work = Job(name="encoder 1", out=tmp_path, shards=shards[:12], video=options, signal=None, signals=None, samples=[],
               lineage={}, recipe=recipe, clip={"frames": 4, "rate": 16}, seed=0)
    train_job(work, Rank(), lambda row: None)
    mae = VideoMAE(**options)
    checkpoint.load(tmp_path / "video", mae)
    clips = GroupClips(shards[12:], 4, 16, 32)
    video = as_video(np.stack([clips.clip(i, None) for i in range(len(clips))]), torch.device("cpu"))
    visible = mask_from_seeds("tube", list(range(len(clips))), grid=mae.grid, ratio=0.75)
    error, mean_error = against_visible_mean(mae.eval(), video, visible)
    untrained, _ = against_visible_mean(VideoMAE(**options).eval(), video, visible)
    assert error <= mean_error / 2 < untrained, (error, mean_error, untrained)
