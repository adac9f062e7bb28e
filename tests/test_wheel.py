"""What a plain installation has: everything a run reads, and nothing of a checkout."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from orchestrator.evaluation import run_record
from tests.helpers.places import ROOT

PACKAGES = ("orchestrator", "models", "preprocessing", "experiments")


def test_a_repository_around_an_installation_is_not_ours(tmp_path, monkeypatch):
    """A virtual environment often lies in the folder of somebody's own project."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x", "--allow-empty"],
                   check=True)
    monkeypatch.setattr(run_record, "ROOT", tmp_path)
    assert run_record.git_state()[0]
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.setattr(run_record, "ROOT", place)
    assert run_record.git_state() == (None, None)


@pytest.mark.ci
def test_a_wheel_plans_the_demo_in_an_empty_folder(tmp_path):
    source, place, empty = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    offline = ["--no-index", "--no-build-isolation"]  # with the setuptools that torch has installed
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *offline, "-w", str(tmp_path), str(source)],
                   check=True)
    (wheel,) = tmp_path.glob("dualpain-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    for name in PACKAGES:
        for file in (ROOT / name).rglob("*"):
            if file.suffix in (".py", ".yaml", ".css", ".html", ".j2"):
                assert (place / file.relative_to(ROOT)).is_file(), file
    empty.mkdir()
    code = ("import sys, orchestrator; sys.path.remove(''); from orchestrator import cli, loso; print(orchestrator.__file__);"
            "sys.exit(cli.run(loso.main, ['--dataset', 'synthetic', 'experiment=demo', '--dry-run']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=empty, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                          "PYTHONPATH": str(place)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(place)) and "8 folds" in done.stdout
    assert not list(empty.iterdir())
