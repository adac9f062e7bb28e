import pytest
import torch

from models import build
from models.mae.critic import Critic

torch.set_num_threads(1)


@pytest.fixture
def critic() -> Critic:
    torch.manual_seed(0)
    return Critic(24, 16).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("decoder_dim, params", [(192, 1_181_185), (384, 2_362_369), (512, 3_149_825), (96, 590_593)])
def test_counts_are_those_of_the_specification(decoder_dim, params):
    critic = build("critic", patch_values=1536, hidden=4 * decoder_dim)
    assert sum(p.numel() for p in critic.parameters()) == params


def test_one_score_per_tubelet(critic, x):
    score = critic(x)
    assert score.shape == (2, 5)
    torch.testing.assert_close(critic(x[:, 2:3]), score[:, 2:3])


def test_frozen_gives_the_same_score_and_no_gradient_to_the_critic(critic, x):
    x.requires_grad_()
    torch.testing.assert_close(critic.frozen(x), critic(x))
    critic.frozen(x).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in critic.parameters())


def autograd_penalty(critic: Critic, mixed: torch.Tensor) -> torch.Tensor:
    mixed = mixed.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (gradient.norm(dim=-1) - 1).square().mean()


@pytest.mark.parametrize("alpha_shape", [(2, 5), (2, 1)])
def test_closed_form_penalty_equals_double_backward(critic, x, alpha_shape):
    fake = torch.randn_like(x)
    alpha = torch.rand(alpha_shape, dtype=torch.float64)
    ours = critic.penalty(x, fake, alpha)
    reference = autograd_penalty(critic, alpha.unsqueeze(-1) * x + (1 - alpha.unsqueeze(-1)) * fake)
    torch.testing.assert_close(ours, reference, atol=1e-12, rtol=1e-12)
    weights = (critic.hidden.weight, critic.score.weight)
    ours_grad = torch.autograd.grad(ours, weights)
    for a, b in zip(ours_grad, torch.autograd.grad(reference, weights), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


def test_penalty_pulls_the_slope_to_one(x):
    torch.manual_seed(0)
    critic = Critic(24, 16).double()
    optimiser = torch.optim.Adam(critic.parameters(), 0.01)
    fake = torch.randn_like(x)
    for _ in range(200):
        loss = critic.penalty(x, fake, torch.full((2, 1), 0.5, dtype=torch.float64))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 1e-3
