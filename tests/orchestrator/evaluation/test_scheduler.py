"""The scheduler has no state: what it requests from Tune, and how it handles the results. Without Ray."""

import subprocess
import sys
import types
from dataclasses import replace

import pytest

from orchestrator.config.configuration import compose
from orchestrator.errors import FoldError, UserError
from orchestrator.evaluation import run_record, scheduler
from orchestrator.evaluation.ledger import Ledger
from orchestrator.evaluation.scheduler import FoldWork, run_missing
from orchestrator.executors import choice, ray_trials
from orchestrator.executors.executor import Failure
from orchestrator.runtime.gpu_sharing import GpuShare
from tests.helpers.executors import Trials
from tests.helpers.made_data import encoder, fold, made_data, recipe


@pytest.fixture
def work(tmp_path):
    folds = {f.name: f for f in (fold(i) for i in range(3))}
    (tmp_path / "run").mkdir()
    return FoldWork(folds, made_data(tokens=False), recipe("ridge"), {0: encoder()}, Ledger(tmp_path / "run", "key"))


def test_a_trial_fits_writes_and_reports(work):
    said = work.run("fold-001-seed-0")
    entry = work.ledger.read(work.folds["fold-001-seed-0"])
    assert 0 <= said["accuracy"] <= 1
    assert said["accuracy"] == sum(p.y_true == p.y_pred for p in entry.predictions) / entry.n_test
    assert len(list(work.ledger.files.folder.iterdir())) == 1


def test_only_what_the_ledger_lacks_is_asked_for(work, monkeypatch):
    asked = []
    monkeypatch.setattr(scheduler, "run_grid", lambda config, stage, run, names, planned, work, scratch: asked.append(
        (names, planned, scratch)) or {})
    folds = list(work.folds.values())
    work.run(folds[1].name)
    config = compose("watch", [])
    assert run_missing(config, folds, work.data, work.recipe, [], work.ledger) == {}
    assert asked == [([folds[0].name, folds[2].name], 3, work.ledger.run_dir)]
    for missing in (folds[0], folds[2]):
        work.run(missing.name)
    run_missing(config, folds, work.data, work.recipe, [], work.ledger)
    assert len(asked) == 1


class FakeTune:
    """The parts of ray.tune that the scheduler uses; trials run immediately, in this process."""

    def __init__(self, results):
        self.results, self.seen, self.reported = results, {}, []
        for name in ("TuneConfig", "RunConfig", "FailureConfig", "CheckpointConfig"):
            setattr(self, name, lambda _name=name, **words: self.seen.setdefault(_name, words) and words)

    def with_parameters(self, trainable, **words):
        self.trainable, self.words = trainable, words
        return trainable

    def with_resources(self, trainable, resources):
        self.seen["resources"] = resources
        return trainable

    def grid_search(self, names):
        self.names = names
        return names

    def Tuner(self, trainable, **words):  # noqa: N802
        return types.SimpleNamespace(fit=lambda: self.results(self) if callable(self.results) else self.results)

    def report(self, row):
        self.reported.append(row)


def run_trials(monkeypatch, work, results, tmp_path, *words):
    import ray

    tune = FakeTune(results)
    monkeypatch.setattr(ray, "tune", tune, raising=False)
    monkeypatch.setattr(ray_trials, "callback", lambda on_done: None)
    config = compose("watch", [f"store={tmp_path}", *words])
    share = GpuShare(config.resources.folds_per_gpu, 0)
    return ray_trials.run_trials(config, list(work.folds), work, tmp_path / "run", share, lambda *done: None), tune


def result(name, error=None, **metrics):
    said = {} if error else {"user_error": "", **metrics}
    return types.SimpleNamespace(config={"name": name}, metrics=said, error=error)


def test_what_is_asked_of_tune(monkeypatch, work, tmp_path):
    failed, tune = run_trials(monkeypatch, work, [result(n) for n in work.folds], tmp_path)
    assert failed == {} and tune.names == list(work.folds)
    assert tune.seen["TuneConfig"]["reuse_actors"] and tune.seen["FailureConfig"] == {"max_failures": 0}
    assert tune.seen["resources"]["cpu"] == 1
    assert not list((tmp_path / "run").glob(".tune*")), "Tune's own state outlived its use"


def test_a_fold_that_failed_every_time_is_named_with_its_reason(monkeypatch, work, tmp_path):
    name = list(work.folds)[1]
    error = RuntimeError(f"Traceback ...\nFileNotFoundError: {tmp_path}/tokens/x.npy is gone")
    others = [result(n) for n in work.folds if n != name]
    failed, _ = run_trials(monkeypatch, work, [*others, result(name, error)], tmp_path)
    assert failed == {name: Failure("FileNotFoundError: store/tokens/x.npy is gone")}
    failed, _ = run_trials(monkeypatch, work, [result(name, RuntimeError("The actor died unexpectedly"))], tmp_path,
                          "resources.fold_timeout_s=7")
    assert "fold_timeout_s=7" in failed[name].reason


def test_what_shows_progress_stays_here_when_tune_pickles_what_it_was_given():
    """On a terminal, the progress bar holds locks."""
    import copy
    import threading

    from ray import cloudpickle

    seen = []
    bar = types.SimpleNamespace(lock=threading.RLock(), seen=seen)
    done = ray_trials.callback(lambda name, accuracy: bar.seen.append((name, accuracy)))
    assert len(cloudpickle.dumps(done)) < 5000
    trial = types.SimpleNamespace(config={"name": "fold-000"})
    for callback in (done, copy.deepcopy(done)):
        callback.on_trial_result(1, [], trial, {"accuracy": 0.5})
    callback.on_trial_result(1, [], trial, {"accuracy": -1.0, "impossible": "no clip"})
    callback.on_trial_result(1, [], trial, {"accuracy": -1.0, "user_error": ""})
    assert seen == [("fold-000", 0.5)] * 2 + [("fold-000", None)]


def test_a_fold_of_which_tune_says_nothing_is_not_done(monkeypatch, work, tmp_path):
    """A reused worker that dies between two trials: Tune ends the next one without a result and without a retry."""
    first, second, third = work.folds
    silent = types.SimpleNamespace(config={"name": second}, metrics=None, error=None)
    failed, _ = run_trials(monkeypatch, work, [result(first), silent], tmp_path)
    assert failed == dict.fromkeys([second, third], Failure("its worker died"))


def test_a_fold_is_tried_three_times_after_the_others(monkeypatch, work, tmp_path):
    chunks, bad = [], {"b": 2, "c": 5, "d": 1}  # how often each fails

    def run(names, share):
        chunks.append(names)
        failing = [n for n in names if bad.get(n, 0) > 0]
        for name in failing:
            bad[name] -= 1
        return {name: Failure("why", again=name != "d") for name in failing}

    monkeypatch.setitem(choice.KINDS, "ray", lambda: Trials(run))
    failed = scheduler.run_grid(compose("watch", []), "loso", "run", names=["a", "b", "c", "d"], planned=4,
                                work=lambda chunk: None, scratch=tmp_path)
    assert chunks == [["a", "b", "c", "d"], ["b", "c"], ["b", "c"]] and failed == {"c": "why", "d": "why"}


def test_a_mistake_of_the_users_is_no_failed_fold(monkeypatch, work, tmp_path):
    with pytest.raises(UserError, match="do this"):
        run_trials(monkeypatch, work, [result("x", user_error="do this")], tmp_path)


def test_a_fold_that_its_clips_make_impossible_fails_alone_and_at_once(monkeypatch, work, tmp_path):
    first, second, third = work.folds
    told = [result(first), result(second, impossible="no clip of class PA4"), result(third)]
    failed, tune = run_trials(monkeypatch, work, told, tmp_path)
    assert failed == {second: Failure("no clip of class PA4", again=False)}
    ray_trials.trial({"name": "x"}, types.SimpleNamespace(run=lambda name: (_ for _ in ()).throw(FoldError("no clip"))), 60)
    assert tune.reported[-1] == {"accuracy": -1.0, "user_error": "", "impossible": "no clip"}


def test_a_trial_reports_a_mistake_and_raises_a_defect(monkeypatch, work, tmp_path):
    from models.errors import ModelError

    _, tune = run_trials(monkeypatch, work, [], tmp_path)
    wrong = {"value": UserError("u")}
    broken = types.SimpleNamespace(run=lambda name: (_ for _ in ()).throw(wrong["value"]))
    for error in (UserError("u"), ModelError("m")):
        wrong["value"] = error
        ray_trials.trial({"name": "x"}, broken, 60)
    assert [row["user_error"] for row in tune.reported] == ["u", "m"]
    wrong["value"] = RuntimeError("a defect")
    with pytest.raises(RuntimeError):
        ray_trials.trial({"name": "x"}, broken, 60)
    ray_trials.trial({"name": next(iter(work.folds))}, work, 60)
    assert tune.reported[-1]["user_error"] == "" and len(tune.reported) == 3


HANGS = """
import re, sys, time, types
from ray import tune
from orchestrator.executors import ray_trials
tune.report = print
run = lambda name: {"accuracy": 1.0} if name == "quick" else re.match("(a+)+$", 50 * "a" + "b")  # never releases the lock
ray_trials.trial({"name": "quick"}, types.SimpleNamespace(run=run), 0.2)
time.sleep(0.4)
print("a finished fold's clock has stopped", flush=True)
ray_trials.trial({"name": "slow"}, types.SimpleNamespace(run=run), 0.2)
"""


@pytest.mark.medium
def test_a_fold_over_its_time_ends_its_worker_even_in_a_library_that_never_returns():
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=55, cwd=run_record.ROOT)
    assert ended.returncode == 1 and "clock has stopped" in ended.stdout and "Timeout" in ended.stderr


def test_trials_are_handed_out_in_chunks(monkeypatch, work, tmp_path):
    chunks = []
    monkeypatch.setitem(choice.KINDS, "ray", lambda: Trials(lambda names, share: chunks.append(names) or {}))
    names = [f"fold-{i:03d}-seed-0" for i in range(230)]
    scheduler.run_grid(compose("watch", []), "loso", "run", names=names, planned=230,
                       work=lambda chunk: replace(work, folds={}), scratch=tmp_path)
    assert [len(chunk) for chunk in chunks] == [100, 100, 30] and sum(chunks, []) == names
