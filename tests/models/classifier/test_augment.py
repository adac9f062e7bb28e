"""Augmentation of training signals: each effect, no effect by default, and dependence on the seed."""

import math

import pytest
import torch

from models.classifier.augment import SignalAugmentation, augment, jitter, mirror, rotate, rotations, scale, warp
from models.errors import ModelError

VECTORS = [[0, 1, 2], [3, 4, 5]]
EVERY = {"signal_stretch": 0.1, "signal_shift": 5.0, "signal_mirror": [-1, 1, 1, 1, -1, -1], "signal_rotate": 10.0,
         "signal_vectors": VECTORS, "signal_scale": 0.1, "signal_mix": 0.1, "signal_noise": 0.1}


@pytest.fixture(autouse=True)
def seeded():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_by_default_nothing_is_augmented_and_nothing_is_drawn():
    x = torch.randn(3, 20, 6)
    state = torch.get_rng_state()
    assert augment(x, SignalAugmentation()) is x and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "signal_vectors"])
def test_every_augmentation_depends_on_the_seed_and_differs_by_window(name):
    x = torch.randn(1, 20, 6).expand(64, -1, -1)
    changes = SignalAugmentation(**{name: EVERY[name], "signal_vectors": VECTORS})
    torch.manual_seed(5)
    first = augment(x, changes)
    torch.manual_seed(5)
    assert torch.equal(first, augment(x, changes)) and not torch.equal(first, augment(x, changes))
    assert first.shape == x.shape and torch.isfinite(first).all() and len(torch.unique(first, dim=0)) >= 2


def test_all_augmentations_together_pass_the_gradient_on():
    x = torch.randn(4, 20, 6, requires_grad=True)
    augment(x, SignalAugmentation(**EVERY)).square().sum().backward()
    assert (x.grad.abs().sum((1, 2)) > 0).all()


def test_a_shifted_window_has_reflect_padding():
    x = torch.arange(50.0)[None, :, None].expand(200, -1, 2)
    moved = warp(x, shift=8.0)
    start = moved[:, 25, 0] - 25
    assert float(start.min()) > -8 and float(start.max()) < 8 and float(start.std()) > 3
    at = torch.arange(50.0) + start[:, None]
    torch.testing.assert_close(moved[..., 1], 49 - (49 - at.abs()).abs(), atol=1e-4, rtol=1e-4)


def test_a_stretched_window_keeps_its_middle_and_changes_its_speed():
    x = torch.arange(51.0)[None, :, None].expand(4000, -1, 1)
    fast = warp(x, stretch=0.1)
    torch.testing.assert_close(fast[:, 25, 0], torch.full((4000,), 25.0))
    assert float((fast[:, 26, 0] - fast[:, 25, 0]).log().std()) == pytest.approx(0.1, rel=0.05)
    assert float(warp(x, stretch=3.0).max()) <= 50 and float(warp(x, stretch=3.0).min()) >= 0


def test_half_of_the_windows_are_mirrored():
    x = torch.randn(1000, 5, 3)
    changed = mirror(x, [-1, 1, 1])
    flipped = (changed[..., 0] == -x[..., 0]).all(1)
    assert 400 < int(flipped.sum()) < 600 and torch.equal(changed[..., 1:], x[..., 1:])
    assert torch.equal(changed[~flipped], x[~flipped])


def test_rotations_are_rotations_of_the_stated_size_and_turn_all_vectors_alike():
    turns = rotations(4000, 12.0, torch.zeros(1, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64).expand_as(turns)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(4000, dtype=torch.float64))
    angle = ((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).arccos()
    assert math.degrees(float(angle.square().mean().sqrt())) == pytest.approx(12.0, rel=0.05)
    x = torch.randn(2, 10, 3)
    both = rotate(torch.cat([x, 2 * x, x[..., :1]], -1), 20.0, VECTORS)
    torch.testing.assert_close(both[..., 3:6], 2 * both[..., :3])
    assert torch.equal(both[..., 6:], x[..., :1]) and not torch.allclose(both[..., :3], x)


def test_every_channel_of_a_window_has_one_gain():
    x = torch.rand(2000, 4, 3) + 1
    gain = scale(x, 0.2) / x
    torch.testing.assert_close(gain, gain[:, :1].expand_as(gain))
    assert float(gain.log().std()) == pytest.approx(0.2, rel=0.05)


def test_jitter_mixes_channels_and_adds_noise_of_the_stated_size():
    x = torch.randn(400, 30, 3)
    noise = jitter(x, noise=0.5) - x
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02) and abs(float(noise.mean())) < 0.02
    mixed = jitter(x, mix=0.2)
    mixing = torch.linalg.lstsq(x, mixed).solution - torch.eye(3)  # one matrix per sample explains all its steps
    torch.testing.assert_close(x @ (mixing + torch.eye(3)), mixed, atol=1e-4, rtol=1e-4)
    assert float(mixing.std()) == pytest.approx(0.2, rel=0.05) and not torch.allclose(mixing[0], mixing[1])


@pytest.mark.parametrize("change", [{"signal_mirror": [1, -1]}, {"signal_rotate": 5.0, "signal_vectors": [[0, 1]]},
                                    {"signal_rotate": 5.0, "signal_vectors": [[0, 1, 6]]},
                                    {"signal_rotate": 5.0, "signal_vectors": [[0, 1, 2], [2, 3, 4]]}])
def test_channels_that_do_not_fit_are_named(change):
    with pytest.raises(ModelError, match="channel"):
        augment(torch.zeros(2, 5, 6), SignalAugmentation(**change))
