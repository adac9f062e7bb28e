"""docs/how-to/extend.md is true: its data set, models, split and augmentation, in files of their own, run and are keyed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers.places import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "extend.md").read_text(), re.S)
IMPORTS = "import torch\nfrom torch import nn\nfrom models.registry import SIGNALS, register\n"


def write_gait(root: Path, subjects: int = 8, trials: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for subject in range(subjects):
        folder = root / f"walker{subject}"
        folder.mkdir(parents=True)
        for trial in range(trials):
            for size, speed in ((1.0, "slow"), (2.0, "fast")):
                rows = rng.normal(0, size, (100, 3)).round(4)
                lines = ["ax,ay,az", *(",".join(map(str, row)) for row in rows)]
                (folder / f"{speed}-{trial}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The files of the document, and a data set for its loader."""
    folder = tmp_path_factory.mktemp("extend")
    write_gait(folder / "data")
    gait, logistic, convnet, pairs, dropped = BLOCKS
    for name, text in {"gait": gait, "logistic": logistic, "convnet": IMPORTS + convnet, "pairs": pairs,
                       "dropped": "import torch\n" + dropped}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def command(place: Path, *words: str, stage: str = "loso", plugins: tuple[str, ...] = ("gait",)) -> subprocess.CompletedProcess:
    named = [word for name in plugins for word in ("--plugin", str(place / f"{name}.py"))]
    return subprocess.run(
        [sys.executable, "-m", f"orchestrator.{stage}", *named, "--dataset", "gait", f"data.root={place / 'data'}",
         f"store={place / 'store'}", "resources.dashboard=false", *words],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=150)


@pytest.mark.ci
@pytest.mark.medium
def test_the_documents_data_set_and_model_run_from_a_folder_of_their_own(place):
    assert all(len(block.splitlines()) <= 40 for block in BLOCKS)
    words = ("model=logistic", f"run.dir={place / 'run'}")
    done = command(place, *words, plugins=("gait", "logistic"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gait.py adds data set gait" in done.stdout and "logistic.py adds model logistic" in done.stdout
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert summary["model"] == "logistic" and summary["n_folds"] == 8 and summary["accuracy_mean"] > 0.8
    told = json.loads((place / "run" / "environment.json").read_text())["plugins"]
    assert [one["file"] for one in told] == ["gait.py", "logistic.py"] and all(len(one["sha256"]) == 64 for one in told)
    assert str(place) not in (place / "run" / "summary.json").read_text() + (place / "run" / "config.yaml").read_text()
    first = pq.read_table(place / "run" / "predictions.parquet")
    assert first.num_rows == 64
    # a comment keeps every fold, another strength of the default is another run
    text = (place / "logistic.py").read_text()
    (place / "logistic.py").write_text(text + "# a comment\n")
    again = command(place, *words, plugins=("gait", "logistic"))
    assert again.returncode == 0 and "folds are already in the ledger" in again.stdout, again.stdout + again.stderr
    (place / "logistic.py").write_text(text.replace("max_iter=1000", "max_iter=500"))
    other = command(place, *words, plugins=("gait", "logistic"))
    assert other.returncode == 2 and "code" in other.stderr, other.stdout + other.stderr
    (place / "logistic.py").write_text(text)


@pytest.mark.ci
@pytest.mark.medium
def test_the_documents_network_split_and_augmentation_run(place):
    done = command(place, "model=convnet", "split=pairs", "split.size=4", "train.max_epochs=2", "protocol.val=fixed_epochs",
                   "train.augment.dropped.share=0.2", f"run.dir={place / 'other'}",
                   plugins=("gait", "convnet", "pairs", "dropped"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((place / "other" / "summary.json").read_text())
    assert summary["n_folds"] == 2 and summary["n_parameters"] > 0 and summary["dataset"] == "gait"


@pytest.mark.medium
@pytest.mark.parametrize(("words", "plugins", "said"), [
    (("model=logistic", "model.strength=0"), ("gait", "logistic"),
     "model.strength=0 does not fit: it must be a number above 0"),
    (("model=logistic", "model.strenght=1"), ("gait", "logistic"), "did you mean model.strength"),
    (("model=logistic",), ("gait",), "model=logistic does not exist"),
    (("split=pairs",), ("gait",), "split=pairs does not exist"),
    (("model=convnet", "train.augment.dropped.shares=1"), ("gait", "convnet", "dropped"),
     "did you mean train.augment.dropped.share"),
    (("model=convnet", "train.augment.mixed.share=1"), ("gait", "convnet", "dropped"), "no augmentation called 'mixed'"),
    (("model=convnet", "train.augment=dropped"), ("gait", "convnet", "dropped"), "write train.augment.NAME.OPTION=VALUE"),
    ((), (), "There is no data set 'gait'")])
def test_what_does_not_fit_is_one_sentence(place, words, plugins, said):
    done = command(place, "--dry-run", *words, plugins=plugins)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(("text", "said"), [
    ("import not_there_at_all\n", "fails at line 1 (ModuleNotFoundError"),
    ("\n\nx = 1 / 0\n", "fails at line 3 (ZeroDivisionError"),
    ("def f(:\n", "fails at line 1 (SyntaxError"),
    ("from models.registry import register\n@register(name='ridge', needs={'signals'}, about='')\ndef f(): ...\n",
     "There is a model called 'ridge' already"),
    ("from models.registry import register\ndef outer():\n    @register(name='inner', needs={'signals'}, about='')\n"
     "    def make(n_classes): ...\nouter()\n", "model inner is not a function or class at the top level of the file"),
    ("from preprocessing.datasets.registry import register\n@register(name='ward', layout='', about='', public=True, "
     "cohorts=('biovid',))\ndef load(root): ...\n", "is public, but its cohort 'biovid' belongs to another")])
def test_a_file_that_fails_says_where(tmp_path, text, said):
    (tmp_path / "broken.py").write_text(text)
    done = command(tmp_path, "--dry-run", plugins=("broken",))
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.medium
def test_a_loader_cannot_give_the_subjects_of_another_cohort(place, tmp_path):
    """Pseudonyms of a public cohort are made with a published key."""
    (tmp_path / "gait.py").write_text((place / "gait.py").read_text().replace('cohort="gait"', 'cohort="watch"'))
    named = ["--plugin", str(tmp_path / "gait.py"), "--dataset", "gait", f"data.root={place / 'data'}"]
    done = subprocess.run([sys.executable, "-m", "orchestrator.doctor", *named, "model=ridge"], cwd=tmp_path, timeout=100,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    said = " ".join([*done.stdout.split(), *done.stderr.split()])
    assert done.returncode == 2 and "which is not in its registration" in said


def test_what_runs_is_what_the_keys_and_the_record_hold(tmp_path):
    """A file of the same size and time may be another; one that is changed meanwhile stops its workers."""
    code = ("import os, sys\nfrom pathlib import Path\nfrom orchestrator.config import plugins\n"
            "from orchestrator.files.code_key import code_sha256\npath = Path(sys.argv[1])\n"
            "path.write_text('def f(): return 1\\n')\nplugins.load([path])\nhashes = plugins.hashes()\n"
            "first = code_sha256('dualpain_plugin_own:f')\nstat = path.stat()\n"
            "path.write_text('def f(): return 2\\n')\nos.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))\n"
            "assert plugins.hashes() == hashes and plugins.record()[0]['sha256'] == hashes[0]\n"
            "print(first, hashes[0], sys.modules['dualpain_plugin_own'].f())\n")
    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                              capture_output=True, text=True, timeout=60)

    done = run("-c", code, str(tmp_path / "own.py"))
    assert done.returncode == 0, done.stderr
    first, sha256, value = done.stdout.split()
    assert value == "1"
    later = run("-c", "import sys\nfrom orchestrator.config import plugins\n"
                "from orchestrator.files.code_key import code_sha256\n"
                "plugins.load([sys.argv[1]])\nprint(code_sha256('dualpain_plugin_own:f'), "
                "sys.modules['dualpain_plugin_own'].f())\nplugins.load([sys.argv[1]], [sys.argv[2]])",
                str(tmp_path / "own.py"), sha256)
    assert later.returncode == 1 and "was changed while the command ran" in later.stderr
    assert later.stdout.split()[1] == "2" and later.stdout.split()[0] != first


def test_a_file_that_is_not_there(tmp_path):
    done = command(tmp_path, plugins=("nothing",))
    assert done.returncode == 2 and "give an existing Python file" in done.stderr

