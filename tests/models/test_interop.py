import os

import numpy as np
import pytest
import safetensors.torch
import torch

from models.errors import ModelError
from models.interop import load_convtran_block, load_marlin, load_mvts_encoder, mvts_state
from models.mae.masks import tube_mask
from models.mae.positions import sincos_table
from tests.helpers.places import GOLDEN

MARLIN = GOLDEN / "marlin_full.pt"
torch.set_num_threads(1)


def golden(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(weights, arrays) of a golden file."""
    file = np.load(GOLDEN / name)
    tensors = {k: torch.from_numpy(file[k]) for k in file if file[k].dtype.kind in "fb"}
    return {k[2:]: v for k, v in tensors.items() if k.startswith("w:")}, tensors


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def marlin_state():
    return torch.load(MARLIN, weights_only=True)


def test_marlin_from_a_state_dict(marlin_state):
    _, g = golden("video_mae.npz")
    mae = load_marlin(marlin_state, heads=3, decoder_heads=3)
    assert not mae.training and mae.dim == 24 and len(mae.blocks) == 2 and mae.n_tokens == 32
    with torch.no_grad():
        close(mae.encode(g["x"]), g["tokens_all"])
        close(mae.encode_visible(g["x"], g["visible_mask"]), g["tokens_visible"])
        close(mae.reconstruct(g["x"], g["visible_mask"]), g["decoder_out"])


def test_marlin_uses_the_files_own_positions(marlin_state):
    _, g = golden("video_mae.npz")
    shifted = dict(marlin_state) | {"encoder.pos_embedding.emb": marlin_state["encoder.pos_embedding.emb"].flip(1)}
    mae = load_marlin(shifted, heads=3, decoder_heads=3)
    assert not torch.allclose(mae.encode(g["x"]), g["tokens_all"], atol=1e-2)


def test_marlin_encoder_alone(marlin_state):
    _, g = golden("video_mae.npz")
    mae = load_marlin({k: v for k, v in marlin_state.items() if k.startswith("encoder.")}, heads=3)
    with torch.no_grad():
        close(mae.encode(g["x"]), g["tokens_all"])
    with pytest.raises(ModelError, match="no decoder"):
        mae.reconstruct(g["x"], g["visible_mask"])


def test_marlin_as_safetensors_and_inside_a_training_checkpoint(marlin_state, tmp_path):
    safetensors.torch.save_file(dict(marlin_state), tmp_path / "m.safetensors")
    critic = {"discriminator.layers.0.linear.weight": torch.zeros(2, 384)}
    torch.save({"state_dict": dict(marlin_state) | critic, "epoch": 3}, tmp_path / "m.ckpt")
    for name in ("m.safetensors", "m.ckpt"):
        assert load_marlin(tmp_path / name, heads=3, decoder_heads=3).n_tokens == 32


def test_marlin_geometry_and_frames(marlin_state):
    assert load_marlin(marlin_state, 3, 3).grid == (8, 2, 2)  # 16 frames where that is possible
    mae = load_marlin(marlin_state, 3, 3, frames=4)
    assert mae.grid == (2, 4, 4) and mae.image_size == 32
    assert mae.reconstruct(torch.rand(1, 3, 4, 32, 32), tube_mask(1, mae.grid, 0.75)).shape == (1, 24, 384)
    with pytest.raises(ModelError, match="square grid"):
        load_marlin(marlin_state, 3, 3, frames=6)


def test_heads_default_to_width_over_64(marlin_state):
    with pytest.raises(ModelError, match="heads="):
        load_marlin(marlin_state)
    with pytest.raises(ModelError, match="decoder_heads="):
        load_marlin(marlin_state, heads=3)
    wide = {
        "encoder.patch_embedding.projection.weight": torch.zeros(128, 3, 2, 4, 4),
        "encoder.patch_embedding.projection.bias": torch.zeros(128),
        "encoder.pos_embedding.emb": torch.zeros(1, 8, 128),
        "encoder.norm.weight": torch.ones(128),
        "encoder.norm.bias": torch.zeros(128),
    }
    assert load_marlin(wide).heads == 2


def test_a_marlin_file_that_lacks_or_adds_a_tensor_is_refused(marlin_state):
    short = {k: v for k, v in marlin_state.items() if k != "encoder.blocks.1.attn.v_bias"}
    with pytest.raises(ModelError, match=r"blocks\.1\.attn\.v_bias is nothing in the file"):
        load_marlin(short, 3, 3)
    with pytest.raises(ModelError, match="surprise"):
        load_marlin(dict(marlin_state) | {"encoder.surprise": torch.zeros(1)}, 3, 3)
    with pytest.raises(ModelError, match="not a MARLIN checkpoint"):
        load_marlin({"a": torch.zeros(1)})


def test_convtran_block():
    weights, g = golden("hpa_block.npz")
    block = load_convtran_block(weights)
    assert not block.training
    with torch.no_grad():
        close(block(g["x"]), g["y"])


def test_convtran_ignores_recomputed_tables_and_the_head():
    weights, g = golden("hpa_block.npz")
    more = {"attention_layer.relative_index": torch.zeros(48 * 48, 1), "Fix_Position.pe": torch.zeros(1, 48, 16),
            "out.weight": torch.zeros(2, 16), "out.bias": torch.zeros(2)}  # fmt: skip
    with torch.no_grad():
        close(load_convtran_block(weights | more)(g["x"]), g["y"])
    with pytest.raises(ModelError, match="not a ConvTran checkpoint"):
        load_convtran_block({"a": torch.zeros(1)})


def test_mvts_encoder():
    weights, g = golden("signal_encoder.npz")
    encoder = load_mvts_encoder(weights, n_heads=4)
    assert not encoder.training
    with torch.no_grad():
        close(encoder(g["x"], g["keep"]), g["latent"])
        close(encoder.reconstruct(g["x"], g["keep"]), g["y"])
        assert encoder(torch.randn(2, 17, 3)).shape == (2, 17, 16)


def test_mvts_with_its_own_positions():
    weights, g = golden("signal_encoder.npz")
    table = sincos_table(60, 16)[:, None]
    encoder = load_mvts_encoder(weights | {"pos_enc.pe": table}, n_heads=4)
    with torch.no_grad():
        close(encoder(g["x"], g["keep"]), g["latent"])
    with pytest.raises(ModelError, match="60 steps"):
        encoder(torch.randn(1, 61, 3))
    assert mvts_state(weights | {"pos_enc.pe": table})["positions"].shape == (60, 16)


def test_mvts_without_its_output_layer_encodes_and_does_not_reconstruct(tmp_path):
    weights, g = golden("signal_encoder.npz")
    layer = {k: v for k, v in weights.items() if "running" not in k and not k.startswith("output_layer")}
    encoder = load_mvts_encoder(layer, n_heads=4)
    assert isinstance(encoder.layers[0].norm1, torch.nn.LayerNorm)
    with pytest.raises(ModelError, match="no output_layer.weight in the weights given.*the checkpoint of its pretraining"):
        encoder.reconstruct(g["x"])
    torch.save(layer, tmp_path / "classifier.pt")
    with pytest.raises(ModelError, match="no output_layer.weight in .*classifier.pt, so"):
        load_mvts_encoder(tmp_path / "classifier.pt", n_heads=4).reconstruct(g["x"])


def test_mvts_heads_that_do_not_divide():
    weights, _ = golden("signal_encoder.npz")
    with pytest.raises(ModelError, match="5 heads"):
        load_mvts_encoder(weights, n_heads=5)


class Bomb:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("load", [load_marlin, load_convtran_block, lambda path: load_mvts_encoder(path, 4)])
def test_an_attackers_pickle_is_refused(load, tmp_path):
    bad = tmp_path / "weights.pt"
    torch.save({"encoder.norm.weight": Bomb(tmp_path / "boom")}, bad)
    with pytest.raises(ModelError, match="other data than tensors"):
        load(bad)
    assert not (tmp_path / "boom").exists()
    torch.load(bad, weights_only=False)  # the attack itself works, so the loader rejected it above
    assert (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_refused_in_one_sentence(content, tmp_path):
    bad = tmp_path / "weights.pt"
    bad.write_bytes(content)
    with pytest.raises(ModelError, match="weights.pt") as caught:
        load_marlin(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_any_damage_is_a_model_error(marlin_state, tmp_path, zipped):
    """Bytes overwritten at random, in both of torch's formats: loaded, or an error of one sentence, never a stack trace."""
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    torch.save(dict(marlin_state), good, _use_new_zipfile_serialization=zipped)
    rng, refused = np.random.default_rng(0), 0
    for n in [1, 5, 50] * 20:
        data = np.frombuffer(good.read_bytes(), np.uint8).copy()
        data[rng.integers(0, 4000, n)] = rng.integers(0, 256, n)
        bad.write_bytes(data.tobytes())
        try:
            load_marlin(bad, 3, 3)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


PROJECTION, BIAS, COLLAPSE = ("encoder.patch_embedding.projection.weight", "attention_layer.relative_bias_table",
                              "embed_layer2.0.weight")  # fmt: skip


@pytest.mark.parametrize(
    "load, state",
    [
        (load_marlin, {PROJECTION: torch.zeros(2, 3)}),
        (load_marlin, {PROJECTION: torch.zeros(64, 3, 2, 4, 8)}),
        (load_marlin, {PROJECTION: torch.zeros(64, 3, 0, 4, 4)}),
        (load_convtran_block, {BIAS: torch.zeros(3), COLLAPSE: torch.zeros(2, 2)}),
        (load_convtran_block, {BIAS: torch.zeros(3, 8), COLLAPSE: torch.zeros(2, 2)}),
        (lambda state: load_mvts_encoder(state, 1), {"project_inp.weight": torch.zeros(2)}),
        (load_marlin, {1: torch.zeros(2)}),
        (load_marlin, {}),
    ],
)
def test_tensors_of_another_shape_are_refused(load, state):
    with pytest.raises(ModelError, match="has the shape|must be a dictionary"):
        load(state)


def test_heads_and_frames_that_do_not_divide(marlin_state):
    for heads in (0, 7):
        with pytest.raises(ModelError, match=f"24 is not divisible by {heads} heads"):
            load_marlin(marlin_state, heads, 3)
    for frames in (0, 5):
        with pytest.raises(ModelError, match=f"{frames} frames"):
            load_marlin(marlin_state, 3, 3, frames=frames)
    with pytest.raises(ModelError, match="0 heads"):
        load_mvts_encoder({"project_inp.weight": torch.zeros(2, 2)}, 0)
    with pytest.raises(ModelError, match="16 is not divisible by 3 heads"):
        load_convtran_block({BIAS: torch.zeros(3, 3), COLLAPSE: torch.zeros(16, 4, 4, 1)})


def test_a_missing_file_and_a_file_of_other_things(tmp_path):
    with pytest.raises(ModelError, match="no file"):
        load_marlin(tmp_path / "nowhere.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="dictionary of tensors"):
        load_marlin(tmp_path / "list.pt")
