"""Checkpoints: a safetensors file of weights, and a JSON sidecar, written last, that describes it and holds its hash.

The sidecar: format, config, lineage, versions, n_parameters, tensors (name: [dtype, shape]), weights_sha256.
A checkpoint is valid only if both files exist and match. Nothing is ever unpickled.
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
    """sha256 over the tensors' bytes in the order of their names: equal weights have equal hashes in any file."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name in sorted(state):
        flat = state[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def sidecar_path(path: Path | str) -> Path:
    """The JSON sidecar of the weights: encoder.safetensors -> encoder.json."""
    return weights_path(path).with_suffix(".json")


def weights_path(path: Path | str) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def save(path: Path | str, module: nn.Module, config: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    """Write `path` (.safetensors) and its sidecar; returns weights_sha256.

    config: the options that build the module again; lineage: the subjects it was trained on; both JSON. Each file is written
    atomically, and an old sidecar is removed first, so that a crash in between leaves no valid checkpoint.
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
    sidecar_path(path).unlink(missing_ok=True)
    write_atomically(path, lambda tmp: safetensors.torch.save_file(state, tmp))
    write_atomically(sidecar_path(path), lambda tmp: tmp.write_text(text))
    return sha


def read_sidecar(path: Path | str) -> dict[str, Any]:
    """The sidecar of the checkpoint at `path`. Raises ModelError if it is missing or invalid."""
    side = sidecar_path(path)
    try:
        content = json.loads(side.read_text())
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint at {path}: {side.name} is missing; train it again.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"The sidecar {side} of the checkpoint cannot be read ({error}); train the model again.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{side} is not a sidecar of this version (format {FORMAT}); train the model again.")
    if not all(isinstance(content.get(part), dict) for part in ("config", "lineage", "versions")):
        raise ModelError(f"{side} lacks config, lineage or versions; train the model again.")
    return content


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, sidecar). Raises ModelError where one of the two files is missing or they do not match."""
    path = weights_path(path)
    side = read_sidecar(path)
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint at {path}: only its sidecar exists; train it again.") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error}), the only format that is loaded.") from None
    if weights_sha256(state) != side.get("weights_sha256"):
        raise ModelError(f"{path} does not match its sidecar (sha256 differs); train the model again.")
    return state, side


def load(path: Path | str, module: nn.Module, expect_config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Load the checkpoint at `path` into `module`, and return the sidecar.

    expect_config: each of its keys must have the same value in the stored config. Raises ModelError with the reason if a file
    is missing, the files do not match each other, or the config or the shape of a tensor does not match.
    """
    state, side = read_weights(path)
    stored = side["config"]
    for key, wanted in (expect_config or {}).items():
        found = stored.get(key, _ABSENT)
        if found is _ABSENT or _canonical(found) != _canonical(wanted):
            has = "no such entry" if found is _ABSENT else f"{found!r}"
            raise ModelError(f"The checkpoint {path} does not match: {key} should be {wanted!r}, it has {has}.")
    own = module.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own or own[name].shape != state[name].shape:
            here = tuple(own[name].shape) if name in own else "nothing"
            there = tuple(state[name].shape) if name in state else "nothing"
            raise ModelError(f"The checkpoint {path} does not match: {name} is {there} in the file and {here} in the model.")
    module.load_state_dict(state)
    return side


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write `path` atomically: temporary file, fsync, rename, fsync of the folder. write: called with the temporary path."""
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
