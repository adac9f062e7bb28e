"""Runs under every split through the same stages, ledger, statistics and report: files and fields stay the contract's."""

import json
import re

import pyarrow.parquet as pq
import pytest

from orchestrator import cli, compare, loso, report
from orchestrator.cohort.lineage import Lineage
from orchestrator.files.storage import read_json
from orchestrator.stores.cross_dataset import load
from preprocessing.synthetic.cohort import generate
from tests.helpers.contract import FOLD, SUMMARY
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, TINY, Road, snapshot

pytestmark = pytest.mark.ci
RIDGE = [*TINY, "model=ridge"]
CLIPS = 2 * CLIPS_PER_LEVEL


def generated(folder, people, seed):
    return generate(folder / "PartB", part="B", subjects=people, clips_per_level=CLIPS_PER_LEVEL, seed=seed,
                    levels=("BL1", "PA4"), size=(160, 120), jobs=1, videos=False)


@pytest.fixture(scope="module")
def part_b(tmp_path_factory):
    """Part B of the same subjects as in `signal_tree`, with five channels where Part A has three."""
    return generated(tmp_path_factory.mktemp("b"), PEOPLE, 0)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    return generated(tmp_path_factory.mktemp("strangers"), 3, 5)


@pytest.fixture
def made(ridge, tmp_path):
    """A road of its own run folder over the shared store of signals."""
    return Road(ridge.root, ridge.store, tmp_path / "run", list(RIDGE))


def sound(road: Road, tested: int) -> dict:
    """The contract's fields, and that the lineage holds no test subject. Returns the summary."""
    found, lineage = read_json(road.run / "summary.json"), read_json(road.run / "lineage.json")
    assert set(found) == set(SUMMARY) and all(isinstance(found[n], k) for n, k in SUMMARY.items() if n != "encoder")
    seen = {e["index"]: Lineage.from_json(e["lineage"]).everyone() for e in lineage["encoders"]}
    entries = road.ledger()
    for fold, planned in zip(found["folds"], lineage["folds"], strict=True):
        assert set(fold) == set(FOLD) and all(isinstance(fold[n], k) for n, k in FOLD.items())
        names = fold["subject"].split("+")
        assert [key.partition("/")[2] for key in planned["test"]] == names
        assert not set(names) & {*fold["train_subjects"], *fold["val_subjects"]}
        assert not set(planned["test"]) & seen.get(planned["encoder"], set())
        assert entries[f"fold-{fold['fold']:03d}-seed-{fold['seed']}.json"]["test_openings"] == 1
    rows = pq.read_table(road.run / "predictions.parquet").to_pylist()
    assert [(r["seed"], r["fold"], r["sample"]) for r in rows] == sorted((r["seed"], r["fold"], r["sample"]) for r in rows)
    people = {row["subject"]: [r for r in rows if r["subject"] == row["subject"]] for row in rows}
    assert len(people) == tested
    means = [sum(r["y_true"] == r["y_pred"] for r in own) / len(own) for own in people.values()]
    assert found["accuracy_mean"] == pytest.approx(sum(means) / tested), "people weigh equally, however many a fold tests"
    page = (road.run / "report.html").read_text()
    assert re.search(r"Each fold tests \d", page) and '<section id="folds"' in page
    return found


@pytest.mark.parametrize(("words", "folds"), [(["split=lnso", "split.n=2"], 4), (["split=kfold", "split.k=3"], 3)])
def test_blocks_of_subjects(made, inline, words, folds):
    made.words += words
    assert made.main() == 0
    found = sound(made, PEOPLE)
    assert (found["n_planned"], found["n_folds"], found["n_subjects"]) == (folds, folds, PEOPLE)
    assert sum(fold["n_test"] for fold in found["folds"]) == PEOPLE * CLIPS


def test_a_fixed_split_resumes_as_every_other(made, inline):
    made.words += ["split=fixed", "split.test_subjects=2", "split.repeats=2"]
    assert made.main("max_folds=1") == 0
    first = snapshot(made.run / "ledger")
    assert made.main() == 0 and len(inline["loso"]) == 2
    after = snapshot(made.run / "ledger")
    assert {name: after[name] for name in first} == first and len(after) == 2
    tested = {name for fold in read_json(made.run / "summary.json")["folds"] for name in fold["subject"].split("+")}
    sound(made, len(tested))
    assert cli.run(loso.main, made.argv("split.test_subjects=3")) == 2, "another split in the same folder"


def test_an_encoder_of_subjects_no_fold_tests(made, inline):
    """model=signal: signal MAEs pretrained on groups drawn from the fold plan."""
    made.words = [*TINY, "model=signal", "split=kfold", "split.k=2", "pretrain.fraction=0.15"]
    assert made.main() == 0
    sound(made, PEOPLE)
    assert len(inline["pretrain"]) == 2


def test_both_protocols_and_compare(made, inline, capsys):
    made.words += ["split=kfold", "split.k=3", "protocol=both"]
    assert made.main() == 0
    assert "as_paper minus clean" in capsys.readouterr().out
    paper = read_json(made.run / "as_paper" / "summary.json")
    assert paper["leaky"] and all(fold["val_subjects"] == [] for fold in paper["folds"]), "ridge has no epoch to choose"
    assert cli.run(compare.main, [str(made.run / "clean"), str(made.run / "as_paper")]) == 0
    pages = {name: (made.run / name / "report.html").read_bytes() for name in ("clean", "as_paper")}
    assert all(b"paired over" in page for page in pages.values())
    for name in pages:
        (made.run / name / "report.html").unlink()
    assert cli.run(report.main, made.argv()) == 0 and "as_paper minus clean" in capsys.readouterr().out
    assert {name: (made.run / name / "report.html").read_bytes() for name in pages} == pages


def test_trained_on_one_data_set_and_tested_on_another(made, part_b, inline):
    """Part A trains, Part B is tested, both of the same subjects; the channels both have are read."""
    made.words += ["split=cross_dataset", "split.test=biovid_b", f"split.root={part_b}", "split.k=3"]
    assert made.main() == 0
    found = sound(made, PEOPLE)
    assert found["n_subjects"] == PEOPLE and [len(f["subject"].split("+")) for f in found["folds"]] == [3, 2, 2]
    samples = {c.sample for c in load(made.config()).clips if c.subject >= PEOPLE}
    rows = pq.read_table(made.run / "predictions.parquet").to_pylist()
    assert {row["sample"] for row in rows} == samples and len(rows) == PEOPLE * CLIPS
    assert str(part_b) not in "".join(p.read_text() for p in made.run.glob("*.[hjy]*"))


def test_strangers_and_labels_read_as_the_tasks(made, strangers, inline):
    made.words += ["split=cross_dataset", "split.test=biovid_b", f"split.root={strangers}"]
    assert made.main("split.classes=[4,0]") == 0
    assert sound(made, 3)["n_folds"] == 1
    turned = {row["sample"]: row["y_true"] for row in pq.read_table(made.run / "predictions.parquet").to_pylist()}
    people = load(made.config("split.classes=[0,4]"))
    assert turned == {c.sample: 1 - [0, 4].index(c.label) for c in people.clips if c.subject >= PEOPLE}


@pytest.mark.parametrize(("words", "said"), [
    ([], "name it with split.test="), (["split.test=biovid_c"], "did you mean biovid_"),
    (["split.test=biovid_a"], "is the training data set"), (["split.test=biovid_b", "split.classes=[0]"], "split.classes"),
    (["split.test=biovid_b", "split.root=/nowhere"], "nowhere")])
def test_mistakes_of_cross_dataset(made, words, said, capsys):
    made.words += ["split=cross_dataset", *words]
    assert cli.run(loso.main, made.argv()) == 2
    assert said in capsys.readouterr().err and not made.run.exists()


def test_a_dry_run_of_every_split(made, part_b, capsys):
    for words in (["split=lnso"], ["split=kfold", "split.k=3"], ["split=fixed", "split.test_subjects=2"],
                  ["split=cross_dataset", "split.test=biovid_b", f"split.root={part_b}"]):
        assert cli.run(loso.main, ["--dry-run", *made.argv(*words)]) == 0
        assert "test folds" in capsys.readouterr().out
    assert not made.run.exists()


def test_excluded_clips_of_several_subjects_are_all_counted(made, inline, tmp_path):
    """Clips of one class of two subjects of a fold are excluded: neither count hides the other."""
    import shutil

    tree = tmp_path / "tree"
    shutil.copytree(made.root, tree)
    for person in sorted((tree / "biosignals_raw").iterdir()):
        next(p for p in sorted(person.iterdir()) if "PA4" in p.name).write_text("no table")
    mine = Road(tree, tmp_path / "store", tmp_path / "run2", [*RIDGE, "split=kfold", "split.k=3"])
    assert mine.main() == 0
    for fold in mine.summary()["folds"]:
        n = len(fold["subject"].split("+"))
        assert fold["n_quarantined"] == n and fold["n_test"] == n * (CLIPS - 1)
    for entry in mine.ledger().values():
        assert entry["quarantined_by_subject"] == dict.fromkeys(entry["subjects"], 1)
        assert entry["quarantined_by_class"] == {"1": len(entry["subjects"])}
    assert json.loads((mine.run / "summary.json").read_text())["accuracy_mean"] is not None
