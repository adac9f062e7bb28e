"""Stage 2: masked auto-encoders on declared groups of people, data-parallel with Ray Train.

`python -m orchestrator.pretrain --dataset NAME [key=value ...]`
"""

import json
import shutil
import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from orchestrator import cli, crossdata, folds, progress, session
from orchestrator.clipstore import ClipStore
from orchestrator.cohort import Cohort
from orchestrator.config import Config, with_protocol
from orchestrator.encoders import Encoder, EncoderPlan, open_encoder, plan_encoders
from orchestrator.errors import UserError
from orchestrator.groups import Group
from orchestrator.models_needed import needs
from orchestrator.storage import in_new_folder, seal, sweep_temporaries, write_json
from orchestrator.storelock import writing
from preprocessing.moments import fit_scaler


def main(argv: list[str] | None = None) -> int:
    call = cli.parse("pretrain", __doc__.splitlines()[0], argv)
    config = call.config if call.config.protocol.name != "both" else with_protocol(call.config, "clean")
    if call.dry_run:
        from orchestrator import dryrun

        return dryrun.show(config, "pretrain")
    with session.session(config):
        people = crossdata.load(config)
        plan = folds.make_plan(config, people.people)
        progress.say("pretrain", plan.text())
        ensure(config, people, crossdata.ensure_clips(config, people), plan.groups)
    return 0


def ensure(config: Config, people: Cohort, clips: ClipStore, groups: tuple[Group, ...]) -> list[Encoder]:
    """The encoders of these groups, trained where they are missing; none where the model reads neither tokens nor E_ts."""
    plans = plan_encoders(config, people, clips, groups, needs(config))
    if any(open_encoder(plan) is None for plan in plans):
        with writing(config, "pretrain"):
            _make(config, clips, [plan for plan in plans if open_encoder(plan) is None])
    else:
        progress.say("pretrain", f"{len(plans)} encoders are there already" if plans else "no encoder is needed")
    found = [open_encoder(plan) for plan in plans]
    assert all(found), "an encoder that was just made cannot be read"
    return [encoder for encoder in found if encoder]


def _make(config: Config, clips: ClipStore, missing: list[EncoderPlan]) -> None:
    sweep_temporaries(config.store_dir / "encoders")
    for plan in missing:
        shutil.rmtree(plan.folder, ignore_errors=True)  # damaged or half: it is made again from nothing
    if config.pretrain.name == "none":
        for plan in missing:
            in_new_folder(plan.folder, partial(_random, plan, seed=config.pretrain.seed))
    elif missing:
        if config.pretrain.checkpoint:
            raise UserError("pretrain.checkpoint is not built yet: leave it out to pretrain here.")
        _train(config, clips, missing)


def _random(plan: EncoderPlan, folder: Path, seed: int) -> None:
    """Untrained weights: what pretrain=none means for the video stream."""
    import torch

    from models import build, checkpoint

    assert plan.video is not None  # signals alone need no random encoder: the folds begin with their own
    torch.manual_seed(seed)
    sha = checkpoint.save(folder / "video", build("video_mae", **plan.video), plan.video, plan.lineage.to_json())
    _finish(plan, folder, {"video": sha}, {"workers": 0})


def _train(config: Config, clips: ClipStore, plans: list[EncoderPlan]) -> None:
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from models import checkpoint
    from orchestrator.mae_loop import Job, epochs_planned

    root = config.store_dir / "encoders"
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        jobs, scalers = [], []
        for plan in plans:
            assert plan.group is not None
            _check_group(clips, plan)
            out = Path(stack.enter_context(TemporaryDirectory(prefix=f".{plan.key}.", suffix=".tmp", dir=root)))
            signals, scaler = _group_signals(clips, plan, out) if plan.signal else (None, None)
            shards = [(s, clips.paths[s]) for s in plan.group.subjects]
            jobs.append(Job(f"encoder {plan.index + 1}", out, shards, plan.video, plan.signal, signals,
                            plan.lineage.to_json(), config.pretrain.model_dump(), config.clip.model_dump(),
                            config.pretrain.seed))
            scalers.append(scaler)
        with progress.bar("pretrain", epochs_planned(jobs), "epochs") as tick:
            workers = _fit(config, jobs, tick)
        for plan, job, scaler in zip(plans, jobs, scalers, strict=True):
            def fill(folder: Path, plan=plan, job=job, scaler=scaler) -> None:
                for file in job.out.iterdir():
                    if file.name != "signals.npy":
                        shutil.copy2(file, folder / file.name)
                if scaler is not None:
                    write_json(folder / "scaler.json", scaler.to_json())
                weights = {name: checkpoint.read_side(folder / name)["weights_sha256"]
                           for name, there in (("video", plan.video), ("signal", plan.signal)) if there}
                _finish(plan, folder, weights, {"workers": workers})

            in_new_folder(plan.folder, fill)


def _finish(plan: EncoderPlan, folder: Path, weights: dict[str, str], how: dict) -> None:
    write_json(folder / "encoder.json", seal({
        "key": plan.key, "weights": weights, "lineage": plan.lineage.to_json(),
        "subjects": list(plan.group.subjects) if plan.group else [], **how}))


def _check_group(clips: ClipStore, plan: EncoderPlan) -> None:
    """Raises UserError before anything is trained where a group has nothing to learn from."""
    assert plan.group is not None
    parts = [clips.signals(subject) for subject in plan.group.subjects]
    for what, wanted, there in (("video", plan.video, any(part.n_keyframes.any() for part in parts)),
                                ("signal", plan.signal, any(part.signals.size for part in parts))):
        if wanted is not None and not there:
            raise UserError(f"Nobody in pretraining group {plan.index + 1} has a usable {what} clip: see the quarantine "
                            f"table {clips.folder / 'quarantine.parquet'}, or use another pretrain.seed.")


def _group_signals(clips: ClipStore, plan: EncoderPlan, out: Path):
    """The group's signals under a scaler fitted on the group, as one file that workers map into memory."""
    assert plan.group is not None
    subjects = plan.group.subjects
    moments = {s: m for s in subjects if (m := clips.moments(s, sorted(map(int, clips.sides[s]["moments"])))) is not None}
    scaler = fit_scaler(moments, sorted(moments))
    parts = [clips.signals(s).signals for s in subjects]
    path = out / "signals.npy"
    np.save(path, scaler.apply(np.concatenate([part for part in parts if part.size])), allow_pickle=False)
    return path, scaler


def _fit(config: Config, jobs: list, tick) -> int:
    """Run the jobs on Ray Train; epochs are read from a file that rank 0 writes. Returns the number of workers."""
    session.start(config)
    from tempfile import TemporaryDirectory

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    gpus = session.gpus()
    workers = config.pretrain.workers or gpus or min(2, session.cpus(config))
    with TemporaryDirectory(prefix=".train.", suffix=".tmp", dir=config.store_dir) as storage:
        lines, stopped = Path(storage) / "epochs.jsonl", threading.Event()
        watcher = threading.Thread(target=_follow, args=(lines, tick, stopped))
        watcher.start()
        try:
            trainer = TorchTrainer(
                # plain dicts: Train's controller unpickles this too, and need not load torch and timm to name the Job class
                _worker, train_loop_config={"jobs": [asdict(job) for job in jobs], "lines": str(lines)},
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpus)),
                # the storage folder is new each time: a killed run starts over, it never meets another run's state
                run_config=RunConfig(name="mae", storage_path=storage))
            trainer.fit()
        finally:
            stopped.set()
            watcher.join()
    return workers


def _worker(settings: dict) -> None:
    """The training function of every worker."""
    import torch
    from ray import train
    from ray.train.torch import get_device

    from orchestrator.mae_loop import Job, Rank, train_job

    torch.set_num_threads(1)
    context = train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size(), get_device())

    def report(row: dict) -> None:
        if rank.rank == 0:
            with open(settings["lines"], "a") as handle:
                handle.write(json.dumps(row) + "\n")

    for job in settings["jobs"]:
        train_job(Job(**job), rank, report)


def _follow(lines: Path, tick, stopped: threading.Event) -> None:
    """Tick the bar for every whole line that appears, until stopped and read to the end."""
    seen = 0
    while True:
        last = stopped.wait(0.3)
        whole = lines.read_text().rpartition("\n")[0] if lines.exists() else ""
        rows = whole.splitlines()
        for row in rows[seen:]:
            value = json.loads(row)
            tick(1, f"{value['stage']} of {value['encoder']}: loss {value['loss']:.4g}")
        seen = len(rows)
        if last:
            return


if __name__ == "__main__":
    sys.exit(cli.run(main))
