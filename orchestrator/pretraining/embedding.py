"""One subject's tokens, computed by a frozen video encoder. Without Ray; a Ray Data worker calls it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.files.storage import (
    atomic_path,
    file_sha256,
    write_checked,
)
from orchestrator.pretraining.data import prefetch
from orchestrator.runtime.worker_warnings import collected
from orchestrator.stores.encoder_store import Encoder
from orchestrator.stores.token_store import TokenJob, quantise

if TYPE_CHECKING:
    from models.mae.video_mae import VideoMAE


def write_tokens(job: TokenJob, model: "VideoMAE", config: Config, device) -> None:
    """One subject's tokens (n, N, D) in order of sample_index, then the sidecar."""
    import torch

    from models.classifier.token_pool import TokenPool
    from orchestrator.pretraining.objectives import as_video
    from preprocessing.face.keyframes import window
    from preprocessing.shard import FrameReader, decode_window

    pool = TokenPool(model.grid, config.embed.pool)
    reader = FrameReader(job.shard)
    rows = reader.rows()
    def centre(sample: str) -> np.ndarray:
        frames = reader.frames(rows[sample])
        return decode_window(frames, window(len(frames), config.clip.frames, config.clip.rate), model.image_size)

    def batch(samples: tuple[str, ...]) -> np.ndarray:
        return np.stack([centre(sample) for sample in samples])

    size, parts = config.embed.batch, [np.zeros((0, pool.n_tokens, model.dim), np.float16)]
    with collected() as said, torch.no_grad():
        # a batch has clips of one subject only; the next is decoded while the encoder computes
        for clips_BTSS3 in prefetch(batch, [job.samples[i : i + size] for i in range(0, len(job.samples), size)]):
            parts.append(pool(model.encode(as_video(clips_BTSS3, device))).to(torch.float16).cpu().numpy())
    tokens = np.concatenate(parts)
    stored = quantise(tokens) if config.embed.dtype == "int8" else (tokens,)
    for path, array in zip(job.files, stored, strict=True):
        with atomic_path(path) as temporary, open(temporary, "wb") as handle:
            np.save(handle, array, allow_pickle=False)
    write_checked(job.path.with_suffix(".json"), {
        "key": job.key, "sha256": [file_sha256(path) for path in job.files], "samples": list(job.samples),
        "pool": config.embed.pool, "lineage": job.lineage.to_json(), "notes": said})


class EmbedWorker:
    """A Ray Data actor, one per GPU or per core; keeps the last encoder in memory."""

    def __init__(self, encoders: dict[int, Encoder], config: Config):
        import torch

        torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoders, self.config = encoders, config
        self.loaded: tuple[int, Any] = (-1, None)

    def __call__(self, row: dict) -> dict:
        import torch

        job = row["item"]
        if self.loaded[0] != job.encoder:
            self.loaded = (job.encoder, self.encoders[job.encoder].load_video().to(self.device))
        try:
            write_tokens(job, self.loaded[1], self.config, self.device)
        except UserError as error:  # returned as a value: Ray Data would wrap an exception and retry
            return {"clips": 0, "mistake": str(error)}
        except torch.OutOfMemoryError:
            return {"clips": 0, "mistake": f"A batch of {self.config.embed.batch} clips does not fit into GPU memory: use "
                                           f"embed.batch={max(1, self.config.embed.batch // 2)} or less."}
        return {"clips": len(job.samples), "mistake": ""}
