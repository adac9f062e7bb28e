"""docs/reference/outputs.md names what a run writes: its files, columns and fields; and its example in pandas runs."""

import re

import pyarrow.parquet as pq
import pytest

from orchestrator.files.storage import read_json
from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium  # a run of ridge
TEXT = (ROOT / "docs" / "reference" / "outputs.md").read_text()
ONLY_THEN = {"files": {"audit.json", "sweep.json"}, "fields": {"pretrain_seeds", "seed_of"}}  # with other options
OWN = {".lock"}


def section(heading: str) -> str:
    return TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def named(heading: str) -> set[str]:
    """The names in the first column of a section's table."""
    cells = [line.partition(" | ")[0] for line in section(heading).splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture
def run(ridge, inline):
    assert ridge.main() == 0
    return ridge.run


def test_the_page_names_what_a_run_writes(run):
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} - OWN
    assert {re.sub(r"fold-\d+-seed-\d+", "fold-NNN-seed-K", name) for name in files} == named("Files") - ONLY_THEN["files"]
    assert set(pq.read_schema(run / "predictions.parquet").names) == named("predictions.parquet")
    folds = pq.read_schema(run / "folds.parquet")
    assert set(folds.names) == named("folds.parquet")
    summary = read_json(run / "summary.json")
    assert set(summary) == named("summary.json") - ONLY_THEN["fields"]
    told = section("summary.json").partition("An entry of `folds` has")[2].partition("as in")[0]
    assert set(summary["folds"][0]) == set(re.findall(r"`(\w+)`", told))
    kept = section("folds.parquet").partition("The metadata of the file has")[2]
    assert {name.decode() for name in folds.metadata} == set(re.findall(r"`(\w+)`", kept))


def test_the_types_on_the_page_are_those_of_the_columns(run):
    kinds = {"int64": "whole number", "string": "text", "double": "number", "list<element: string>": "list of texts",
             "list<element: int64>": "list of whole numbers"}
    for name in ("predictions.parquet", "folds.parquet"):
        rows = [line.split(" | ") for line in section(name).splitlines() if line.startswith("| `")]
        told = {column: kind for cell, kind, _ in rows for column in re.findall(r"`([^`]+)`", cell)}
        assert told == {field.name: kinds[str(field.type)] for field in pq.read_schema(run / name)}


def test_the_example_in_pandas_gives_the_numbers_of_the_summary(run, capsys):
    code = re.search(r"```python\n(.*?)```", TEXT, re.S)[1]
    assert code.count("runs/first") == 1
    made = {}
    exec(code.replace("runs/first", str(run)), made)
    assert made["by_subject"].mean() == pytest.approx(made["summary"]["accuracy_mean"])
    assert made["by_subject"].std() == pytest.approx(made["summary"]["accuracy_std"])
    assert made["summary"]["classes"][0] in capsys.readouterr().out


def test_the_example_with_own_names_gives_the_subjects_and_clips_of_the_data(run, ridge, capsys):
    """Each clip gets the names under which the recordings lie, and its class is that of the recording."""
    reading, joining = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert joining.count('"store/private"') == 1
    made = {}
    exec(reading.replace("runs/first", str(run)), made)
    exec(joining.replace("store/private", str(ridge.store / "private")), made)
    own = {(one.subject, one.sample): one.label for one in (clip.recording for clip in ridge.cohort().clips)}
    classes = {label: k for k, label in enumerate(sorted(set(own.values())))}
    joined = made["clips"][["own_subject", "own_sample", "y_true"]].itertuples(index=False)
    assert {(subject, sample): y for subject, sample, y in joined} == {name: classes[label] for name, label in own.items()}
    said = capsys.readouterr().out
    assert all(subject in said for subject, _ in own)
