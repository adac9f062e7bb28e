"""What the watcher says and ends, without Ray: processes that end here are this test's own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.files import scratch
from orchestrator.runtime import ray_watch
from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium


def child(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code])


@pytest.mark.parametrize(("code", "said"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL (by a user, or by the system for lack"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "was ended by SIGTERM; run the same command again"),
    ("raise SystemExit(7)", "ended with code 7; run the same command again"),
    ("", "ended with code 0; run the same command again")])
def test_a_dead_process_is_named_with_how_it_ended(code, said):
    living, dead = child("import signal; signal.pause()"), child(code)
    dead.wait()
    try:
        assert ray_watch._dead({"gcs_server": living})() == ""
        text = ray_watch._dead({"gcs_server": living, "raylet": dead})()
    finally:
        living.kill()
        living.wait()
    assert "Ray died during this command: its raylet" in text and said in text and len(text.splitlines()) == 1


def test_the_watcher_reports_once_and_not_after_a_shutdown():
    said = []
    ray_watch._follow(iter(["", "", "gone", "gone"]).__next__, lambda: True, said.append, pause=0)
    assert said == ["gone"]
    ray_watch._follow(lambda: "gone", iter([True, False, False]).__next__, said.append, pause=0)  # shut down while it looked
    ray_watch._follow(lambda: "gone", lambda: False, said.append, pause=0)
    assert said == ["gone"]


def test_a_cluster_that_answers_no_more():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ask = ray_watch._silent("127.0.0.1", port, limit=0.1)
        assert ask() == ""
    said: list[str] = []
    ray_watch._follow(ask, lambda: True, said.append, pause=0)
    assert f"127.0.0.1:{port} (RAY_ADDRESS) was lost" in said[0] and "run the same command again" in said[0]


@pytest.mark.parametrize(("address", "place"), [("10.0.0.7:6379", ("10.0.0.7", 6379)), ("[::1]:6379", ("::1", 6379))])
def test_an_address_has_host_and_port(address, place):
    assert ray_watch._place(address) == place


ENDS = """
import os, subprocess, sys
from pathlib import Path
from orchestrator.files import scratch
from orchestrator.runtime import ray_watch
ray_watch.mark()
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
with scratch.scratch(Path(sys.argv[1]), "tune"):
    print(child.pid, len(os.listdir(sys.argv[1])), flush=True)
    ray_watch.end("Ray has died.")
"""
# As one of Ray's agents: it tells of the death in its own words, as fast as it can, until it is ended itself
AGENT = """
import subprocess, sys, time
from orchestrator.runtime import ray_watch
ray_watch.mark()
child = subprocess.Popen([sys.executable, "-c", "import os\\nwhile True: os.write(2, b'(raylet) terminated\\\\n')"],
                         start_new_session=True)
time.sleep(1)
ray_watch.end("Ray has died.")
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_end_is_a_sentence_and_code_2_and_takes_what_was_started_along(tmp_path):
    """Also a process of another session and parent. The test's own processes, which carry no such mark, live on."""
    beside = child("import signal; signal.pause()")
    done = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    pid, folders = done.stdout.split()
    assert (done.returncode, done.stderr, folders) == (2, "error: Ray has died.\n", "1")
    assert os.listdir(tmp_path) == [] and beside.poll() is None
    beside.kill()
    beside.wait()
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_sentence_is_the_last_line_whatever_ray_still_says(tmp_path):
    with open(tmp_path / "log", "w") as log:  # a file, as a shell's: written at its end by both
        done = subprocess.run([sys.executable, "-c", AGENT], cwd=ROOT, stdout=log, stderr=log)
    lines = (tmp_path / "log").read_text().splitlines()
    assert done.returncode == 2 and lines[0].startswith("(raylet)") and lines[-1] == "error: Ray has died."


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="needs /proc")
def test_who_hides_its_environment_is_known_by_the_log_it_writes_and_who_reads_one_is_spared(tmp_path, monkeypatch):
    """Ray's agents and workers wipe their environment when they take a title."""
    bare = {key: value for key, value in os.environ.items() if key != ray_watch.MARK}
    monkeypatch.setenv(ray_watch.MARK, "of this test")
    (tmp_path / "raylet.out").touch()

    def opened(path: Path, mode: str) -> subprocess.Popen:
        code = f"import signal; f = open({str(path)!r}, {mode!r}); print(flush=True); signal.pause()"
        process = subprocess.Popen([sys.executable, "-c", code], env=bare, stdout=subprocess.PIPE)
        process.stdout.readline()
        return process

    writer, reader, other = (opened(tmp_path / "raylet.out", "a"), opened(tmp_path / "raylet.out", "r"),
                             opened(tmp_path.parent / f"{tmp_path.name}.out", "a"))
    try:
        assert writer.pid not in ray_watch.started_here()
        assert {writer.pid, reader.pid, other.pid} & set(ray_watch.started_here(str(tmp_path))) == {writer.pid}
    finally:
        for process in (writer, reader, other):
            process.kill()
            process.communicate()


def test_an_error_of_a_dying_ray_is_reported_as_its_death(monkeypatch):
    said = []
    monkeypatch.setattr(ray_watch, "end", said.append)
    monkeypatch.setattr(ray_watch, "SETTLE_S", 0.01)
    ray_watch.settle(lambda: "gone")  # no error in hand: a shutdown on purpose
    for error, words in ((KeyboardInterrupt(), []), (ray_watch.UserError("x"), []), (RuntimeError("no gcs"), ["gone"])):
        try:
            raise error
        except BaseException:
            ray_watch.settle(lambda: "gone")
        assert said[:1] == words


def test_a_scratch_folder_goes_also_when_its_block_fails(tmp_path):
    with pytest.raises(RuntimeError), scratch.scratch(tmp_path, "tune") as folder:
        Path(folder, "x").write_text("")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
