"""Whole clips for the models that read pixels: the centre window of every clip, decoded from the clip store by row.

n clips, T frames, S image size. Nothing is written: decoding a window again costs less than storing it raw.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.face.keyframes import window
from preprocessing.shard import FrameReader, decode_window

CACHE_BYTES = 512 << 20  # decoded windows a worker keeps


@dataclass(frozen=True)
class ShardClips:
    """The wanted clips of one subject's shard, in order: (sample, number of its keyframes)."""

    path: Path
    clips: tuple[tuple[str, int], ...]


class Frames:
    """The clips of all subjects as one array (n, T, S, S, 3) uint8, read by row; every worker decodes for itself."""

    def __init__(self, shards: Sequence[ShardClips], frames: int, rate: int, size: int):
        self.rows = [(number, sample, count) for number, shard in enumerate(shards) for sample, count in shard.clips]
        self.paths, self.rate = [shard.path for shard in shards], rate
        self.shape, self.dtype = (len(self.rows), frames, size, size, 3), np.dtype(np.uint8)
        self._forget()

    def _forget(self) -> None:
        self._readers: dict[int, tuple[FrameReader, dict[str, int]]] = {}
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        return np.stack([self._clip(int(row)) for row in np.atleast_1d(np.asarray(rows))])

    def _clip(self, row: int) -> np.ndarray:
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        number, sample, count = self.rows[row]
        if number not in self._readers:
            reader = FrameReader(self.paths[number])
            self._readers[number] = (reader, reader.rows())
        reader, places = self._readers[number]
        clip = decode_window(reader.frames(places[sample]), window(count, self.shape[1], self.rate), self.shape[2])
        self._kept[row] = clip
        while len(self._kept) * clip.nbytes > CACHE_BYTES:
            self._kept.popitem(last=False)
        return clip

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_readers", "_kept")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()
