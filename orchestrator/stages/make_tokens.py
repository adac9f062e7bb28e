"""Stage 3: the frozen video encoder over the views of every clip, in parallel with Ray Data."""

from collections.abc import Sequence

import numpy as np

from orchestrator.cohort.cohort import Cohort, private_folder
from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.estimate import costs
from orchestrator.evaluation import damage
from orchestrator.evaluation.damage import is_damaged
from orchestrator.files.storage import (
    HashCache,
    atomic_path,
    file_sha256,
    need_space,
    read_sealed,
    sweep_temporaries,
    write_sealed,
)
from orchestrator.files.store_lock import writing
from orchestrator.pretraining.data import prefetch
from orchestrator.runtime import progress, ray_session
from orchestrator.runtime.worker_warnings import counted, heard
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder
from orchestrator.stores.token_store import CENTRE, TokenJob, current, plan_tokens, quantise, token_bytes


def ensure(config: Config, people: Cohort, clips: ClipStore, encoders: Sequence[Encoder]) -> list[TokenJob]:
    """All views' token files of these encoders, made where they are missing; those of the centre view, which folds read.

    Raises UserError when the disk is too small.
    """
    jobs = plan_tokens(config, people, clips, encoders)
    if not jobs:
        return []
    cache = HashCache(private_folder(config) / "hashes.json")
    if any(not current(job, cache) for job in jobs):
        with writing(config, "embed"):
            missing = {job.path: job for job in jobs if not current(job, cache)}
            _make(config, encoders, list(missing.values()))
    else:
        progress.say("embed", f"{len({job.path for job in jobs})} files are there already")
    cache.save()
    for text in notes(jobs):
        progress.say("embed", text)
    return [job for job in jobs if job.view == CENTRE]


def notes(jobs: Sequence[TokenJob]) -> list[str]:
    """What the workers were warned of while they made these files, whenever that was: "N of M token files: text"."""
    sides = [read_sealed(path.with_suffix(".json")) or {} for path in dict.fromkeys(job.path for job in jobs)]
    return counted([side.get("notes", []) for side in sides], "token files")


def _make(config: Config, encoders: Sequence[Encoder], missing: list[TokenJob]) -> None:
    if not missing:
        return
    damage.tell("embed", "token files", (is_damaged(job.path.with_suffix(".json"), job.key) for job in missing))
    encoder = next(e for e in encoders if e.plan.video is not None)
    assert encoder.plan.video is not None
    n, speed = sum(len(job.samples) for job in missing), costs.measured(config)
    size = n * token_bytes(config, encoder)
    seconds = costs.embedding(encoder.plan.video, n, speed)
    progress.say("embed", f"{len(missing)} files to do: {n} clips, {costs.size_text(size)}, {costs.span(costs.twice(seconds))} "
                          f"on {speed.name}")
    need_space(config.store_dir, size, "The token store")
    for folder in {job.path.parent for job in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
    _run(config, encoders, missing)


class EmbedWorker:
    """A Ray Data actor: one a GPU or one a core; keeps the encoder it used last."""

    def __init__(self, encoders: dict[int, Encoder], config: Config):
        import torch

        torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoders, self.config = encoders, config
        self.loaded: tuple[int, object] = (-1, None)

    def __call__(self, row: dict) -> dict:
        import torch

        job = row["item"]
        if self.loaded[0] != job.encoder:
            self.loaded = (job.encoder, self.encoders[job.encoder].load_video().to(self.device))
        try:
            write_tokens(job, self.loaded[1], self.config, self.device)
        except UserError as error:  # as a value: Ray Data would wrap what is raised, and try again
            return {"clips": 0, "mistake": str(error)}
        except torch.OutOfMemoryError:
            return {"clips": 0, "mistake": f"{self.config.embed.batch} clips at once do not fit into the GPU's memory: use "
                                           f"embed.batch={max(1, self.config.embed.batch // 2)}, and half of that if need be."}
        return {"clips": len(job.samples), "mistake": ""}


def write_tokens(job: TokenJob, model, config: Config, device) -> None:
    """One person's tokens (n, N, D) in order of sample_index, then the side file."""
    import torch

    from models.classifier.token_pool import TokenPool
    from orchestrator.pretraining.objectives import as_video
    from preprocessing.face.keyframes import window
    from preprocessing.shard import FrameReader, decode_window

    pool = TokenPool(model.grid, config.embed.pool)
    reader = FrameReader(job.shard)
    rows = reader.rows()
    clips = list(zip(job.samples, job.indices, strict=True))

    def view(sample: str, index: int) -> np.ndarray:
        frames = reader.frames(rows[sample])
        start = None if job.view == CENTRE else np.random.default_rng([job.view, job.subject, index])
        return decode_window(frames, window(len(frames), config.clip.frames, config.clip.rate, start=start), model.image_size)

    def batch(chosen: list[tuple[str, int]]) -> np.ndarray:
        return np.stack([view(*clip) for clip in chosen])

    parts = [np.zeros((0, pool.n_tokens, model.dim), np.float16)]
    with heard() as said, torch.no_grad():
        # batches never cross a person; the next one is decoded while the encoder is at work
        for views in prefetch(batch, [clips[i : i + config.embed.batch] for i in range(0, len(clips), config.embed.batch)]):
            parts.append(pool(model.encode(as_video(views, device))).to(torch.float16).cpu().numpy())
    tokens = np.concatenate(parts)
    stored = quantise(tokens) if config.embed.dtype == "int8" else (tokens,)
    for path, array in zip(job.files, stored, strict=True):
        with atomic_path(path) as temporary, open(temporary, "wb") as handle:
            np.save(handle, array, allow_pickle=False)
    write_sealed(job.path.with_suffix(".json"), {
        "key": job.key, "sha256": [file_sha256(path) for path in job.files], "samples": list(job.samples), "view": job.view,
        "pool": config.embed.pool, "lineage": job.lineage.to_json(), "notes": said})


def _run(config: Config, encoders: Sequence[Encoder], jobs: list[TokenJob]) -> None:
    ray_session.start(config)
    import ray

    ray_session.quiet()
    gpus = ray_session.gpus()
    dataset = ray_session.mapped(
        ray.data.from_items(jobs, override_num_blocks=len(jobs)), EmbedWorker,
        compute=ray.data.ActorPoolStrategy(size=min(gpus or ray_session.cpus(config), len(jobs))), num_cpus=1,
        num_gpus=1 if gpus else None,
        fn_constructor_kwargs={"encoders": {e.plan.index: e for e in encoders}, "config": config})
    with progress.bar("embed", sum(len(job.samples) for job in jobs), "clips") as tick:
        for row in dataset.iter_rows():
            if row["mistake"]:
                raise UserError(row["mistake"])
            tick(int(row["clips"]))
