"""tAPE, eRPE, the ConvTran embedding and the HPA block: golden parity, counts, fused against naive, every option."""


import numpy as np
import pytest
import torch

from models.hpa.block import HPA
from models.hpa.convtran_embed import CHUNK_BYTES, ChunkedConvCollapse, ConvTranEmbedding, TapMoments
from models.hpa.erpe import ERPEAttention, attend, bias_matrix, fast_length, head_multiple, toeplitz_product
from models.hpa.tape import tape_table
from tests.helpers.pairs import pairs
from tests.helpers.places import GOLDEN

RENAMED = {  # the reference's names -> ours
    "embed_layer.0": "embed.conv",
    "embed_layer.1": "embed.conv_norm",
    "embed_layer2.0": "embed.collapse",
    "embed_layer2.1": "embed.collapse_norm",
    "attention_layer.relative_bias_table": "attention.relative_bias",
    "attention_layer.to_out": "attention.norm",
    "attention_layer": "attention",
    "LayerNorm": "attention_norm",
    "LayerNorm2": "norm",
    "FeedForward": "feed_forward",
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def golden(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def renamed(key):
    theirs = next(name for name in RENAMED if key == name or key.startswith(name + "."))
    return RENAMED[theirs] + key[len(theirs) :]


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def gradients(module, x, weight):
    """Output, and the gradients of (weight * output).sum() for x and every parameter."""
    x = x.clone().requires_grad_()
    y = module(x)
    found = torch.autograd.grad((y * weight).sum(), [x, *module.parameters()])
    return y.detach(), dict(zip(["x", *(name for name, _ in module.named_parameters())], found, strict=True))


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


# ---- golden vectors and counts


@pytest.mark.parametrize(("length", "position"), [(400, 0), (1568, 1)])
def test_tape_matches_the_reference(length, position):
    stored = golden("tape")
    ours = tape_table(length, 16)[:: int(stored["stride"][position])]
    torch.testing.assert_close(ours, stored[f"pe_d16_len{length}"], atol=1e-4, rtol=1e-4)


def test_tape_handles_an_odd_width():
    assert tape_table(7, 5).shape == (7, 5)
    torch.testing.assert_close(tape_table(7, 5)[:, 4], torch.sin(torch.arange(7) * 10000 ** (-4 / 5) * 5 / 7))


@pytest.mark.parametrize("impl", ["fused", "naive"])
def test_erpe_matches_the_reference(impl):
    stored = golden("erpe_attention")
    attention = ERPEAttention(16, 48, heads=8, impl=impl)
    names = {"relative_bias_table": "relative_bias", "to_out.weight": "norm.weight", "to_out.bias": "norm.bias"}
    attention.load_state_dict({names.get(k[2:], k[2:]): v for k, v in stored.items() if k.startswith("w:")})
    torch.testing.assert_close(attention(stored["x"]), stored["y"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("impl", ["fused", "naive"])
def test_block_matches_the_reference(impl):
    stored = golden("hpa_block")
    block = HPA(24, 48, impl=impl).eval()
    missing, unexpected = block.load_state_dict(
        {renamed(k[2:]): v for k, v in stored.items() if k.startswith("w:")}, strict=False
    )
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    torch.testing.assert_close(block(stored["x"]), stored["y"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("in_dim", "length", "count"),
    [(384, 1568, 428_376), (64, 400, 82_008), (64, 200, 78_808), (768, 1568, 821_592), (5, 2800, 59_992)],
)
def test_parameter_counts_of_the_specification(in_dim, length, count):
    assert n_parameters(HPA(in_dim, length)) == count


# ---- eRPE: fused against naive


@pytest.mark.parametrize("erpe", ["post_softmax", "pre_softmax"])
@pytest.mark.parametrize("n_tokens", [1, 2, 37, 130])
def test_fused_equals_naive_in_float64(n_tokens, erpe):
    fused = ERPEAttention(16, n_tokens, heads=8, impl="fused", erpe=erpe).double()
    torch.nn.init.normal_(fused.relative_bias)
    naive = ERPEAttention(16, n_tokens, heads=8, impl="naive", erpe=erpe).double()
    naive.load_state_dict(fused.state_dict())
    x, weight = torch.randn(3, n_tokens, 16, dtype=torch.float64), torch.randn(3, n_tokens, 16, dtype=torch.float64)
    y_fused, g_fused = gradients(fused, x, weight)
    y_naive, g_naive = gradients(naive, x, weight)
    assert relative(y_fused, y_naive) < 1e-10
    for name, expected in g_naive.items():
        if float(expected.abs().max()) < 1e-12:  # one token: the softmax has no gradient
            assert float(g_fused[name].abs().max()) < 1e-12
        else:
            assert relative(g_fused[name], expected) < 1e-10, name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_fused_equals_naive_at_full_length(dtype, tolerance):
    """Outputs and every gradient at the video stream's 1,568 tokens."""
    fused, naive = (ERPEAttention(16, 1568, heads=4, impl=impl).to(dtype) for impl in ("fused", "naive"))
    torch.nn.init.normal_(fused.relative_bias, std=0.1)
    naive.load_state_dict(fused.state_dict())
    x, weight = torch.randn(2, 1, 1568, 16, dtype=dtype)
    y_naive, g_naive = gradients(naive, x, weight)
    y_fused, g_fused = gradients(fused, x, weight)
    assert relative(y_fused, y_naive) < tolerance
    for name, expected in g_naive.items():
        assert relative(g_fused[name], expected) < tolerance, name


@pytest.mark.parametrize("multiple", [4, 8])
def test_padding_the_head_width_changes_nothing(multiple):
    q, k, v = (torch.randn(2, 3, 7, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    torch.testing.assert_close(attend(q, k, v, 0.25, multiple), attend(q, k, v, 0.25), atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, 0.25, multiple), (q, k, v))
    assert head_multiple(torch.device("cpu")) == 1 and head_multiple(torch.device("cuda")) % 8 == 0


def test_fused_attention_holds_no_quadratic_tensor():
    """Largest tensor made on the way forward and back grows with N, not N^2: seen at every operation."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for item in out if isinstance(out, tuple | list) else [out]:
                if isinstance(item, torch.Tensor):
                    self.size = max(self.size, item.untyped_storage().nbytes())
            return out

    def largest(impl, n_tokens):
        attention = ERPEAttention(16, n_tokens, heads=8, impl=impl)
        x = torch.randn(1, n_tokens, 16, requires_grad=True)
        with Largest() as seen:
            attention(x).sum().backward()
        return seen.size

    assert largest("fused", 1024) <= 2.2 * largest("fused", 512)
    assert largest("fused", 1024) < 1024 * 1024 * 4
    assert largest("naive", 1024) >= 8 * 1024 * 1024 * 4  # the probe does see it where it is


def test_toeplitz_product_is_the_written_out_product():
    bias, v = torch.randn(2 * 9 - 1, 2, dtype=torch.float64), torch.randn(3, 2, 9, 4, dtype=torch.float64)
    torch.testing.assert_close(toeplitz_product(bias, v), bias_matrix(bias) @ v)
    assert bias_matrix(bias)[1, 5, 2] == bias[5 - 2 + 8, 1]
    with pytest.raises(ValueError, match="17 offsets"):
        toeplitz_product(bias[1:], v)


def test_toeplitz_gradients():
    bias = torch.randn(2 * 5 - 1, 2, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(toeplitz_product, (bias, v))


def test_fast_length_has_small_factors_only():
    for n in range(1, 400):
        found = fast_length(n)
        rest = found
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1 and found >= n and found % 2 == 0


# ---- the ConvTran embedding: chunked against plain


def embeddings(in_dim, dtype, **options):
    plain = ConvTranEmbedding(in_dim, impl="naive", **options).to(dtype)
    for norm in (plain.conv_norm, plain.collapse_norm):
        torch.nn.init.normal_(norm.weight, mean=1.0, std=0.3)
        torch.nn.init.normal_(norm.bias)
    chunked = ConvTranEmbedding(in_dim, impl="fused", **options).to(dtype)
    chunked.load_state_dict(plain.state_dict())
    return plain, chunked


@pytest.mark.parametrize("chunk_bytes", [1, 40_000, 1 << 30])  # one channel; some; several samples at a time
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_chunked_embedding_equals_plain(monkeypatch, chunk_bytes, dtype, tolerance):
    monkeypatch.setitem(CHUNK_BYTES, "cpu", chunk_bytes)
    plain, chunked = embeddings(13, dtype, width=6, filters=10)
    x, weight = 0.5 + torch.randn(3, 29, 13, dtype=dtype), torch.randn(3, 29, 6, dtype=dtype)
    for _ in range(2):  # twice: the running statistics go on from what the first pass left
        y_plain, g_plain = gradients(plain, x, weight)
        y_chunked, g_chunked = gradients(chunked, x, weight)
        assert relative(y_chunked, y_plain) < tolerance
        for name, expected in g_plain.items():
            if name.endswith("conv.bias") or name == "collapse.bias":  # zero: BatchNorm removes what a bias adds
                assert float(g_chunked[name].abs().max()) < tolerance * float(g_plain["collapse.weight"].abs().max())
            else:
                assert relative(g_chunked[name], expected) < tolerance, name
    for name, expected in plain.state_dict().items():
        torch.testing.assert_close(chunked.state_dict()[name], expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(chunked.eval()(x), plain.eval()(x), atol=tolerance, rtol=tolerance)


def test_chunked_embedding_equals_plain_at_the_papers_width():
    """384 channels, 64 filters, kernel 8, 16 wide, default chunks, float32."""
    plain, chunked = embeddings(384, torch.float32)
    x, weight = torch.randn(2, 120, 384), torch.randn(2, 120, 16)
    y_plain, g_plain = gradients(plain, x, weight)
    y_chunked, g_chunked = gradients(chunked, x, weight)
    assert relative(y_chunked, y_plain) < 1e-4
    for name in ("x", "conv.weight", "conv_norm.weight", "conv_norm.bias", "collapse.weight", "collapse_norm.weight"):
        assert relative(g_chunked[name], g_plain[name]) < 1e-4, name
    for name, expected in plain.state_dict().items():
        torch.testing.assert_close(chunked.state_dict()[name], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3, 8])
def test_chunked_embedding_gradcheck(kernel):
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    filters = torch.randn(4, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    collapse = torch.randn(5, 3 * 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ChunkedConvCollapse.apply, (x, filters, bias, collapse))
    assert torch.autograd.gradcheck(lambda x: TapMoments.apply(x, kernel), (x,))


def test_chunked_embedding_saves_an_eighth_at_most():
    plain, chunked = embeddings(64, torch.float32)
    x = torch.randn(2, 300, 64)

    def saved(module):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            module(x).sum()
        return sum(storages.values())

    assert saved(chunked) <= saved(plain) / 8


# ---- HPA: every option


@pytest.mark.parametrize(*pairs(
    impl=["fused", "naive"], embed=["convtran", "linear", "conv1d"], order=["embed_then_tape", "tape_then_embed"],
    residual=[True, False], erpe=["post_softmax", "pre_softmax"]))
def test_every_option_has_shape_and_gradients(impl, embed, order, residual, erpe):
    sizes = {"emb": 8, "heads": 2, "ff": 12, "filters": 4}
    block = HPA(6, 11, impl=impl, embed=embed, order=order, residual=residual, erpe=erpe, **sizes)
    x = torch.randn(3, 11, 6, requires_grad=True)
    y = block(x)
    assert y.shape == (3, 11, 8) and torch.isfinite(y).all()
    (y * torch.randn(3, 11, 8)).sum().backward()
    assert x.grad is not None and float(x.grad.abs().max()) > 0
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert float(block.attention.relative_bias.grad.abs().max()) > 0


@pytest.mark.parametrize("impl", ["fused", "naive"])
@pytest.mark.parametrize("options", [{}, {"embed": "linear"}, {"embed": "conv1d"}, {"residual": False},
                                     {"order": "tape_then_embed"}, {"erpe": "pre_softmax"}])
def test_block_gradcheck(impl, options):
    block = HPA(3, 5, impl=impl, emb=4, heads=2, ff=6, filters=3, kernel=3, dropout=0.0, **options).double()
    torch.nn.init.normal_(block.attention.relative_bias)
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))


def test_options_change_the_result():
    x = torch.randn(2, 9, 4)
    choices = [{"order": "tape_then_embed"}, {"residual": False}, {"erpe": "pre_softmax"}, {"embed": "linear"}]
    outputs = []
    for options in ({}, *choices):
        torch.manual_seed(1)
        block = HPA(4, 9, emb=4, heads=2, ff=6, filters=3, **options).eval()
        torch.nn.init.normal_(block.attention.relative_bias)
        outputs.append(block(x).detach())
    for i, first in enumerate(outputs):
        assert all(not torch.allclose(first, second) for second in outputs[i + 1 :])


def test_one_state_dict_serves_fused_and_naive_with_dropout():
    fused, naive = HPA(6, 11, impl="fused"), HPA(6, 11, impl="naive")
    naive.load_state_dict(fused.state_dict())
    x = torch.randn(2, 11, 6)
    torch.manual_seed(5)
    y_fused = fused(x)
    torch.manual_seed(5)
    torch.testing.assert_close(y_fused, naive(x), atol=1e-4, rtol=1e-4)


def test_bfloat16_autocast_runs_and_stays_close():
    block = HPA(6, 40).eval()
    x = torch.randn(2, 40, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    y.float().sum().backward()
    torch.testing.assert_close(y.float(), block(x.detach()), atol=0.1, rtol=0.1)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="embedding"):
        HPA(4, 9, embed="fourier")
    with pytest.raises(ValueError, match="order"):
        HPA(4, 9, order="sideways")
    with pytest.raises(ValueError, match="heads"):
        HPA(4, 9, emb=10)
    with pytest.raises(ValueError, match="impl"):
        HPA(4, 9, impl="quick")
    with pytest.raises(ValueError, match="9, 4"):
        HPA(4, 9)(torch.zeros(1, 8, 4))
