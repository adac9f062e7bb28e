"""A training in mid-flight on disk: weights, optimisers and curves as tensors, the rest as JSON. Nothing is pickled.

The JSON is written last and holds the hash of the tensors' file: without a matching pair there is no state.
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

from models.checkpoint import side_path, weights_path, write_whole

FORMAT = 1


def pack(module: nn.Module, optimisers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Everything a step changes, by name, on the CPU: model.<tensor>, optimiser.<player>.<parameter>.<quantity>."""
    found = {f"model.{name}": value for name, value in module.state_dict().items()}
    for player, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{player}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def unpack(tensors: Mapping[str, Tensor], module: nn.Module, optimisers: Mapping[str, Optimizer]) -> None:
    """Back into a module and optimisers that were built the same way. Rates are not part of the state: set them."""
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
    """Write path (.safetensors), then its JSON; each whole or not at all. `path` must be new.

    Raises OSError (also for what safetensors reports of the disk).
    """
    path = weights_path(path)
    try:
        write_whole(path, lambda temporary: safetensors.torch.save_file(dict(tensors), temporary))
    except SafetensorError as error:  # its own words for what the system said
        raise OSError(28 if "os error 28" in str(error) else 5, str(error)) from error
    side = {"format": FORMAT, "sha256": _sha256(path), "facts": dict(facts)}
    text = json.dumps(side, sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_whole(side_path(path), lambda temporary: temporary.write_text(text))


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors, facts), or None where the pair is not whole."""
    path = weights_path(path)
    try:
        side = json.loads(side_path(path).read_text())
        if side["format"] != FORMAT or side["sha256"] != _sha256(path):
            return None
        return safetensors.torch.load_file(path), side["facts"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
