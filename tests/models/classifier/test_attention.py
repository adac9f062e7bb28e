import pytest
import torch

from models.classifier.attention import attention_map, block_attention, per_pixel, rollout, signal_map
from models.mae.signal_mae import SignalMAE
from models.mae.video_mae import VideoMAE

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def mae() -> VideoMAE:
    torch.manual_seed(0)
    return VideoMAE("micro", image_size=48, frames=4, depth=3, decoder=False).eval()


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.rand(2, 3, 4, 48, 48, generator=torch.Generator().manual_seed(1))


def test_the_weights_are_those_the_fused_forward_uses(mae, video):
    attention = mae.blocks[0].attn
    x = mae.blocks[0].norm1(mae.embed(mae.tubelets(video)) + mae.positions)
    v = attention.heads(x)[2]
    by_hand = attention.proj((attention.weights(x) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(by_hand, attention(x), atol=1e-5, rtol=1e-5)


def test_every_block_gives_rows_that_sum_to_one(mae, video):
    maps = list(block_attention(mae, video))
    assert len(maps) == 3
    for weights in maps:
        assert weights.shape == (2, 18, 18) and (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 18))


def test_map_is_the_mean_over_heads_and_queries_of_the_chosen_block(mae, video):
    maps = list(block_attention(mae, video))
    for block in (-1, 0, 2):
        ours = attention_map(mae, video, block)
        assert ours.shape == (2, 2, 3, 3)
        torch.testing.assert_close(ours.flatten(1), maps[block].mean(1))
        torch.testing.assert_close(ours.sum((1, 2, 3)), torch.ones(2))
    with pytest.raises(IndexError):
        attention_map(mae, video, 3)


def test_rollout_is_the_product_of_the_mixed_blocks(mae, video):
    first, second, third = [0.5 * weights + 0.5 * torch.eye(18) for weights in block_attention(mae, video)]
    expected = (third @ second @ first).mean(1)
    ours = rollout(mae, video)
    assert ours.shape == (2, 2, 3, 3)
    torch.testing.assert_close(ours.flatten(1), expected)
    torch.testing.assert_close(rollout(mae, video, residual=1.0), torch.full((2, 2, 3, 3), 1 / 18))


def test_a_matching_key_gets_the_attention(video):
    """One bright tubelet, whose key matches every query, must have the maximum of the map, at its own position."""
    torch.manual_seed(0)
    mae = VideoMAE("micro", image_size=48, frames=4, depth=1, heads=1, decoder=False).eval()
    clip = torch.zeros(1, 3, 4, 48, 48)
    clip[:, :, 2:, 16:32, 32:] = 1.0  # grid position (1, 1, 2)
    attention = mae.blocks[0].attn
    with torch.no_grad():
        mae.positions.zero_()
        x = mae.blocks[0].norm1(mae.embed(mae.tubelets(clip)))
        bright = x[0, 1 * 9 + 1 * 3 + 2]
        attention.qkv.weight[64:128] = torch.eye(64)  # keys are the tokens
        attention.qkv.weight[:64] = 0
        attention.q_bias.copy_(bright)  # every query is the bright token
    for saliency in (attention_map(mae, clip), rollout(mae, clip)):
        assert saliency.flatten().argmax() == 1 * 9 + 1 * 3 + 2


def test_per_pixel_lays_the_map_over_the_clip(mae, video):
    saliency = attention_map(mae, video)
    pixels = per_pixel(saliency, mae)
    assert pixels.shape == (2, 4, 48, 48)
    assert pixels[1, 3, 20, 47] == saliency[1, 1, 1, 2] and pixels[1, 1, 0, 0] == saliency[1, 0, 0, 0]


@pytest.mark.parametrize("tokenizer", ["step", "conv"])
def test_signal_map_uses_samples_without_padding_only(tokenizer):
    torch.manual_seed(0)
    mae = SignalMAE(2, 120, dim=8, depth=2, heads=2, ff=8, tokenizer=tokenizer).eval()
    x, keep = torch.randn(3, 120, 2), torch.arange(120).expand(3, 120) < 60
    assert signal_map(mae, x).shape == (3, mae.n_tokens)
    torch.testing.assert_close(signal_map(mae, x).sum(1), torch.ones(3))
    masked = signal_map(mae, x, keep, block=0)
    torch.testing.assert_close(masked.sum(1), torch.ones(3))
    assert (masked[:, mae.n_tokens // 2 :] == 0).all() and (masked[:, : mae.n_tokens // 2] > 0).all()


def test_signal_weights_are_those_the_fused_forward_uses():
    torch.manual_seed(0)
    mae = SignalMAE(2, 12, dim=8, depth=1, heads=2, ff=8, norm="layer").eval()
    x, keep = torch.randn(2, 12, 2), torch.arange(12).expand(2, 12) < 7
    layer, tokens, key_mask = mae.layers[0], mae.embedded(x, keep), mae.key_mask(keep)
    by_hand = (layer.weights(tokens, key_mask) @ layer.split(tokens)[2]).transpose(1, 2).flatten(2)
    tokens = layer.norm1(tokens + layer.proj(by_hand))
    tokens = layer.norm2(tokens + layer.linear2(torch.nn.functional.gelu(layer.linear1(tokens))))
    torch.testing.assert_close(tokens, mae.encode(x, keep))
