"""How Ray is started, without starting it."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from orchestrator import cli
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.runtime import loopback, ray_folder, ray_session, surroundings
from orchestrator.runtime.finding import STOP, WARN, Finding
from tests.helpers.places import ROOT


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
    ray_session.start(compose("watch", []))
    ((settings, environment),) = seen
    assert environment["RAY_worker_niceness"] == after and environment["OMP_NUM_THREADS"] == "1"
    assert settings["dashboard_host"] == settings["_node_ip_address"] == "127.0.0.1"


@pytest.mark.parametrize("joined", [False, True])
def test_only_a_shared_cluster_has_trains_cleaner(monkeypatch, joined):
    """It would ask the first Ray it finds on the machine about our training, and kill our workers if the answer is no."""
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback as Cleaner

    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if joined:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    made = ray_session.trainer()(lambda: None)
    kinds = {type(callback) for callback in made._create_default_callbacks()}
    assert len(kinds) > 3 and (Cleaner in kinds) is joined


@pytest.fixture
def started(monkeypatch):
    """Starts that do not start: {settings and environment of each}. The environment is put back."""
    seen: list = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_ADDRESS", "RAY_AUTH"))}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    # Ray refuses a word that it does not know
    known = {*inspect.signature(ray.init).parameters, *re.findall(r'kwargs\.pop\(\s*"(\w+)"', inspect.getsource(ray.init))}

    def init(**settings):
        assert set(settings) <= known - {"kwargs"}
        seen.append((settings, dict(os.environ)))

    monkeypatch.setattr(ray, "init", init)
    yield seen
    ray_session._clear()


def test_a_ray_of_our_own_is_on_loopback_with_the_cores_of_the_slice(monkeypatch, started):
    monkeypatch.setattr(ray_session, "usable_cores", lambda wanted: 3)
    monkeypatch.setattr(ray_session, "memory_bytes", lambda: (1 << 30, 1 << 30))
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")  # a user's own
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "intranet")
    os.environ.pop("NO_PROXY", None)
    ray_session.start(compose("watch", []))
    ((settings, environment),) = started
    assert settings["address"] == "local" and settings["num_cpus"] == 3 and settings["object_store_memory"] < 1 << 29
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0" and ray._private.ray_constants.ENABLE_RAY_CLUSTER is False
    assert environment["GLOO_SOCKET_IFNAME"] == environment["NCCL_SOCKET_IFNAME"] == loopback.interface()
    assert environment["no_proxy"] == "intranet,127.0.0.1,localhost" and "127.0.0.1" in environment["NO_PROXY"]


def test_a_long_tmpdir_and_a_home_without_rights(monkeypatch, started, tmp_path):
    long = tmp_path / ("a_user_of_a_long_name_" * 4)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    os.environ.pop("RAY_TMPDIR", None)
    monkeypatch.setattr(surroundings, "home_trouble", lambda: "/home/x cannot be written")
    ray_session.start(compose("watch", []))
    ((settings, environment),) = started
    folder = Path(settings["_temp_dir"])
    assert len(str(folder)) <= ray_folder.SOCKET and folder.stat().st_mode & 0o777 == 0o700
    assert settings["object_spilling_directory"] == str(long) and len(environment["RAY_AUTH_TOKEN"]) == 64
    assert environment["MPLCONFIGDIR"].startswith(str(folder))
    ray_session._clear()
    assert not folder.exists() and os.environ["TMPDIR"] == str(long) and "MPLCONFIGDIR" not in os.environ


@pytest.mark.medium
@pytest.mark.parametrize("streams", ["nullcontext()", "terminal.safe_streams()"])  # of Python, of a command
def test_a_warning_of_another_thread_is_shown_while_ray_greets(streams):
    code = ("import os, sys, warnings, threading, ray\n"
            "from orchestrator.config.configuration import compose\n"
            "from orchestrator.runtime import ray_session, ray_watch, terminal\n"
            "from contextlib import nullcontext\n"
            "def init(**settings):\n    os.write(2, b'greeting\\n')\n"
            "    one = threading.Thread(target=warnings.warn, args=('odd numbers',))\n    one.start()\n    one.join()\n"
            "ray.init, ray_watch.watch = init, lambda *words: None\n"
            f"with {streams}:\n    ray_session.start(compose('watch', []))\n    print('after', file=sys.stderr)\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0 and "odd numbers" in done.stderr and done.stderr.endswith("after\n"), done.stderr
    assert "greeting" not in done.stderr


@pytest.mark.parametrize("error", [OSError("AF_UNIX path length"), RuntimeError("The current node timed out\nduring startup"),
                                   ValueError("odd"), ConnectionError("Failed to connect to Ray cluster")])
def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch, started, error):
    def init(**settings):
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError) as told:
        ray_session.start(compose("watch", []))
    assert "\n" not in str(told.value) and "could not be started" in str(told.value)


def test_nothing_is_done_where_something_would_stop_it(monkeypatch, capsys):
    monkeypatch.setattr(ray_session, "running", lambda: False)
    monkeypatch.setattr(surroundings, "check", lambda *words: [Finding("Home", WARN, "odd", "look"),
                                                              Finding("Ray", STOP, "gone", "x")])
    with pytest.raises(UserError, match="Ray: gone; x."), ray_session.session(compose("watch", [])):
        raise AssertionError("begun all the same")
    monkeypatch.setattr(surroundings, "check", lambda *words: [Finding("Home", WARN, "odd", "look")])
    with ray_session.session(compose("watch", [])):
        pass
    assert capsys.readouterr().out == "machine     Home: odd; look.\n"


@pytest.mark.parametrize("code", [0, 3])
def test_a_ray_that_ends_badly_changes_no_exit_code(monkeypatch, capsys, code):
    def shutdown():
        raise RuntimeError("the raylet is gone")

    config = compose("watch", [])
    monkeypatch.setattr(surroundings, "require", lambda *words, **more: [])
    state = iter([False, True])
    monkeypatch.setattr(ray_session, "running", lambda: next(state))
    monkeypatch.setattr(ray, "shutdown", shutdown)

    def main(argv):
        with ray_session.session(config):
            pass
        return code

    assert cli.run(main, []) == code
    said = capsys.readouterr()
    assert "the raylet is gone" in said.out and "Traceback" not in said.err
