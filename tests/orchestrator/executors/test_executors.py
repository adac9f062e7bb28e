"""run.executor=inline: every stage in the command's own process, without Ray, and the same to the last byte."""

import inspect
import subprocess
import sys

import pytest

from orchestrator import cli, loso
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.evaluation import fit_fold, run_record, scheduler
from orchestrator.executors import choice
from orchestrator.executors.inline import InlineExecutor
from orchestrator.files.storage import read_json
from orchestrator.runtime import ray_session, surroundings
from orchestrator.stages import make_encoders
from tests.helpers.executors import Recording
from tests.helpers.roads import TINY, Road, hashes

INLINE = "run.executor=inline"
COMMAND = """
import sys
from orchestrator import cli, loso
code = cli.run(loso.main, sys.argv[1:])
print("imported:", *sorted(name for name in sys.modules if name == "ray" or name.startswith("ray.")))
sys.exit(code)
"""


def command(code: list[str], place: Road, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *code, *place.argv(*more)], cwd=run_record.ROOT, capture_output=True, text=True,
                          timeout=900)


@pytest.mark.ci
def test_all_stages_without_ray_give_what_they_give_on_ray(road, tmp_path):
    mine = Road(road.root, tmp_path / "store", tmp_path / "run")
    done = command(["-c", COMMAND], mine, INLINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().splitlines()[-1] == "imported:", "an import of Ray"
    assert "inline: every stage in this process" in " ".join(done.stdout.split())
    for made, n in (("clips/**/*.parquet", 1), ("encoders/**/*.safetensors", 2), ("tokens/**/*.npy", 1)):
        files = {str(path.relative_to(mine.store)): path.read_bytes() for path in mine.store.glob(made)}
        assert len(files) >= n
        assert files == {name: (road.store / name).read_bytes() for name in files}
    assert (mine.run / "predictions.parquet").read_bytes() == (road.run / "predictions.parquet").read_bytes()
    assert mine.summary() == road.summary()
    assert read_json(mine.run / "lineage.json") == read_json(road.run / "lineage.json")
    assert (mine.run / "config.yaml").read_bytes() == (road.run / "config.yaml").read_bytes()
    for place, name, words in ((mine, "inline", "inline: one process"), (road, "ray", "<td>Ray</td>")):
        assert read_json(place.run / "environment.json")["executor"] == name
        assert words in (place.run / "report.html").read_text()


def test_one_executor_resumes_what_the_other_began(road, inline, tmp_path):
    mine = road.copy(tmp_path)
    (mine.run / "ledger" / "fold-001-seed-0.json").unlink()
    assert mine.main(INLINE) == 0 and inline["loso"] == [], "the fixture records what would go through Ray"
    assert (mine.run / "predictions.parquet").read_bytes() == (road.run / "predictions.parquet").read_bytes()


@pytest.mark.parametrize("executor", ["ray", "inline"])
def test_it_is_no_part_of_a_key(executor):
    plain, asked = compose("watch", []), compose("watch", [f"run.executor={executor}"])
    assert run_record.run_dir(plain) == run_record.run_dir(asked) and run_record.portable(plain) == run_record.portable(asked)


def test_another_word_is_refused():
    with pytest.raises(UserError, match="run.executor='dask' does not fit: it must be one of ray, inline"):
        compose("watch", ["run.executor=dask"])


# ---------------------------------------------------------------- what goes wrong

@pytest.fixture
def made(ridge, inline, tmp_path) -> Road:
    return Road(ridge.root, ridge.store, tmp_path / "run", [*TINY, "model=ridge", INLINE, "max_folds=3"])


def test_a_fold_that_fails_is_recorded_and_the_others_are_done(made, monkeypatch, capsys):
    whole = Road(made.root, made.store, made.run.parent / "whole", made.words)
    assert whole.main() == 0
    tried = []

    def fails(fold, *rest):
        tried.append(fold.index)
        if fold.index == 1:
            raise ValueError(f"no sense in {made.store}/x\nat all")
        return fit_fold.fit_fold(fold, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "fit_fold", fails)
        assert cli.run(loso.main, made.argv()) == 3
    said = capsys.readouterr()
    assert tried == [0, 1, 2], "tried again in the same process"
    assert "Traceback" in said.err and "no sense" in said.err
    assert read_json(made.run / "facts.json")["failed_folds"] == [{"fold": 1, "seed": 0, "reason": "at all"}]
    assert sorted(made.ledger()) == ["fold-000-seed-0.json", "fold-002-seed-0.json"]
    assert made.main() == 0
    assert (made.run / "predictions.parquet").read_bytes() == (whole.run / "predictions.parquet").read_bytes()


class Fails:
    """A trial's work that raises what it is given, by name."""

    def __init__(self, **errors):
        self.errors, self.done = errors, []

    def run(self, name):
        if error := self.errors.get(name):
            raise error
        self.done.append(name)
        return {"accuracy": -1.0}


def trials(work, *names):
    told = []
    config = compose("watch", ["store=/somewhere"])
    failed = Recording({"loso": []}).trials(config, names, work, None, None, lambda *done: told.append(done))
    return failed, told


def test_a_reason_is_one_line_without_paths():
    failed, told = trials(Fails(a=ValueError("/somewhere/x is gone"), b=KeyError()), "a", "b", "c")
    assert {name: failure.reason for name, failure in failed.items()} == {"a": "ValueError: store/x is gone", "b": "KeyError"}
    assert not any(failure.again for failure in failed.values()) and told == [("c", None)]


@pytest.mark.parametrize("error", [UserError("do this"), KeyboardInterrupt()])
def test_a_mistake_and_an_interrupt_end_the_command(error):
    work = Fails(b=error)
    with pytest.raises(type(error)):
        trials(work, "a", "b", "c")
    assert work.done == ["a"]


def test_one_process_is_one_worker(road):
    config = road.config(INLINE, "pretrain.workers=2")
    assert ray_session.cpus(config) == 1
    with pytest.raises(UserError, match="pretrain.workers=2 is more than the 1 process of run.executor=inline: use "
                                        "pretrain.workers=1"):
        make_encoders.fit(config, [], lambda row: None)


def test_nothing_is_asked_of_the_machine_that_ray_alone_needs():
    names = [{row.what for row in surroundings.check(compose("watch", words))} for words in ([], [INLINE])]
    assert names[1] < names[0]


def test_a_command_takes_the_executor_that_is_asked_for(monkeypatch):
    assert isinstance(choice.of(compose("watch", [INLINE])), InlineExecutor)
    assert not isinstance(choice.of(compose("watch", [])), InlineExecutor)


# ---------------------------------------------------------------- what it is for

def test_a_debugger_stops_in_a_fold(ridge, inline, tmp_path):
    place = Road(ridge.root, ridge.store, tmp_path / "run", [*TINY, "model=ridge"])
    assert place.main("max_folds=1") == 0  # the store is there
    lines, first = inspect.getsourcelines(fit_fold.fit_fold)
    body = next(i for i, line in enumerate(lines) if line.rstrip().endswith('"""'))
    where = f"{inspect.getsourcefile(fit_fold)}:{first + body + 1}"
    steps = [f"b {where}", "c", "p ('here', fold.index)", "cl 1", "c", "q"]
    mine = Road(ridge.root, ridge.store, tmp_path / "debugged", place.words)
    done = command(["-m", "pdb", *(word for step in steps for word in ("-c", step)), "-m", "orchestrator.loso"], mine,
                   INLINE, "max_folds=1")
    assert "('here', 0)" in done.stdout, done.stdout + done.stderr
    assert (mine.run / "predictions.parquet").read_bytes() == (place.run / "predictions.parquet").read_bytes()
    assert hashes(mine.run / "ledger").keys() == hashes(place.run / "ledger").keys()
