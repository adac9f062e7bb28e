"""contract.md held against a real run: files, fields and their types, order, names, rights, resuming.

The run is that of two commands (conftest.road): three folds first, then all of them.
"""

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from orchestrator import cli, loso
from orchestrator.files.storage import key_of, read_json, with_checksum
from tests.helpers.contract import FOLD, SUMMARY
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, Road, hashes, snapshot

FILES = {"summary.json", "predictions.parquet", "folds.parquet", "config.yaml", "lineage.json", "environment.json",
         "report.html", "run.log"}


@pytest.fixture(scope="module")
def summary(road):
    return read_json(road.run / "summary.json")


def test_the_files_of_a_run(road):
    found = {p.name for p in road.run.iterdir()}
    assert FILES | {"ledger"} <= found and not [name for name in found if name.endswith(".tmp")]
    assert {p.name for p in (road.run / "ledger").iterdir()} == {f"fold-{i:03d}-seed-0.json" for i in range(PEOPLE)}


def test_every_field_of_the_summary_with_its_type(summary):
    assert set(summary) == set(SUMMARY)
    for name, kind in SUMMARY.items():
        assert isinstance(summary[name], kind), name
    for fold in summary["folds"]:
        assert set(fold) == set(FOLD)
        for name, kind in FOLD.items():
            assert isinstance(fold[name], kind), name
        assert all(re.fullmatch("[0-9a-f]{64}", fold[name]) for name in FOLD if name.endswith("sha256"))


def test_the_values_of_the_summary(summary):
    assert (summary["dataset"], summary["task"], summary["classes"]) == ("biovid_a", "bl_pa4", ["BL1", "PA4"])
    assert (summary["model"], summary["encoder"], summary["protocol"]) == ("dual", "vit_micro", "clean")
    assert (summary["leaky"], summary["unproven"], summary["partial"]) == (False, False, False)
    assert [summary[n] for n in ("n_subjects", "n_planned", "n_folds", "n_failed")] == [PEOPLE, PEOPLE, PEOPLE, 0]
    assert summary["seeds"] == [0] and summary["chance_uniform"] == 0.5 == summary["chance"] == summary["majority_baseline"]
    assert set(summary["verdict"]) == {"metric", "above_chance", "p"} and summary["verdict"]["metric"] == "accuracy"
    assert summary["split"] == "loso" and summary["draws"] is None
    fractions = ["accuracy_mean", "macro_f1_mean", "macro_f1_pooled", "chance", "chance_uniform", "balanced_accuracy_mean",
                 "auroc_mean"]
    assert all(0 <= summary[name] <= 1 for name in fractions) and summary["n_parameters"] > 1000
    for fold in summary["folds"]:
        assert fold["n_test"] == 2 * CLIPS_PER_LEVEL and fold["n_quarantined"] == 0
        assert 0 <= fold["accuracy"] <= 1 and fold["accuracy"] == fold["accuracy_with_quarantined"]
        assert len(fold["val_subjects"]) == 2 and len(fold["train_subjects"]) == PEOPLE - 3
        assert 1 <= fold["epochs"] <= 2
    mean = sum(fold["accuracy"] for fold in summary["folds"]) / PEOPLE
    assert summary["accuracy_mean"] == pytest.approx(mean, abs=1e-12)


def test_predictions_are_rows_by_seed_fold_and_sample(road, summary):
    table = pq.read_table(road.run / "predictions.parquet")
    assert table.column_names == ["fold", "seed", "sample", "subject", "y_true", "y_pred", "prob_0", "prob_1"]
    rows = table.to_pylist()
    assert len(rows) == PEOPLE * 2 * CLIPS_PER_LEVEL == len({row["sample"] for row in rows})
    assert [(r["seed"], r["fold"], r["sample"]) for r in rows] == sorted((r["seed"], r["fold"], r["sample"]) for r in rows)
    for row in rows:
        assert row["prob_0"] + row["prob_1"] == pytest.approx(1)
        assert row["y_pred"] == (row["prob_1"] > row["prob_0"]) and row["y_true"] in (0, 1)
    for fold in summary["folds"]:
        own = [row for row in rows if row["fold"] == fold["fold"]]
        assert {row["subject"] for row in own} == {fold["subject"]}
        assert fold["accuracy"] == sum(r["y_true"] == r["y_pred"] for r in own) / len(own)


def test_folds_parquet_says_the_same(road, summary):
    rows = pq.read_table(road.run / "folds.parquet").to_pylist()
    assert [{name: row[name] for name in FOLD} for row in rows] == summary["folds"]
    assert all(row["test_openings"] == 1 for row in rows)


def test_every_ledger_file_is_sealed_and_of_this_run(road):
    key = read_json(road.run / "lineage.json")["content_key"]
    for entry in road.ledger().values():
        assert entry == with_checksum(entry) and entry["content_key"] == key and entry["test_openings"] == 1


def test_the_lineage_holds_nobody_tested(road):
    lineage = read_json(road.run / "lineage.json")
    seen = {e["index"]: set(e["lineage"]["people"]) for e in lineage["encoders"]}
    assert len(seen) == 2 and not seen[0] & seen[1] and {len(people) for people in seen.values()} == {2}
    assert {name.partition("/")[0] for people in seen.values() for name in people} == {lineage["cohort"]}
    for fold in lineage["folds"]:
        assert not seen[fold["encoder"]] & set(fold["test"])
        assert not {f"{lineage['cohort']}/{name}" for name in (*fold["train"], *fold["val"])} & set(fold["test"])


def test_config_and_environment_name_no_place(road):
    config = yaml.safe_load((road.run / "config.yaml").read_text())
    assert config["dataset"] == "biovid_a" and config["data"]["root"] is None and "store" not in config
    for path in road.run.rglob("*"):
        if path.is_file():
            assert str(road.store).encode() not in path.read_bytes(), path
            assert str(road.root).encode() not in path.read_bytes(), path
    assert "ray" in read_json(road.run / "environment.json")["versions"]


def test_the_report_asks_nothing_of_anywhere(road):
    page = (road.run / "report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page) and "<script src" not in page


def strings(path: Path) -> bytes:
    """The bytes of a file, and of a Parquet file its columns and metadata unpacked."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    file = pq.ParquetFile(path)
    columns = [name for name in file.schema_arrow.names if name not in ("frames", "landmarks", "signal")]
    return json.dumps(file.read(columns=columns).to_pylist(), default=str).encode() + str(file.metadata.metadata).encode()


def test_pseudonyms_only(road):
    """No raw id and no clip number in a run or outside <store>/private."""
    raw = {clip.recording.subject for clip in road.cohort().clips}
    samples = {clip.recording.sample for clip in road.cohort().clips}
    numbers = {sample.removeprefix(name).encode() for sample in samples for name in raw if sample.startswith(name)}
    assert len(raw) == PEOPLE and len(numbers) > 4
    words = [name.encode() for name in raw] + sorted(numbers)
    checked = 0
    for path in [*road.run.rglob("*"), *road.store.rglob("*")]:
        if path.is_file() and "private" not in path.relative_to(road.store.parent).parts:
            text = strings(path)
            found = [word for word in words if word in text or word in path.name.encode()]
            assert not found, (path, found)
            checked += 1
    assert checked > 30
    assert any(word in strings(path) for path in (road.store / "private").iterdir() for word in words)


def test_rights_of_what_names_people(road):
    private = road.store / "private"
    assert private.stat().st_mode & 0o777 == 0o700
    assert {p.name for p in private.iterdir()} >= {"hashes.json"}
    assert all(p.stat().st_mode & 0o777 == (0o700 if p.is_dir() else 0o600) for p in private.rglob("*")
               if p.suffix != ".lock")  # an empty file


def test_more_folds_kept_the_first_ones(road):
    assert sorted(road.first_folds) == [f"fold-{i:03d}-seed-0.json" for i in range(3)]
    now = snapshot(road.run / "ledger")
    assert {name: now[name] for name in road.first_folds} == road.first_folds


def test_ray_only_schedules(road, inline, tmp_path):
    """The same folds in this process, from the same store: equal but for times."""
    again = Road(road.root, road.store, tmp_path / "run")
    assert again.main("max_folds=3") == 0
    assert inline == {"preprocess": [], "pretrain": [], "embed": [], "loso": [f"fold-{i:03d}-seed-0" for i in range(3)]}
    for name, entry in again.ledger().items():
        assert entry["predictions"] == road.ledger()[name]["predictions"]
        assert entry["weights_sha256"] == road.ledger()[name]["weights_sha256"]


def test_the_same_command_does_nothing_again(road, inline, tmp_path):
    mine = Road(road.root, road.store, tmp_path / "run")
    shutil.copytree(road.run, mine.run)
    before, store = snapshot(mine.run), snapshot(road.store)
    assert mine.main() == 0
    assert inline == {"preprocess": [], "pretrain": [], "embed": [], "loso": []}
    after = snapshot(mine.run)
    for name in before:
        if name.startswith("ledger/"):
            assert after[name] == before[name]
    assert after["predictions.parquet"][0] == before["predictions.parquet"][0]
    assert mine.summary() == road.summary()
    changed = {name for name, stamp in snapshot(road.store).items() if stamp[0] != store[name][0]}
    assert not changed


@pytest.mark.parametrize("word", ["train.max_epochs=1", "model=signal", "protocol=as_paper", "protocol.val_subjects=3"])
def test_a_run_folder_of_another_run_is_refused(road, inline, tmp_path, word, capsys):
    mine = Road(road.root, road.store, tmp_path / "run")
    shutil.copytree(road.run, mine.run)
    before = hashes(mine.run)
    assert cli.run(loso.main, mine.argv(word)) == 2
    assert "holds another run" in capsys.readouterr().err and hashes(mine.run) == before and inline["loso"] == []


def test_more_seeds_go_into_the_same_run(road, inline, tmp_path):
    mine = Road(road.root, road.store, tmp_path / "run")
    shutil.copytree(road.run, mine.run)
    assert mine.main("protocol.seeds=2", "max_folds=1") == 0
    assert inline["loso"] == ["fold-000-seed-1"]
    assert [(fold["seed"], fold["fold"]) for fold in mine.summary()["folds"]] == [(0, 0), (1, 0)]


def test_a_dry_run_writes_nothing(road, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new = Road(road.root, tmp_path / "store", tmp_path / "run")
    for stage in ("loso", "preprocess", "pretrain", "embed"):
        module = __import__(f"orchestrator.{stage}", fromlist=["main"])
        assert cli.run(module.main, ["--dry-run", *new.argv()]) == 0, stage
        said = capsys.readouterr().out
        assert f"{PEOPLE} subjects" in said, stage
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_time_and_disk(road, tmp_path, capsys):
    new = Road(road.root, tmp_path / "store", tmp_path / "run")
    assert cli.run(loso.main, ["--dry-run", *new.argv()]) == 0
    said = capsys.readouterr().out
    assert "2, 2 subjects" in said and re.search(r"all .*about \d+ (s|min|h).* \d+\.\d+ [MG]B", said)


def test_a_content_key_is_no_path_and_no_time(road, tmp_path):
    moved = road.copy(tmp_path)
    assert read_json(moved.run / "lineage.json")["content_key"] == read_json(road.run / "lineage.json")["content_key"]
    assert len(key_of("x")) == 16
