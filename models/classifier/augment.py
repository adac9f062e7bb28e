"""Augmentation of the signals of a training batch, for data sets of few subjects. Nothing here is fitted.

Shapes: B batch, L steps, C channels. Every function maps (B, L, C) to (B, L, C), uses torch's random generator of the device
of x, and draws no random numbers where its option is 0 or empty.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import ModelError


@dataclass(frozen=True)
class SignalAugmentation:
    """Augmentation of a training window, in this order; all of it is off by default, as in the paper.

    signal_stretch: standard deviation of the logarithm of the time stretch, about the centre of the window. signal_shift:
    largest time shift, in steps. Beyond its ends a window is reflected (reflect padding).
    signal_mirror: one sign per channel, applied to half of the windows: the recording from the other side of the body.
    A reflection changes the component of an acceleration across the mirror plane, and those of an angular rate within it.
    signal_rotate: size of a random rotation, in degrees (root mean square of its angle), of the vectors in signal_vectors,
    each three channel numbers, all rotated alike: a sensor worn at another angle.
    signal_scale: standard deviation of the logarithm of the gain of each channel.
    signal_mix: standard deviation of the random matrix that is added to the identity to mix the channels.
    signal_noise: standard deviation of white noise, in units of the scaled signal.
    augment: registered augmentations by name with their options, applied after these.
    """

    signal_stretch: float = 0.0
    signal_shift: float = 0.0
    signal_mirror: Sequence[float] = ()
    signal_rotate: float = 0.0
    signal_vectors: Sequence[Sequence[int]] = ()
    signal_scale: float = 0.0
    signal_mix: float = 0.0
    signal_noise: float = 0.0
    augment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Change = TypeVar("Change", bound=Callable[..., Tensor])
AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {}  # registered by plugins


def register(name: str) -> Callable[[Change], Change]:
    """A decorator that adds the function below it, (x (B, L, C), options by keyword) -> (B, L, C), as train.augment.NAME.
    ModelError for a name that is taken."""
    def keep(change: Change) -> Change:
        if name in AUGMENTATIONS:
            raise ModelError(f"There is an augmentation called {name!r} already: give the new one another name.")
        AUGMENTATIONS[name] = change
        return change

    return keep


def find(name: str) -> Callable[..., Tensor]:
    """The augmentation registered as `name`. ModelError for an unknown one."""
    if name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS) or "none is registered; --plugin FILE.py adds some"
        raise ModelError(f"There is no augmentation called {name!r}; choose one of: {known}.")
    return AUGMENTATIONS[name]


def augment(x_BLC: Tensor, options: SignalAugmentation) -> Tensor:
    """Apply all augmentations to x. Raises ModelError where a channel number does not exist."""
    x_BLC = warp(x_BLC, options.signal_stretch, options.signal_shift)
    x_BLC = mirror(x_BLC, options.signal_mirror)
    x_BLC = rotate(x_BLC, options.signal_rotate, options.signal_vectors)
    x_BLC = scale(x_BLC, options.signal_scale)
    x_BLC = jitter(x_BLC, options.signal_mix, options.signal_noise)
    for name, keywords in options.augment.items():
        shape, x_BLC = x_BLC.shape, find(name)(x_BLC, **keywords)
        if x_BLC.shape != shape:
            raise ModelError(f"The augmentation {name!r} turns {tuple(shape)} into {tuple(x_BLC.shape)}: it must keep the "
                             "shape.")
    return x_BLC


def warp(x_BLC: Tensor, stretch: float = 0.0, shift: float = 0.0) -> Tensor:
    """Windows stretched and shifted in time, with linear interpolation and reflect padding."""
    n_batch, length, n_channels = x_BLC.shape
    if not (stretch or shift) or length < 2:
        return x_BLC
    speed_B1 = torch.exp(stretch * torch.randn(n_batch, 1, device=x_BLC.device, dtype=x_BLC.dtype))
    start_B1 = shift * (2 * torch.rand(n_batch, 1, device=x_BLC.device, dtype=x_BLC.dtype) - 1)
    last, middle = length - 1, (length - 1) / 2
    step_L = torch.arange(length, device=x_BLC.device, dtype=x_BLC.dtype)
    at_BL = (step_L - middle) * speed_B1 + middle + start_B1
    at_BL = (last - (at_BL.abs() % (2 * last) - last).abs()).clamp(0, last)  # reflected at both ends
    left_BL = at_BL.floor().clamp(max=last - 1)
    share_BL1 = (at_BL - left_BL)[..., None]
    index_BLC = left_BL.long()[..., None].expand(-1, -1, n_channels)
    return torch.lerp(x_BLC.gather(1, index_BLC), x_BLC.gather(1, index_BLC + 1), share_BL1)


def mirror(x_BLC: Tensor, signs: Sequence[float] = ()) -> Tensor:
    """Multiply the channels of a random half of the windows by `signs`."""
    if not len(signs):
        return x_BLC
    if len(signs) != x_BLC.shape[-1]:
        raise ModelError(f"train.signal_mirror has {len(signs)} signs for {x_BLC.shape[-1]} channels: give one for each.")
    signs_C = torch.tensor(list(signs), device=x_BLC.device, dtype=x_BLC.dtype)
    chosen_B11 = torch.rand(len(x_BLC), 1, 1, device=x_BLC.device) < 0.5
    return torch.where(chosen_B11, x_BLC * signs_C, x_BLC)


def rotate(x_BLC: Tensor, degrees: float = 0.0, vectors: Sequence[Sequence[int]] = ()) -> Tensor:
    """Rotate all vectors of a window by one random rotation per window, about a random axis."""
    if not (degrees and len(vectors)):
        return x_BLC
    named = [channel for vector in vectors for channel in vector]
    if any(len(vector) != 3 for vector in vectors) or len(set(named)) != len(named) or \
            not all(0 <= channel < x_BLC.shape[-1] for channel in named):
        raise ModelError(f"train.signal_vectors={[list(v) for v in vectors]} is not valid for {x_BLC.shape[-1]} channels: "
                         "give lists of three channel numbers from 0, each channel once.")
    turns_B33 = rotations(len(x_BLC), degrees, x_BLC)
    turned = x_BLC.clone()
    for vector in vectors:
        turned[..., list(vector)] = x_BLC[..., list(vector)] @ turns_B33
    return turned


def rotations(n: int, degrees: float, like: Tensor) -> Tensor:
    """(n, 3, 3) rotations by Rodrigues' formula; the angle's root mean square is `degrees`."""
    turn_n3 = torch.randn(n, 3, device=like.device, dtype=like.dtype) * (math.radians(degrees) / math.sqrt(3))
    angle_n11 = turn_n3.norm(dim=1)[:, None, None]
    x, y, z = F.normalize(turn_n3, dim=1).unbind(1)
    zero = torch.zeros_like(x)
    cross_n33 = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(n, 3, 3)
    eye_33 = torch.eye(3, device=like.device, dtype=like.dtype)
    return eye_33 + angle_n11.sin() * cross_n33 + (1 - angle_n11.cos()) * cross_n33 @ cross_n33


def scale(x_BLC: Tensor, deviation: float = 0.0) -> Tensor:
    """Multiply each channel of a window by its own random gain, exp(deviation W) with a standard normal W."""
    if not deviation:
        return x_BLC
    n_batch, _, n_channels = x_BLC.shape
    return x_BLC * torch.exp(deviation * torch.randn(n_batch, 1, n_channels, device=x_BLC.device, dtype=x_BLC.dtype))


def jitter(x_BLC: Tensor, mix: float = 0.0, noise: float = 0.0) -> Tensor:
    """x (I + mix G) + noise W, with standard normal G (C, C) and W (L, C) per window."""
    n_batch, _, n_channels = x_BLC.shape
    if mix:
        eye_CC = torch.eye(n_channels, device=x_BLC.device, dtype=x_BLC.dtype)
        mixing_BCC = eye_CC + mix * torch.randn(n_batch, n_channels, n_channels, device=x_BLC.device, dtype=x_BLC.dtype)
        x_BLC = x_BLC @ mixing_BCC
    if noise:
        x_BLC = x_BLC + noise * torch.randn_like(x_BLC)
    return x_BLC
