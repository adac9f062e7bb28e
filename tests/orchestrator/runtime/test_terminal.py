"""No terminal ends a command: few characters, a closed pipe, a full disk, closed streams. Whole processes, without Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
# As an entry point: __main__ has a `main` and hands it to cli.run.
STAGE = """
import sys
from orchestrator import cli
from orchestrator.runtime import progress
def main(argv):
    for i in range({lines}):
        print("mean ± std · µS → 10 … Ω 中 \\U0001f600", i)
    from rich.table import Table
    table = Table(title="a ± b · c"); table.add_column("x – y"); table.add_row("±" * 300)
    progress.console.print(table); progress.say("stage", "± 1")
    with progress.bar("stage", 2, "clips") as tick:
        tick(1, "± note")
    return {code}
if __name__ == "__main__":
    sys.exit(cli.run(main))
"""
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def script(folder: Path, lines: int = 1, code: int = 3) -> list[str]:
    path = folder / "stage.py"
    path.write_text(STAGE.format(lines=lines, code=code), encoding="utf-8")
    return [sys.executable, str(path)]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@pytest.mark.parametrize("words", [
    PLAIN, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {**PLAIN, "PYTHONIOENCODING": "ascii:strict"},
    {**PLAIN, "TERM": "dumb", "FORCE_COLOR": "1"}, {"PYTHONIOENCODING": "cp437"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}])
def test_a_terminal_of_few_signs(tmp_path, words):
    done = subprocess.run(script(tmp_path), env=environment(**words), cwd=tmp_path, capture_output=True)
    assert done.returncode == 3 and b"Traceback" not in done.stderr and b"mean" in done.stdout
    if "ascii" in words.get("PYTHONIOENCODING", ""):
        assert done.stdout.isascii() and b"mean +- std - uS -> 10 ... Ohm" in done.stdout


@pytest.mark.parametrize("lines", [1, 20000])
def test_a_reader_that_goes_changes_no_exit_code(tmp_path, lines):
    read, write = os.pipe()
    process = subprocess.Popen(script(tmp_path, lines), env=environment(), cwd=tmp_path, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    if lines > 1:
        os.read(read, 100)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3 and b"Traceback" not in err and b"BrokenPipe" not in err
    assert err.count(b"continues without it") == 1


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full", ">&- 2>&-", "2>&-", "<&- >&-", "2>/dev/full >/dev/full"])
def test_streams_that_take_nothing(tmp_path, redirect):
    command = " ".join(script(tmp_path)) + " " + redirect
    done = subprocess.run(["bash", "-c", command], env=environment(), cwd=tmp_path, capture_output=True)
    assert done.returncode == 3 and b"Traceback" not in done.stderr


@pytest.mark.parametrize("after", [0.05, 0.3, 0.8, 1.5])
def test_ctrl_c_while_packages_are_read(tmp_path, after):
    """Whenever it comes: 130 and its sentence."""
    marker = tmp_path / "begun"
    # a package that takes its time, and says when the first line of ours has been read
    slow = tmp_path / "hydra.py"
    slow.write_text(f"open({str(marker)!r}, 'w').close()\nimport time; time.sleep(60)\n")
    command = [sys.executable, "-m", "orchestrator.preprocess", "--dataset", "watch"]
    process = subprocess.Popen(command, env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}"), cwd=ROOT, stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(after / 10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"run the same command again to resume" in err and b"Traceback" not in err


def test_a_package_that_cannot_be_used_is_one_sentence(tmp_path):
    for name, text in (("rich", "raise ImportError('built for another Python')"), ("pydantic", "import nothing_of_this_name"),
                       ("yaml", "from os import nothing_of_this_name")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        done = subprocess.run([sys.executable, "-m", "orchestrator.loso", "--dataset", "watch", "--dry-run"], cwd=ROOT,
                              env=environment(PYTHONPATH=f"{folder}:{ROOT}"), capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr and "make install" in done.stderr, (name, done.stderr)
