"""Every benchmark runs to its end, in sizes that say nothing about speed; what a library is about to take away is an error."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

FILES = sorted((ROOT / "benchmarks").glob("*.py"))
HELPERS = {"machine.py", "made_clips.py", "video_variants.py"}  # which benchmarks import
RATIO = re.compile(r"\b\d+\.\d+\b")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_benchmark_needs_the_tests(path):
    assert not {name for name in imports(path) if name.partition(".")[0] == "tests"}


def test_what_is_no_benchmark_is_imported_by_one():
    used = {name for path in FILES for name in imports(path)}
    assert {f"benchmarks.{Path(name).stem}" for name in HELPERS} <= used


@pytest.mark.ci
@pytest.mark.parametrize("path", [path for path in FILES if path.name not in HELPERS], ids=lambda path: path.stem)
def test_it_runs_in_miniature(path, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default::FutureWarning"}
    done = subprocess.run([sys.executable, str(path), "--miniature"], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert RATIO.search(done.stdout), done.stdout
    assert "nan" not in done.stdout.split(), done.stdout
    assert "FutureWarning" not in done.stderr and "deprecated" not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir()), "something is left behind"
