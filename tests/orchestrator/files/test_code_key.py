"""Which edit of the code changes the key of which artefact. Edits are made in a copy of the three packages."""

import re
import shutil
from pathlib import Path

import pytest

import models
from orchestrator.evaluation import audit, run_record
from orchestrator.files import code_key
from orchestrator.stores import clip_store, encoder_store, token_store
from preprocessing.signals.formats import FORMATS
from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
ARTEFACTS = {
    "clips": clip_store.MAKES, "clips of watch": (*clip_store.MAKES, *FORMATS["watch"].sources),
    "fixed": ("orchestrator.plan.splits:fixed",), "encoders": encoder_store.TRAINS, "adopted": encoder_store.TAKES_OVER,
    "tokens": token_store.MAKES, "audit": audit.PERTURBATIONS,
    **{model: (*run_record.FOLDS, *models.source(model), "orchestrator.plan.splits:loso")
       for model in ("dual", "signal_small", "lstm", "random_forest")}}
CLIPS = {"clips", "clips of watch"}
FOLDS = {"dual", "signal_small", "lstm", "random_forest"}


@pytest.fixture(scope="module")
def before():
    return keys()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    for room in code_key.PACKAGES:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=lambda folder, names: [
            n for n in names if not n.endswith(".py") and not (Path(folder) / n).is_dir() or n == "__pycache__"])
    monkeypatch.setattr(code_key, "ROOT", tmp_path)
    code_key.forget()
    yield tmp_path
    code_key.forget()


def keys() -> dict[str, str]:
    code_key.forget()
    return {name: code_key.code_sha256(*roots) for name, roots in ARTEFACTS.items()}


def changed(before: dict[str, str], copy: Path, file: str, old: str, new: str) -> set[str]:
    path = copy / file
    text = path.read_text()
    assert old in text, f"{file} does not hold {old!r} any more: name another line"
    path.write_text(text.replace(old, new, 1))
    after = keys()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(("file", "old", "new"), [
    ("models/checkpoint.py", "import json\n", "import json  # for the side file\n"),
    ("models/mae/vit.py", '"""timm\'s attention with', '"""The attention of timm with'),
    ("preprocessing/signals/filters.py", "order: int, fs: float) -> np.ndarray | None", "order: 'int', fs: 'float') -> object"),
    ("preprocessing/signals/filters.py", "limit = NYQUIST_SHARE * fs / 2\n", "limit = (NYQUIST_SHARE *\n        fs / 2)\n"),
    ("orchestrator/reporting/plots.py", "import ", "import this\nimport "),
    ("orchestrator/estimate/costs.py", "COMMAND_SECONDS = 6.0", "COMMAND_SECONDS = 7.0"),
    ("orchestrator/runtime/progress.py", "import ", "import this\nimport "),
    ("orchestrator/executors/ray_training.py", "RESTARTS = 3", "RESTARTS = 4")])
def test_what_computes_nothing_changes_no_key(before, copy, file, old, new):
    assert changed(before, copy, file, old, new) == set()


@pytest.mark.parametrize(("file", "old", "new", "whose"), [
    ("preprocessing/signals/filters.py", "NYQUIST_SHARE = 0.98", "NYQUIST_SHARE = 0.97", CLIPS | {"audit"}),
    ("preprocessing/face/tracking.py", "import numpy", "GATE = 3\nimport numpy", set()),  # a constant that nobody reads
    ("models/mae/vit.py", "qkv_bias=False", "qkv_bias=True", 
     {"encoders", "adopted", "tokens", "audit", "dual", "signal_small"}),
    ("models/mae/critic.py", "class Critic(nn.Module):", "class Critic(nn.Module):\n    WIDTH = 1\n", {"encoders"}),
    ("models/classifier/dcan.py", "dim**-0.5 if scale", "dim**-0.25 if scale", {"dual", "signal_small"}),
    ("models/baselines/signal_nets.py", "class LSTMFCN(nn.Module):", "class LSTMFCN(nn.Module):\n    WIDTH = 1\n", {"lstm"}),
    ("orchestrator/plan/splits.py", "17 / 86", "18 / 86", {"fixed"}),
    ("orchestrator/plan/splits.py", "[[p.index] for p in subjects]", "[[p.index] for p in subjects][1:]", FOLDS),
    ("preprocessing/signals/watch_file.py", 'int(ref.item or 0)', 'int(ref.item or 1)', {"clips of watch"}),
    ("orchestrator/evaluation/fit_fold.py", "def fit_fold(", "ROUNDS = 2\n\n\ndef fit_fold(", set()),
    ("orchestrator/stores/cross_dataset.py", "part = self.parts[subject >= self.parts[1].first]",
     "part = self.parts[subject > self.parts[1].first]", FOLDS)])
def test_a_changed_value_changes_the_keys_of_whatever_reaches_it(before, copy, file, old, new, whose):
    assert changed(before, copy, file, old, new) == whose


def test_a_renamed_file_changes_no_key(before, copy):
    (copy / "preprocessing/signals/filters.py").rename(copy / "preprocessing/signals/butterworth_filters.py")
    for path in copy.rglob("*.py"):
        text = path.read_text()
        path.write_text(re.sub(r"\bpreprocessing\.signals\.filters\b", "preprocessing.signals.butterworth_filters", text))
    assert keys() == before


def test_a_module_that_is_not_listed_is_noticed(copy):
    """Reached by an import within a function, from a file that did not exist when the lists of roots were written."""
    (copy / "preprocessing/signals/humming.py").write_text("HUM = 50.0\n\n\ndef hum(x):\n    return x * HUM\n")
    filters = copy / "preprocessing/signals/filters.py"
    text = filters.read_text()
    at = "def unfit("
    assert at in text and "butterworth" in text
    filters.write_text(text.replace("    sos = design(low, high, order, fs, name)\n",
                                    "    from preprocessing.signals.humming import hum\n"
                                    "    x = hum(x)\n    sos = design(low, high, order, fs, name)\n", 1))
    before = keys()
    (copy / "preprocessing/signals/humming.py").write_text("HUM = 60.0\n\n\ndef hum(x):\n    return x * HUM\n")
    after = keys()
    assert {name for name in before if before[name] != after[name]} == CLIPS | {"audit"}


@pytest.mark.parametrize("root", ["orchestrator.evaluation.fit_fold:fit_nobody", "orchestrator.nowhere:x", "models"])
def test_a_root_that_is_not_there_is_an_error(root):
    with pytest.raises(LookupError, match="there is no"):
        code_key.reached(root)


def test_an_annotation_in_quotes_and_an_alias_are_followed(tmp_path, monkeypatch):
    room = tmp_path / "models"
    room.mkdir()
    (room / "a.py").write_text(
        "from typing import TYPE_CHECKING\nimport models.d\nfrom models import c as other\n"
        "if TYPE_CHECKING:\n    from models.b import Thing\n\n"
        "def root(thing: 'Thing | None', rows):\n    return thing.go() + other.deep() + models.d.far\n")
    (room / "__init__.py").write_text("")
    (room / "b.py").write_text("from models.c import ONE\n\n\nclass Thing:\n    def go(self):\n        return ONE\n\n"
                               "    def rest(self):\n        return 9\n")
    (room / "c.py").write_text("ONE, TWO = 1, 2\n\n\ndef deep():\n    return [root for root in (1, 2)]\n")
    (room / "d.py").write_text("far = near = 3\nLOST = 4\n")
    monkeypatch.setattr(code_key, "ROOT", tmp_path)
    code_key.forget()
    found = {symbol for symbol in code_key.reached("models.a:root") if symbol[1]}
    code_key.forget()
    assert found == {("models.a", "root"), ("models.b", "Thing"), ("models.b", "Thing.go"), ("models.c", "ONE"),
                     ("models.c", "deep"), ("models.d", "far")}
