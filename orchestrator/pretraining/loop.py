"""The code of each pretraining worker: trains the masked auto-encoders of one encoder one after the other.

A killed run resumes from its last complete checkpoint and gives the result of an uninterrupted one: bit-identical on the
CPU with the same number of workers.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from models import checkpoint
from models.mae import masks, training, training_state
from models.mae.training import set_lr
from orchestrator.errors import UserError
from orchestrator.files.storage import full_disk_as_user_error
from orchestrator.pretraining.checkpoints import Checkpoints, Every
from orchestrator.pretraining.data import epoch_batches, prefetch, steps
from orchestrator.pretraining.loss_curves import Curve, write_curves
from orchestrator.pretraining.objectives import Job, Rank, Stage, stages
from orchestrator.runtime.worker_warnings import kept

Report = Callable[[dict], None]


def train_job(job: Job, rank: Rank, report: Report) -> None:
    """Train the unfinished stages of the job. Rank 0 writes weights and curves to job.out and reports each step and epoch;
    each rank keeps its warnings.

    Raises UserError, naming the last good checkpoint, if a loss is NaN or infinite, or the disk or GPU memory is full.
    """
    with kept(job.out / f"said-{rank.rank}.jsonl"):
        _train_job(job, rank, report)


def _train_job(job: Job, rank: Rank, report: Report) -> None:
    curves: dict[str, Curve] = {}
    for kind in stages(job):
        stage = kind(job, rank)
        curves[stage.title] = train(stage, report if rank.rank == 0 else lambda row: None)
        if rank.rank == 0:
            options = job.video if stage.kind == "video" else job.signal
            assert options is not None
            with full_disk_as_user_error(job.out):
                checkpoint.save(job.out / stage.kind, stage.mae, options, job.lineage)
    if rank.rank == 0:
        write_curves(job.out, job.name, curves)


def train(stage: Stage, report: Report) -> Curve:
    """All epochs of one stage from its newest checkpoint. At the end, the MAE is in evaluation mode and saved."""
    job, rank = stage.job, stage.rank
    saved = Checkpoints(job.out, stage.kind, Every(job.recipe.get("save_epochs", 1), job.recipe.get("save_steps"),
                                                   job.recipe.get("save_seconds", 300)), job.owner)
    precision = rank.autocast(job.recipe.get("precision", "auto"))
    per_epoch = steps(stage.n, stage.batch)
    curve, done = _resume(stage, saved)
    clock = _Clock(stage.batch, stage.epochs * per_epoch - done)
    highest = max(stage.lr(epoch) for epoch in range(stage.epochs))
    report({"kind": "resumed", **_place(stage), "epoch": done // per_epoch, "step": done,
            "plan": f"{stage.epochs} epochs of {per_epoch} steps, largest learning rate {highest:.2e} ({stage.rule()})"})

    def load(item: tuple[int, int, np.ndarray]) -> tuple:
        epoch, step, positions = item
        return *item, stage.load(epoch, step, rank.share(positions))

    for epoch, step, positions, loaded in prefetch(load, _plan(stage, per_epoch, done), threads=rank.loaders):
        rate = stage.lr(epoch)
        set_lr(stage.optimisers.values(), rate)
        torch.manual_seed(masks.sample_seed(job.seed, epoch, step, rank.rank))  # for dropout, if any
        values = _mean(stage.terms(_step(stage, loaded, precision)), rank)
        if not all(map(math.isfinite, values.values())):
            raise UserError(_not_finite(stage, values, epoch, step, positions, saved))
        curve.add(epoch, rate, values)
        done += 1
        time.sleep(float(os.environ.get("DUALPAIN_TEST_STEP_PAUSE_S", 0)))  # lets tests kill a worker in the middle of an epoch
        report({"kind": "step", **_place(stage), "epoch": epoch + 1, "step": done, "steps": stage.epochs * per_epoch,
                "lr": rate, "terms": values, **clock.tick()})
        if step + 1 == per_epoch:
            report({"kind": "epoch", **_place(stage), "epoch": epoch + 1, "lr": rate, "loss": curve.epoch_loss(epoch)})
        if rank.rank == 0 and saved.due(done, per_epoch):
            _save(stage, saved, curve, done)
    if rank.rank == 0 and done not in saved.steps():
        _save(stage, saved, curve, done)  # the next stage starts from here
    stage.mae.eval()
    return curve


def _plan(stage: Stage, per_epoch: int, done: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(epoch, step in the epoch, positions of the batch over all ranks) of all remaining steps."""
    for epoch in range(done // per_epoch, stage.epochs):
        for step, positions in enumerate(epoch_batches(stage.n, stage.batch, stage.job.seed, epoch)):
            if epoch * per_epoch + step >= done:
                yield epoch, step, positions


def _place(stage: Stage) -> dict:
    return {"stage": stage.title, "encoder": stage.job.name, "epochs": stage.epochs}


def _step(stage: Stage, loaded: tuple, precision: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Raises UserError, suggesting a batch size that fits, if GPU memory is insufficient."""
    try:
        parts = stage.arguments(loaded)
        return training.step(stage.objective, stage.optimisers, parts, stage.clip, precision)
    except torch.OutOfMemoryError:
        parts = []  # free the memory before a smaller batch is tried, outside of the exception, which holds references
    raise UserError(_too_large(stage, loaded, precision))


def _mean(terms: Mapping[str, torch.Tensor], rank: Rank) -> dict[str, float]:
    """Mean over ranks, which all have the same names."""
    values = rank.sum(torch.stack([value.float() for value in terms.values()])) / rank.world
    return dict(zip(terms, values.tolist(), strict=True))


def _save(stage: Stage, saved: Checkpoints, curve: Curve, done: int) -> None:
    facts = {"stage": stage.kind, "batch": stage.batch, "clips": stage.n, "world": stage.rank.world,
             "device": stage.rank.device.type, "steps": done}
    saved.save(done, training_state.pack(stage.inner, stage.optimisers) | curve.tensors(), facts)


def _resume(stage: Stage, saved: Checkpoints) -> tuple[Curve, int]:
    """Load the newest checkpoint, the same on all ranks; returns (curve so far, steps done).

    The training starts again if the batch size over all workers (rounded up to a multiple of their number) differs, because
    the steps are then others, or if the kind of device differs, because of its precision.
    """
    newest = saved.newest() if stage.rank.rank == 0 else None
    chosen = stage.rank.chosen(0 if newest is None else newest)
    curve = Curve()
    if chosen:
        found = saved.load(chosen)
        if found is None:
            raise RuntimeError(f"checkpoint {chosen} of {stage.title} was removed while it was read")
        tensors, facts = found
        if (facts["batch"], facts["clips"], facts["device"]) == (stage.batch, stage.n, stage.rank.device.type):
            training_state.unpack(tensors, stage.inner, stage.optimisers)
            curve = Curve.of(tensors)
    stage.rank.sum(torch.zeros(1, device=stage.rank.device))  # barrier: rank 0 must not remove files that others still read
    if stage.rank.rank == 0:
        saved.forget_after(len(curve))
    return curve, len(curve)


def _not_finite(stage: Stage, values: Mapping[str, float], epoch: int, step: int, positions: np.ndarray,
                saved: Checkpoints) -> str:
    bad = ", ".join(f"{name} is {value}" for name, value in values.items() if not math.isfinite(value))
    return (f"{stage.title} of {stage.job.name} stopped in epoch {epoch + 1}, step {step + 1}: {bad}, for the clips "
            f"{', '.join(stage.names(positions))}: try a lower pretrain.{stage.kind}.lr or pretrain.precision=float32, or "
            f"inspect these clips. Run the same command again to resume {saved.last_good()}.")


def _too_large(stage: Stage, loaded: tuple, precision: torch.dtype | None) -> str:
    """The message, with the largest number of clips (by repeated halving) that fits into the free memory."""
    wanted = len(loaded[0]) // stage.parts
    fits = wanted
    while fits > 1:
        fits //= 2
        if _fits(stage, loaded, fits, precision):
            break
    else:
        return (f"{stage.title} of {stage.job.name} does not fit into the GPU's memory even with one clip: use a "
                "smaller encoder, or a GPU with more memory.")
    share = len(loaded[0])
    parts = next(n for n in range(-(-share // fits), share + 1) if share % n == 0)
    return (f"{stage.title} of {stage.job.name} does not fit into the GPU's memory with {wanted} clips at once; {fits} fit: "
            f"use pretrain.{stage.kind}.accumulate={parts} to keep the batch of {stage.batch} in smaller parts, or "
            f"pretrain.{stage.kind}.batch={fits * stage.rank.world} for a smaller batch.")


def _fits(stage: Stage, loaded: tuple, n: int, precision: torch.dtype | None) -> bool:
    """Whether forward and backward of n clips fit into memory; on this rank only, without changing weights."""
    for optimiser in stage.optimisers.values():
        optimiser.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    alone = Rank(0, 1, stage.rank.device)
    stage.rank, rank, stage.parts, parts = alone, stage.rank, 1, stage.parts
    stage.inner.eval()  # batch norms would wait for the other ranks
    try:
        training.step(stage.inner, {}, stage.arguments(tuple(x[:n] for x in loaded)), None, precision)
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        stage.rank, stage.parts = rank, parts


class _Clock:
    """Clips per second, smoothed over some steps, and the remaining seconds of the stage."""

    def __init__(self, batch: int, left: int):
        self.batch, self.left, self.last = batch, left, time.perf_counter()
        self.seconds: float | None = None

    def tick(self) -> dict[str, float]:
        now = time.perf_counter()
        took, self.last = now - self.last, now
        self.seconds = took if self.seconds is None else 0.9 * self.seconds + 0.1 * took
        self.left -= 1
        return {"seconds": took, "clips_per_s": self.batch / max(self.seconds, 1e-9), "eta_s": self.left * self.seconds}


def epochs_planned(jobs: list[Job]) -> int:
    """Number of epochs of all jobs, for the progress bar."""
    return sum(int(job.recipe[kind.kind]["epochs"]) for job in jobs for kind in stages(job))
