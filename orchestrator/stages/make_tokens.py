"""Stage 3: apply the frozen video encoder to every clip, files in parallel."""

from collections.abc import Sequence

from orchestrator.cohort.cohort import Cohort, private_folder
from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.estimate import costs
from orchestrator.evaluation import damage
from orchestrator.evaluation.damage import is_damaged
from orchestrator.executors import choice
from orchestrator.files.storage import (
    HashCache,
    need_space,
    read_checked,
    remove_temporaries,
)
from orchestrator.pretraining.embedding import EmbedWorker
from orchestrator.runtime import progress
from orchestrator.runtime.store_lock import writing
from orchestrator.runtime.worker_warnings import counted
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder
from orchestrator.stores.token_store import TokenJob, current, plan_tokens, token_bytes


def ensure(config: Config, people: Cohort, clips: ClipStore, encoders: Sequence[Encoder]) -> list[TokenJob]:
    """Make the missing token files of these encoders. Returns the jobs of all.

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
        progress.say("embed", f"{len({job.path for job in jobs})} token files are there already and up to date")
    cache.save()
    for text in notes(jobs):
        progress.say("embed", text)
    return jobs


def notes(jobs: Sequence[TokenJob]) -> list[str]:
    """Warnings of the workers that made these files, in this command or an earlier one: "N of M token files: text"."""
    sides = [read_checked(path.with_suffix(".json")) or {} for path in dict.fromkeys(job.path for job in jobs)]
    return counted([side.get("notes", []) for side in sides], "token files")


def _make(config: Config, encoders: Sequence[Encoder], missing: list[TokenJob]) -> None:
    if not missing:
        return
    damage.warn("embed", "token files", (is_damaged(job.path.with_suffix(".json"), job.key) for job in missing))
    encoder = next(e for e in encoders if e.plan.video is not None)
    assert encoder.plan.video is not None
    n, speed = sum(len(job.samples) for job in missing), costs.measured(config)
    size = n * token_bytes(config, encoder)
    seconds = costs.embedding(encoder.plan.video, n, speed)
    progress.say("embed", f"{len(missing)} files to do: {n} clips, {costs.size_text(size)}, "
                          f"{costs.span(costs.interval(seconds))} on {speed.name}")
    need_space(config.store_dir, size, "The token store")
    for folder in {job.path.parent for job in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(folder)
    _run(config, encoders, missing)


def _run(config: Config, encoders: Sequence[Encoder], jobs: list[TokenJob]) -> None:
    settings = {"encoders": {e.plan.index: e for e in encoders}, "config": config}
    rows = choice.of(config).each(config, EmbedWorker, settings, jobs, gpu=True)
    with progress.bar("embed", sum(len(job.samples) for job in jobs), "clips") as tick:
        for row in rows:
            if row["mistake"]:
                raise UserError(row["mistake"])
            tick(int(row["clips"]))
