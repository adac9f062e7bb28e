"""What a command needs of the machine: everything missing is one row with its fix, and stops the command at its start."""

import os
import pwd
import resource
import sys
from pathlib import Path

import pytest

from orchestrator import cli, compare, embed, loso, preprocess, pretrain, report, sweep
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.runtime import surroundings
from orchestrator.runtime.finding import OK, STOP, WARN, Finding
from orchestrator.stages import (
    write_report,
)

pytestmark = pytest.mark.medium


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    tried = surroundings.versions  # a test may put another in its place
    tried.cache_clear()
    yield
    tried.cache_clear()


@pytest.mark.parametrize(("name", "version"), [("ray", "2.9.3"), ("torch", "1.13.1"), ("numpy", "1.26.4"), ("pyarrow", "9.0")])
def test_another_environment_first_on_the_path(monkeypatch, tmp_path, name, version):
    folder = tmp_path / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = surroundings.versions()
    assert found.state == STOP and f"{name} {version} in {tmp_path}" in found.text and "PYTHONPATH" in found.fix
    with pytest.raises(UserError, match=version):
        surroundings.require(compose("watch", [f"store={tmp_path}"]))
    assert sys.path[0] == str(tmp_path)


def test_this_environment_fits():
    assert surroundings.versions().state == OK


@pytest.mark.parametrize(("hard", "state"), [(64, STOP), (255, STOP), (1024, WARN), (4096, OK), (resource.RLIM_INFINITY, OK)])
def test_open_files(monkeypatch, hard, state):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (min(hard, 1024) if hard > 0 else 1024, hard))
    found = surroundings.open_files()
    assert found.state == state and (state == OK or "ulimit -n" in found.fix)


@pytest.mark.parametrize(("left", "cores", "state"), [(None, 64, OK), (100, 1, STOP), (284, 1, STOP), (300, 1, OK),
                                                       (300, 8, STOP)])
def test_processes_of_a_container(monkeypatch, left, cores, state):
    monkeypatch.setattr(surroundings, "processes_left", lambda: left)
    monkeypatch.setattr(surroundings, "usable_cores", lambda wanted: cores)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert surroundings.processes(compose("watch", [])).state == state


def test_processes_of_an_account(monkeypatch):
    monkeypatch.setattr(surroundings, "processes_left", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 500))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(surroundings, "threads_of", lambda uid: 450)
    found = surroundings.processes(compose("watch", []))
    assert found.state == STOP and "only 50 more" in found.text and "ulimit -u" in found.fix


@pytest.mark.parametrize("home", ["absent", "file", "unwritable", "unreadable token", "none"])
def test_a_home_that_keeps_nothing(monkeypatch, tmp_path, home):
    place = tmp_path / "home"
    if home == "file":
        place.write_text("")
    if home.startswith("un"):
        (place / ".ray").mkdir(parents=True)
    if home == "unwritable":
        monkeypatch.setattr(surroundings.places, "trouble", lambda folder: f"{folder} cannot be written")
    if home == "unreadable token":
        (place / ".ray" / "auth_token").write_text("x")
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    if home == "none":
        def nobody():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setenv("HOME", str(place))
    found = surroundings.home()
    assert found.state == WARN and "HOME" in found.fix


def test_a_home_as_it_should_be(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert surroundings.home().state == OK and not list(tmp_path.iterdir())


def test_an_account_without_a_name(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert surroundings.nameless()
    monkeypatch.setenv("USER", "somebody")
    assert not surroundings.nameless()


def test_the_first_stop_is_the_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "open_files", lambda: Finding("Open files", STOP, "only 64 are allowed", "raise it"))
    config = compose("watch", [f"store={tmp_path}"])
    with pytest.raises(UserError, match="^Open files: only 64 are allowed; raise it.$"):
        surroundings.require(config)
    surroundings.require(config, ray=False)  # a Ray that runs already has its files


def test_a_run_folder_that_report_cannot_write(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings.places, "trouble", lambda folder: f"{folder} cannot be written (Read-only file system)")
    with pytest.raises(UserError, match="Run folder: .* cannot be written .*; give this account the right to write there"):
        surroundings.require_light([tmp_path])


@pytest.mark.parametrize(("home", "temporary", "own", "state"), [
    ("", True, False, OK), ("gone", True, False, WARN), ("gone", False, False, STOP), ("gone", False, True, OK)])
def test_where_fonts_are_kept(monkeypatch, tmp_path, home, temporary, own, state):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(surroundings, "home_trouble", lambda: home)
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    if own:
        monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    if not temporary:
        monkeypatch.setattr(surroundings.tempfile, "gettempdir", nowhere)
    found = surroundings.caches()
    assert found.state == state and ("TMPDIR" in found.fix) == (state == STOP)


def commands(tmp_path: Path) -> dict[str, tuple]:
    words = ["--dataset", "watch", "model=ridge", f"store={tmp_path / 'store'}", f"run.dir={tmp_path / 'run'}"]
    plans = {m.__name__.rpartition(".")[2]: (m, ["--dry-run", *words]) for m in (embed, loso, preprocess, pretrain)}
    return {**plans, "sweep": (sweep, ["--dry-run", "--dataset", "biovid_a", f"data.root={tmp_path}", *words[3:]]),
            "report": (report, words), "compare": (compare, [str(tmp_path), str(tmp_path)])}


@pytest.mark.parametrize("name", ["embed", "loso", "preprocess", "pretrain", "sweep", "report", "compare"])
def test_plans_reports_and_comparisons_end_in_the_same_sentence(monkeypatch, tmp_path, capsys, name):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(write_report, "stored_run", lambda config: ({"n_failed": 0}, []))
    monkeypatch.setattr(surroundings, "versions", lambda: Finding("Versions", STOP, "numpy 1 does not fit", "run make install"))
    before = sorted(tmp_path.rglob("*"))
    module, argv = commands(tmp_path)[name]
    assert cli.run(module.main, argv) == 2
    assert capsys.readouterr().err == "error: Versions: numpy 1 does not fit; run make install.\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["loso", "sweep", "report"])
def test_a_run_folder_that_is_a_file(monkeypatch, tmp_path, capsys, name):
    (tmp_path / "run").write_text("")
    monkeypatch.setattr(write_report, "stored_run", lambda config: ({"n_failed": 0}, []))
    module, argv = commands(tmp_path)[name]
    assert cli.run(module.main, argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: Run folder: ") and err.count("\n") == 1 and "is not a folder" in err
