
import numpy as np
import pytest
import torch
from torch import nn

from models import build
from models.errors import ModelError
from models.interop import mvts_state
from models.mae.conv_tokens import ConvTokens, layer_strides
from models.mae.masks import markov_mask
from models.mae.signal_mae import SignalMAE
from tests.helpers.pairs import pairs
from tests.helpers.places import GOLDEN
from tests.helpers.slopes import check_slope

torch.set_num_threads(1)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "options, params",
    [
        ({"ff": 64}, 76_357),
        ({}, 101_125),
        ({"ff": 256}, 150_661),
        ({"dim": 128, "ff": 256}, 398_853),
        ({"heads": 4}, 101_125),
        ({"pos": "learnt"}, 101_125 + 25_600),
        ({"n_channels": 48, "length": 200}, 106_672),
    ],
)
def test_counts_are_those_of_the_specification(options, params):
    assert count(SignalMAE(**({"n_channels": 5, "length": 400, "decoder": "linear"} | options))) == params


def test_golden_parity_with_mvts():
    golden = np.load(GOLDEN / "signal_encoder.npz")
    weights = {k[2:]: torch.from_numpy(golden[k]) for k in golden if k.startswith("w:")}
    mae = SignalMAE(3, 40, dim=16, depth=2, heads=4, ff=32, decoder="linear").eval()
    missing, unexpected = mae.load_state_dict(mvts_state(weights), strict=False)
    assert not unexpected
    assert all("num_batches" in name or name == "positions" for name in missing)
    x, keep = torch.from_numpy(golden["x"]), torch.from_numpy(golden["keep"])
    with torch.no_grad():
        latent = mae.encode(x, keep)
        y = mae.reconstruct(x, torch.ones_like(x, dtype=torch.bool), keep)
    torch.testing.assert_close(latent, torch.from_numpy(golden["latent"]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(y, torch.from_numpy(golden["y"]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(*pairs(norm=["batch", "layer"], pos=["fixed", "learnt", "none"], decoder=["transformer", "linear"],
                                tokens=[("step", 30), ("conv", 130)]))
def test_every_option_has_its_shapes_and_reaches_every_weight(norm, pos, decoder, tokens):
    tokenizer, length = tokens
    torch.manual_seed(0)
    mae = build("signal_mae", n_channels=3, length=length, dim=16, depth=2, heads=4, ff=24, norm=norm, pos=pos,
                decoder=decoder, decoder_depth=1, tokenizer=tokenizer)  # fmt: skip
    x, unmasked = torch.randn(4, length, 3), markov_mask(4, length, 3)
    keep = torch.arange(length) < torch.tensor([length, length - 3, length, length // 2])[:, None]
    assert mae.n_tokens == (30 if tokenizer == "step" else 44)
    assert mae.encode(x, keep).shape == (4, mae.n_tokens, 16)
    out = mae.reconstruct(x, unmasked, keep)
    assert out.shape == x.shape
    (out - x).square().mean().backward()
    # BatchNorm removes whatever a bias in front of it adds: such a bias has a gradient of zero, but it has one
    assert [name for name, p in mae.named_parameters() if p.grad is None] == []
    assert [name for name, p in mae.named_parameters() if p.ndim > 1 and not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(*pairs(norm=["batch", "layer"], pos=["fixed", "learnt", "none"], decoder=["transformer", "linear"],
                                tokens=[("step", 12), ("conv", 130)]))
def test_gradients_are_right_for_every_option(norm, pos, decoder, tokens):
    tokenizer, length = tokens
    torch.manual_seed(0)
    mae = SignalMAE(2, length, dim=8, depth=1, heads=2, ff=12, norm=norm, pos=pos, decoder=decoder, decoder_depth=1,
                    tokenizer=tokenizer).double()  # fmt: skip
    x, unmasked = torch.randn(3, length, 2, dtype=torch.float64), markov_mask(3, length, 2)
    keep = torch.arange(length) < torch.tensor([length, length - 3, length // 2])[:, None]
    wanted = ~unmasked & keep[..., None]
    check_slope(mae, lambda: (mae.reconstruct(x, unmasked, keep) - x)[wanted].square().mean())


def test_gradients_are_right_in_double_precision():
    torch.manual_seed(0)
    mae = SignalMAE(2, 6, dim=4, depth=1, heads=2, ff=4, decoder_depth=1).double()
    x = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    unmasked = markov_mask(2, 6, 2)
    keep = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    assert torch.autograd.gradcheck(lambda v: mae.reconstruct(v, unmasked, keep), (x,))


@pytest.mark.parametrize("length", [7, 50, 51, 200, 400, 500, 1499, 2800])
def test_the_convolution_makes_at_most_50_tokens_of_a_window(length):
    mae = SignalMAE(2, length, dim=8, depth=1, heads=2, ff=8, tokenizer="conv", decoder="linear")
    assert mae.n_tokens <= 50 and mae.n_tokens * mae.stride >= length
    x = torch.randn(2, length, 2)
    assert mae.encode(x).shape == (2, mae.n_tokens, 8)
    assert mae.reconstruct(x, torch.ones_like(x, dtype=torch.bool)).shape == x.shape


def test_a_conv_token_sees_its_own_stretch_and_half_a_stride_beside_it():
    mae = SignalMAE(1, 500, dim=4, depth=1, heads=1, ff=4, tokenizer="conv")
    assert mae.stride == 10
    x = torch.zeros(1, 500, 1)
    base = mae.embed(x)
    x[0, 207] = 1.0  # in the stretch of token 20, and within half a stride of token 21
    touched = (mae.embed(x) - base).abs().sum(-1)[0] > 0
    assert touched.nonzero().flatten().tolist() == [20, 21]


@pytest.mark.parametrize(("stride", "layers", "strides"), [(1, 3, (1, 1, 1)), (8, 3, (2, 2, 2)), (4, 2, (2, 2)),
                                                           (4, 3, (2, 2, 1)), (10, 2, (4, 3)), (7, 1, (7,)),
                                                           (27, 3, (3, 3, 3))])
def test_strides_are_even_and_their_product_is_large_enough(stride, layers, strides):
    assert layer_strides(stride, layers) == strides


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("length", [7, 64, 200, 333])
def test_several_convolutions_make_as_few_tokens_as_asked_and_reach_every_weight(length, norm):
    torch.manual_seed(0)
    mae = SignalMAE(2, length, dim=8, depth=1, heads=2, ff=8, norm=norm, tokenizer="conv", max_tokens=25, conv_layers=3,
                    decoder_depth=1)
    assert mae.n_tokens <= 25 and mae.n_tokens * mae.stride >= length and len(mae.embed.strides) == 3
    x = torch.randn(3, length, 2)
    out = mae.reconstruct(x, torch.ones_like(x, dtype=torch.bool))
    assert out.shape == x.shape and mae.encode(x).shape == (3, mae.n_tokens, 8)
    out.square().mean().backward()
    assert [name for name, p in mae.named_parameters() if p.grad is None or (p.ndim > 1 and not p.grad.abs().sum())] == []


def test_a_token_of_several_convolutions_sees_both_sides_of_its_stretch():
    embed = ConvTokens(1, 200, 8, 25, layers=3, kernel=7).eval()
    x = torch.zeros(1, 200, 1)
    base = embed(x)
    seen = []
    for step in range(200):
        x.zero_()
        x[0, step] = 1.0
        if not torch.equal(embed(x)[0, 10], base[0, 10]):
            seen.append(step)
    assert seen[0] < 80 and seen[-1] > 87 and abs((80 - seen[0]) - (seen[-1] - 87)) <= 8 and seen[-1] - seen[0] <= 43
    with pytest.raises(ModelError, match="conv_layers"):
        ConvTokens(1, 200, 8, 25, layers=0)


def test_masked_points_do_not_reach_the_reconstruction():
    mae = SignalMAE(2, 20, dim=8, depth=1, heads=2, ff=8).eval()
    x, unmasked = torch.randn(3, 20, 2), markov_mask(3, 20, 2, generator=torch.Generator().manual_seed(0))
    disturbed = torch.where(unmasked, x, x + 5)
    torch.testing.assert_close(mae.reconstruct(x, unmasked), mae.reconstruct(disturbed, unmasked))


def test_padding_is_not_attended_to():
    mae = SignalMAE(2, 20, dim=8, depth=2, heads=2, ff=8).eval()
    x = torch.randn(3, 20, 2)
    keep = (torch.arange(20) < 12).expand(3, 20)
    other = torch.where(keep.unsqueeze(-1), x, torch.randn_like(x))
    torch.testing.assert_close(mae.encode(x, keep)[:, :12], mae.encode(other, keep)[:, :12])
    assert not torch.allclose(mae.encode(x)[:, :12], mae.encode(other)[:, :12])


def test_token_keep_counts_a_token_with_any_sample():
    mae = SignalMAE(1, 100, dim=4, depth=1, heads=1, ff=4, tokenizer="conv")
    keep = torch.zeros(1, 100, dtype=torch.bool)
    keep[0, 3] = True
    assert mae.stride == 2 and mae.token_keep(keep).nonzero().tolist() == [[0, 1]]


def test_batch_norm_is_taken_over_batch_and_steps_padding_included():
    mae = SignalMAE(2, 10, dim=4, depth=1, heads=1, ff=4, decoder="linear").train()
    seen = []
    mae.layers[0].norm1.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    keep = (torch.arange(10) < 5).expand(3, 10)
    mae.encode(torch.randn(3, 10, 2), keep)
    rows, out = seen[0]
    assert rows.shape == (30, 4)
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_the_batch_norm_can_be_replaced():
    class Mine(nn.BatchNorm1d):
        pass

    mae = SignalMAE(2, 10, dim=4, depth=1, heads=1, ff=4, decoder_depth=1, batch_norm=Mine)
    assert sum(isinstance(m, Mine) for m in mae.modules()) == 4
    assert not any(
        isinstance(m, Mine) for m in SignalMAE(2, 10, dim=4, heads=1, norm="layer", batch_norm=Mine).modules()
    )


def test_dropout_only_while_training():
    mae = SignalMAE(2, 10, dim=8, depth=1, heads=2, ff=8, dropout=0.5)
    x = torch.randn(2, 10, 2)
    assert not torch.equal(mae.encode(x), mae.encode(x))
    mae.eval()
    assert torch.equal(mae.encode(x), mae.encode(x))


@pytest.mark.parametrize(
    "option, value", [("norm", "group"), ("pos", "rope"), ("decoder", "mlp"), ("tokenizer", "bpe")]
)
def test_unknown_options_are_named(option, value):
    with pytest.raises(ModelError, match=value):
        SignalMAE(2, 10, **{option: value})


def test_wrong_shapes_are_programmer_errors():
    mae = SignalMAE(2, 10, dim=8, depth=1, heads=2, ff=8)
    with pytest.raises(ValueError, match="signals must be"):
        mae.encode(torch.randn(2, 11, 2))
    with pytest.raises(ValueError, match="keep must be"):
        mae.encode(torch.randn(2, 10, 2), torch.ones(2, 10))
    with pytest.raises(ModelError, match="heads"):
        SignalMAE(2, 10, dim=10, heads=4)
