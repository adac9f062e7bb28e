"""A reconstruction against the visible mean: numbers that can be reckoned by hand."""

import pytest
import torch

from models.mae_scores import against_visible_mean
from models.video_mae import VideoMAE


def test_the_guess_is_each_clips_visible_mean_of_each_colour(monkeypatch):
    mae = VideoMAE("micro", image_size=32, frames=2, depth=1, decoder_depth=1).eval()
    visible = torch.tensor([[True, False, False, True]])
    video = torch.zeros(1, 3, 2, 32, 32)
    video[:, 0] = 0.4  # one colour is even: its guess is exact
    video[:, 1, :, :16, :16] = 1.0  # of the two visible places one is green: the guess is 0.5 where 0 is hidden
    monkeypatch.setattr(mae, "reconstruct", lambda v, m: torch.full((1, 2, mae.patch_values), 0.4))
    error, mean_error = against_visible_mean(mae, video, visible)
    assert mean_error == pytest.approx(0.25 / 3) and error == pytest.approx(2 * 0.16 / 3)


def test_a_standardised_target_is_no_pixel():
    with pytest.raises(ValueError, match="standardised"):
        against_visible_mean(VideoMAE("micro", image_size=32, norm_target=True, depth=1), torch.zeros(1), torch.zeros(1))
