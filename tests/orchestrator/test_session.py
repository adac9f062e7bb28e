"""What Ray is started with: a Ray of our own on loopback, or the cluster that RAY_ADDRESS names."""

import pytest

from orchestrator import session
from orchestrator.config import compose


@pytest.fixture
def asked(monkeypatch):
    import ray

    found: dict = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **words: found.update(words))
    for name in session.WORKER_ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    return found


def test_a_ray_of_our_own_whatever_else_runs_on_the_machine(monkeypatch, asked):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    session.start(compose("watch", ["resources.cpus=3", "resources.dashboard=false"]))
    assert (asked["address"], asked["num_cpus"], asked["include_dashboard"]) == ("local", 3, False)
    assert asked["_node_ip_address"] == asked["dashboard_host"] == "127.0.0.1"


def test_a_named_cluster_is_joined(monkeypatch, asked):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    session.start(compose("watch", []))
    assert asked["address"] == "auto" and "num_cpus" not in asked
