
import numpy as np
import pytest
import torch

from models import build
from models.errors import ModelError
from models.interop import load_marlin
from models.mae.masks import KINDS, random_mask, tube_mask
from models.mae.positions import sincos_table
from models.mae.video_mae import SCALES, VideoMAE, take
from tests.helpers.pairs import pairs
from tests.helpers.places import GOLDEN
from tests.helpers.slopes import check_slope

torch.set_num_threads(1)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def micro() -> VideoMAE:
    torch.manual_seed(0)
    return VideoMAE("micro", image_size=32, frames=4, norm_target=False).eval()


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.rand(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "scale, encoder", [("tiny", 5_631_552), ("small", 21_879_936), ("base", 86_227_200), ("large", 303_860_736)]
)
def test_encoder_counts_are_those_of_the_specification(scale, encoder):
    with torch.device("meta"):
        mae = VideoMAE(scale, decoder=False)
    assert count(mae) == encoder
    assert mae.positions.numel() == 1568 * mae.dim  # the paper's 22.5 M for "small" counts this table


@pytest.mark.parametrize(
    "scale, depth, width, params",
    [
        ("small", None, None, 3_928_128),
        ("small", 4, 192, 2_149_440),
        ("small", 8, 384, 14_932_608),
        ("tiny", 4, 96, 614_688),
        ("base", 4, 384, 7_983_744),
        ("base", 8, 384, 15_080_064),
        ("large", None, 512, 39_136_256),
    ],
)
def test_decoder_counts_are_those_of_the_specification(scale, depth, width, params):
    with torch.device("meta"):
        mae = VideoMAE(scale, decoder_depth=depth, decoder_dim=width)
    assert count(mae.decoder) == params


def test_golden_parity_with_marlin():
    golden = np.load(GOLDEN / "video_mae.npz")
    mae = load_marlin(GOLDEN / "marlin_full.pt", heads=3, decoder_heads=3)
    x, visible = torch.from_numpy(golden["x"]), torch.from_numpy(golden["visible_mask"])
    with torch.no_grad():
        outputs = {
            "tokens_all": mae.encode(x),
            "tokens_visible": mae.encode_visible(x, visible),
            "decoder_out": mae.reconstruct(x, visible),
        }
    for name, ours in outputs.items():
        torch.testing.assert_close(ours, torch.from_numpy(golden[name]), atol=1e-4, rtol=1e-4)


def test_shapes_and_names(micro, video):
    visible = tube_mask(2, micro.grid, 0.5)
    assert micro.grid == (2, 2, 2) and micro.n_tokens == 8 and micro.dim == 64 and micro.patch_values == 1536
    assert micro.encode(video).shape == (2, 8, 64)
    assert micro.encode_visible(video, visible).shape == (2, 4, 64)
    assert micro.reconstruct(video, visible).shape == (2, 4, 1536)
    assert micro.patchify(video).shape == (2, 8, 1536)


def test_tubelets_are_cut_in_raster_order_channel_first(micro, video):
    patches = micro.patchify(video)
    t, h, w = 1, 0, 1
    expected = video[:, :, 2 * t : 2 * t + 2, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16].flatten(1)
    assert torch.equal(patches[:, t * 4 + h * 2 + w], expected)


def test_embedding_is_the_strided_convolution(micro, video):
    weight = micro.embed.weight.view(64, 3, 2, 16, 16)
    conv = torch.nn.functional.conv3d(video, weight, micro.embed.bias, stride=(2, 16, 16))
    torch.testing.assert_close(
        micro.embed(micro.tubelets(video)), conv.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5
    )


def test_everything_visible_is_encode(micro, video):
    visible = torch.ones(2, 8, dtype=torch.bool)
    torch.testing.assert_close(micro.encode_visible(video, visible), micro.encode(video))


def test_hidden_pixels_do_not_reach_the_prediction(micro, video):
    visible = random_mask(2, micro.grid, 0.5, torch.Generator().manual_seed(3))
    hidden = visible.logical_not().view(2, 1, 2, 2, 2)
    hidden = hidden.repeat_interleave(2, 2).repeat_interleave(16, 3).repeat_interleave(16, 4)
    disturbed = torch.where(hidden, 1 - video, video)
    assert torch.equal(micro.reconstruct(video, visible), micro.reconstruct(disturbed, visible))
    seen = torch.where(hidden, video, 1 - video)
    assert not torch.allclose(micro.reconstruct(video, visible), micro.reconstruct(seen, visible))


def test_predictions_come_in_raster_order(video):
    """A decoder without blocks predicts from the position alone, so the order of its rows can be read off."""
    mae = VideoMAE("micro", image_size=32, frames=4, decoder_depth=0).eval()
    visible = torch.tensor([[1, 0, 0, 1, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0, 1, 0]]).bool()
    out = mae.reconstruct(video, visible)
    decoder = mae.decoder
    every = decoder.head(decoder.norm(decoder.mask_token + decoder.positions))
    for b in range(2):
        torch.testing.assert_close(out[b], every[~visible[b]])


def test_norm_target_standardises_each_tubelet_and_colour(video):
    mae = VideoMAE("micro", image_size=32, frames=4, norm_target=True)
    target = mae.patchify(video).view(2, 8, 3, 512)
    torch.testing.assert_close(target.mean(-1), torch.zeros(2, 8, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.var(-1), torch.ones(2, 8, 3), atol=1e-3, rtol=0)
    assert torch.isfinite(mae.patchify(torch.zeros_like(video))).all()


@pytest.mark.parametrize(
    "options, shape, tokens",
    [
        ({"image_size": 112, "frames": 2}, (2, 112, 112), 49),
        ({"image_size": 128, "frames": 2}, (2, 128, 128), 64),
        ({"image_size": 32, "frames": 8, "tubelet": 4, "patch": 8}, (8, 32, 32), 32),
        (
            {"image_size": 32, "frames": 4, "depth": 2, "dim": 48, "heads": 3, "decoder_dim": 24, "decoder_heads": 2},
            None,
            8,
        ),
    ],
)
def test_any_geometry_that_divides_and_gradients_reach_every_weight(options, shape, tokens):
    mae = build("video_mae", scale="micro", **options)
    T, H, W = shape or (4, 32, 32)
    assert mae.n_tokens == tokens
    clip, visible = torch.rand(2, 3, T, H, W), random_mask(2, mae.grid, 0.75)
    mae.reconstruct(clip, visible).square().mean().backward()
    without = [name for name, p in mae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("scale", [pytest.param(name, marks=pytest.mark.medium if name in ("base", "large") else ())
                                   for name in sorted(SCALES)])
def test_every_scale_has_its_shapes_and_gradients_of_every_weight(scale):
    """base and large without memory: torch's meta device has shapes only, and shows which weights get a gradient."""
    real = scale in ("micro", "tiny", "small")
    with torch.device("cpu" if real else "meta"):
        mae = VideoMAE(scale, image_size=32, frames=4)
        pixels = torch.rand(2, 8, 1536)
        visible, masked = (torch.arange(8)[i::2].expand(2, 4) for i in (0, 1))
    preset = SCALES[scale]
    assert len(mae.blocks) == preset.depth and len(mae.decoder.blocks) == preset.decoder_depth
    out = mae.predict(pixels, visible, masked)
    assert out.shape == (2, 4, 1536) and mae._encode_visible(pixels, visible).shape == (2, 4, preset.dim)
    out.square().mean().backward()
    assert [n for n, p in mae.named_parameters() if p.grad is None or p.grad.shape != p.shape] == []
    if real:
        assert [n for n, p in mae.named_parameters() if not 0 < float(p.grad.abs().sum()) < torch.inf] == []


def test_paper_size_token_shapes():
    with torch.device("meta"):
        mae, pixels = VideoMAE("small"), torch.empty(1, 1568, 1536)
        visible, masked = torch.arange(160)[None], torch.arange(160, 1568)[None]
    assert mae.grid == (8, 14, 14) and mae.heads == 6
    assert mae._encode_visible(pixels, visible).shape == (1, 160, 384)
    assert mae.predict(pixels, visible, masked).shape == (1, 1408, 1536)


@pytest.mark.parametrize(*pairs(kind=["tube", "random", "frame"], norm_target=[False, True],
                                decoder=[{}, {"decoder_depth": 3, "decoder_dim": 8}, {"decoder_depth": 0}]))
def test_gradients_are_right_for_every_mask_target_and_decoder(kind, norm_target, decoder):
    torch.manual_seed(0)
    mae = VideoMAE(image_size=8, patch=4, frames=4, depth=1, dim=4, heads=2, norm_target=norm_target,
                   **{"decoder_dim": 4, "decoder_heads": 2, "decoder_depth": 1} | decoder).double()  # fmt: skip
    visible = KINDS[kind](2, mae.grid, 0.5, torch.Generator().manual_seed(1))
    clip = torch.rand(2, 3, 4, 8, 8, dtype=torch.float64)

    def loss():
        hidden = mae.split(visible)[1]
        return (mae.reconstruct(clip, visible) - take(mae.patchify(clip), hidden)).square().mean()

    check_slope(mae, loss)


def test_gradients_are_right_in_double_precision():
    torch.manual_seed(0)
    mae = VideoMAE(image_size=4, patch=2, frames=2, depth=1, dim=4, heads=2, decoder_dim=4, decoder_heads=2,
                   decoder_depth=1).double()  # fmt: skip
    visible = torch.tensor([[True, False, False, True]])
    clip = torch.rand(1, 3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: mae.reconstruct(v, visible), (clip,))
    assert torch.autograd.gradcheck(mae.encode, (clip,))


def test_sincos_table_is_the_transformers():
    table = sincos_table(50, 8)
    for pos, i in ((0, 0), (3, 2), (49, 6)):
        angle = pos / 10000 ** (i / 8)
        assert abs(table[pos, i] - np.sin(angle)) < 1e-6 and abs(table[pos, i + 1] - np.cos(angle)) < 1e-6


def test_mistakes_are_named(micro, video):
    with pytest.raises(ModelError, match="huge"):
        VideoMAE("huge")
    with pytest.raises(ModelError, match="100x100"):
        VideoMAE(image_size=100)
    with pytest.raises(ModelError, match="heads"):
        VideoMAE("micro", heads=5)
    with pytest.raises(ModelError, match="tokens"):
        micro.encode(torch.rand(1, 3, 4, 64, 64))
    with pytest.raises(ValueError, match="B,3,T,H,W"):
        micro.encode(video[0])
    with pytest.raises(ValueError, match="same number"):
        micro.reconstruct(video, torch.tensor([[True] * 8, [False] * 8]))
    with pytest.raises(ModelError, match="no decoder"):
        VideoMAE("micro", image_size=32, frames=4, decoder=False).reconstruct(video, tube_mask(2, (2, 2, 2), 0.5))


def test_scales_ascend():
    with torch.device("meta"):
        sizes = [count(VideoMAE(s, image_size=32, frames=4)) for s in SCALES]
    assert sizes == sorted(sizes) and sizes[0] < 1_000_000
