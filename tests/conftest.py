"""One small cohort and one road over it for the whole session: real files, real faces, every stage on one Ray.

`road` goes through Ray, once. `inline` runs the same stages by the executor without Ray, and keeps a list of what was done.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orchestrator.executors import choice
from orchestrator.runtime import ray_session
from orchestrator.stages import make_clips  # noqa: F401  # before a test replaces the engine that its annotations name
from preprocessing.face import engine
from preprocessing.face.engine import FaceEngine
from preprocessing.synthetic.cohort import generate
from tests.helpers.executors import FoldsInline, Recording
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
            patch.setitem(choice.KINDS, "ray", FoldsInline)
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


@pytest.fixture(scope="session")
def engines() -> Callable:
    """Face engines by their options: loading one takes longer than a clip."""
    made: dict = {}

    def of(options):
        if options not in made:
            made[options] = FaceEngine(options)
        return made[options]

    return of


@pytest.fixture
def inline(monkeypatch, engines) -> dict[str, list]:
    """Every stage in this process. {stage: [what was done]}, which fills as commands run."""
    done: dict[str, list] = {"preprocess": [], "pretrain": [], "embed": [], "loso": []}

    def no_ray(config):
        raise AssertionError("this test runs without Ray")

    monkeypatch.setitem(choice.KINDS, "ray", lambda: Recording(done))
    monkeypatch.setattr(engine, "FaceEngine", engines)
    monkeypatch.setattr(ray_session, "start", no_ray)
    return done
