"""Stage 3: the frozen video encoder over the centre view of every clip, in parallel with Ray Data.

`python -m orchestrator.embed --dataset NAME [key=value ...]`
"""

import os
import sys
from collections.abc import Sequence

import numpy as np

from orchestrator import cli, crossdata, folds, pretrain, progress, session
from orchestrator.clipstore import ClipStore
from orchestrator.cohort import Cohort, private_folder
from orchestrator.config import Config, with_protocol
from orchestrator.encoders import Encoder
from orchestrator.storage import HashCache, atomic_path, file_sha256, need_space, seal, sweep_temporaries, write_json
from orchestrator.storelock import writing
from orchestrator.tokenstore import TokenJob, current, plan_tokens, token_shape


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("embed", __doc__.splitlines()[0], argv)
    config = call.config if call.config.protocol.name != "both" else with_protocol(call.config, "clean")
    if call.dry_run:
        from orchestrator import dryrun

        return dryrun.show(config, "embed")
    with session.session(config):
        people = crossdata.load(config)
        plan = folds.make_plan(config, people.people)
        progress.say("embed", plan.text())
        clips = crossdata.ensure_clips(config, people)
        ensure(config, people, clips, pretrain.ensure(config, people, clips, plan.groups))
    return 0


def ensure(config: Config, people: Cohort, clips: ClipStore, encoders: Sequence[Encoder]) -> list[TokenJob]:
    """The token files of these encoders, made where they are missing. Raises UserError when the disk is too small."""
    jobs = plan_tokens(config, people, clips, encoders)
    if not jobs:
        return []
    cache = HashCache(private_folder(config) / "hashes.json")
    if any(not current(job, cache) for job in jobs):
        with writing(config, "embed"):
            _make(config, encoders, [job for job in jobs if not current(job, cache)])
    else:
        progress.say("embed", f"{len(jobs)} files are there already")
    cache.save()
    return jobs


def _make(config: Config, encoders: Sequence[Encoder], missing: list[TokenJob]) -> None:
    if not missing:
        return
    (t, h, w), dim = token_shape(config, next(e for e in encoders if e.plan.video is not None))
    size = 2 * t * h * w * dim * sum(len(job.samples) for job in missing)
    progress.say("embed", f"{len(missing)} files to do, {size / 1e9:.3f} GB")
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
        job = row["item"]
        if self.loaded[0] != job.encoder:
            self.loaded = (job.encoder, self.encoders[job.encoder].load_video().to(self.device))
        write_tokens(job, self.loaded[1], self.config, self.device)
        return {"clips": len(job.samples)}


def write_tokens(job: TokenJob, model, config: Config, device) -> None:
    """One person's tokens (n, N, D) float16 in order of sample_index, then the side file."""
    import torch

    from models.token_pool import TokenPool
    from orchestrator.mae_stages import as_video
    from preprocessing.keyframes import window
    from preprocessing.shard import FrameReader, decode_window

    pool = TokenPool(model.grid, config.embed.pool)
    reader = FrameReader(job.shard)
    rows = reader.rows()
    parts = []
    for start in range(0, len(job.samples), config.embed.batch):  # batches never cross a person
        views = []
        for sample in job.samples[start : start + config.embed.batch]:
            frames = reader.frames(rows[sample])
            chosen = window(len(frames), config.clip.frames, config.clip.rate)
            views.append(decode_window(frames, chosen, model.image_size))
        with torch.no_grad():
            tokens = pool(model.encode(as_video(np.stack(views), device)))
        parts.append(tokens.to(torch.float16).cpu().numpy())
    empty = np.zeros((0, pool.n_tokens, model.dim), np.float16)
    with atomic_path(job.path) as temporary:
        with open(temporary, "wb") as handle:
            np.save(handle, np.concatenate(parts) if parts else empty, allow_pickle=False)
    write_json(job.path.with_suffix(".json"), seal({"key": job.key, "sha256": file_sha256(job.path),
                                                    "samples": list(job.samples), "pool": config.embed.pool}))


def _run(config: Config, encoders: Sequence[Encoder], jobs: list[TokenJob]) -> None:
    session.start(config)
    import ray

    session.quiet()
    gpus = session.gpus()
    dataset = ray.data.from_items(jobs, override_num_blocks=len(jobs)).map(
        EmbedWorker,  # type: ignore[arg-type]  # a class, as Ray Data documents
        compute=ray.data.ActorPoolStrategy(size=min(gpus or session.cpus(config), len(jobs))), num_cpus=1,
        num_gpus=1 if gpus else None,
        fn_constructor_kwargs={"encoders": {e.plan.index: e for e in encoders}, "config": config})
    with progress.bar("embed", sum(len(job.samples) for job in jobs), "clips") as tick:
        for row in dataset.iter_rows():
            tick(int(row["clips"]))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(cli.run(main))
