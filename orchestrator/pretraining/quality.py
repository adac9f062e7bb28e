"""quality.json of an encoder: its reconstruction error on masked patches, compared with a baseline, the visible mean.

Measured once, when an encoder is finished, on subjects outside its lineage if the store has any. Nothing is fitted or
chosen with it, and it is not part of any key. Fields, of the video MAE if it was trained here, else of the signal MAE:
masked_error, visible_mean_error (models/mae/scores.py: both mean squared errors), ratio of the two (null if the second is 0),
on (held_out | own), effective_lr (the largest learning rate of a step), kind, units, n_clips, n_subjects, lr, epochs,
steps; `signal` holds the same for the signal MAE if there is also a video MAE.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.cohort.cohort import Cohort
from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.files.storage import read_checked, read_json, write_checked
from orchestrator.runtime import progress
from orchestrator.stores.clip_store import ClipStore

if TYPE_CHECKING:
    from orchestrator.stores.encoder_store import Encoder, EncoderPlan
    from preprocessing.moments import Scaler

FILE = "quality.json"
CLIPS = 24  # about this number for each MAE, spread over subjects
AT_ONCE = 4
TITLES = {"video": "video MAE", "signal": "signal MAE"}


def measure(config: Config, cohort: Cohort, clips: ClipStore, plan: "EncoderPlan", folder: Path,
            scaler: "Scaler | None") -> dict:
    """Write folder/quality.json for the encoder in that folder; print it, and warn if the ratio is 1 or more."""
    seen = plan.lineage.everyone()
    unseen = [s for s, key in zip(sorted(clips.paths), cohort.keys(sorted(clips.paths)), strict=True) if key not in seen]
    assert plan.group is not None
    makers: dict[str, Callable[[list[int]], dict | None]] = {}
    if plan.trains[0]:
        makers["video"] = lambda subjects: _video(config, clips, plan, folder, subjects)
    if plan.trains[1] and scaler is not None:
        makers["signal"] = lambda subjects: _signal(config, clips, plan, folder, subjects, scaler)
    found = _adopted(plan)
    for kind, make in makers.items():
        on, row = "held_out", make(unseen)
        if row is None:  # no unseen subject has a usable clip
            on, row = "own", make(list(plan.group.subjects))
        if row is not None:
            found[kind] = {"kind": kind, **row, "on": on, **_rates(config, folder, kind)}
    quality = _joined(found)
    write_checked(folder / FILE, quality)
    named = {**quality, "encoder": _name(plan)}
    for text in words([named]):
        progress.say("pretrain", text)
    for text in warnings([named]):
        progress.say("pretrain", f"warning: {text}", logging.WARNING)
    return quality


def adopt(plan: "EncoderPlan", folder: Path) -> None:
    """quality.json of an encoder of pretrain.from of which nothing is trained here: as it was measured there."""
    if found := _adopted(plan):
        write_checked(folder / FILE, _joined(found))


def _adopted(plan: "EncoderPlan") -> dict[str, dict]:
    """By kind, the entries taken from the original encoder, marked `measured`: where it was trained."""
    if plan.origin is None:
        return {}
    path = plan.origin.folder / FILE
    there = read_checked(path)
    if there is None:
        what = "is damaged or was edited" if path.exists() else "is missing"
        progress.say("pretrain", f"warning: {path} {what}, so the reconstruction error of this encoder is not known")
        return {}
    taken = {"video": plan.origin.video, "signal": plan.origin.signal}
    return {part["kind"]: {**{name: value for name, value in part.items() if name not in ("signal", "checksum")},
                           "measured": "where it was trained"}
            for part in _parts(there) if taken[part["kind"]] is not None}


def _name(plan: "EncoderPlan") -> str:
    seed = plan.group.seed if plan.group else None
    return f"encoder {plan.index + 1}" + ("" if seed is None else f", pretrain seed {seed}")


def of(encoders: "Iterable[Encoder]") -> list[dict]:
    """The content of quality.json of all finished encoders, with the encoder's name; encoders without the file are left out.

    For a damaged or edited file: `damaged` only.
    """
    found = []
    for encoder in encoders:
        path = encoder.plan.folder / FILE
        if not path.exists():
            continue
        stored = read_checked(path)
        found.append({**({"damaged": True} if stored is None else {n: part for n, part in stored.items() if n != "checksum"}),
                      "encoder": _name(encoder.plan)})
    return found


def words(rows: Sequence[Mapping]) -> list[str]:
    """One sentence per masked auto-encoder."""
    return [_sentence(part, row["encoder"]) for row in rows for part in _parts(row)]


def warnings(rows: Sequence[Mapping]) -> list[str]:
    """One sentence for each MAE that is no better than the visible mean, or whose quality.json is damaged."""
    damaged = [f"The reconstruction error of {row['encoder']} is not known: its {FILE} is damaged or was edited. "
               "Remove the encoder's folder to train it again." for row in rows if row.get("damaged")]
    useless = [f"The {TITLES[part['kind']]} of {row['encoder']} reconstructs masked patches no better than the visible "
               f"mean: its error is {part['ratio']:.2f} times that of the visible mean. Train it for more steps "
               f"(pretrain.{part['kind']}.epochs, now {part['steps']} steps) or with another learning rate "
               f"(pretrain.{part['kind']}.lr, effective value {part['effective_lr']:.1e})."
               for row in rows for part in _parts(row) if part["ratio"] is not None and part["ratio"] >= 1]
    return damaged + useless


def _sentence(part: Mapping, encoder: str) -> str:
    ratio = "" if part["ratio"] is None else f", ratio {part['ratio']:.2f}"
    n = part["n_subjects"]
    subjects = f"{n} unseen subjects" if part["on"] == "held_out" else \
        f"{n} subjects of its own pretraining, because there are no others"
    measured = f", measured {part['measured']}" if "measured" in part else ""
    return (f"{TITLES[part['kind']]} of {encoder}: masked error {part['masked_error']:.4g} ({part['units']}), "
            f"visible mean {part['visible_mean_error']:.4g}{ratio}; on {part['n_clips']} clips of {subjects}{measured}. "
            f"Largest learning rate {part['effective_lr']:.2e}, {part['steps']} steps.")


def _parts(row: Mapping) -> list[Mapping]:
    if "kind" not in row:
        return []
    return [row, row["signal"]] if "signal" in row else [row]


def _joined(found: Mapping[str, dict]) -> dict:
    if len(found) == 2:
        return {**found["video"], "signal": found["signal"]}
    return next(iter(found.values()), {})


def _rates(config: Config, folder: Path, kind: str) -> dict:
    """From the recorded curve: the learning rate depends on the rule of the stage and the batch over all workers."""
    import pyarrow.parquet as pq

    curve = [row for row in read_json(folder / "curve.json") or [] if row["stage"] == TITLES[kind]]
    steps = pq.read_table(folder / "steps.parquet", columns=["stage"])["stage"].to_pylist().count(TITLES[kind])
    return {"effective_lr": max(row["lr"] for row in curve), "lr": float(getattr(config.pretrain, kind)["lr"]),
            "epochs": len(curve), "steps": steps}


def _scores(error: float, mean_error: float, n_clips: int, n_subjects: int, units: str) -> dict:
    if not math.isfinite(error):
        raise UserError("A pretrained encoder gives NaN or infinite values: lower the learning rate (pretrain.video.lr, "
                        "pretrain.signal.lr) and pretrain again.")
    ratio = error / mean_error if mean_error > 0 else None
    return {"masked_error": error, "visible_mean_error": mean_error, "ratio": ratio, "units": units, "n_clips": n_clips,
            "n_subjects": n_subjects}


def _spread(count: Mapping[int, int]) -> list[tuple[int, int]]:
    """(subject, number of its clip): about CLIPS in total, spread over subjects and their sessions. count: usable clips."""
    subjects = [s for s in sorted(count) if count[s]]
    last = len(subjects) - 1
    subjects = [subjects[i] for i in np.unique(np.linspace(0, last, min(CLIPS, len(subjects))).round().astype(int))]
    each = max(1, CLIPS // max(1, len(subjects)))
    return [(s, int(i)) for s in subjects for i in np.unique(np.linspace(0, count[s] - 1, min(each, count[s])).round())]


def _video(config: Config, clips: ClipStore, plan: "EncoderPlan", folder: Path, subjects: Sequence[int]) -> dict | None:
    """None if none of these subjects has a clip with a face."""
    import torch

    from models import checkpoint
    from models.mae import masks
    from models.mae.scores import against_visible_mean
    from models.mae.video_mae import VideoMAE
    from orchestrator.pretraining.data import GroupClips
    from orchestrator.pretraining.objectives import as_video

    assert plan.video is not None
    usable = {s: int((clips.signals(s).n_crops > 0).sum()) for s in subjects}
    chosen = _spread(usable)
    if not chosen:
        return None
    who = sorted({s for s, _ in chosen})
    views = GroupClips([(s, clips.paths[s]) for s in who], config.clip.frames, config.clip.rate, plan.video["image_size"], 0)
    begins = {s: i for i, (_, _, s, _) in reversed(list(enumerate(views.index)))}
    video = as_video(np.stack([views.clip(begins[s] + i, None) for s, i in chosen]), torch.device("cpu"))
    mae = VideoMAE(**plan.video)
    checkpoint.load(folder / "video", mae)
    options = config.pretrain.video
    visible = masks.mask_from_seeds(options.get("mask", "tube"), list(range(len(video))), grid=mae.grid,
                                    ratio=float(options.get("mask_ratio", 0.9)))
    pairs = zip(video.split(AT_ONCE), visible.split(AT_ONCE), strict=True)
    rows = [(len(part), *against_visible_mean(mae.eval(), part, mask)) for part, mask in pairs]
    error, mean_error = (sum(row[0] * row[i] for row in rows) / len(video) for i in (1, 2))
    units = "standardised tubelets" if mae.norm_target else "pixels from 0 to 1"
    return _scores(error, mean_error, len(chosen), len(who), units)


def _signal(config: Config, clips: ClipStore, plan: "EncoderPlan", folder: Path, subjects: Sequence[int],
            scaler: "Scaler") -> dict | None:
    """None if none of these subjects has a usable signal."""
    import torch

    from models import checkpoint
    from models.mae import masks
    from models.mae.scores import signal_against_visible_mean
    from models.mae.signal_mae import SignalMAE

    assert plan.signal is not None
    parts = {s: part for s in subjects if (part := clips.signals(s)).has_signal.any()}
    chosen = _spread({s: int(part.has_signal.sum()) for s, part in parts.items()})
    if not chosen:
        return None
    scaled = {s: scaler.apply(parts[s].signals[parts[s].has_signal], clips.moments(s, _labels(clips, s)))
              for s in {s for s, _ in chosen}}
    signals = torch.from_numpy(np.stack([scaled[s][i] for s, i in chosen]).astype(np.float32))
    mae = SignalMAE(**plan.signal)
    checkpoint.load(folder / "signal", mae)
    options = config.pretrain.signal
    unmasked = masks.mask_from_seeds(
        "markov", list(range(len(signals))), length=signals.shape[1], channels=signals.shape[2],
        ratio=float(options["mask_ratio"]), mean_length=float(options["mask_length"]),
        concurrent=bool(options.get("concurrent", False)), bernoulli=bool(options.get("bernoulli", False)))
    error, mean_error = signal_against_visible_mean(mae.eval(), signals, unmasked)
    return _scores(error, mean_error, len(chosen), len(scaled), "scaled signals")


def _labels(clips: ClipStore, subject: int) -> list[int]:
    return sorted(map(int, clips.sides[subject]["moments"]))
