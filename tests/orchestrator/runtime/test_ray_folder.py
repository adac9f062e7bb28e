"""Where Ray keeps its sockets: its usual folder if it can be used, else a private one that is removed afterwards."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.runtime import ray_folder, surroundings
from orchestrator.runtime.finding import OK, STOP, WARN
from tests.helpers.places import ROOT


@pytest.fixture(autouse=True)
def roots(monkeypatch):
    """A short root of the test's own, and no variable set."""
    root = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(ray_folder, "ROOTS", (str(root),))
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(("kind", "said"), [
    ("long", "too long"), ("absent", "no such folder"), ("file", "no"), ("relative", "not an absolute path"),
    ("theirs", "belongs to another account"), ("umlauts", "too long"), ("full", "MB are free"),
    ("readonly", "cannot be written")])
def test_an_unfit_folder_is_reported_and_replaced(roots, monkeypatch, name, kind, said):
    place = roots / "user"
    place.mkdir()
    if kind == "long":
        place = place / ("job_of_a_long_name" * 3)
        place.mkdir()
    if kind == "umlauts":  # the limit is in bytes
        place = place / ("ü" * 14)
        place.mkdir()
    if kind == "absent":
        place = place / "not"
    if kind == "file":
        place = place / "file"
        place.write_text("")
    if kind == "relative":
        place = Path("here")
    if kind == "theirs":
        (place / "ray").mkdir()
        real = os.lstat
        monkeypatch.setattr(os, "lstat", lambda path: type("S", (), {"st_uid": 4711})() if str(path).endswith("/ray")
                            else real(path))
    if kind == "full":
        monkeypatch.setattr(ray_folder.shutil, "disk_usage", lambda path: type("U", (), {
            "free": 1000 if "user" in str(path) else 1 << 40})())
    if kind == "readonly":
        real_trouble = ray_folder.trouble
        monkeypatch.setattr(ray_folder, "trouble", lambda path: f"{path} cannot be written" if "user" in str(path)
                            else real_trouble(path))
    monkeypatch.setenv(name, str(place))
    found = ray_folder.choose()
    assert found.root == roots and said in found.why and name in found.why
    row = surroundings.temporary()
    assert row.state == WARN and said in row.text and "RAY_TMPDIR" in row.fix


def test_the_usual_folder_where_it_does(roots, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(roots))
    assert ray_folder.choose() == ray_folder.Place(roots / "ray") and surroundings.temporary().state == OK
    assert not (roots / "ray").exists()


def test_nowhere_at_all_stops(roots, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(roots / "not"))
    monkeypatch.setattr(ray_folder, "ROOTS", (str(roots / "a" / "b"),))
    assert ray_folder.choose().nowhere
    row = surroundings.temporary()
    assert row.state == STOP and "RAY_TMPDIR" in row.sentence()


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=60))
def test_what_is_taken_for_short_enough_can_hold_a_socket(name):
    """The very path that Ray makes, with the longest process number there is, can be bound."""
    if name in (".", ".."):
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as place, pytest.MonkeyPatch.context() as patch:
        parent = Path(place) / name
        try:
            parent.mkdir()
        except OSError:
            return
        patch.setenv("RAY_TMPDIR", str(parent))
        if not ray_folder.choose().why:
            sockets = parent / "ray" / "session_2026-01-01_00-00-00_000000_4194304" / "sockets"
            sockets.mkdir(parents=True)
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(sockets / "plasma_store"))


def test_a_private_folder_is_private_and_goes(roots, monkeypatch):
    room = roots / "jobs"
    room.mkdir()
    monkeypatch.setenv("TMPDIR", str(room))
    made = ray_folder.Private(ray_folder.Place(room / "ray", roots, "too long"))
    assert made.folder.stat().st_mode & 0o777 == 0o700 and made.spill == str(room) and os.environ["TMPDIR"] == str(room)
    made.remove()
    assert not made.folder.exists()


def test_a_tmpdir_that_leads_nowhere_is_replaced_for_as_long(roots, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(roots / "gone"))
    made = ray_folder.Private(ray_folder.choose())
    assert made.spill is None and os.environ["TMPDIR"] == str(made.folder) == tempfile.gettempdir()
    made.remove()
    assert os.environ["TMPDIR"] == str(roots / "gone")


def test_what_a_killed_command_left_is_swept_and_what_is_in_use_is_not(roots):
    code = ("import sys; from orchestrator.runtime import ray_folder; from pathlib import Path; "
            "p = ray_folder.Private(ray_folder.Place(Path('/x'), Path(sys.argv[1]), 'y')); print(p.folder, flush=True); "
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", code, str(roots)], capture_output=True, text=True, cwd=ROOT)
    dead = Path(done.stdout.strip())
    mine = ray_folder.Private(ray_folder.Place(Path("/x"), roots, "y"))  # the start cleans up
    assert not dead.exists() and mine.folder.exists()
    (roots / f"{ray_folder.PREFIX}stranger").mkdir()  # no lock: not one of ours
    for name, full in (("early", False), ("results", True)):
        (roots / f"{ray_folder.PREFIX}{name}").mkdir()
        if full:
            (roots / f"{ray_folder.PREFIX}{name}" / "mine.txt").write_text("")
        os.utime(roots / f"{ray_folder.PREFIX}{name}", (1, 1))
    ray_folder.clean_up(roots)
    assert not (roots / f"{ray_folder.PREFIX}early").exists() and (roots / f"{ray_folder.PREFIX}results" / "mine.txt").exists()
    assert mine.folder.exists() and (roots / f"{ray_folder.PREFIX}stranger").exists()
    mine.remove()


def test_a_folder_that_a_clean_up_removed_before_its_lock_is_made_again(roots, monkeypatch):
    real, taken = ray_folder.fcntl.flock, []

    def late(handle, operation):
        if operation == ray_folder.fcntl.LOCK_EX and not taken:
            taken.append(Path(handle.name).parent)
            ray_folder.clean_up(roots)
        real(handle, operation)

    monkeypatch.setattr(ray_folder.fcntl, "flock", late)
    mine = ray_folder.Private(ray_folder.Place(Path("/x"), roots, "y"))
    assert taken and not taken[0].exists() and (mine.folder / ray_folder.LOCK).exists()
    mine.remove()
