"""DCAN: Algorithm 1 by hand, the paper's counts, every option, the released variant."""

import pytest
import torch

from models.classifier.dcan import DCAN, CoAttention, ReleasedDCAN


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("options", "count"), [({}, 827_907), ({"hidden": 256}, 433_667), ({"fusion": "linear"}, 170_499)]
)
def test_counts_of_the_specification(options, count):
    assert n_parameters(DCAN(16, 16, 3, **options)) == count


def test_counts_of_the_released_variant():
    assert n_parameters(ReleasedDCAN(16, 16, 3, video_tokens=1568, signal_tokens=2800)) == 82_950
    assert n_parameters(ReleasedDCAN(384, 48, 3, video_tokens=1568, signal_tokens=200)) == 666_598
    wide = ReleasedDCAN(128, 256, 3, video_tokens=1568, signal_tokens=2800, layers=2, regressor=False)
    assert n_parameters(wide) == 828_131  # the only way found to the 0.83 M of Table 4 with the released layer


def softmax(x):
    e = [torch.exp(v - max(x)) for v in x]
    return [v / sum(e) for v in e]


@pytest.mark.parametrize("scale", [True, False])
def test_one_layer_is_algorithm_1_written_out(scale):
    """Entry by entry with loops: affinity, both softmax directions, and both streams updated from the old values."""
    n, s, d = 3, 4, 5
    layer = CoAttention(d, "mlp", hidden=6, scale=scale).double()
    video, signal = torch.randn(1, n, d).double(), torch.randn(1, s, d).double()
    f, a, w = video[0], signal[0], layer.affinity.weight.t()  # Linear computes F W^T
    factor = d**-0.5 if scale else 1.0
    score = [[(f[i] @ w @ a[j]) * factor for j in range(s)] for i in range(n)]
    f_hat = torch.stack([sum(p * a[j] for j, p in enumerate(softmax(row))) for row in score])
    columns = [[score[i][j] for i in range(n)] for j in range(s)]
    a_hat = torch.stack([sum(p * f[i] for i, p in enumerate(softmax(column))) for column in columns])
    expected_video = layer.fuse_video(video, f_hat[None])
    expected_signal = layer.fuse_signal(signal, a_hat[None])
    got_video, got_signal = layer(video, signal)
    torch.testing.assert_close(got_video, expected_video)
    torch.testing.assert_close(got_signal, expected_signal)
    fuse = layer.fuse_video
    hidden = torch.relu(fuse.w1(torch.cat([f, f_hat], -1)))
    torch.testing.assert_close(got_video[0], fuse.norm(f + fuse.w2(hidden)))


@pytest.mark.parametrize("options", [{}, {"fusion": "linear"}, {"scale": False}, {"layers": 1}, {"layers": 0},
                                     {"compress": 4}, {"compress": 4, "fusion": "linear"}])
def test_every_option_has_shape_and_gradients(options):
    net = DCAN(6, 5, 3, dim=8, hidden=12, video_tokens=9, signal_tokens=7, **{"layers": 2, **options}).double()
    video = torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
    signal = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    assert net(video, signal).shape == (2, 3) and net.features(video, signal).shape == (2, 16)
    assert torch.autograd.gradcheck(net, (video, signal))
    net(video, signal).square().sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for name, p in net.named_parameters())


def test_released_variant_has_shape_and_gradients():
    net = ReleasedDCAN(6, 5, 3, video_tokens=9, signal_tokens=7, layers=2, compress=4).double()
    video = torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
    signal = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    assert net(video, signal).shape == (2, 3) and net.features(video, signal).shape == (2, 11)
    assert torch.autograd.gradcheck(net, (video, signal))
    with_regressor, without = net, ReleasedDCAN(6, 5, 3, 9, 7, layers=2, compress=4, regressor=False).double()
    without.load_state_dict({k: v for k, v in with_regressor.state_dict().items() if not k.startswith("unused")})
    torch.testing.assert_close(without(video, signal), with_regressor(video, signal))  # it changes no output


def test_without_compression_the_order_of_tokens_does_not_matter():
    net = DCAN(6, 5, 3, dim=8, hidden=12)
    video, signal = torch.randn(2, 9, 6), torch.randn(2, 7, 5)
    shuffled = net(video[:, torch.randperm(9)], signal[:, torch.randperm(7)])
    torch.testing.assert_close(shuffled, net(video, signal), atol=1e-5, rtol=1e-5)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="fusion"):
        DCAN(6, 5, 3, fusion="concat")
    with pytest.raises(ValueError, match="compress needs"):
        DCAN(6, 5, 3, compress=4)
