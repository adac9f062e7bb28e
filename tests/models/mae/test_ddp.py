"""The objectives under DistributedDataParallel: two workers with half a batch each make the step of one worker.

Gradients (the penalty's included) and BatchNorm's running statistics to 1e-5, whole steps and steps in two parts.
"""

import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from models.mae import training
from models.mae.critic import Critic
from models.mae.data_parallel import data_parallel
from models.mae.masks import mask_from_seeds, uniform_from_seeds
from models.mae.signal_mae import SignalMAE
from models.mae.sync_batch_norm import SharedBatchNorm, batch_norm
from models.mae.training import SignalMAEObjective, VideoMAEObjective, scored
from models.mae.video_mae import VideoMAE

pytestmark = pytest.mark.medium
SEEDS = [3, 1, 4, 15, 9, 2, 6, 5]


NAMES = ("video", "signal", "tokens")


def objectives(norm: type[nn.Module] = nn.BatchNorm1d) -> tuple[nn.Module, ...]:
    """Of the video MAE, the signal MAE, and the signal MAE whose tokens are convolutions with norms between them."""
    torch.manual_seed(0)
    mae = VideoMAE("micro", image_size=32, frames=4, depth=1, decoder_depth=1)
    sizes = {"dim": 16, "depth": 1, "heads": 2, "ff": 16, "decoder_depth": 1, "batch_norm": norm}
    signal, tokens = SignalMAE(2, 30, **sizes), SignalMAE(2, 30, tokenizer="conv", max_tokens=10, conv_layers=2, **sizes)
    return VideoMAEObjective(mae, Critic(1536, 16)), SignalMAEObjective(signal), SignalMAEObjective(tokens)


def arguments(rows: slice, shares: int) -> tuple[tuple, ...]:
    """Everything is drawn per sample, so a part gets the same random numbers as in the whole batch."""
    g = torch.Generator().manual_seed(0)
    video, signals = torch.rand(8, 3, 4, 32, 32, generator=g), 3 + torch.randn(8, 30, 2, generator=g)
    visible = mask_from_seeds("tube", SEEDS[rows], grid=(2, 2, 2), ratio=0.5)
    whole = mask_from_seeds("markov", SEEDS, length=30, channels=2)
    keep = torch.arange(30) < torch.tensor([30, 20, 30, 10, 30, 25, 30, 12])[:, None]
    points = scored(whole, keep).sum() / shares
    windows = (signals[rows], whole[rows], keep[rows], points)
    return (video[rows], visible, uniform_from_seeds(SEEDS[rows], 1)), windows, windows


def step(parts: int, rank: int = 0, world: int = 1, norm: type[nn.Module] = nn.BatchNorm1d) -> dict[str, torch.Tensor]:
    """Gradients and buffers after one step of each objective on this rank's rows, in `parts` parts."""
    inner = objectives(norm)
    wrapped = [m if world == 1 else data_parallel(m) for m in inner]
    shares = world * parts
    both = [arguments(slice(rank + world * i, None, shares), shares) for i in range(parts)]
    found = {}
    for i, (name, objective) in enumerate(zip(NAMES, wrapped, strict=True)):
        still = {"all": torch.optim.SGD(objective.parameters(), lr=0.0)}
        training.step(objective, still, [part[i] for part in both])
        found |= {f"{name} gradient {n}": p.grad for n, p in inner[i].named_parameters()}
        found |= {f"{name} buffer {n}": b for n, b in inner[i].named_buffers()}
    return found


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for parts in (1, 2):
        torch.save(step(parts, rank, 2, SharedBatchNorm), f"{folder}/{rank}-{parts}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(rank, parts) -> what two workers found."""
    folder = tmp_path_factory.mktemp("two")
    torch.set_num_threads(1)
    mp.spawn(worker, (str(folder),), nprocs=2)
    return {(r, p): torch.load(folder / f"{r}-{p}.pt", weights_only=True) for r in (0, 1) for p in (1, 2)}


def test_two_workers_take_the_step_of_one(two):
    one = step(1)
    assert sum("gradient critic" in name for name in one) == 4 and sum("running" in name for name in one) == 8 + 12
    for rank in (0, 1):
        for name, value in one.items():
            torch.testing.assert_close(two[rank, 1][name], value, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_statistics_of_one_workers_rows_differ(two):
    """The test above is sensitive: separate BatchNorms of the workers give another gradient."""
    half = objectives()[1]
    half(*arguments(slice(0, None, 2), 2)[1])["loss"].backward()
    other = half.mae.layers[0].linear1.weight.grad
    assert not torch.allclose(other, step(1)["signal gradient mae.layers.0.linear1.weight"], atol=1e-3)


def test_two_workers_in_two_parts_take_the_videos_whole_step(two):
    """Parts have their own batch statistics: the signal MAE's agree between the workers, the video MAE's with one's."""
    one = step(1)
    for name, value in one.items():
        if name.startswith("video gradient"):
            torch.testing.assert_close(two[0, 2][name], value, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(two[0, 2][name], two[1, 2][name], atol=0, rtol=0)


def test_with_one_worker_and_in_evaluation_it_equals_torch():
    torch.manual_seed(0)
    ours, theirs, x = SharedBatchNorm(3), nn.BatchNorm1d(3), torch.randn(7, 3)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert batch_norm(1, False) is nn.BatchNorm1d and batch_norm(2, True) is nn.SyncBatchNorm
