"""The state of a running training on disk: weights, optimisers and curves as tensors, the rest as JSON. Nothing is pickled.

The JSON sidecar is written last and holds the hash of the tensor file: the state is valid only if both files match.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from models.checkpoint import sidecar_path, weights_path, write_atomically

FORMAT = 1


def pack(module: nn.Module, optimisers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """All that a training step changes, by name, on the CPU: model.<tensor>, optimiser.<player>.<parameter>.<quantity>."""
    found = {f"model.{name}": value for name, value in module.state_dict().items()}
    for player, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{player}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def unpack(tensors: Mapping[str, Tensor], module: nn.Module, optimisers: Mapping[str, Optimizer]) -> None:
    """Load into a module and optimisers built in the same way. Learning rates are not part of the state: set them."""
    module.load_state_dict(part(tensors, "model."))
    for player, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part(tensors, f"optimiser.{player}.").items():
            index, _, quantity = name.partition(".")
            state.setdefault(int(index), {})[quantity] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save(path: Path | str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write path (.safetensors), then its JSON sidecar, each atomically. `path` must be new.

    Raises OSError (also for disk errors reported by safetensors).
    """
    path = weights_path(path)
    try:
        write_atomically(path, lambda temporary: safetensors.torch.save_file(dict(tensors), temporary))
    except SafetensorError as error:  # it has its own text for system errors
        raise OSError(28 if "os error 28" in str(error) else 5, str(error)) from error
    side = {"format": FORMAT, "sha256": _sha256(path), "facts": dict(facts)}
    text = json.dumps(side, sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_atomically(sidecar_path(path), lambda temporary: temporary.write_text(text))


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors, facts), or None where a file is missing or they do not match."""
    path = weights_path(path)
    try:
        side = json.loads(sidecar_path(path).read_text())
        if side["format"] != FORMAT or side["sha256"] != _sha256(path):
            return None
        return safetensors.torch.load_file(path), side["facts"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
