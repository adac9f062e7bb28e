"""One encoder's files, but for the training itself: what a training gets, and what stays of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.files.storage import (
    atomic_path,
    write_checked,
    write_text,
)
from orchestrator.pretraining import quality
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import EncoderPlan
from preprocessing.moments import Scaler, fit_scaler

if TYPE_CHECKING:  # torch takes seconds to import
    from orchestrator.pretraining.objectives import Job


CURVES = ("curve.json", "steps.parquet")


def untrained(plan: EncoderPlan, folder: Path, seed: int) -> None:
    """What nobody trains here: an encoder's that is there already, a public checkpoint's, or random ones (pretrain=none)."""
    import torch

    from models import build

    if plan.origin is not None:
        quality.adopt(plan, folder)
        finish(plan, folder, keep_origin(plan, folder), {"workers": 0})
        return
    assert plan.video is not None  # signals alone need no random encoder: the folds begin with their own
    torch.manual_seed(seed)
    finish(plan, folder, {"video": keep_video(plan, folder, build("video_mae", **plan.video))}, {"workers": 0})


def keep_video(plan: EncoderPlan, folder: Path, model) -> str:
    """Write the video weights that were not trained here, `model` unless a public checkpoint has them; their hash."""
    from models import checkpoint

    assert plan.video is not None
    if plan.foreign:
        model = plan.foreign.load_marlin()
    return checkpoint.save(folder / "video", model, plan.video, plan.lineage.to_json())


def keep_origin(plan: EncoderPlan, folder: Path) -> dict[str, str]:
    """Write what is taken over of the encoder that pretrain.from gives; the hash of each half."""
    from models import build, checkpoint

    assert plan.origin is not None
    kept = {}
    for half, options in (("video", plan.origin.video), ("signal", plan.origin.signal)):
        if options is not None:
            model = build(f"{half}_mae", **options)
            model.load_state_dict(plan.origin.state(half))
            kept[half] = checkpoint.save(folder / half, model, options, plan.lineage.to_json())
    return kept


def job_of(config: Config, clips: ClipStore, plan: EncoderPlan) -> tuple["Job", Scaler | None]:
    """The job, in a folder that outlives a killed command; the name carries the key, so no other training meets it."""
    from orchestrator.pretraining.checkpoints import OWNER
    from orchestrator.pretraining.objectives import Job

    assert plan.group is not None
    out = plan.folder.with_name(f"{plan.key}.partial")
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob(".*"):
        leftover.unlink(missing_ok=True)
    owner = os.urandom(8).hex()
    write_text(out / OWNER, owner)
    video, signal = plan.trains
    signals, samples, scaler = group_signals(clips, plan, out) if signal else (None, [], None)
    shards = [(s, clips.paths[s]) for s in plan.group.learners]
    return Job(name=f"encoder {plan.index + 1}", out=out, shards=shards, video=plan.video if video else None,
               signal=plan.signal if signal else None, signals=signals, samples=samples, lineage=plan.lineage.to_json(),
               recipe=config.pretrain.model_dump(), clip=config.clip.model_dump(), seed=config.pretrain.seed,
               owner=owner), scaler


def finish(plan: EncoderPlan, folder: Path, weights: dict[str, str], how: dict) -> None:
    write_checked(folder / "encoder.json", {
        "key": plan.key, "weights": weights, "lineage": plan.lineage.to_json(),
        "subjects": list(plan.group.learners) if plan.group and any(plan.trains) else [],
        "checkpoint": plan.foreign.sha256 if plan.foreign else None, "about": plan.about, **how})


def check_group(clips: ClipStore, plan: EncoderPlan) -> None:
    """Raises UserError before anything is trained where a group has nothing to learn from."""
    assert plan.group is not None
    parts = [clips.signals(subject) for subject in plan.group.learners]
    for what, wanted, there in (("video", plan.trains[0], any(part.n_crops.any() for part in parts)),
                                ("signal", plan.trains[1], any(part.has_signal.any() for part in parts))):
        if wanted and not there:
            raise UserError(f"Nobody in pretraining group {plan.index + 1} has a usable {what} clip: see the quarantine "
                            f"table {clips.folder / 'quarantine.parquet'}, or use another pretrain.seed.")


def group_signals(clips: ClipStore, plan: EncoderPlan, out: Path) -> tuple[Path, list[str], Scaler]:
    """The group's signals under a scaler fitted on the group, as one file that workers map into memory; whose rows."""
    assert plan.group is not None
    subjects = plan.group.learners
    moments = {s: m for s in subjects if (m := clips.moments(s, sorted(map(int, clips.sides[s]["moments"])))) is not None}
    scaler = fit_scaler(moments, sorted(moments), kind=plan.scale)
    parts = {s: part for s in subjects if (part := clips.signals(s)).has_signal.any()}
    path = out / "signals.npy"
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, np.concatenate([scaler.apply(part.signals[part.has_signal], moments[s]) for s, part in parts.items()]),
                allow_pickle=False)
    names = [sample for part in parts.values() for sample, has in zip(part.samples, part.has_signal, strict=True) if has]
    return path, names, scaler
