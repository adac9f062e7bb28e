"""Clips of a pretraining group, in an order that depends only on (seed, epoch), not on rank or timing.

T frames, S image size, L samples, C channels.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from preprocessing.face.keyframes import window
from preprocessing.shard import FrameReader, decode_window, read_signals


class GroupClips:
    """All clips of a group's shards, in order of (subject, sample_index), with random access.

    `shards`: (subject index, path), ascending. Views: a random temporal start per (seed, epoch, clip). Thread-safe.
    cache_bytes: size of the cache of decoded windows, which is kept between epochs; a small cohort fits completely.
    """

    def __init__(self, shards: list[tuple[int, Path]], frames: int, rate: int, size: int, cache_bytes: int = 512 << 20):
        self.n_frames, self.rate, self.size, self.cache_bytes = frames, rate, size, cache_bytes
        self.samples: list[str] = []  # pseudonyms of the clips
        self.index: list[tuple[int, int, int, int]] = []  # (shard, row, subject, sample_index)
        self.readers: list[FrameReader] = []
        self.keyframes: list[int] = []
        for number, (subject, path) in enumerate(shards):
            reader = FrameReader(path)
            self.readers.append(reader)
            signals = read_signals(path)
            rows = reader.rows()
            for sample, index, count in zip(signals.samples, signals.sample_index, signals.n_crops, strict=True):
                if count:
                    self.index.append((number, rows[sample], subject, int(index)))
                    self.keyframes.append(int(count))
                    self.samples.append(sample)
        self.cache: OrderedDict[tuple[int, tuple[int, ...]], np.ndarray] = OrderedDict()
        self.cached = 0
        self.lock = Lock()

    def __len__(self) -> int:
        return len(self.index)

    def clip(self, position: int, rng: np.random.Generator | None) -> np.ndarray:
        """(T, S, S, 3) uint8 at a random start, or centred when rng is None."""
        chosen = window(self.keyframes[position], self.n_frames, self.rate, start=rng)
        key = (position, tuple(int(i) for i in chosen))
        shard, row, _, _ = self.index[position]
        with self.lock:  # only one thread reads at a time; decoding takes longer and runs in parallel
            if key in self.cache:
                self.cache.move_to_end(key)
                return self.cache[key]
            encoded = self.readers[shard].frames(row)
        clip = decode_window(encoded, chosen, self.size)
        with self.lock:
            if key not in self.cache:
                self.cache[key] = clip
                self.cached += clip.nbytes
            while self.cached > self.cache_bytes:
                _, old = self.cache.popitem(last=False)
                self.cached -= old.nbytes
        return clip


def epoch_batches(n: int, batch: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Positions of each step's batch over all ranks; the last batch is filled up from the beginning of the epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(n)
    for step in range(steps(n, batch)):
        yield order[np.arange(step * batch, (step + 1) * batch) % n]


def steps(n: int, batch: int) -> int:
    return -(-n // batch)


def prefetch(make: Callable[[Any], Any], items: Iterable, threads: int = 1) -> Iterator[Any]:
    """make(item) for each item, in order, computed in advance by other threads."""
    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        pending = deque(pool.submit(make, item) for item in islice(left, 2 * threads))
        try:
            while pending:
                value = pending.popleft().result()
                pending.extend(pool.submit(make, item) for item in islice(left, 1))
                yield value
        finally:
            for future in pending:
                future.cancel()
