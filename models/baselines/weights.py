"""Local weight files for the baselines' backbones; nothing is ever downloaded."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from models.errors import ModelError


def load_backbone(backbone: nn.Module, path: str | None) -> None:
    """Load a state dict (.safetensors, or a torch file read with weights_only=True) into `backbone`; None: do nothing.

    A classification head in the file is ignored. Raises ModelError where the file is missing, is not a plain state dict,
    or does not match.
    """
    if path is None:
        return
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"the weight file {file.name!r} does not exist: check model.weights")
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{file.name!r} is not a plain file of tensors and was not loaded: save a state dict") from error
    own = backbone.state_dict()
    wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
    if wrong:
        raise ModelError(f"{file.name!r} does not match {type(backbone).__name__} at {wrong[0]!r} ({len(wrong)} entries): "
                         "check model.weights")
    backbone.load_state_dict({k: state[k] for k in own})
