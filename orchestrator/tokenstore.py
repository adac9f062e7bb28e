"""The token store: the frozen video encoder's output for every clip, one float16 file a person, mapped into memory.

n clips, N tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.clipstore import ClipStore
from orchestrator.cohort import Cohort
from orchestrator.config import Config
from orchestrator.encoders import Encoder
from orchestrator.storage import HashCache, key_of, read_sealed, sources_sha256

SOURCES = ("models/video_mae.py", "models/vit.py", "models/token_pool.py", "preprocessing/keyframes.py",
           "preprocessing/shard.py", "orchestrator/embed.py", "orchestrator/tokenstore.py")


@dataclass(frozen=True)
class TokenJob:
    """One person's clips through one encoder. samples: (sample, sample_index) wanted, by sample_index."""

    encoder: int
    subject: int
    path: Path
    key: str
    shard: Path
    samples: tuple[str, ...]


def plan_tokens(config: Config, people: Cohort, clips: ClipStore, encoders: Sequence[Encoder]) -> list[TokenJob]:
    """Every (encoder, person) pair with its key: the encoder's weights, the person's shard, the view and the pooling."""
    sources = sources_sha256(*SOURCES)
    jobs = []
    for encoder in encoders:
        if encoder.plan.video is None:
            continue
        # the batch is in the key because sums over another batch may differ in their last bit
        view = key_of([encoder.plan.video, encoder.side["weights"]["video"], config.clip.model_dump(),
                       config.embed.model_dump(), sources])
        folder = config.store_dir / "tokens" / view
        for person in people.people:
            signals = clips.signals(person.index)
            wanted = [s for s, label, count in zip(signals.samples, signals.label, signals.n_keyframes, strict=True)
                      if int(label) in config.task.classes and count]
            key = key_of([view, clips.sha256(person.index), wanted])
            jobs.append(TokenJob(encoder.plan.index, person.index, folder / f"{person.pseudonym}-{key}.npy", key,
                                 clips.paths[person.index], tuple(wanted)))
    return jobs


def token_shape(config: Config, encoder: Encoder) -> tuple[tuple[int, int, int], int]:
    """Grid (t, h, w) of the stored tokens, after pooling, and their width."""
    options = encoder.plan.video
    assert options is not None
    from models.video_mae import SCALES

    tubelet, patch = options.get("tubelet", 2), options.get("patch", 16)
    t, side = options["frames"] // tubelet, options["image_size"] // patch
    grid = {"none": (t, side, side), "2x2": (t, side // 2, side // 2), "temporal": (t, 1, 1)}[config.embed.pool]
    return grid, options.get("dim") or SCALES[options["scale"]].dim


def current(job: TokenJob, cache: HashCache) -> bool:
    side = read_sealed(job.path.with_suffix(".json"))
    if side is None or side.get("key") != job.key or not job.path.exists():
        return False
    return cache.sha256(job.path) == side.get("sha256")


class Tokens:
    """All people's tokens of one encoder as one array (n, N, D) float16, gathered from the mapped files by row.

    Nothing is copied but the rows asked for; every worker of a machine shares the pages.
    """

    def __init__(self, paths: Sequence[Path], rows_per_file: Sequence[int]):
        self.paths = list(paths)
        self.starts = np.concatenate([[0], np.cumsum(rows_per_file)]).astype(np.int64)
        self._maps: dict[int, np.ndarray] = {}
        first = self._map(next(i for i, n in enumerate(rows_per_file) if n))
        self.shape, self.dtype = (int(self.starts[-1]), *first.shape[1:]), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def _map(self, file: int) -> np.ndarray:
        if file not in self._maps:
            self._maps[file] = np.load(self.paths[file], mmap_mode="r", allow_pickle=False)
        return self._maps[file]

    def __getitem__(self, rows) -> np.ndarray:
        rows = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        files = np.searchsorted(self.starts, rows, side="right") - 1
        for file in np.unique(files):
            chosen = files == file
            out[chosen] = self._map(int(file))[rows[chosen] - self.starts[file]]
        return out

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}
