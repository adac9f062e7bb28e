"""How Ray is started, without starting it."""

import os

import pytest
import ray

from orchestrator import session
from orchestrator.config import compose


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("7", "7")])
def test_workers_have_the_commands_priority_unless_another_is_asked_for(monkeypatch, before, after):
    """Ray's own default lowers its workers by 15 steps: on a busy machine a run would get what the others leave."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_worker_niceness", "RAY_ADDRESS")}
    if before:
        environment["RAY_worker_niceness"] = before
    seen = []
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **settings: seen.append((settings, dict(os.environ))))
    session.start(compose("watch", []))
    ((settings, environment),) = seen
    assert environment["RAY_worker_niceness"] == after and environment["OMP_NUM_THREADS"] == "1"
    assert settings["dashboard_host"] == settings["_node_ip_address"] == "127.0.0.1"


@pytest.mark.parametrize("joined", [False, True])
def test_only_a_shared_cluster_has_trains_cleaner(monkeypatch, joined):
    """It would ask whichever Ray it finds on the machine about our training, and kill our workers when told no."""
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback as Cleaner

    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if joined:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    made = session.trainer()(lambda: None)
    kinds = {type(callback) for callback in made._create_default_callbacks()}
    assert len(kinds) > 3 and (Cleaner in kinds) is joined
