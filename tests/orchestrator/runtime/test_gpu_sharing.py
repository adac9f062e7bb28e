"""Folds that share a GPU: as many as the first fold's peak memory allows, or as asked."""

import pytest

from orchestrator.config.configuration import compose
from orchestrator.evaluation import scheduler
from orchestrator.executors import choice
from orchestrator.runtime.gpu_sharing import CONTEXT_MB, GpuShare, fitting
from tests.helpers.executors import Trials


@pytest.mark.parametrize(("peak", "n"), [(9_000 - CONTEXT_MB, 8), (79_000, 1), (90_000, 1), (10, 16), (36_000 - CONTEXT_MB, 2)])
def test_folds_that_fit(peak, n):
    assert fitting(peak, 80_000) == n


def test_without_a_gpu_nothing_is_measured_and_none_is_asked_for():
    share = GpuShare(None, 0)
    assert not share.measuring and share.fraction == 0
    share.learn({"gpu_peak_mb": 1, "gpu_total_mb": 9000})
    assert share.fraction == 0


def test_what_was_asked_for_is_not_measured():
    share = GpuShare(3, 2)
    assert not share.measuring and share.fraction == 0.3333 and 3 * share.fraction <= 1


def test_a_first_fold_that_says_nothing_leaves_one_a_gpu():
    share = GpuShare(None, 1)
    share.learn({"user_error": ""})
    assert not share.measuring and share.fraction == 1


def test_a_first_fold_that_dies_leaves_the_measuring_to_the_next_three_times():
    share = GpuShare(None, 1)
    share.learn({})
    assert share.measuring
    share.learn({"user_error": "", "gpu_peak_mb": 20_000 - CONTEXT_MB, "gpu_total_mb": 80_000})
    assert not share.measuring and share.fraction == 0.3333
    hopeless = GpuShare(None, 1)
    hopeless.learn({"trial_id": "what Tune says of a trial without a report"})
    for _ in range(2):
        hopeless.learn({})
        assert hopeless.measuring
    hopeless.learn({})
    assert not hopeless.measuring and hopeless.fraction == 1


def test_the_first_fold_runs_alone_and_decides(monkeypatch, tmp_path):
    asked = []

    def run(names, share):
        asked.append((len(names), share.fraction))
        share.learn({"user_error": "", "gpu_peak_mb": 20_000 - CONTEXT_MB, "gpu_total_mb": 80_000})
        return {}

    monkeypatch.setitem(choice.KINDS, "ray", lambda: Trials(run, gpus=1))
    names = [f"fold-{i:03d}-seed-0" for i in range(120)]
    scheduler.run_grid(compose("watch", []), "loso", "run", names=names, planned=120, work=lambda chunk: None,
                       scratch=tmp_path)
    assert asked == [(1, 1), (100, 0.3333), (19, 0.3333)]
