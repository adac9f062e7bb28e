"""The shared command line: flags, exit codes, and the message on stderr."""

import subprocess
import sys

import pytest

from models.errors import ModelError
from orchestrator import cli, compare, doctor, embed, loso, preprocess, pretrain, report
from orchestrator.errors import UserError
from preprocessing.errors import InputError
from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
STAGES = {"doctor": doctor, "preprocess": preprocess, "pretrain": pretrain, "embed": embed, "loso": loso, "report": report}


@pytest.mark.parametrize(("raised", "code", "said"), [
    (UserError("a"), 2, "error: a\n"), (InputError("b"), 2, "error: b\n"), (ModelError("c"), 2, "error: c\n"),
    (KeyboardInterrupt(), 130, "run the same command again to resume"), (SystemExit(2), 2, ""), (SystemExit(), 0, ""),
    (SystemExit("x"), 1, ""),
    (RuntimeError("d"), 1, "a defect of dualpain")])
def test_what_is_raised_becomes_the_contracts_code(raised, code, said, capsys):
    def main(argv):
        raise raised

    assert cli.run(main, []) == code
    err = capsys.readouterr().err
    assert said in err and ("Traceback" in err) == (code == 1 and isinstance(raised, RuntimeError))


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (3, 3), (None, 0)])
def test_what_is_returned_is_the_code(returned, code):
    assert cli.run(lambda argv: returned, []) == code


def test_flags_and_overrides_in_any_order():
    calls = [cli.parse("loso", "x", argv) for argv in (
        ["--dataset", "watch", "max_folds=2", "--dry-run", "strict=true"],
        ["max_folds=2", "--dry-run", "strict=true", "--dataset=watch"])]
    for call in calls:
        assert call.dry_run and call.config.max_folds == 2 and call.config.strict and call.config.dataset == "watch"
    assert calls[0].command == "python -m orchestrator.loso --dataset watch max_folds=2 --dry-run strict=true"


@pytest.mark.parametrize(("words", "hint"), [
    (["--model", "ridge"], "model=ridge"), (["--model=ridge"], "model=ridge"), (["--train.lr", "0.1"], "train.lr=0.1"),
    (["--learning-rate", "0.1"], "train.lr=0.1"), (["--store", "DIR"], "store=DIR"), (["--store=DIR"], "store=DIR"),
    (["--audit"], "audit=true"), (["--audit", "--dry-run"], "audit=true"),
    (["--epochs", "model=ridge"], "train.max_epochs=VALUE"), (["-p", "x"], ""), (["--dry-ru"], "--dry-run"),
    (["--plugin", "--x.py", "--seeds", "3"], "protocol.seeds=3")])
@pytest.mark.parametrize("before", [[], ["--dataset", "watch", "model=ridge"]])
def test_an_option_written_as_a_flag_is_one_sentence_with_the_override(before, words, hint, capsys):
    assert cli.run(loso.main, [*before, *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: There is no flag -") and said.count("\n") == 1 and f"did you mean {hint}" in said


def test_compare_hints_at_its_one_option(capsys):
    assert cli.run(compare.main, ["runs/a", "runs/b", "--margin", "3"]) == 2
    assert capsys.readouterr().err == ("error: There is no flag --margin: options are written without dashes, did you mean "
                                       "compare.margin=3?\n")


def test_every_usual_name_is_of_an_option():
    from orchestrator.config.configuration import USUAL, option_keys

    split = {"split.k", "split.n"}  # of some splits
    assert {*USUAL.values()} <= {*option_keys()} | split and not {*USUAL} & {*option_keys()}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help_and_wants_a_data_set(stage, capsys):
    assert cli.run(STAGES[stage].main, ["--help"]) == 0
    text = capsys.readouterr().out
    assert f"python -m orchestrator.{stage}" in text and "--dry-run" in text and "biovid_a" in text
    assert cli.run(STAGES[stage].main, []) == 2
    assert "--dataset" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "near"), [
    ("model.hpa.filtres=3", "model.hpa.filters"), ("train.epochs=3", "max_epochs"), ("smae.dims=3", "dim"),
    ("encoder.deph=2", "depth"), ("signal.lenght=3", "length"), ("pretrain.video.epoch=3", "epochs"),
    ("pretrain.signal.mask=1", "mask_ratio"), ("model.tree=3", "trees"), ("face.provder=x", "provider"),
    ("keyframe.preset=papr", "paper"), ("train.lr=high", "train.lr='high'"), ("train.optimizer=sgd", "radam"),
    ("model.dcan.layer=1", "layers"), ("train.learning_rate=1", "did you mean train.lr?"),
    ("signal.window_mode=stretch", "resample")])
def test_an_option_of_a_class_is_checked_before_anything_runs(word, near):
    with pytest.raises((UserError, InputError)) as info:
        cli.parse("loso", "x", ["--dataset", "synthetic", word])
    assert near.rpartition("model.hpa.")[2] in str(info.value) and "\n" not in str(info.value)


@pytest.mark.parametrize("word", ["encoder.dept=1", "train.patienc=3", "++train.patienc=3", "pretrain.video.mask_rati=0.5",
                                  "model.hpa.filter=3", "model.hpaa=1", "smae.dims=3"])
def test_a_misspelt_option_is_found_however_it_is_written(word, capsys):
    assert cli.run(lambda argv: cli.parse("loso", "", argv), ["--dataset", "watch", "model=dual", word]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["data.root", "store", "run.dir", "sweep.read", "pretrain.checkpoint",
                                  "face.precomputed_dir"])
def test_a_path_that_leads_nowhere_is_one_sentence(name, capsys):
    assert cli.run(lambda argv: cli.parse("loso", "", argv), ["--dataset", "manifest", f"{name}=~nobody-of-this-name/x"]) == 2
    assert "~nobody-of-this-name/x cannot be resolved" in capsys.readouterr().err


def test_unchanged_nodes_import_nothing_heavy():
    code = ("import sys; from orchestrator import cli; cli.parse('loso', '', ['--dataset', 'synthetic', 'model=dual',"
            " 'encoder=vit_tiny']); sys.exit('timm' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_options_of_another_model_are_left_aside():
    call = cli.parse("loso", "x", ["--dataset", "synthetic", "experiment=demo", "model=random_forest", "model.trees=10"])
    assert call.config.model.options()["trees"] == 10


@pytest.mark.parametrize("error", [
    PermissionError(13, "Permission denied", "/store/clips"), OSError(30, "Read-only file system", "/x"),
    OSError(28, "No space left on device"), NotADirectoryError(20, "Not a directory", "/x/y"),
    OSError(24, "Too many open files"),
    FileExistsError(17, "File exists", "/store"), BlockingIOError(11, "Resource temporarily unavailable"),
    RuntimeError("can't start new thread"), ModuleNotFoundError("No module named 'rich'", name="rich")])
def test_what_a_machine_refuses_is_no_defect(error, capsys):
    def main(argv):
        raise error

    assert cli.run(main, []) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "defect" not in said


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "/x"), OSError("no number"), KeyError("x"),
                                   ModuleNotFoundError("No module named 'orchestrator.x'", name="orchestrator.x")])
def test_what_may_be_ours_stays_a_defect(error, capsys):
    def main(argv):
        raise error

    assert cli.run(main, []) == 1 and "a defect of dualpain" in capsys.readouterr().err
