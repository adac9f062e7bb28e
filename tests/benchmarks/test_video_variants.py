"""What the probe's own ways of pretraining make of a clip: benchmarks/video_variants.py."""

import numpy as np
import torch

from benchmarks.video_variants import ChangeObjective, Variant, change, vary
from models.mae.masks import tube_mask
from models.mae.video_mae import VideoMAE

CLIP = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def test_a_view_is_drawn_by_its_seed_and_all_its_frames_alike():
    still = np.repeat(CLIP[:1], 4, 0)
    for variant in (Variant(colour=0.2), Variant(geometry=0.75), Variant(0.2, 0.75)):
        one, again, other = (vary(still, variant, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one.shape == still.shape and one.dtype == np.uint8 and np.array_equal(one, again)
        assert not np.array_equal(one, other) and not np.array_equal(one, still)
        assert all(np.array_equal(frame, one[0]) for frame in one)
    assert vary(CLIP, Variant(), np.random.default_rng(1)) is CLIP


def test_a_change_is_what_differs_from_the_mean_frame():
    video = torch.rand(2, 3, 4, 32, 32)
    assert change(video).mean(2).abs().max() < 1e-6 and change(video[:, :, :1].expand_as(video)).abs().max() == 0
    mae = VideoMAE(scale="micro", image_size=32, frames=4, patch=8)
    visible = tube_mask(2, mae.grid, 0.5)
    with torch.no_grad():
        losses = ChangeObjective(mae)(video, visible)
        target = mae.tubelets(change(video))[~visible].reshape(2, -1, mae.patch_values)
        expected = (mae.reconstruct(video, visible) - target).square().mean()
    assert torch.allclose(losses["loss_generator"], expected) and losses["loss_critic"] == 0
