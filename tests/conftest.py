"""One small cohort and one road over it for the whole session: real files, real faces, every stage on one Ray.

`road` goes through Ray, once. `inline` runs the same stages in this process: Ray only schedules, so bytes are equal.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator import embed, loso, mae_loop, preprocess, pretrain, schedule, session
from orchestrator.clipstore import clip_options, make_shard
from orchestrator.cohort import Cohort, load
from orchestrator.config import Config, compose
from orchestrator.storage import file_sha256, read_json
from preprocessing.faces import FaceEngine
from preprocessing.synthetic import generate

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # for the processes that tests start
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")  # an actor for the dashboard, which tests leave out
PEOPLE, CLIPS_PER_LEVEL = 7, 2
# As small as every stage can be; one pretraining worker, so that a process without Ray gives the same bytes.
TINY = [
    "encoder=vit_micro", "encoder.image_size=32", "encoder.depth=1", "encoder.dim=16", "encoder.heads=2",
    "encoder.decoder_depth=1", "signal.length=32", "signal.emd=false", "embed.pool=temporal",
    "smae.dim=16", "smae.depth=1", "smae.heads=2", "smae.ff=16",
    "pretrain.workers=1", "pretrain.video.epochs=1", "pretrain.video.batch=8", "pretrain.video.warmup=0",
    "pretrain.signal.epochs=1", "train.max_epochs=2", "train.batch_size=16",
    "model.hpa.filters=4", "model.dcan.dim=16", "model.dcan.hidden=16", "resources.cpus=2"]
TIMES = ("wall_s",)


@dataclass
class Road:
    """A store, a run folder, and the words that lead to them. `main(...)` goes the road again with more words."""

    root: Path
    store: Path
    run: Path
    words: list[str] = field(default_factory=lambda: list(TINY))
    dataset: str = "biovid_a"
    first_folds: dict[str, tuple[str, int]] = field(default_factory=dict)  # the ledger as it was after max_folds=3

    def argv(self, *more: str) -> list[str]:
        return ["--dataset", self.dataset, f"data.root={self.root}", f"store={self.store}", f"run.dir={self.run}",
                *self.words, *more]

    def main(self, *more: str) -> int:
        return loso.main(self.argv(*more))

    def config(self, *more: str) -> Config:
        return compose(self.dataset, self.argv(*more)[2:])

    def cohort(self) -> Cohort:
        return load(self.config())

    def copy(self, where: Path, run: bool = True) -> "Road":
        """Its own store (and run) to spoil."""
        shutil.copytree(self.store, where / "store")
        if run:
            shutil.copytree(self.run, where / "run")
        return Road(self.root, where / "store", where / "run", list(self.words), self.dataset)

    def ledger(self) -> dict[str, dict]:
        return {path.name: read_json(path) for path in sorted((self.run / "ledger").glob("*.json"))}

    def summary(self) -> dict:
        return without_times(read_json(self.run / "summary.json"))


def without_times(value: dict) -> dict:
    """A summary or ledger entry without what differs from one execution to the next."""
    return {name: part for name, part in value.items() if name not in (*TIMES, "checksum", "peak_memory_mb")}


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """relative path -> (sha256, modification time in ns) of every file but locks."""
    return {str(p.relative_to(folder)): (file_sha256(p), p.stat().st_mtime_ns)
            for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


def hashes(folder: Path) -> dict[str, str]:
    return {name: digest for name, (digest, _) in snapshot(folder).items()}


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A synthetic cohort in BioVid's layout, with videos. Read only."""
    return generate(tmp_path_factory.mktemp("cohort") / "tree", subjects=PEOPLE, clips_per_level=CLIPS_PER_LEVEL,
                    levels=("BL1", "PA4"), size=(160, 120), jobs=2)


@pytest.fixture(scope="session")
def signal_tree(tmp_path_factory) -> Path:
    """The like without videos: cheap. Read only."""
    return generate(tmp_path_factory.mktemp("signals") / "tree", subjects=PEOPLE, clips_per_level=CLIPS_PER_LEVEL,
                    levels=("BL1", "PA4"), size=(160, 120), jobs=1, videos=False)


@pytest.fixture(scope="session")
def road(tree, tmp_path_factory) -> Road:
    """All stages and all folds through Ray, in two commands: three folds first, then the rest. Read only."""
    place = tmp_path_factory.mktemp("road")
    made = Road(tree, place / "store", place / "run")
    import ray

    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False, logging_level="ERROR")
    try:
        assert made.main("max_folds=3") == 0
        made.first_folds = snapshot(made.run / "ledger")
        assert made.main() == 0
        assert ray.is_initialized(), "a command ended a Ray that it had not started"
    finally:
        ray.shutdown()
    return made


@pytest.fixture(scope="session")
def engines() -> Callable:
    """Face engines by their options: loading one takes longer than a clip."""
    made: dict = {}

    def engine(options):
        if options not in made:
            made[options] = FaceEngine(options)
        return made[options]

    return engine


@pytest.fixture
def inline(monkeypatch, engines):
    """Every stage in this process. Returns {stage: [what was done]}, which fills as commands run."""
    import torch

    torch.set_num_threads(1)
    done: dict[str, list] = {"preprocess": [], "pretrain": [], "embed": [], "loso": []}

    def run_shards(config, jobs):
        for job in jobs:
            video = any(clip.recording.video for clip in job.clips)
            options = clip_options(config, any(c.recording.video for j in jobs for c in j.clips))
            make_shard(job, options, engines(options.face) if video else None)
            done["preprocess"].append(job.subject)

    def fit(config, jobs, tick):
        for job in jobs:
            mae_loop.train_job(job, mae_loop.Rank(), lambda row: tick(1))
            done["pretrain"].append(job.name)
        return 1

    def run_tokens(config, encoders, jobs):
        models = {e.plan.index: e.load_video() for e in encoders}
        for job in jobs:
            embed.write_tokens(job, models[job.encoder], config, torch.device("cpu"))
            done["embed"].append((job.encoder, job.subject))

    def run_grid(config, stage, run, names, planned, work, scratch):
        grid = work(names)
        for name in names:
            grid.run(name)
            done["loso"].append(name)
        return {}

    def no_ray(config):
        raise AssertionError("this test runs without Ray")

    monkeypatch.setattr(preprocess, "_run", run_shards)
    monkeypatch.setattr(pretrain, "_fit", fit)
    monkeypatch.setattr(embed, "_run", run_tokens)
    monkeypatch.setattr(schedule, "run_grid", run_grid)
    monkeypatch.setattr(session, "start", no_ray)
    return done


@pytest.fixture(scope="session")
def ridge(signal_tree, tmp_path_factory) -> Road:
    """A store and a run folder for ridge on signals, yet to be made: use with `inline`."""
    place = tmp_path_factory.mktemp("ridge")
    return Road(signal_tree, place / "store", place / "run", [*TINY, "model=ridge"])
