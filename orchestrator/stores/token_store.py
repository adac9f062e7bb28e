"""The token store: the frozen video encoder's output for every clip, one memory-mapped file per subject.

float16, or int8 with one float32 scale per token in a second file. The sidecar holds the lineage: the subjects on which the
encoder's video weights were trained.

n clips, N tokens, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import needs
from orchestrator.errors import UserError
from orchestrator.files.code_key import code_sha256
from orchestrator.files.storage import HashCache, key_of, read_checked
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder

MAKES = ("orchestrator.pretraining.embedding:write_tokens",)  # what computes tokens


@dataclass(frozen=True, kw_only=True)
class TokenJob:
    """The clips of one subject through one encoder. samples: the wanted clips in order of sample_index. lineage: of
    what is written.
    """

    encoder: int
    subject: int
    path: Path
    key: str
    shard: Path
    samples: tuple[str, ...]
    lineage: Lineage

    @property
    def files(self) -> tuple[Path, ...]:
        """The tokens, and the scales that int8 has."""
        scales = scales_of(self.path)
        return (self.path, scales) if self.path.name.endswith(INT8) else (self.path,)


INT8 = ".int8.npy"


def scales_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(INT8) + ".scale.npy")


def plan_tokens(config: Config, people: Cohort, clips: ClipStore, encoders: Sequence[Encoder]) -> list[TokenJob]:
    """Every (encoder, subject) with its key: the encoder's weights and their training subjects, the subject's shard and the
    pooling.

    Encoders of the same weights (one public checkpoint) share their files.
    """
    sources = code_sha256(*MAKES)
    jobs = []
    need_signals = "signals" in needs(config)  # only the clips that folds will use
    suffix = INT8 if config.embed.dtype == "int8" else ".npy"
    for encoder in encoders:
        if encoder.plan.video is None:
            continue
        lineage = lineage_of(encoder)
        # the batch is in the key because sums over another batch may differ in their last bit
        common = key_of([encoder.plan.video, encoder.side["weights"]["video"], config.clip.model_dump(),
                         config.embed.model_dump(), [sorted(lineage.everyone()), lineage.is_proven()], sources])
        folder = config.store_dir / "tokens" / common
        for person in people.people:
            signals = clips.signals(person.index)
            usable = signals.usable(config.task.classes, True, need_signals)
            wanted = tuple(s for s, used in zip(signals.samples, usable, strict=True) if used)
            key = key_of([common, clips.sha256(person.index), wanted])
            jobs.append(TokenJob(encoder=encoder.plan.index, subject=person.index,
                                 path=folder / f"{person.pseudonym}-{key}{suffix}", key=key,
                                 shard=clips.paths[person.index], samples=wanted, lineage=lineage))
    return jobs


def lineage_of(encoder: Encoder) -> Lineage:
    """The lineage of the tokens: that of the video weights, wherever they come from, without that of the signal MAE."""
    own = encoder.plan.foreign is None and encoder.plan.origin is None
    video = encoder.lineage if own else encoder.lineage.parents[0]
    return Lineage(f"tokens of {video.artefact}", parents=(video,))


def stored_lineage(jobs: Sequence[TokenJob]) -> Lineage:
    """The lineage that the files of one encoder's jobs record; the lineage check uses this and not the plan.

    Raises UserError for a file without its sidecar.
    """
    found: dict[str, Lineage] = {}
    for job in jobs:
        side = read_checked(job.path.with_suffix(".json"))
        if side is None:
            raise UserError(f"{job.path}: its lineage file is missing or damaged: run the same command again.")
        lineage = Lineage.from_json(side["lineage"])
        found[lineage.sha256()] = lineage
    return next(iter(found.values())) if len(found) == 1 else Lineage("the token store", parents=tuple(found.values()))


def token_bytes(config: Config, encoder: Encoder) -> int:
    """Bytes of one clip."""
    (t, h, w), dim = token_shape(config, encoder)
    return t * h * w * (dim + 4 if config.embed.dtype == "int8" else 2 * dim)


def quantise(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., D) float to int8 (..., D) and float32 (...): a token is its int8 times its scale, which is its largest / 127."""
    values = tokens.astype(np.float32)
    scales = np.abs(values).max(-1) / np.float32(127)
    safe = np.where(scales > 0, scales, 1)[..., None]
    return np.rint(values / safe).astype(np.int8), scales


def token_shape(config: Config, encoder: Encoder) -> tuple[tuple[int, int, int], int]:
    """Grid (t, h, w) of the stored tokens, after pooling, and their width."""
    assert encoder.plan.video is not None
    return stored_shape(config, encoder.plan.video)


def stored_shape(config: Config, options: Mapping[str, Any]) -> tuple[tuple[int, int, int], int]:
    """The same for an encoder that does not exist yet. options: as video_options gives them."""
    from models.mae.video_mae import SCALES

    tubelet, patch = options.get("tubelet", 2), options.get("patch", 16)
    t, side = options["frames"] // tubelet, options["image_size"] // patch
    grid = {"none": (t, side, side), "2x2": (t, side // 2, side // 2), "temporal": (t, 1, 1)}[config.embed.pool]
    return grid, options.get("dim") or SCALES[options["scale"]].dim


def current(job: TokenJob, cache: HashCache) -> bool:
    side = read_checked(job.path.with_suffix(".json"))
    if side is None or side.get("key") != job.key or not all(path.exists() for path in job.files):
        return False
    return [cache.sha256(path) for path in job.files] == side.get("sha256")


class Tokens:
    """The tokens of all subjects by one encoder as one array (n, N, D) float16, gathered from the mapped files by row.

    Only the requested rows are copied; every worker of a machine shares the pages. int8 files come back as float16.
    """

    def __init__(self, paths: Sequence[Path], rows_per_file: Sequence[int]):
        self.paths = list(paths)
        self.starts = np.concatenate([[0], np.cumsum(rows_per_file)]).astype(np.int64)
        self._maps: dict[Path, np.ndarray] = {}
        first = self._map(self.paths[next(i for i, n in enumerate(rows_per_file) if n)])
        self.shape, self.dtype = (int(self.starts[-1]), *first.shape[1:]), np.dtype(np.float16)

    def __len__(self) -> int:
        return self.shape[0]

    def _map(self, path: Path) -> np.ndarray:
        if path not in self._maps:
            self._maps[path] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._maps[path]

    def __getitem__(self, rows) -> np.ndarray:
        rows = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        files = np.searchsorted(self.starts, rows, side="right") - 1
        for file in np.unique(files):
            chosen = files == file
            own, path = rows[chosen] - self.starts[file], self.paths[int(file)]
            found = self._map(path)[own]
            if found.dtype == np.int8:
                found = found * self._map(scales_of(path))[own][..., None]
            out[chosen] = found
        return out

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}
