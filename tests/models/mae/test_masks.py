import pytest
import torch
from torch import Generator

from models.errors import ModelError
from models.mae import masks

GRID = (8, 14, 14)


def gen(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_tube_keeps_160_of_1568_at_the_same_positions_in_every_slice():
    mask = masks.tube_mask(5, GRID, 0.9, gen())
    assert mask.shape == (5, 1568) and mask.dtype == torch.bool
    slices = mask.view(5, 8, 196)
    assert (slices.sum(-1) == 20).all() and (mask.sum(1) == 160).all()
    assert (slices == slices[:, :1]).all()
    assert not (mask[0] == mask[1]).all()


@pytest.mark.parametrize("kind, visible", [("tube", 160), ("random", 157), ("frame", 196)])
def test_the_count_is_exact_for_every_kind(kind, visible):
    assert (masks.KINDS[kind](7, GRID, 0.9, gen()).sum(1) == visible).all()


def test_frame_masks_whole_slices():
    slices = masks.frame_mask(4, GRID, 0.75, gen()).view(4, 8, 196)
    assert (slices.all(-1) | ~slices.any(-1)).all() and (slices.all(-1).sum(1) == 2).all()


def test_random_masks_every_token_sometimes():
    seen = masks.random_mask(400, (2, 3, 4), 0.5, gen()).float().mean(0)
    assert ((seen - 0.5).abs() < 0.12).all()


@pytest.mark.parametrize(
    "n, ratio, hidden", [(196, 0.9, 176), (1568, 0.9, 1411), (10, 0.7, 7), (100, 0.29, 29), (4, 0.99, 3)]
)
def test_ratio_is_floored_but_not_by_rounding_errors_and_leaves_one_visible(n, ratio, hidden):
    assert masks.n_masked(n, ratio) == hidden


@pytest.mark.parametrize("ratio", [1.0, -0.1])
def test_an_impossible_ratio_is_an_error_of_the_user(ratio):
    with pytest.raises(ModelError, match="ratio"):
        masks.tube_mask(1, GRID, ratio)


def runs(masked: torch.Tensor) -> list[int]:
    """Lengths of the masked runs of one chain, without the last one (truncated by the end of the window)."""
    lengths, now = [], 0
    for value in masked.tolist():
        if value:
            now += 1
        elif now:
            lengths.append(now)
            now = 0
    return lengths


@pytest.mark.parametrize("ratio, mean_length", [(0.3, 3.0), (0.5, 5.0), (0.15, 1.0)])
def test_markov_masks_the_ratio_in_runs_of_the_mean_length(ratio, mean_length):
    masked = ~masks.markov_mask(2000, 400, 1, ratio, mean_length, gen())
    assert abs(masked.float().mean().item() - ratio) < 0.01
    # every start is as likely as any other: the chain begins in its stationary state
    assert abs(masked[:, :20].float().mean().item() - ratio) < 0.03
    lengths = [n for row in masked[:200, :, 0] for n in runs(row)]
    assert abs(sum(lengths) / len(lengths) - mean_length) < 0.05 * mean_length


def test_markov_transition_probabilities_are_those_of_the_two_state_chain():
    masked = ~masks.markov_mask(3000, 100, 1, 0.3, 3.0, gen())[..., 0]
    before, after = masked[:, :-1], masked[:, 1:]
    assert abs((~after)[before].float().mean().item() - 1 / 3) < 0.01
    assert abs(after[~before].float().mean().item() - (1 / 3) * 0.3 / 0.7) < 0.01


def test_markov_options():
    separate = masks.markov_mask(3, 50, 4, generator=gen())
    assert separate.shape == (3, 50, 4) and not (separate == separate[..., :1]).all()
    together = masks.markov_mask(3, 50, 4, generator=gen(), concurrent=True)
    assert (together == together[..., :1]).all()
    points = ~masks.markov_mask(500, 100, 2, 0.3, 9.0, gen(), bernoulli=True)
    lengths = [n for row in points[:100, :, 0] for n in runs(row)]
    assert abs(sum(lengths) / len(lengths) - 1 / 0.7) < 0.1  # no memory, for any mean_length
    hard = ~masks.markov_mask(500, 200, 1, 0.3, 3.0, gen(), harden_steps=4)
    assert abs(hard.float().mean().item() - 0.5) < 0.02


def test_harden_grows_to_its_ceiling_and_never_softens():
    assert masks.harden(0.3, 3, 0) == (0.3, 3)
    assert masks.harden(0.3, 3, 100) == (0.9, 20.0)
    assert masks.harden(0.95, 30, 5) == (0.95, 30)


def test_markov_refuses_a_chain_that_cannot_exist():
    with pytest.raises(ModelError, match="mean_length"):
        masks.markov_mask(1, 10, 1, ratio=0.9, mean_length=1.0)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("tube", {"grid": (2, 4, 4), "ratio": 0.5}),
        ("random", {"grid": (2, 4, 4), "ratio": 0.5}),
        ("frame", {"grid": (4, 2, 2), "ratio": 0.5}),
        ("markov", {"length": 40, "channels": 3}),
    ],
)
def test_seeded_masks_do_not_depend_on_the_batch(kind, options):
    seeds = [masks.sample_seed(1, 0, 0, i) for i in range(6)]
    whole = masks.mask_from_seeds(kind, seeds, **options)
    halves = [masks.mask_from_seeds(kind, seeds[i::2], **options) for i in (0, 1)]
    assert (whole[0::2] == halves[0]).all() and (whole[1::2] == halves[1]).all()
    assert not (whole == whole[:1]).all()


def test_seeds_differ_and_stay():
    seeds = {masks.sample_seed(0, epoch, step, i) for epoch in range(5) for step in range(5) for i in range(20)}
    assert len(seeds) == 500
    assert masks.sample_seed(3, 1, 4, 1) == masks.sample_seed(3, 1, 4, 1)
    alpha = masks.uniform_from_seeds([5, 6, 5], 4)
    assert alpha.shape == (3, 4) and (alpha[0] == alpha[2]).all() and (alpha[0] != alpha[1]).any()
    assert (alpha >= 0).all() and (alpha < 1).all()
    assert not torch.equal(alpha[:1], torch.rand(1, 4, generator=gen(5)))  # not the draws of the mask of that seed


def test_an_unknown_kind_is_named():
    with pytest.raises(ModelError, match="fasking"):
        masks.mask_from_seeds("fasking", [1])
