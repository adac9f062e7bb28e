import hashlib
import json
import os
import pickle

import pytest
import torch
from torch import nn

from models import checkpoint
from models.errors import ModelError

CONFIG = {"scale": "micro", "frames": 16, "sizes": [1, 2]}
LINEAGE = {"saw": ["a", "b"]}


def net(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encoders" / "video.safetensors"


def test_saved_weights_are_loaded_again(path):
    module = net()
    sha = checkpoint.save(path, module, CONFIG, LINEAGE)
    other = net(seed=1)
    side = checkpoint.load(path, other, expect_config={"frames": 16, "sizes": (1, 2)})
    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert side == checkpoint.read_sidecar(path)
    assert side["config"] == CONFIG and side["lineage"] == LINEAGE and side["weights_sha256"] == sha
    assert set(side["versions"]) == {"python", "torch", "timm", "safetensors"}
    assert side["n_parameters"] == 24 and side["tensors"]["0.weight"] == ["float32", [4, 3]]
    assert sha == checkpoint.weights_sha256(other)
    assert sorted(p.name for p in path.parent.iterdir()) == ["video.json", "video.safetensors"]


def test_same_weights_same_bytes_on_disk(path, tmp_path):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    checkpoint.save(tmp_path / "again", net(), CONFIG, LINEAGE)
    for a, b in (("video.safetensors", "again.safetensors"), ("video.json", "again.json")):
        assert (path.parent / a).read_bytes() == (tmp_path / b).read_bytes()


def test_hash_is_over_the_bytes_in_name_order():
    state = {"b": torch.tensor([1, 2], dtype=torch.int64), "a": torch.tensor([0.5], dtype=torch.bfloat16)}
    expected = hashlib.sha256(b"\x00\x3f" + b"\x01" + 7 * b"\x00" + b"\x02" + 7 * b"\x00").hexdigest()
    assert checkpoint.weights_sha256(state) == expected
    assert checkpoint.weights_sha256(dict(reversed(state.items()))) == expected
    assert checkpoint.weights_sha256(net(0)) != checkpoint.weights_sha256(net(1))
    module = net()
    with torch.no_grad():
        module[0].weight.view(-1)[5] += 1e-7
    assert checkpoint.weights_sha256(net()) != checkpoint.weights_sha256(module)


def test_views_and_shared_tensors_can_be_saved(path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = self.one
            self.register_buffer("turned", torch.arange(6.0).view(2, 3).T)
            self.register_buffer("none", torch.empty(0))

    checkpoint.save(path, Tied(), {}, {})
    checkpoint.load(path, Tied())


@pytest.mark.parametrize("missing", ["video.safetensors", "video.json"])
def test_one_file_alone_is_not_a_checkpoint(path, missing):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    (path.parent / missing).unlink()
    with pytest.raises(ModelError, match="no checkpoint"):
        checkpoint.load(path, net())


def test_files_that_do_not_match_are_an_error(path, tmp_path):
    checkpoint.save(path, net(0), CONFIG, LINEAGE)
    checkpoint.save(tmp_path / "other", net(1), CONFIG, LINEAGE)
    (tmp_path / "other.safetensors").replace(path)
    with pytest.raises(ModelError, match="sha256"):
        checkpoint.load(path, net())


def test_one_flipped_bit_is_an_error(path):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="sha256"):
        checkpoint.load(path, net())


@pytest.mark.parametrize(
    "expected, reason", [({"frames": 8}, "frames should be 8, it has 16"), ({"heads": 3}, "heads .* no such entry")]
)
def test_a_config_that_does_not_match_is_an_error_with_the_reason(path, expected, reason):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    fresh = net(seed=1)
    before = checkpoint.weights_sha256(fresh)
    with pytest.raises(ModelError, match=reason):
        checkpoint.load(path, fresh, expect_config=expected)
    assert checkpoint.weights_sha256(fresh) == before


@pytest.mark.parametrize("module", [net(width=5), nn.Linear(3, 4), nn.Sequential(*net(), nn.Linear(4, 1))])
def test_a_module_that_does_not_match_is_an_error_with_the_tensor(path, module):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    with pytest.raises(ModelError, match="does not match: [\\w.]+ is"):
        checkpoint.load(path, module)


class Bomb:
    """Unpickling it creates a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_an_attackers_pickle_is_never_opened(path):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    torch.save({"0.weight": Bomb(path.parent / "boom")}, path)
    with pytest.raises(ModelError, match="not a safetensors file"):
        checkpoint.load(path, net())
    path.write_bytes(pickle.dumps(Bomb(path.parent / "boom")))
    with pytest.raises(ModelError, match="not a safetensors file"):
        checkpoint.read_weights(path)
    assert not (path.parent / "boom").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"format": 99}), json.dumps({"format": 1}),
                                  json.dumps({"format": 1, "config": [], "lineage": {}, "versions": {}})])
def test_a_damaged_or_invalid_sidecar_is_an_error(path, text):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match="train the model again"):
        checkpoint.load(path, net())


def test_a_crash_between_the_files_leaves_no_checkpoint_and_no_other_files(path, monkeypatch):
    checkpoint.save(path, net(0), CONFIG, LINEAGE)
    write = checkpoint.write_atomically

    def crash_at_the_sidecar(target, content):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        write(target, content)

    monkeypatch.setattr(checkpoint, "write_atomically", crash_at_the_sidecar)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, net(1), CONFIG, LINEAGE)
    with pytest.raises(ModelError, match="no checkpoint"):
        checkpoint.load(path, net())
    assert [p.name for p in path.parent.iterdir()] == ["video.safetensors"]


def test_an_unwritable_config_leaves_the_old_checkpoint(path):
    checkpoint.save(path, net(), CONFIG, LINEAGE)
    with pytest.raises((TypeError, ValueError)):
        checkpoint.save(path, net(1), {"x": float("nan")}, LINEAGE)
    checkpoint.load(path, net())


def test_a_name_without_suffix_gets_one(tmp_path):
    checkpoint.save(tmp_path / "v1.2", net(), CONFIG, LINEAGE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v1.2.json", "v1.2.safetensors"]
    checkpoint.load(tmp_path / "v1.2", net())
