"""One file a fold: complete or absent, the run's own, never written twice."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.evaluation import damage
from orchestrator.evaluation.ledger import Ledger, claim, run_folder
from orchestrator.files import storage
from orchestrator.plan.folds import Fold

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


def test_what_is_there_and_does_not_count_is_named_with_the_reason(ledger, capsys):
    """What is absent, or valid, is not."""
    for fold in FOLDS:
        ledger.write(fold, {"fold": fold.index, "seed": 0, "wall_s": 1.0})
    assert ledger.invalid(FOLDS) == [] and damage.entries("loso", ledger, FOLDS) == []
    folder, names = ledger.files.folder, [ledger.name(fold) for fold in FOLDS]
    (folder / names[0]).write_text((folder / names[0]).read_text().replace("1.0", "9.0"))
    (folder / names[1]).write_bytes((folder / names[2]).read_bytes())
    (folder / names[2]).unlink()
    assert ledger.invalid(FOLDS) == [(FOLDS[0], "cut, or changed since it was written"), (FOLDS[1], "another fold's")]
    Ledger(ledger.run_dir, "another").write(FOLDS[2], {"fold": 2})
    capsys.readouterr()
    said = damage.entries("loso", ledger, FOLDS)
    assert "fold 0 seed 0 was there and is not valid (cut, or changed" in said[0] and "another run's" in said[2]
    told = capsys.readouterr().out
    assert len(said) == 3 == told.count("is not valid") and told.count("the fold runs again") == 3


@settings(max_examples=40)
@given(place=st.integers(0, 10**6), kept=st.booleans(), byte=st.integers(0, 255))
def test_whatever_becomes_of_an_entry_it_is_valid_or_told(tmp_path_factory, place, kept, byte):
    """Cut anywhere, or one byte changed anywhere: it is never silently absent."""
    ledger = Ledger(tmp_path_factory.mktemp("run"), "key")
    ledger.write(FOLDS[0], {"fold": 0, "seed": 0, "predictions": [{"prob": [0.25, 0.75], "y_true": 1}]})
    path, value = ledger.files.folder / ledger.name(FOLDS[0]), ledger.read(FOLDS[0])
    data = bytearray(path.read_bytes())
    place %= len(data)
    if kept:
        data[place] = byte
    else:
        del data[place:]
    path.write_bytes(bytes(data))
    there = ledger.read(FOLDS[0])
    assert (there is None) == bool(ledger.invalid(FOLDS[:1])) and there in (None, value)


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
