"""One file per fold: complete or absent, from this run, written once."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.evaluation import damage
from orchestrator.evaluation.ledger import Ledger, claim, run_folder
from orchestrator.files import storage
from orchestrator.plan.folds import Fold
from orchestrator.scores.fold_result import FoldResult, Prediction

FOLDS = [Fold(i, 0, (i,), (8, 9), (7,), None) for i in range(3)]


def made(fold, prob=(0.25, 0.75), **more):
    row = Prediction(sample="c", subject=f"p{fold}", y_true=1, y_pred=1, prob=tuple(prob))
    return FoldResult(fold=fold, seed=0, subjects=(f"p{fold}",), predictions=(row,), **more)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "run", "key")


def test_names_of_the_contract(ledger, tmp_path):
    ledger.write(Fold(12, 3, (1,), (2,), (), 0), made(12))
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.json")] == ["run/ledger/fold-012-seed-3.json"]


def test_what_was_written_is_read(ledger):
    ledger.write(FOLDS[1], made(1, (0.1, 0.9)))
    assert ledger.read(FOLDS[1]) == made(1, (0.1, 0.9))
    assert ledger.files.read(ledger.name(FOLDS[1]))["content_key"] == "key"
    assert ledger.missing(FOLDS) == [FOLDS[0], FOLDS[2]]


def test_a_late_or_double_completion_changes_nothing(ledger):
    ledger.write(FOLDS[0], made(0, wall_s=1.0))
    path = ledger.files.folder / ledger.name(FOLDS[0])
    before = path.read_bytes(), path.stat().st_mtime_ns
    ledger.write(FOLDS[0], made(0, wall_s=2.0))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("damage", ["half", "value", "empty", "other", "list"])
def test_a_damaged_fold_is_an_absent_one_and_is_written_again(ledger, damage):
    ledger.write(FOLDS[0], made(0, wall_s=1.0))
    path = ledger.files.folder / ledger.name(FOLDS[0])
    text = path.read_text()
    path.write_text({"half": text[: len(text) // 2], "value": text.replace("1.0", "2.0"), "empty": "", "list": "[]",
                     "other": text.replace('"key"', '"another"')}[damage])
    assert ledger.read(FOLDS[0]) is None and ledger.missing(FOLDS) == FOLDS
    ledger.write(FOLDS[0], made(0, wall_s=3.0))
    assert ledger.read(FOLDS[0]).wall_s == 3.0


def test_invalid_entries_are_named_with_the_reason(ledger, capsys):
    """Absent and valid entries are not named."""
    for fold in FOLDS:
        ledger.write(fold, made(fold.index, wall_s=1.0))
    assert ledger.invalid(FOLDS) == [] and damage.entries("loso", ledger, FOLDS) == []
    folder, names = ledger.files.folder, [ledger.name(fold) for fold in FOLDS]
    (folder / names[0]).write_text((folder / names[0]).read_text().replace("1.0", "9.0"))
    (folder / names[1]).write_bytes((folder / names[2]).read_bytes())
    (folder / names[2]).unlink()
    assert ledger.invalid(FOLDS) == [(FOLDS[0], "truncated or edited"), (FOLDS[1], "it belongs to another fold")]
    Ledger(ledger.run_dir, "another").write(FOLDS[2], made(2))
    capsys.readouterr()
    said = damage.entries("loso", ledger, FOLDS)
    assert "fold 0 seed 0 is not valid (truncated or edited" in said[0] and "another run" in said[2]
    told = capsys.readouterr().out
    assert len(said) == 3 == told.count("is not valid") and told.count("the fold runs again") == 3


@settings(max_examples=40)
@given(place=st.integers(0, 10**6), kept=st.booleans(), byte=st.integers(0, 255))
def test_a_damaged_entry_is_valid_or_reported(tmp_path_factory, place, kept, byte):
    """Truncated anywhere, or with one byte changed: it is never silently ignored."""
    ledger = Ledger(tmp_path_factory.mktemp("run"), "key")
    ledger.write(FOLDS[0], made(0))
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
    Ledger(ledger.run_dir, "another").write(FOLDS[0], made(0))
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
def test_the_error_says_what_differs(ledger, there, said):
    storage.write_json(ledger.run_dir / "lineage.json", {"content_key": "another", "content": there})
    with pytest.raises(UserError, match=said):
        claim(ledger, {"code": "1", "clips": "2", "tokens": "3"})


def test_without_lineage_json_the_folds_identify_the_run(ledger):
    run = ledger.run_dir
    ledger.write(FOLDS[0], made(0))
    for text in (None, "{", "[]"):
        if text:
            (run / "lineage.json").write_text(text)
        claim(Ledger(run, "key"))
        with pytest.raises(UserError, match="holds another run"):
            claim(Ledger(run, "another"))


def test_cleaning_up_keeps_folds(ledger):
    ledger.write(FOLDS[0], made(0))
    (ledger.files.folder / ".fold-001-seed-0.json.1.tmp").write_text("half")
    (ledger.run_dir / ".tune.x.tmp").mkdir()
    ledger.clean_up()
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
    ledger.write(FOLDS[0], made(0, values))
    text = (ledger.files.folder / ledger.name(FOLDS[0])).read_text()
    assert json.loads(text)["predictions"][0]["prob"] == values == list(ledger.read(FOLDS[0]).predictions[0].prob)


OLD = {"fold": 2, "seed": 0, "leaky": False, "subject": "p2", "n_test": 1, "n_quarantined": 1, "quarantined_by_class": {"1": 1},
       "epochs": 3, "train_subjects": ["p0"], "val_subjects": ["p1"], "scaler_sha256": "a", "encoder_sha256": "b",
       "weights_sha256": "c", "test_openings": 1, "history": [{"val_loss": 0.5}], "wall_s": 1.5, "warnings": ["said"],
       "predictions": [{"sample": "c", "subject": "p2", "y_true": 0, "y_pred": 1, "prob": [0.25, 0.75]}]}


def test_an_entry_of_an_older_version_is_read(ledger):
    """Without the list of test subjects, refit, train_label_counts, peak_memory_mb and n_parameters, which came later."""
    ledger.files.write(ledger.name(FOLDS[2]), storage.with_checksum({**OLD, "content_key": "key", "of_yesterday": 1}))
    found = ledger.read(FOLDS[2])
    assert found.subjects == ("p2",) and found.subject == "p2" and found.n_test == 1 and not found.refit
    assert found.predictions[0].prob == (0.25, 0.75) and found.fitted_subjects() == {"p0"}
    assert {name: found.to_json()[name] for name in OLD} == OLD


def test_a_result_is_the_same_after_its_json():
    whole = FoldResult.from_json({**OLD, "subjects": ["p2", "p3"], "refit": True, "train_label_counts": [3, 4],
                                  "n_parameters": 5, "peak_memory_mb": 1.0, "quarantined_by_subject": {"p3": 1},
                                  "train_accuracy": 0.5})
    assert FoldResult.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert whole.joined_subjects() == "p2+p3" and whole.fitted_subjects() == {"p0", "p1"}
    assert "train_accuracy" not in made(0).to_json()
