"""Masks of the masked autoencoders: tubelets of a clip, time segments of a signal. True = visible / kept.

Paper: "Face model" (masking ratio r = n / k) and "Time series mask generation" (Eq. 6).

Shapes: B batch, (t,h,w) grid, N = t*h*w tokens, L steps, C channels.
Each mask can be drawn for a batch from one generator, or with `mask_from_seeds` from one seed per sample, so that it depends
neither on the batch nor on the worker of the sample.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from models.errors import ModelError

Grid = tuple[int, int, int]


def n_masked(n: int, ratio: float) -> int:
    """floor(ratio * n), but at least one stays visible: 176 of 196 and 1,411 of 1,568 at 0.9."""
    if not 0 <= ratio < 1:
        raise ModelError(f"The mask ratio {ratio} is not possible: choose one in [0, 1).")
    return min(math.floor(ratio * n + 1e-9), n - 1)


def _visible(rows: int, n: int, ratio: float, generator: Generator | None) -> Tensor:
    """(rows, n) bool, each row with exactly n - n_masked true: the ranks of uniform draws."""
    order = torch.rand(rows, n, generator=generator).argsort(dim=1)
    return torch.zeros(rows, n, dtype=torch.bool).scatter_(1, order[:, n_masked(n, ratio) :], True)


def tube_mask(batch: int, grid: Grid, ratio: float = 0.9, generator: Generator | None = None) -> Tensor:
    """The same positions masked in every time slice (tube masking of VideoMAE): (B,N), 160 of 1,568 visible at 0.9."""
    t, h, w = grid
    return _visible(batch, h * w, ratio, generator)[:, None].expand(batch, t, h * w).reshape(batch, -1)


def random_mask(batch: int, grid: Grid, ratio: float = 0.9, generator: Generator | None = None) -> Tensor:
    """Random tokens masked: (B,N), 157 of 1,568 visible at 0.9."""
    t, h, w = grid
    return _visible(batch, t * h * w, ratio, generator)


def frame_mask(batch: int, grid: Grid, ratio: float = 0.9, generator: Generator | None = None) -> Tensor:
    """Whole time slices masked: (B,N), 1 of 8 slices visible at 0.9."""
    t, h, w = grid
    return _visible(batch, t, ratio, generator)[:, :, None].expand(batch, t, h * w).reshape(batch, -1)


def harden(ratio: float, mean_length: float, steps: int) -> tuple[float, float]:
    """The `harden` option: per step (an epoch) the ratio grows by 0.05, up to 0.9, and the mean length by 1, up to 20."""
    return max(ratio, min(0.9, ratio + 0.05 * steps)), max(mean_length, min(20.0, mean_length + steps))


def markov_mask(
    batch: int,
    length: int,
    channels: int,
    ratio: float = 0.3,
    mean_length: float = 3.0,
    generator: Generator | None = None,
    concurrent: bool = False,
    bernoulli: bool = False,
    harden_steps: int = 0,
) -> Tensor:
    """The two-state Markov mask of a signal, (B,L,C) bool, true = kept (paper: Eq. 6).

    A chain leaves the masked state with probability p_m = 1 / mean_length and the kept one with
    p_u = p_m ratio / (1 - ratio), and starts masked with probability `ratio`: on average `ratio` is masked, in runs of
    `mean_length`. The duration of a state is geometric, so whole runs are drawn instead of single steps.
    concurrent: all channels share one chain. bernoulli: every point independently. harden_steps: see `harden`.
    Raises ModelError where p_u would exceed 1.
    """
    ratio, mean_length = harden(ratio, mean_length, harden_steps)
    if not 0 < ratio < 1 or mean_length < 1:
        raise ModelError(f"Signal masking needs 0 < ratio < 1 and mean_length >= 1, got {ratio} and {mean_length}.")
    chains = batch * (1 if concurrent else channels)
    if bernoulli:
        masked = torch.rand(chains, length, generator=generator, dtype=torch.float64) < ratio
    else:
        masked = _markov_chains(chains, length, ratio, mean_length, generator)
    keep = masked.logical_not().reshape(batch, -1, length).transpose(1, 2)
    return keep.expand(batch, length, channels).contiguous()


def _markov_chains(chains: int, length: int, ratio: float, mean_length: float, generator: Generator | None) -> Tensor:
    """(chains, length) bool, true = masked."""
    p_m = 1 / mean_length
    p_u = p_m * ratio / (1 - ratio)
    if p_u > 1:
        raise ModelError(f"A mask ratio of {ratio} is not possible with runs of {mean_length}: raise mean_length.")
    start_masked = torch.rand(chains, 1, generator=generator, dtype=torch.float64) < ratio
    # flips[:, s] counts the runs that end at step s; the parity of its running sum is the state.
    flips = torch.zeros(chains, length + 1, dtype=torch.int32)
    end = torch.zeros(chains, 1, dtype=torch.int64)
    pairs = 1 + math.ceil(1.5 * length / (1 / p_m + 1 / p_u))  # usually enough runs in one draw
    leave = torch.tensor([p_u, p_m], dtype=torch.float64)
    while int(end.min()) < length:
        u = torch.rand(chains, 2 * pairs, generator=generator, dtype=torch.float64)
        odd = torch.arange(2 * pairs) % 2 == 1  # an even number of runs per draw: each draw starts in the start state
        p = leave[(start_masked ^ odd).long()]
        run = 1 + torch.floor(torch.log1p(-u) / torch.log1p(-p)).long()  # geometric; p = 1 gives log 0 = -inf, run 1
        ends = (end + run.cumsum(1)).clamp(max=length)
        flips.scatter_add_(1, ends, torch.ones_like(ends, dtype=torch.int32))
        end = ends[:, -1:]
    return start_masked ^ (flips[:, :length].cumsum(1) % 2 == 1)


KINDS: dict[str, Callable[..., Tensor]] = {
    "tube": tube_mask,
    "random": random_mask,
    "frame": frame_mask,
    "markov": markov_mask,
}


def mask_from_seeds(kind: str, seeds: Sequence[int], **options) -> Tensor:
    """The masks of samples, each a function of its own seed only: `KINDS[kind](1, ...)` per sample, stacked.

    kind: tube | random | frame (options grid, ratio) or markov (options length, channels, ratio, ...).
    """
    if kind not in KINDS:
        raise ModelError(f"There is no mask called {kind!r}; choose one of: {', '.join(KINDS)}.")
    draw = KINDS[kind]
    return torch.cat([draw(1, generator=Generator().manual_seed(seed), **options) for seed in seeds])


def uniform_from_seeds(seeds: Sequence[int], n: int) -> Tensor:
    """(B,n) float32 in [0,1), each row from its sample's seed: the gradient penalty's mixing weights."""
    # A different random stream than that of the mask with the same seed: the two must be independent.
    return torch.cat([torch.rand(1, n, generator=Generator().manual_seed(sample_seed(seed, 1))) for seed in seeds])


def sample_seed(*keys: int) -> int:
    """One well-mixed seed from non-negative integers such as (seed, epoch, step, sample); 63 bits."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
