"""The examples: the data set that one writes is read as a manifest, and every command of its walk composes."""

import importlib.util
import re
import shlex
from collections import Counter
from importlib import import_module

import pytest

from orchestrator.config.configuration import compose
from orchestrator.stages import check_options
from preprocessing.datasets import registry
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal
from tests.helpers.places import ROOT

OWN_DATA = ROOT / "examples" / "own_data"


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make_data", OWN_DATA / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_data_set_is_read_as_a_manifest(made, tmp_path):
    data = registry.load("manifest", made.write(tmp_path / "data", subjects=3, clips=4).parent)
    assert data.complete and data.class_names == made.LABELS
    assert len(data.subjects) == 3 and list(Counter(r.subject for r in data.recordings).values()) == [4, 4, 4]
    values = process_signal(read_signal(data.recordings[1].signal), SignalOptions())
    assert values.ndim == 2 and values.shape[1] == 1 and values.std() > 0


def test_the_walks_commands_compose():
    text = (OWN_DATA / "walk.sh").read_text()
    common = re.search(r'^common="(.*)"$', text, re.M)[1]
    lines = [line for line in text.splitlines() if line.startswith("python -m ")]
    assert {line.split()[2] for line in lines} == {f"orchestrator.{stage}" for stage in ("doctor", "loso", "compare")}
    for line in lines:
        words = shlex.split(line.replace("$common", common).replace("$folder", "/tmp/x"))
        assert hasattr(import_module(words[2]), "main")
        if "--dataset" in words:
            at = words.index("--dataset")
            check_options.check(compose(words[at + 1], words[at + 2:]))
