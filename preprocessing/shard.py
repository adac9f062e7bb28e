"""One subject's clips in one Parquet file, and back.

Frames are encoded images in a list of binary (a uint8 tensor column would be stored as INT32, four times the size).
Rows are sorted by sample, the file holds no time and no path, and one thread writes: same clips, same bytes.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.clip_format import PreparedClip, decode_image

SCHEMA_VERSION = 2
ROWS_PER_GROUP = 1  # random access to one clip: pretraining draws clips in its own order

SCHEMA = pa.schema([
    ("sample", pa.string()), ("sample_index", pa.int32()), ("label", pa.int32()),
    ("frames", pa.list_(pa.binary())), ("frame_index", pa.list_(pa.int32())), ("keyframes", pa.list_(pa.int32())),
    ("landmarks", pa.binary()), ("n_frames", pa.int32()), ("fps", pa.float64()), ("duration_s", pa.float64()),
    ("padded", pa.bool_()), ("n_lost", pa.int32()), ("max_faces", pa.int32()),
    ("signal", pa.binary()), ("channels", pa.list_(pa.string())), ("source_sha256", pa.list_(pa.string())),
], metadata={"dualpain_schema": str(SCHEMA_VERSION), "landmarks": "float32 (n_frames, 92, 2)",
             "signal": "float32 (length, channels)", "frames": "encoded RGB images of the video frames frame_index",
             "keyframes": "video frames; those of frame_index unless all frames are stored"})


@dataclass(frozen=True)
class Row:
    """A clip as stored in the shard: names and label, and the preprocessed clip."""

    sample: str
    sample_index: int
    label: int
    source_sha256: tuple[str, ...]
    clip: PreparedClip


def write_shard(path: Path, rows: Iterable[Row]) -> str:
    """Write rows (sorted by sample by the caller) to a temporary name, sync, rename. Returns the file's sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", use_dictionary=False,
                              write_statistics=False) as writer:
            pending: list[dict] = []
            for row in rows:
                pending.append(_record(row))
                if len(pending) == ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(pending, SCHEMA))
                    pending = []
            if pending:
                writer.write_table(pa.Table.from_pylist(pending, SCHEMA))
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _record(row: Row) -> dict:
    clip = row.clip
    return {"sample": row.sample, "sample_index": row.sample_index, "label": row.label, "frames": list(clip.frames),
            "frame_index": clip.frame_index.tolist(), "keyframes": clip.keyframes.tolist(),
            "landmarks": clip.landmarks.astype("<f4").tobytes(),
            "n_frames": clip.n_frames, "fps": clip.fps, "duration_s": clip.duration_s, "padded": clip.padded,
            "n_lost": clip.n_lost, "max_faces": clip.max_faces, "signal": clip.signal.astype("<f4").tobytes(),
            "channels": list(clip.channels), "source_sha256": list(row.source_sha256)}


@dataclass(frozen=True, kw_only=True)
class ShardSignals:
    """A shard without its images: n clips in the order of sample_index. signals (n, L, C) float32, zero where has_signal (n,)
    is false.

    n_crops: number of stored face crops (of the keyframes or of all frames).
    """

    samples: tuple[str, ...]
    sample_index: np.ndarray
    label: np.ndarray
    signals: np.ndarray
    channels: tuple[str, ...]
    n_frames: np.ndarray
    n_crops: np.ndarray
    n_keyframes: np.ndarray
    duration_s: np.ndarray
    has_signal: np.ndarray

    def usable(self, classes: Sequence[int], need_video: bool, need_signals: bool) -> np.ndarray:
        """(n,) bool: clips of these classes that have a face crop (if need_video) and signals (if need_signals)."""
        of_class = np.isin(self.label, np.asarray(classes, dtype=self.label.dtype))
        return of_class & ((self.n_crops > 0) | (not need_video)) & (self.has_signal | (not need_signals))


def read_signals(path: Path) -> ShardSignals:
    table = pq.read_table(path, columns=["sample", "sample_index", "label", "signal", "channels", "n_frames",
                                         "frame_index", "keyframes", "duration_s"]).sort_by("sample_index")
    channels = next((tuple(found) for value in table["channels"] if (found := value.as_py())), ())
    signals = [np.frombuffer(value.as_buffer(), "<f4").reshape(-1, max(1, len(channels))) for value in table["signal"]]
    has_signal = np.array([x.size > 0 for x in signals], bool)
    length = max((len(x) for x in signals), default=0)
    signals = [x if x.size else np.zeros((length, max(1, len(channels))), np.float32) for x in signals]
    return ShardSignals(samples=tuple(table["sample"].to_pylist()), sample_index=table["sample_index"].to_numpy(),
                        label=table["label"].to_numpy(),
                        signals=np.stack(signals) if signals else np.zeros((0, 0, len(channels)), np.float32),
                        channels=channels, n_frames=table["n_frames"].to_numpy(), n_crops=_lengths(table["frame_index"]),
                        n_keyframes=_lengths(table["keyframes"]), duration_s=table["duration_s"].to_numpy(),
                        has_signal=has_signal)


def _lengths(lists: pa.ChunkedArray) -> np.ndarray:
    return np.array([len(value) for value in lists])


def read_frames(path: Path, samples: Sequence[str] | None = None) -> Iterator[tuple[str, int, list[bytes]]]:
    """(sample, sample_index, encoded crops) in the file's order, one row group in memory at a time."""
    file = pq.ParquetFile(path)
    wanted = None if samples is None else set(samples)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["sample", "sample_index", "frames"])
        for sample, index, frames in zip(table["sample"], table["sample_index"], table["frames"], strict=True):
            if wanted is None or sample.as_py() in wanted:
                yield sample.as_py(), index.as_py(), frames.as_py()


def decode_window(frames: Sequence[bytes], window: np.ndarray, size: int) -> np.ndarray:
    """The chosen frames (T,) as (T, size, size, 3) uint8 RGB, area-averaged down where size is below 224."""
    import cv2

    decoded: dict[int, np.ndarray] = {}
    for i in window:
        if int(i) not in decoded:
            image = decode_image(frames[int(i)])
            if image.shape[0] != size:
                image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            decoded[int(i)] = image
    return np.stack([decoded[int(i)] for i in window])


class FrameReader:
    """Random access to the encoded keyframes of a shard, one clip at a time."""

    def __init__(self, path: Path):
        self.file = pq.ParquetFile(path)

    def frames(self, row: int) -> list[bytes]:
        """The clip in row `row` of the file (rows are sorted by sample)."""
        return self.file.read_row_group(row, columns=["frames"])["frames"][0].as_py()

    def rows(self) -> dict[str, int]:
        """sample -> row."""
        samples = self.file.read(columns=["sample"])["sample"].to_pylist()
        return {sample: row for row, sample in enumerate(samples)}
