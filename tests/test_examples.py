"""The examples run: a data set of your own and its walk, a plugin, reading a run's files, and the command of `make demo`."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq
import pytest

from orchestrator.config.configuration import compose
from orchestrator.reporting.summary import build_summary, predictions_table
from orchestrator.stages import check_options
from preprocessing.datasets import registry
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal
from tests.helpers.made_runs import made_run, results
from tests.helpers.places import ROOT

EXAMPLES = ROOT / "examples"
OWN_DATA = EXAMPLES / "own_data"
MINIATURE = ["synthetic.subjects=7", "synthetic.clips_per_level=2", "synthetic.size=[160,120]", "pretrain.video.epochs=4",
             "pretrain.signal.epochs=2", "train.max_epochs=2", "run.executor=inline"]


def imported(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(words: list[str], timeout: int) -> str:
    """What the command printed. `python` is the interpreter of the tests; its folder is the checkout, as in the pages."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def made():
    return imported(OWN_DATA / "make_data.py")


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


@pytest.mark.ci
def test_the_walk_runs_to_its_comparison(tmp_path):
    said = run(["bash", str(OWN_DATA / "walk.sh"), str(tmp_path)], timeout=900)
    assert {path.parent.name for path in tmp_path.glob("*/report.html")} == {"ridge", "forest"}
    summaries = {name: json.loads((tmp_path / name / "summary.json").read_text()) for name in ("ridge", "forest")}
    assert {name: (one["n_folds"], one["n_failed"]) for name, one in summaries.items()} == {"ridge": (8, 0), "forest": (8, 0)}
    assert re.search(r"^ ridge - forest ", said, re.M)  # a row of the comparison's table


@pytest.mark.medium
def test_the_plugin_of_the_page_runs_and_its_results_are_read(made, tmp_path):
    (block,) = re.findall(r"^```\n(.*?)^```", (EXAMPLES / "README.md").read_text(), re.S | re.M)
    lines = block.replace("\\\n", "").replace("/tmp/own_data", str(tmp_path)).splitlines()
    walk, with_plugin, read = map(shlex.split, lines)
    assert walk == ["bash", "examples/own_data/walk.sh", str(tmp_path)]  # which another test runs
    made.write(tmp_path / "data")
    run([*with_plugin, "run.executor=inline"], timeout=300)
    summary = json.loads((tmp_path / "lda" / "summary.json").read_text())
    assert summary["model"] == "lda" and summary["n_folds"] == 8 and summary["accuracy_mean"] > summary["chance"]
    said = run(read, timeout=60).splitlines()
    rows = pq.read_table(tmp_path / "lda" / "predictions.parquet").to_pylist()
    for subject, line in zip(sorted({row["subject"] for row in rows}), said, strict=False):
        own = mean(row["y_true"] == row["y_pred"] for row in rows if row["subject"] == subject)
        assert line.split() == [subject, f"{100 * own:.1f}", "%"]
    assert len(said) == 10 and said[8].startswith(f"mean over subjects {100 * summary['accuracy_mean']:.1f} %, chance 50.0 %")
    assert said[9] == "95 % confidence interval {:.1f} to {:.1f} %".format(*(100 * end for end in summary["accuracy_ci95"]))


def test_results_of_several_seeds_are_read_as_the_summary_counts_them(tmp_path):
    facts, folds = made_run(seeds=(0, 1, 2))
    folds = results(folds)
    pq.write_table(predictions_table(folds, 2), tmp_path / "predictions.parquet")
    read = imported(EXAMPLES / "read_results.py").accuracies(tmp_path)
    assert len(read) == 8 and mean(read.values()) == pytest.approx(build_summary(facts, folds)["accuracy_mean"], abs=1e-12)


@pytest.mark.ci
def test_the_command_of_make_demo_runs_in_miniature(tmp_path):
    makefile = re.search(r"^demo:.*\n\t@\$\(BIN\)/(python -m .*) store=\$\(STORE\) run.dir=\$\(RUN\)$",
                         (ROOT / "Makefile").read_text(), re.M)[1]
    assert makefile in (ROOT / "docs" / "getting-started" / "first-run.md").read_text().splitlines()
    run([*shlex.split(makefile), f"store={tmp_path / 'store'}", f"run.dir={tmp_path / 'run'}", *MINIATURE], timeout=900)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["dataset"], summary["model"], summary["encoder"]) == ("synthetic", "dual", "vit_micro")
    assert summary["n_folds"] == 7 and summary["n_failed"] == 0 and (tmp_path / "run" / "report.html").stat().st_size > 10_000
