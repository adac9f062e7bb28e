"""A reconstruction compared with the visible mean: numbers computed by hand."""

import pytest
import torch

from models.mae.scores import against_visible_mean, signal_against_visible_mean
from models.mae.signal_mae import SignalMAE
from models.mae.video_mae import VideoMAE


def test_the_baseline_is_the_visible_mean_of_each_clip_and_colour(monkeypatch):
    mae = VideoMAE("micro", image_size=32, frames=2, depth=1, decoder_depth=1).eval()
    visible = torch.tensor([[True, False, False, True]])
    video = torch.zeros(1, 3, 2, 32, 32)
    video[:, 0] = 0.4  # one colour is uniform: its prediction is exact
    video[:, 1, :, :16, :16] = 1.0  # of the two visible places one is green: the guess is 0.5 where 0 is hidden
    monkeypatch.setattr(mae, "reconstruct", lambda v, m: torch.full((1, 2, mae.patch_values), 0.4))
    error, mean_error = against_visible_mean(mae, video, visible)
    assert mean_error == pytest.approx(0.25 / 3) and error == pytest.approx(2 * 0.16 / 3)


def test_the_visible_mean_of_standardised_tubelets_is_0():
    """Half of each tubelet is dark: its standardised values are +-1 (16 x 16 x 2 values: 511 / 512 of the variance)."""
    mae = VideoMAE("micro", image_size=32, frames=2, norm_target=True, depth=1, decoder_depth=1).eval()
    visible = torch.tensor([[True, False, False, True]])
    video = torch.zeros(1, 3, 2, 32, 32)
    video[:, :, 0] = 0.6
    mae.reconstruct = lambda v, m: torch.full((1, 2, mae.patch_values), 1.0)
    error, mean_error = against_visible_mean(mae, video, visible)
    z2 = 511 / 512
    assert mean_error == pytest.approx(z2, rel=1e-4) and error == pytest.approx(1 + z2, rel=1e-4)


def test_the_baseline_of_signals_is_the_visible_mean_of_each_window_and_channel(monkeypatch):
    mae = SignalMAE(n_channels=2, length=4, dim=8, depth=1, heads=2, ff=8, decoder_depth=1).eval()
    signals = torch.tensor([[[1.0, 5], [3, 5], [8, 5], [0, 5]]])
    unmasked = torch.tensor([[[True, False], [True, False], [False, False], [True, False]]])
    # channel 0: visible mean 4/3, 8 is hidden; channel 1: nothing is visible, the guess is 0 where 5 is hidden four times
    monkeypatch.setattr(mae, "reconstruct", lambda x, m: torch.full((1, 4, 2), 6.0))
    error, mean_error = signal_against_visible_mean(mae, signals, unmasked)
    assert error == pytest.approx((4 + 4 * 1) / 5) and mean_error == pytest.approx(((8 - 4 / 3) ** 2 + 4 * 25) / 5)
