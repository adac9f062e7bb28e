"""One file a fold: complete or absent, the run's own, never written twice."""

import json

import pytest

from orchestrator import storage
from orchestrator.errors import UserError
from orchestrator.folds import Fold
from orchestrator.ledger import Ledger, claim, run_folder

FOLDS = [Fold(i, 0, (i,), (8, 9), (7,), None) for i in range(3)]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "run", "key")


def test_names_of_the_contract(ledger, tmp_path):
    ledger.write(Fold(12, 3, (1,), (2,), (), 0), {"fold": 12})
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.json")] == ["run/ledger/fold-012-seed-3.json"]


def test_what_was_written_is_read(ledger):
    ledger.write(FOLDS[1], {"fold": 1, "predictions": [{"prob": [0.1, 0.9]}]})
    entry = ledger.read(FOLDS[1])
    assert entry["predictions"] == [{"prob": [0.1, 0.9]}] and entry["content_key"] == "key"
    assert ledger.missing(FOLDS) == [FOLDS[0], FOLDS[2]]


def test_a_late_or_double_completion_changes_nothing(ledger):
    ledger.write(FOLDS[0], {"fold": 0, "wall_s": 1.0})
    path = ledger.files.folder / ledger.name(FOLDS[0])
    before = path.read_bytes(), path.stat().st_mtime_ns
    ledger.write(FOLDS[0], {"fold": 0, "wall_s": 2.0})
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("damage", ["half", "value", "empty", "other", "list"])
def test_a_damaged_fold_is_an_absent_one_and_is_written_again(ledger, damage):
    ledger.write(FOLDS[0], {"fold": 0, "wall_s": 1.0})
    path = ledger.files.folder / ledger.name(FOLDS[0])
    text = path.read_text()
    path.write_text({"half": text[: len(text) // 2], "value": text.replace("1.0", "2.0"), "empty": "", "list": "[]",
                     "other": text.replace('"key"', '"another"')}[damage])
    assert ledger.read(FOLDS[0]) is None and ledger.missing(FOLDS) == FOLDS
    ledger.write(FOLDS[0], {"fold": 0, "wall_s": 3.0})
    assert ledger.read(FOLDS[0])["wall_s"] == 3.0


def test_a_fold_of_another_run_is_not_this_runs(ledger):
    Ledger(ledger.run_dir, "another").write(FOLDS[0], {"fold": 0})
    assert ledger.read(FOLDS[0]) is None


def test_a_run_folder_is_claimed_once(ledger):
    run = ledger.run_dir
    claim(Ledger(run, "key"))
    storage.write_json(run / "lineage.json", {"content_key": "key"})
    claim(Ledger(run, "key"))
    with pytest.raises(UserError, match=r"holds another run .* choose another run.dir"):
        claim(Ledger(run, "another"))


@pytest.mark.parametrize(("there", "said"), [
    ({"code": "1", "clips": "1", "tokens": "2"}, r"\(differing: clips, tokens\)"),
    (None, "data, configuration or code"), ([], "data, configuration or code")])
def test_a_refusal_says_what_differs(ledger, there, said):
    storage.write_json(ledger.run_dir / "lineage.json", {"content_key": "another", "content": there})
    with pytest.raises(UserError, match=said):
        claim(ledger, {"code": "1", "clips": "2", "tokens": "3"})


def test_without_its_lineage_the_folds_themselves_tell(ledger):
    run = ledger.run_dir
    ledger.write(FOLDS[0], {"fold": 0})
    for text in (None, "{", "[]"):
        if text:
            (run / "lineage.json").write_text(text)
        claim(Ledger(run, "key"))
        with pytest.raises(UserError, match="holds another run"):
            claim(Ledger(run, "another"))


def test_sweeping_spares_folds(ledger):
    ledger.write(FOLDS[0], {"fold": 0})
    (ledger.files.folder / ".fold-001-seed-0.json.1.tmp").write_text("half")
    (ledger.run_dir / ".tune.x.tmp").mkdir()
    ledger.sweep()
    assert [p.name for p in ledger.files.folder.iterdir()] == ["fold-000-seed-0.json"]
    assert [p.name for p in ledger.run_dir.iterdir()] == ["ledger"]


def test_a_run_folder_that_stays_empty_goes_away(tmp_path):
    with pytest.raises(UserError), run_folder(tmp_path / "runs" / "a"):
        raise UserError("nothing written")
    assert not (tmp_path / "runs" / "a").exists()
    with run_folder(tmp_path / "runs" / "b"):
        (tmp_path / "runs" / "b" / "x").write_text("")
    assert (tmp_path / "runs" / "b" / "x").exists()
    with run_folder(tmp_path / "c"), pytest.raises(UserError, match="Another command"), run_folder(tmp_path / "c"):
        pass


def test_floats_come_back_bit_for_bit(ledger):
    values = [0.1, 1 / 3, 1e-300, 0.30000000000000004]
    ledger.write(FOLDS[0], {"prob": values})
    text = (ledger.files.folder / ledger.name(FOLDS[0])).read_text()
    assert json.loads(text)["prob"] == values == ledger.read(FOLDS[0])["prob"]
