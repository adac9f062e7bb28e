"""One encoder's files: the input of its training and the files that are kept; without the training itself."""

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
    """Weights that are not trained here: an existing encoder's, a public checkpoint's, or random ones (pretrain=none)."""
    import torch

    from models import build

    if plan.origin is not None:
        quality.adopt(plan, folder)
        finish(plan, folder, keep_origin(plan, folder), {"workers": 0})
        return
    assert plan.video is not None  # with signals only, no random encoder is needed: the folds initialise their own
    torch.manual_seed(seed)
    finish(plan, folder, {"video": keep_video(plan, folder, build("video_mae", **plan.video))}, {"workers": 0})


def keep_video(plan: EncoderPlan, folder: Path, model) -> str:
    """Write video weights that were not trained here: those of a public checkpoint, else `model`. Returns their hash."""
    from models import checkpoint

    assert plan.video is not None
    if plan.foreign:
        model = plan.foreign.load_marlin()
    return checkpoint.save(folder / "video", model, plan.video, plan.lineage.to_json())


def keep_origin(plan: EncoderPlan, folder: Path) -> dict[str, str]:
    """Write the parts that are taken from the encoder of pretrain.from. Returns the hash of each part (video, signal)."""
    from models import build, checkpoint

    assert plan.origin is not None
    kept = {}
    for kind, options in (("video", plan.origin.video), ("signal", plan.origin.signal)):
        if options is not None:
            model = build(f"{kind}_mae", **options)
            model.load_state_dict(plan.origin.state(kind))
            kept[kind] = checkpoint.save(folder / kind, model, options, plan.lineage.to_json())
    return kept


def job_of(config: Config, clips: ClipStore, plan: EncoderPlan) -> tuple["Job", Scaler | None]:
    """The job, in a folder that is kept if the command is killed; its name holds the key, so no other training uses it."""
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
    shards = [(s, clips.paths[s]) for s in plan.group.trained_here]
    return Job(name=f"encoder {plan.index + 1}", out=out, shards=shards, video=plan.video if video else None,
               signal=plan.signal if signal else None, signals=signals, samples=samples, lineage=plan.lineage.to_json(),
               recipe=config.pretrain.model_dump(), clip=config.clip.model_dump(), seed=config.pretrain.seed,
               owner=owner), scaler


def finish(plan: EncoderPlan, folder: Path, weights: dict[str, str], how: dict) -> None:
    write_checked(folder / "encoder.json", {
        "key": plan.key, "weights": weights, "lineage": plan.lineage.to_json(),
        "subjects": list(plan.group.trained_here) if plan.group and any(plan.trains) else [],
        "checkpoint": plan.foreign.sha256 if plan.foreign else None, "about": plan.about, **how})


def check_group(clips: ClipStore, plan: EncoderPlan) -> None:
    """Raises UserError before the training if a pretraining group has no usable clip."""
    assert plan.group is not None
    parts = [clips.signals(subject) for subject in plan.group.trained_here]
    for what, wanted, there in (("video", plan.trains[0], any(part.n_crops.any() for part in parts)),
                                ("signal", plan.trains[1], any(part.has_signal.any() for part in parts))):
        if wanted and not there:
            raise UserError(f"No subject of pretraining group {plan.index + 1} has a usable {what} clip: see the table of "
                            f"excluded clips {clips.folder / 'quarantine.parquet'}, or use another pretrain.seed.")


def group_signals(clips: ClipStore, plan: EncoderPlan, out: Path) -> tuple[Path, list[str], Scaler]:
    """The group's signals, scaled by a scaler fitted on the group, as one memory-mapped file; (file, samples, scaler)."""
    assert plan.group is not None
    subjects = plan.group.trained_here
    moments = {s: m for s in subjects if (m := clips.moments(s, sorted(map(int, clips.sides[s]["moments"])))) is not None}
    scaler = fit_scaler(moments, sorted(moments), kind=plan.scale)
    parts = {s: part for s in subjects if (part := clips.signals(s)).has_signal.any()}
    path = out / "signals.npy"
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, np.concatenate([scaler.apply(part.signals[part.has_signal], moments[s]) for s, part in parts.items()]),
                allow_pickle=False)
    names = [sample for part in parts.values() for sample, has in zip(part.samples, part.has_signal, strict=True) if has]
    return path, names, scaler
