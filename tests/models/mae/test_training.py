import copy

import pytest
import torch

from models.errors import ModelError
from models.mae.critic import Critic
from models.mae.masks import markov_mask, mask_from_seeds, random_mask, tube_mask, uniform_from_seeds
from models.mae.signal_mae import SignalMAE
from models.mae.training import (
    SignalMAEObjective,
    SignalMAERecipe,
    VideoMAEObjective,
    VideoMAERecipe,
    scored,
    set_lr,
    signal_optimisers,
    signal_step,
    video_lr,
    video_optimisers,
    video_step,
)
from models.mae.video_mae import VideoMAE

pytestmark = pytest.mark.medium
torch.set_num_threads(1)


def small_mae(**options) -> VideoMAE:
    return VideoMAE("micro", image_size=32, frames=4, depth=2, **options)


@pytest.fixture
def objective() -> VideoMAEObjective:
    torch.manual_seed(0)
    return VideoMAEObjective(small_mae(), Critic(1536, 32))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    seeds = [11, 12, 13, 14]
    video = torch.rand(4, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    return video, mask_from_seeds("tube", seeds, grid=(2, 2, 2), ratio=0.5), uniform_from_seeds(seeds, 4)


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_losses_are_the_formulas(objective, batch):
    video, visible, alpha = batch
    losses = objective(video, visible, alpha)
    mae, critic = objective.mae, objective.critic
    fake = mae.reconstruct(video, visible)
    real = mae.patchify(video)[~visible].view(fake.shape)
    rec = (fake - real).square().mean()
    difference = critic(fake).mean() - critic(real).mean()
    torch.testing.assert_close(losses["reconstruction"], rec)
    torch.testing.assert_close(losses["loss_generator"], rec - 0.01 / 1536 * critic(fake).mean())
    torch.testing.assert_close(losses["loss_critic"], difference + 10 * critic.penalty(real, fake, alpha))
    torch.testing.assert_close(losses["wasserstein"], -difference)


def test_the_critic_weighs_as_beside_the_squared_norm_of_a_token():
    """By hand: one token hidden of two, P = 6 values, all 0.5 predicted as 0.3; f(x) = 2 x_0, a linear critic.

    Eq. 3's squared norm is 6 x 0.04 = 0.24 and Eq. 4's term 0.5 x 0.6 = 0.3: together -0.06, a sixth of it a value.
    The pull on a value of that token, before the division by P: 2 x (0.3 - 0.5) = -0.4, and -0.5 x 2 = -1 on the first.
    """
    mae = VideoMAE("micro", image_size=2, frames=2, tubelet=2, patch=1, depth=1, decoder_depth=1)
    assert mae.patch_values == 6 and mae.n_tokens == 4
    painted = torch.full((1, 1, 6), 0.3, requires_grad=True)
    critic = Critic(6, 1)
    with torch.no_grad():
        critic.hidden.weight.zero_()
        critic.hidden.weight[0, 0] = 2.0
        critic.hidden.bias.zero_()
        critic.score.weight.fill_(1.0)
        critic.score.bias.zero_()
    objective = VideoMAEObjective(mae, critic, adv_weight=0.5, gp=0.0)
    mae.predict = lambda pixels, visible, masked: painted  # type: ignore[method-assign]
    losses = objective(torch.full((1, 3, 2, 2, 2), 0.5), torch.tensor([[True, True, True, False]]))
    assert losses["loss_generator"].item() == pytest.approx((0.24 - 0.3) / 6)
    assert losses["reconstruction"].item() == pytest.approx(0.04)
    losses["loss_generator"].backward()
    pull = (6 * painted.grad[0, 0]).tolist()
    assert pull == pytest.approx([-1.4, -0.4, -0.4, -0.4, -0.4, -0.4])


def test_one_backward_of_the_sum_gives_each_player_its_own_gradient(objective, batch):
    losses = objective(*batch)
    (losses["loss_generator"] + losses["loss_critic"]).backward()
    together = gradients(objective)
    objective.zero_grad()
    objective(*batch)["loss_generator"].backward()
    assert all(name.startswith("mae.") for name in gradients(objective))
    alone = gradients(objective)
    objective.zero_grad()
    objective(*batch)["loss_critic"].backward()
    assert all(name.startswith("critic.") for name in gradients(objective))
    alone |= gradients(objective)
    assert alone.keys() == together.keys() == dict(objective.named_parameters()).keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value)


def test_the_generator_raises_the_score_and_the_critic_the_difference(batch):
    torch.manual_seed(0)
    objective = VideoMAEObjective(small_mae(), Critic(1536, 32), adv_weight=10.0 * 1536)
    video, visible, alpha = batch
    before = objective(video, visible, alpha)
    generator_only = {"generator": torch.optim.SGD(objective.mae.parameters(), 1e-3)}
    video_step(objective, generator_only, video, visible, alpha)
    assert objective(video, visible, alpha)["fake_score"] > before["fake_score"]

    critic_only = {"critic": torch.optim.SGD(objective.critic.parameters(), 1e-3)}
    objective.gp = 0.0
    before = objective(video, visible)
    for _ in range(5):
        video_step(objective, critic_only, video, visible)
    assert objective(video, visible)["wasserstein"] > before["wasserstein"]


def test_without_a_critic_and_without_a_penalty(batch):
    video, visible, _ = batch
    plain = VideoMAEObjective(small_mae())
    losses = plain(video, visible)
    assert losses["loss_critic"] == 0 and losses["loss_generator"] == losses["reconstruction"]
    released = VideoMAEObjective(small_mae(), Critic(1536, 8), gp=0.0)(video, visible)
    torch.testing.assert_close(released["loss_critic"], -released["wasserstein"])
    with pytest.raises(ValueError, match="gp_alpha"):
        VideoMAEObjective(small_mae(), Critic(1536, 8))(video, visible)


def test_the_loss_of_a_batch_is_the_mean_of_its_samples(objective, batch):
    whole = objective(*batch)
    parts = [objective(*(x[i : i + 1] for x in batch)) for i in range(4)]
    for name in ("loss_generator", "loss_critic", "reconstruction"):
        torch.testing.assert_close(whole[name], torch.stack([p[name] for p in parts]).mean(), atol=1e-5, rtol=1e-5)


def test_evaluation_needs_no_graph(objective, batch):
    with torch.no_grad():
        assert not any(v.requires_grad for v in objective(*batch).values())


def test_norm_target_changes_what_is_reconstructed(batch):
    torch.manual_seed(0)
    mae = small_mae(norm_target=True)
    video, visible, _ = batch
    loss = VideoMAEObjective(mae)(video, visible)["reconstruction"]
    target = mae.patchify(video)[~visible].view(4, 4, -1)
    torch.testing.assert_close(loss, (mae.reconstruct(video, visible) - target).square().mean())


@pytest.mark.parametrize("adversarial", [False, True])
def test_a_tiny_mae_overfits_one_clip_tenfold(adversarial):
    torch.manual_seed(0)
    yy, xx = torch.meshgrid(torch.linspace(0, 6, 32), torch.linspace(0, 6, 32), indexing="ij")
    clip = torch.stack([0.5 + 0.5 * torch.sin(xx + yy + 0.7 * t) for t in range(4)]).expand(1, 3, 4, 32, 32)
    objective = VideoMAEObjective(small_mae(), Critic(1536, 16) if adversarial else None)
    recipe = VideoMAERecipe(warmup_epochs=0)
    optimisers = video_optimisers(objective, recipe)
    set_lr(optimisers.values(), 1e-3)
    visible = tube_mask(1, (2, 2, 2), 0.5, torch.Generator().manual_seed(0))
    alpha = torch.full((1, 1), 0.5)
    curve = [float(video_step(objective, optimisers, clip, visible, alpha)["reconstruction"]) for _ in range(120)]
    assert curve[-1] < curve[0] / 10


def test_bfloat16_autocast_stays_near_float32(objective, batch):
    twin = copy.deepcopy(objective)
    full = video_step(objective, video_optimisers(objective, VideoMAERecipe()), *batch)
    half = video_step(twin, video_optimisers(twin, VideoMAERecipe()), *batch, autocast=torch.bfloat16)
    for name in ("loss_generator", "reconstruction", "penalty"):
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], full[name], atol=2e-2, rtol=2e-2)


def test_gradient_clipping_bounds_each_player(objective, batch):
    optimisers = video_optimisers(objective, VideoMAERecipe())
    video_step(objective, optimisers, *batch, clip=1e-3)
    for module in (objective.mae, objective.critic):
        norm = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
        assert abs(norm - 1e-3) < 1e-5


def test_video_recipe_is_the_papers(objective):
    optimisers = video_optimisers(objective, VideoMAERecipe())
    assert set(optimisers) == {"generator", "critic"}
    for optimiser in optimisers.values():
        assert isinstance(optimiser, torch.optim.AdamW)
        assert optimiser.defaults["betas"] == (0.9, 0.95) and optimiser.defaults["weight_decay"] == 0.0
    owned = [id(p) for o in optimisers.values() for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in objective.parameters())


def test_video_schedule_warms_up_then_falls_as_a_cosine():
    recipe = VideoMAERecipe()
    rates = [video_lr(recipe, epoch, 256) for epoch in range(200)]
    assert rates[0] == pytest.approx(1.5e-4 / 40) and rates[39] == rates[40] == max(rates) == pytest.approx(1.5e-4)
    assert rates[:40] == sorted(rates[:40]) and rates[40:] == sorted(rates[40:], reverse=True)
    assert abs(rates[120] - (1.5e-4 + 1e-5) / 2) < 1e-9
    assert 1e-5 <= rates[-1] < 1.1e-5
    assert video_lr(recipe, 80, 16) == pytest.approx(video_lr(recipe, 80, 256) / 16)


@pytest.mark.parametrize("epochs, warmup", [(1, 0), (1, 1), (2, 1), (3, 40)])
def test_a_short_schedule_still_has_finite_rates(epochs, warmup):
    recipe = VideoMAERecipe(epochs=epochs, warmup_epochs=warmup)
    rates = [video_lr(recipe, epoch, 256) for epoch in range(epochs)]
    assert all(0 < r <= 1.5e-4 for r in rates)


# ---------------------------------------------------------------------------------------------------- signals


@pytest.fixture
def signals() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 30, 2, generator=g)
    keep = torch.arange(30) < torch.tensor([30, 20, 30, 10, 30, 25])[:, None]
    return x, markov_mask(6, 30, 2, generator=g), keep


def small_signal(**options) -> SignalMAE:
    torch.manual_seed(0)
    return SignalMAE(2, 30, dim=16, depth=1, heads=2, ff=16, decoder_depth=1, **options)


def test_signal_loss_is_taken_on_masked_points_that_are_not_padding(signals):
    x, unmasked, keep = signals
    objective = SignalMAEObjective(small_signal(norm="layer"))
    losses = objective(x, unmasked, keep)
    error = (objective.mae.reconstruct(x, unmasked, keep) - x).square()
    counted = ~unmasked & keep[..., None]
    torch.testing.assert_close(losses["loss"], error[counted].mean())
    assert losses["points"] == counted.sum()
    assert scored(unmasked, keep).equal(counted) and scored(unmasked, None).equal(~unmasked)
    everything = SignalMAEObjective(objective.mae, loss_on="all")(x, unmasked, keep)["loss"]
    torch.testing.assert_close(everything, error[keep].mean())
    with pytest.raises(ModelError, match="visible"):
        SignalMAEObjective(objective.mae, loss_on="visible")


def test_padding_values_change_nothing(signals):
    x, unmasked, keep = signals
    objective = SignalMAEObjective(small_signal(norm="layer"))
    disturbed = torch.where(keep[..., None], x, x + 7)
    torch.testing.assert_close(objective(x, unmasked, keep)["loss"], objective(disturbed, unmasked, keep)["loss"])


def test_no_masked_point_gives_a_finite_loss(signals):
    x, unmasked, _ = signals
    losses = SignalMAEObjective(small_signal())(x, torch.ones_like(unmasked))
    assert losses["loss"] == 0 and losses["points"] == 0


def test_parts_with_the_total_count_average_to_the_whole_loss(signals):
    x, unmasked, keep = signals
    objective = SignalMAEObjective(small_signal(norm="layer"))
    whole = objective(x, unmasked, keep)
    share = whole["points"] / 2
    halves = [objective(x[i::2], unmasked[i::2], keep[i::2], points=share)["loss"] for i in (0, 1)]
    torch.testing.assert_close(torch.stack(halves).mean(), whole["loss"])
    plain = torch.stack([objective(x[i::2], unmasked[i::2], keep[i::2])["loss"] for i in (0, 1)]).mean()
    assert abs(plain - whole["loss"]) > 1e-6  # the mean of the means would differ


CONV = {"norm": "layer", "tokenizer": "conv", "decoder": "linear"}


@pytest.mark.parametrize("options, split", [({}, False), ({}, True), (CONV, False)])
def test_signal_mae_learns_a_wave(options, split):
    torch.manual_seed(0)
    phase = torch.linspace(0, 3, 16)[:, None]
    x = torch.stack([torch.sin(0.4 * torch.arange(30) + phase), torch.cos(0.4 * torch.arange(30) + phase)], -1)
    objective = SignalMAEObjective(small_signal(**options))
    optimisers = signal_optimisers(objective, SignalMAERecipe(lr=3e-3, split=split))
    set_lr(optimisers.values(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    curve = [
        float(signal_step(objective, optimisers, x, markov_mask(16, 30, 2, generator=generator))["loss"])
        for _ in range(150)
    ]
    assert sum(curve[-5:]) < 0.3 * sum(curve[:5])


def test_signal_recipe_is_the_papers():
    objective = SignalMAEObjective(small_signal())
    one = signal_optimisers(objective, SignalMAERecipe())
    assert list(one) == ["generator"] and isinstance(one["generator"], torch.optim.Adam)
    assert one["generator"].defaults["betas"] == (0.5, 0.9) and one["generator"].defaults["lr"] == 1e-4
    two = signal_optimisers(objective, SignalMAERecipe(split=True))
    assert isinstance(two["encoder"], torch.optim.Adam) and isinstance(two["decoder"], torch.optim.RAdam)
    owned = [id(p) for o in two.values() for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in objective.parameters())


def test_random_mask_trains_too():
    objective = VideoMAEObjective(small_mae())
    visible = random_mask(2, (2, 2, 2), 0.9)
    assert visible.sum(1).tolist() == [1, 1]
    assert torch.isfinite(objective(torch.rand(2, 3, 4, 32, 32), visible)["reconstruction"])
