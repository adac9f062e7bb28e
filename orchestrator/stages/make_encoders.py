"""Stage 2: masked auto-encoders on declared groups of subjects, data-parallel where several workers train."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cohort.cohort import Cohort
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import needs
from orchestrator.errors import UserError
from orchestrator.evaluation import damage
from orchestrator.executors import choice
from orchestrator.executors.executor import Seat
from orchestrator.files.scratch import scratch
from orchestrator.files.storage import (
    in_new_folder,
    need_space,
    remove_temporaries,
    write_json,
)
from orchestrator.plan.pretrain_groups import Group
from orchestrator.pretraining import quality
from orchestrator.pretraining.encoder_maker import CURVES, check_group, finish, job_of, keep_origin, keep_video, untrained
from orchestrator.runtime import progress, ray_session
from orchestrator.runtime.store_lock import writing
from orchestrator.runtime.worker_warnings import counted, read
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder, EncoderPlan, open_encoder, plan_encoders

if TYPE_CHECKING:  # torch takes seconds to import
    from orchestrator.pretraining.objectives import Job


def ensure(config: Config, people: Cohort, clips: ClipStore, groups: tuple[Group, ...]) -> list[Encoder]:
    """The encoders of these groups; missing ones are trained. None if the model reads neither tokens nor E_ts.

    Raises UserError if a given encoder (pretrain.from) was trained on recordings of these subjects under other names.
    """
    for group in groups:
        if group.origin is not None:
            group.origin.check_recordings(people, clips.hashes)
    plans = plan_encoders(config, people, clips, groups, needs(config))
    if any(open_encoder(plan) is None for plan in plans):
        with writing(config, "pretrain"):
            _make(config, people, clips, [plan for plan in plans if open_encoder(plan) is None])
    else:
        progress.say("pretrain", f"{len(plans)} encoders are there already and up to date" if plans else "no encoder is needed")
    found = [open_encoder(plan) for plan in plans]
    assert all(found), "an encoder that was just made cannot be read"
    encoders = [encoder for encoder in found if encoder]
    for text in notes(encoders):
        progress.say("pretrain", text)
    return encoders


def notes(encoders: Sequence[Encoder]) -> list[str]:
    """Warnings of the workers that trained these encoders, in this command or an earlier one: "N of M encoders: text"."""
    sides = {encoder.plan.folder: encoder.side for encoder in encoders}
    return counted([side.get("notes", []) for side in sides.values()], "encoders")


def _make(config: Config, people: Cohort, clips: ClipStore, missing: list[EncoderPlan]) -> None:
    remove_temporaries(config.store_dir / "encoders")
    folders = {plan.folder for plan in missing}  # they appear whole
    damage.warn("pretrain", "encoders", (folder.exists() for folder in folders))
    for plan in missing:
        shutil.rmtree(plan.folder, ignore_errors=True)  # damaged or incomplete: it is made again
    train = [plan for plan in missing if any(plan.trains)]
    for plan in {plan.folder: plan for plan in missing if plan not in train}.values():
        in_new_folder(plan.folder, partial(untrained, plan, seed=config.pretrain.seed))
    if train:
        _train(config, people, clips, train)


def _train(config: Config, people: Cohort, clips: ClipStore, plans: list[EncoderPlan]) -> None:
    from models import checkpoint
    from orchestrator.pretraining import reconstructions
    from orchestrator.pretraining.loop import epochs_planned
    from orchestrator.pretraining.monitor import Watch

    for plan in plans:
        check_group(clips, plan)
    _say_cost(config, clips, plans)
    prepared = [job_of(config, clips, plan) for plan in plans]
    jobs = [job for job, _ in prepared]
    keys = {job.name: plan.key for job, plan in zip(jobs, plans, strict=True)}
    with (progress.bar("pretrain", epochs_planned(jobs), "epochs") as tick,
          closing(Watch(config.store_dir / "tensorboard", keys, tick)) as watch):
        workers = fit(config, jobs, watch)
    for plan, (job, scaler) in zip(plans, prepared, strict=True):
        def fill(folder: Path, plan=plan, job=job, scaler=scaler) -> None:
            for name in ("video.safetensors", "video.json", "signal.safetensors", "signal.json", *CURVES):
                if (job.out / name).exists():
                    shutil.copy2(job.out / name, folder / name)
            if scaler is not None:
                write_json(folder / "scaler.json", scaler.to_json())
            weights = {name: checkpoint.read_sidecar(folder / name)["weights_sha256"]
                       for name, trained in zip(("video", "signal"), plan.trains, strict=True) if trained}
            if plan.origin is not None:
                weights |= keep_origin(plan, folder)
            elif plan.video is not None and "video" not in weights:
                weights["video"] = keep_video(plan, folder, None)
            if plan.video is not None:
                reconstructions.draw(config, people, clips, plan, folder)
            quality.measure(config, people, clips, plan, folder, scaler)
            finish(plan, folder, weights, {"workers": workers, "notes": read(*job.out.glob("said-*.jsonl"))})

        in_new_folder(plan.folder, fill)
        shutil.rmtree(job.out, ignore_errors=True)


def _say_cost(config: Config, clips: ClipStore, plans: list[EncoderPlan]) -> None:
    """Time and disk, before anything is trained. Raises UserError where the disk is too small for the checkpoints."""
    from orchestrator.estimate import costs

    speed = costs.measured(config)
    seconds, size = 0.0, 0.0
    for plan in plans:
        assert plan.group is not None
        parts = [clips.signals(s) for s in plan.group.trained_here]
        films, signals = (sum(int((p.n_crops > 0).sum()) for p in parts), sum(int(p.has_signal.sum()) for p in parts))
        work, disk = costs.training(config, plan.video if plan.trains[0] else None,
                                    plan.signal if plan.trains[1] else None, films, signals, speed)
        seconds, size = seconds + work, size + disk
    progress.say("pretrain", f"{len(plans)} encoders to train: {costs.span(costs.interval(seconds))} on {speed.name}, up to "
                             f"{costs.size_text(size)} of disk during training")
    need_space(config.store_dir, int(size), "Pretraining")


def fit(config: Config, jobs: "list[Job]", on_row: Callable[[dict], None]) -> int:
    """Train the jobs, each from its last checkpoint; on_row gets every step and epoch. Returns the number of workers."""
    executor = choice.of(config)
    executor.start(config)
    gpus = executor.gpus()
    workers = config.pretrain.workers or gpus or min(2, ray_session.cpus(config))
    capacity, what = executor.capacity(config)
    if workers > capacity:  # Train would wait for them for ever
        raise UserError(f"pretrain.workers={workers} is more than the {capacity} {what}: use pretrain.workers={capacity}, or "
                        "leave it out.")
    settings = {"jobs": [asdict(job) for job in jobs],
                "loaders": max(1, ray_session.cpus(config) // workers) if gpus else 1}
    with scratch(config.store_dir / "encoders", "train") as place:
        executor.train(config, train_jobs, settings, workers, on_row, Path(place))
    return workers


def train_jobs(settings: Mapping[str, Any], seat: Seat, report: Callable[[dict], None]) -> None:
    """What every worker runs. settings: "jobs" as plain dicts, so that Ray Train's controller, which reads them too, need not
    import torch and timm; "loaders": data loader processes of one worker."""
    from orchestrator.pretraining.loop import train_job
    from orchestrator.pretraining.objectives import Job, Rank

    rank = Rank(seat.rank, seat.world, seat.device, min(8, settings["loaders"]))
    for job in settings["jobs"]:
        train_job(Job(**job), rank, report)
