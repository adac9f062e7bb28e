"""Weights on disk: a safetensors file, and a JSON side file written last that says what it is and holds its hash.

The side file: format, config, lineage, versions, n_parameters, tensors (name: [dtype, shape]), weights_sha256.
Without a matching pair the checkpoint does not exist. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from models.errors import ModelError

FORMAT = 1
_ABSENT = object()


def weights_sha256(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """sha256 over the tensors' bytes in the order of their names: equal weights, equal hash, whatever the file."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name in sorted(state):
        flat = state[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def side_path(path: Path | str) -> Path:
    """The JSON beside the weights: encoder.safetensors -> encoder.json."""
    return weights_path(path).with_suffix(".json")


def weights_path(path: Path | str) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def save(path: Path | str, module: nn.Module, config: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    """Write `path` (.safetensors) and its side file; returns weights_sha256.

    config: what builds the module again; lineage: who it has seen; both JSON. Each file appears whole or not at all,
    and an old side file goes first, so that a crash between the two leaves no pair.
    """
    path = weights_path(path)
    state = {name: t.detach().cpu().contiguous().clone() for name, t in module.state_dict().items()}
    sha = weights_sha256(state)
    packages = ("torch", "timm", "safetensors")
    side = {
        "format": FORMAT,
        "weights_sha256": sha,
        "config": dict(config),
        "lineage": dict(lineage),
        "n_parameters": sum(p.numel() for p in module.parameters()),
        "tensors": {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in sorted(state.items())},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }
    text = json.dumps(side, indent=1, sort_keys=True, allow_nan=False) + "\n"  # fails before anything is written
    path.parent.mkdir(parents=True, exist_ok=True)
    side_path(path).unlink(missing_ok=True)
    write_whole(path, lambda tmp: safetensors.torch.save_file(state, tmp))
    write_whole(side_path(path), lambda tmp: tmp.write_text(text))
    return sha


def read_side(path: Path | str) -> dict[str, Any]:
    """The side file of the checkpoint at `path`. Raises ModelError if there is none, or not one of ours."""
    side = side_path(path)
    try:
        content = json.loads(side.read_text())
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint at {path}: {side.name} is missing; train it again.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"The side file {side} cannot be read ({error}); train the model again.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{side} is not a side file of this version (format {FORMAT}); train the model again.")
    if not all(isinstance(content.get(part), dict) for part in ("config", "lineage", "versions")):
        raise ModelError(f"{side} lacks config, lineage or versions; train the model again.")
    return content


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, side), checked against each other. Raises ModelError where the pair does not exist or match."""
    path = weights_path(path)
    side = read_side(path)
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint at {path}: only its side file is there; train it again.") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error}); nothing else is ever loaded.") from None
    if weights_sha256(state) != side.get("weights_sha256"):
        raise ModelError(f"{path} is not the file its side file describes (sha256 differs); train the model again.")
    return state, side


def load(path: Path | str, module: nn.Module, expect_config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Fill `module` from the checkpoint at `path`, and return the side file.

    expect_config: every key of it must be in the stored config with the same value. Raises ModelError with the reason
    when the pair is missing or does not match, or the config or a tensor's shape does not fit.
    """
    state, side = read_weights(path)
    stored = side["config"]
    for key, wanted in (expect_config or {}).items():
        found = stored.get(key, _ABSENT)
        if found is _ABSENT or _canonical(found) != _canonical(wanted):
            has = "no such entry" if found is _ABSENT else f"{found!r}"
            raise ModelError(f"The checkpoint {path} does not fit: {key} should be {wanted!r}, it has {has}.")
    own = module.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own or own[name].shape != state[name].shape:
            here = tuple(own[name].shape) if name in own else "nothing"
            there = tuple(state[name].shape) if name in state else "nothing"
            raise ModelError(f"The checkpoint {path} does not fit: {name} is {there} there and {here} in the model.")
    module.load_state_dict(state)
    return side


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """`path` whole or not at all: temporary file, fsync, rename, fsync of the folder. write: fills the path it is given."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
