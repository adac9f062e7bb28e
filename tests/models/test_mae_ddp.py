"""The objectives under DistributedDataParallel: two workers on halves of a batch take one worker's step."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from models.critic import Critic
from models.mae_training import SignalMAEObjective, VideoMAEObjective, scored
from models.masks import mask_from_seeds, uniform_from_seeds
from models.signal_mae import SignalMAE
from models.video_mae import VideoMAE

SEEDS = [3, 1, 4, 15]


def objectives() -> tuple[VideoMAEObjective, SignalMAEObjective]:
    torch.manual_seed(0)
    mae = VideoMAE("micro", image_size=32, frames=4, depth=1, decoder_depth=1)
    signal = SignalMAE(2, 30, dim=16, depth=1, heads=2, ff=16, decoder_depth=1, norm="layer")
    return VideoMAEObjective(mae, Critic(1536, 16)), SignalMAEObjective(signal)


def losses(video_objective, signal_objective, rows: slice) -> torch.Tensor:
    """Everything is drawn per sample, so a share sees what the whole batch would have shown it."""
    g = torch.Generator().manual_seed(0)
    video, signals = torch.rand(4, 3, 4, 32, 32, generator=g), torch.randn(4, 30, 2, generator=g)
    visible = mask_from_seeds("tube", SEEDS[rows], grid=(2, 2, 2), ratio=0.5)
    of_video = video_objective(video[rows], visible, uniform_from_seeds(SEEDS[rows], 1))
    whole = mask_from_seeds("markov", SEEDS, length=30, channels=2)
    points = scored(whole, None).sum() / (4 / len(SEEDS[rows]))
    of_signal = signal_objective(signals[rows], whole[rows], None, points)
    return of_video["loss_generator"] + of_video["loss_critic"] + of_signal["loss"]


def gradients(*modules: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad for module in modules for p in module.parameters()]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    wrapped = [torch.nn.parallel.DistributedDataParallel(m) for m in objectives()]
    losses(*wrapped, slice(rank, None, 2)).backward()
    if rank == 0:
        torch.save(gradients(*wrapped), f"{folder}/gradients.pt")
    dist.destroy_process_group()


def test_two_workers_take_the_step_of_one(tmp_path: Path):
    torch.set_num_threads(1)
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    alone = objectives()
    losses(*alone, slice(0, 4)).backward()
    shared = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for ours, theirs in zip(gradients(*alone), shared, strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=1e-4)
