"""Reconstructions of a trained video MAE in one image; only faces of synthetic subjects or of an allow-list.

F frames shown, S image size.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.cohort.cohort import Cohort
from orchestrator.config.configuration import Config
from orchestrator.files.storage import write_bytes
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.cross_dataset import Joined
from orchestrator.stores.encoder_store import EncoderPlan
from preprocessing.datasets.biovid_lists import SHOWN_IN_PAPER
from preprocessing.face.keyframes import window
from preprocessing.shard import FrameReader, decode_window

if TYPE_CHECKING:
    from torch import Tensor

    from models.mae.video_mae import VideoMAE

SUBJECTS, FRAMES = 3, 4


def may_show(cohort: Cohort) -> list[int]:
    """Indices of subjects whose faces may be shown: of real subjects, only those that the paper itself shows."""
    if isinstance(cohort, Joined):  # each part by its own rule
        first, second = cohort.parts
        return [*may_show(first), *(len(first.people) + s for s in may_show(second))]
    if cohort.synthetic:
        return [person.index for person in cohort.people]
    if cohort.name != "biovid":
        return []
    return sorted({clip.subject for clip in cohort.clips if clip.recording.subject in SHOWN_IN_PAPER})


def draw(config: Config, cohort: Cohort, clips: ClipStore, plan: EncoderPlan, folder: Path) -> None:
    """folder/reconstructions.png: original frames, visible patches, reconstruction; subjects outside its group first.

    Nothing is written if no subject may be shown, or if there is no decoder.
    """
    import cv2
    import torch

    from models import checkpoint
    from models.mae.video_mae import VideoMAE

    assert plan.video is not None
    group = set(plan.group.subjects) if plan.group else set()
    chosen = sorted(may_show(cohort), key=lambda s: (s in group, s))
    views = [view for s in chosen if (view := first_clip(config, clips, s, plan.video["image_size"])) is not None][:SUBJECTS]
    if not views or not plan.video.get("decoder", True):
        return
    mae = VideoMAE(**plan.video)
    checkpoint.load(folder / "video", mae)
    options = config.pretrain.video
    with torch.no_grad():
        pictures = reconstruct(mae.eval(), np.stack(views), options.get("mask", "tube"), float(options.get("mask_ratio", 0.9)))
    done, png = cv2.imencode(".png", np.ascontiguousarray(pictures[..., ::-1]))
    assert done
    write_bytes(folder / "reconstructions.png", png.tobytes())


def first_clip(config: Config, clips: ClipStore, subject: int, size: int) -> np.ndarray | None:
    """The centre view (T, S, S, 3) uint8 of the subject's first clip that has a face."""
    signals = clips.signals(subject)
    usable = [s for s, count in zip(signals.samples, signals.n_crops, strict=True) if count]
    if not usable:
        return None
    reader = FrameReader(clips.paths[subject])
    frames = reader.frames(reader.rows()[usable[0]])
    return decode_window(frames, window(len(frames), config.clip.frames, config.clip.rate), size)


def reconstruct(mae: "VideoMAE", clips_BTSS3: np.ndarray, mask: str, ratio: float) -> np.ndarray:
    """(3 B S, F S, 3) uint8: three rows of frames per clip."""
    from models.mae import masks
    from orchestrator.pretraining.objectives import as_video

    video = as_video(clips_BTSS3, next(mae.parameters()).device)
    visible = masks.mask_from_seeds(mask, list(range(len(video))), grid=mae.grid, ratio=ratio).to(video.device)
    original = mae.tubelets(video)
    restored = original.clone()
    hidden = original[~visible].view(len(video), -1, mae.patch_values)
    restored[~visible] = _as_pixels(mae, mae.reconstruct(video, visible), hidden).flatten(0, 1)
    seen = original * visible.unsqueeze(-1) + 0.5 * (~visible).unsqueeze(-1)
    columns = np.linspace(0, mae.frames - 1, min(FRAMES, mae.frames)).round().astype(int)
    rows = [frames(mae, pixels)[:, columns] for pixels in (original, seen, restored)]
    return np.concatenate([np.concatenate(list(row[i]), axis=1) for i in range(len(video)) for row in rows])


def _as_pixels(mae: "VideoMAE", predicted_BMP: "Tensor", hidden_BMP: "Tensor") -> "Tensor":
    """With norm_target the MAE predicts standardised tubelets; mean and standard deviation are taken from the original."""
    if not mae.norm_target:
        return predicted_BMP
    import torch

    variance, mean = torch.var_mean(hidden_BMP.unflatten(-1, (3, -1)), dim=-1, keepdim=True)
    return (predicted_BMP.unflatten(-1, (3, -1)) * (variance + 1e-6).sqrt() + mean).flatten(-2)


def frames(mae: "VideoMAE", pixels_BNP: "Tensor") -> np.ndarray:
    """Frames from tubelets: (B, T, S, S, 3) uint8."""
    t, h, w = mae.grid
    p = mae.patch
    x = pixels_BNP.view(-1, t, h, w, 3, mae.tubelet, p, p).permute(0, 1, 5, 2, 6, 3, 7, 4)
    x = x.reshape(-1, t * mae.tubelet, h * p, w * p, 3)
    return (x.clamp(0, 1) * 255).round().byte().cpu().numpy()
