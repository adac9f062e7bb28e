"""One small cohort and one road over it for the whole session: real files, real faces, every stage on one Ray.

`road` goes through Ray, once. `inline` runs the same stages in this process: Ray only schedules, so bytes are equal.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orchestrator.evaluation import scheduler
from orchestrator.pretraining import embedding, loop
from orchestrator.runtime import ray_session
from orchestrator.stages import make_clips, make_encoders, make_tokens
from orchestrator.stores.clip_store import clip_options
from orchestrator.stores.shard_maker import make_shard
from preprocessing.face.engine import FaceEngine
from preprocessing.synthetic.cohort import generate
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, TINY, Road, snapshot

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # for the processes that tests start
torch.set_num_threads(1)  # and for this one, which may have loaded it already
os.environ.setdefault("RAY_worker_niceness", "0")  # as a command's own Ray: else a busy machine starves its workers
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")  # an actor for the dashboard, which tests leave out

LONG_ROADS = {"road", "inline", "tree", "engines"}  # whoever asks for one of these waits for films, face models or whole stages


def pytest_itemcollected(item: pytest.Item) -> None:
    """Nobody has to remember it: kill tests, and what goes through whole stages, are no part of `make check`."""
    if LONG_ROADS & {*getattr(item, "fixturenames", ())} or item.path.parent.name == "faults":
        item.add_marker("medium")


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
    """All stages through Ray; of the folds three in this process first, then the others through Ray. Read only."""
    place = tmp_path_factory.mktemp("road")
    made = Road(tree, place / "store", place / "run")
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
             logging_level="ERROR")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "run_grid", grid_of([]))
            assert made.main("max_folds=3") == 0
        made.first_folds = snapshot(made.run / "ledger")
        assert made.main() == 0
        assert ray.is_initialized(), "a command ended a Ray that it had not started"
    finally:
        ray.shutdown()
    return made


@pytest.fixture(scope="session")
def ridge(signal_tree, tmp_path_factory) -> Road:
    """A store and a run folder for ridge on signals, yet to be made: use with `inline`."""
    place = tmp_path_factory.mktemp("ridge")
    return Road(signal_tree, place / "store", place / "run", [*TINY, "model=ridge"])


def grid_of(done: list) -> Callable:
    """A stand-in for Tune: one fold after the other, in this process."""
    def run_grid(config, stage, run, names, planned, work, scratch):
        grid = work(names)
        for name in names:
            grid.run(name)
            done.append(name)
        return {}

    return run_grid


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
def inline(monkeypatch, engines) -> dict[str, list]:
    """Every stage in this process. {stage: [what was done]}, which fills as commands run."""
    done: dict[str, list] = {"preprocess": [], "pretrain": [], "embed": [], "loso": []}

    def run_shards(config, jobs):
        video = make_clips._with_video(config, jobs) > 0
        options = clip_options(config, video)
        for job in jobs:
            make_shard(job, options, engines(options.face) if video else None)
            done["preprocess"].append(job.subject)

    def fit(config, jobs, on_row):
        for job in jobs:
            loop.train_job(job, loop.Rank(), lambda row: None)
            done["pretrain"].append(job.name)
        return 1

    def run_tokens(config, encoders, jobs):
        models = {e.plan.index: e.load_video() for e in encoders}
        for job in jobs:
            embedding.write_tokens(job, models[job.encoder], config, torch.device("cpu"))
            done["embed"].append((job.encoder, job.subject))

    def no_ray(config):
        raise AssertionError("this test runs without Ray")

    monkeypatch.setattr(make_clips, "_run", run_shards)
    monkeypatch.setattr(make_encoders, "_fit", fit)
    monkeypatch.setattr(make_tokens, "_run", run_tokens)
    monkeypatch.setattr(scheduler, "run_grid", grid_of(done["loso"]))
    monkeypatch.setattr(ray_session, "start", no_ray)
    return done
