"""Shards of simulated clips, with moving waves instead of faces, for the benchmarks: decoding and training take as long as with
faces."""

from pathlib import Path

import numpy as np

from preprocessing.clip_format import PreparedClip, encode_image
from preprocessing.shard import Row, write_shard

CROP, FRAMES = 224, 40


def made_clips(folder: Path, clips: int) -> Path:
    """The shard of one subject: per clip 40 PNG crops of 224 x 224 and two signals of 16 values."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:CROP, :CROP]
    numbers, rows = np.arange(FRAMES, dtype=np.int32), []
    for clip in range(clips):
        wave = 0.5 + 0.5 * np.sin(0.04 * x + 0.03 * y + 0.15 * numbers[:, None, None] + clip)
        pictures = (255 * wave[..., None] * np.array([0.9, 0.6, 0.5])).astype(np.uint8)
        signal = np.random.default_rng(clip).normal(size=(16, 2)).astype(np.float32)
        prepared = PreparedClip(frames=tuple(encode_image(picture, "png") for picture in pictures), frame_index=numbers,
                                keyframes=numbers, landmarks=np.zeros((FRAMES, 92, 2), np.float32), n_frames=FRAMES, fps=25.0,
                                padded=False, n_lost=0, max_faces=1, signal=signal, channels=("gsr", "ecg"), duration_s=5.5)
        rows.append(Row(f"c0-{clip}", clip, clip % 2, ("", ""), prepared))
    write_shard(folder / "s0.parquet", rows)
    return folder / "s0.parquet"
