"""python -m orchestrator.compare: what it refuses, what it says, what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_run

from orchestrator import cli, compare
from orchestrator.comparison import compare as compare_runs
from orchestrator.comparison import optimism, read_run
from orchestrator.errors import UserError
from orchestrator.summary import write_run_files

ROOT = Path(__file__).resolve().parents[2]


def write(tmp_path, name, drop=0, **more):
    run, folds = made_run(**more)
    write_run_files(tmp_path / name, run, folds[drop:])
    return tmp_path / name


def test_pairs_by_person(tmp_path):
    a, b = write(tmp_path, "a", n_people=10, seeds=(0, 1)), write(tmp_path, "b", n_people=10, seeds=(0, 1), skill=0.4)
    found = compare_runs([a, b])
    pair = found.pairs[0]
    d = [read_run(a).by_person[p] - read_run(b).by_person[p] for p in read_run(a).by_person]
    assert pair.n_people == 10 and pair.n_left_out == 0 and pair.sign_flip == "exact"
    assert pair.gap == pytest.approx(np.mean(d)) == pytest.approx(pair.mean_a - pair.mean_b)
    assert pair.better + pair.equal + pair.worse == 10 and pair.better > pair.worse
    assert pair.dz == pytest.approx(np.mean(d) / np.std(d, ddof=1))
    assert pair.p_sign_flip < 0.01 and pair.p_holm == pair.p_sign_flip
    assert found.runs[0].variance().n_seeds == 2 and not found.warnings


def test_holm_over_all_pairs(tmp_path):
    paths = [write(tmp_path, name, skill=skill) for name, skill in (("a", 1.6), ("b", 1.5), ("c", 0.1))]
    pairs = compare_runs(paths).pairs
    plain = sorted(pair.p_sign_flip for pair in pairs)
    assert min(pair.p_holm for pair in pairs) == pytest.approx(3 * plain[0])


def test_a_run_against_itself_differs_by_nothing(tmp_path):
    a = write(tmp_path, "a")
    pair = compare_runs([a, a]).pairs[0]
    assert pair.gap == 0 and pair.p_sign_flip == pair.p_wilcoxon == 1 and pair.dz is None and pair.equal == 8


@pytest.mark.parametrize("what, words", [({"key_fingerprint": "0ther"}, "pseudonym key"), ({"task": "five"}, "task"),
                                         ({"dataset": "biovid_a"}, "data set")])
def test_different_questions_are_refused(tmp_path, what, words, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", **what)
    assert cli.run(compare.main, [str(a), str(b)]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""


def test_other_people_are_refused(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", drop=7)
    with pytest.raises(UserError, match="share fewer than 2"):
        compare_runs([a, b])


def test_what_differs_is_said(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", drop=2, leaky=True, protocol="as_paper", skill=3.0)
    run, folds = made_run()
    folds[5]["predictions"].pop()
    write_run_files(tmp_path / "c", run, folds)
    text = " ".join(compare_runs([a, b]).warnings)
    assert "differ in protocol: clean and as_paper" in text and "2 are left out" in text and "leaky on purpose" in text
    assert compare_runs([a, b]).pairs[0].n_people == 6 and compare_runs([a, b]).pairs[0].n_left_out == 2
    assert "different clips of 1 people" in " ".join(compare_runs([a, tmp_path / "c"]).warnings)
    assert optimism(a, b).gap > 0
    split = write(tmp_path, "d", split="lnso")
    assert "differ in split: unknown and lnso" in " ".join(compare_runs([a, split]).warnings)


def test_a_run_over_fewer_folds_than_planned_is_said(tmp_path):
    a, b, c = write(tmp_path, "a"), write(tmp_path, "b", drop=3), write(tmp_path, "c", drop=1)
    n = read_run(a).summary["n_planned"]
    text = " ".join(compare_runs([a, b, c]).warnings)
    assert f"b stands on {n - 3} of {n} planned folds." in text and f"c stands on {n - 1} of {n} planned folds." in text
    assert "a stands on" not in text


@pytest.mark.parametrize("spoil, words", [
    (lambda p: (p / "summary.json").unlink(), "not a finished run"),
    (lambda p: (p / "summary.json").write_text("{"), "not a finished run"),
    (lambda p: (p / "predictions.parquet").unlink(), "not a finished run"),
    (lambda p: (p / "predictions.parquet").write_bytes(b"PAR1 no"), "cannot be read"),
    (lambda p: os.replace(p.parent / "other" / "predictions.parquet", p / "predictions.parquet"), "do not belong")])
def test_a_broken_run_is_one_sentence_and_exit_2(tmp_path, spoil, words, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    write(tmp_path, "other", skill=0.2)
    spoil(b)
    assert cli.run(compare.main, [str(a), str(b)]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_missing_folder_one_run_and_a_run_without_folds(tmp_path, capsys):
    a = write(tmp_path, "a")
    assert cli.run(compare.main, [str(a), str(tmp_path / "nowhere")]) == 2
    assert cli.run(compare.main, [str(a)]) == 2
    assert cli.run(compare.main, []) == 2
    (tmp_path / "both" / "clean").mkdir(parents=True)
    (tmp_path / "both" / "as_paper").mkdir()
    with pytest.raises(UserError, match="holds two runs: name .*clean or .*as_paper"):
        read_run(tmp_path / "both")
    empty = write(tmp_path, "empty", drop=8)
    assert cli.run(compare.main, [str(a), str(empty)]) == 2
    err = capsys.readouterr().err
    assert "no folder" in err and "at least two" in err and "no predictions" in err


def test_writes_nothing_unless_asked(tmp_path, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", skill=0.3)
    before = sorted(tmp_path.rglob("*"))
    assert cli.run(compare.main, [str(a), str(b)]) == 0
    assert cli.run(compare.main, [str(a), str(b), "--out", str(tmp_path / "x.json"), "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert cli.run(compare.main, [str(a), str(b), "--out", str(tmp_path / "x.json")]) == 0
    assert cli.run(compare.main, [str(a), str(b), "--out", str(tmp_path / "x.md")]) == 0
    pair = json.loads((tmp_path / "x.json").read_text())["pairs"][0]
    assert pair["gap"] > 0 and f"{100 * pair['gap']:+.1f}" in (tmp_path / "x.md").read_text()
    assert f"{100 * pair['gap']:+.1f}" in capsys.readouterr().out
    assert cli.run(compare.main, [str(a), str(b), "--out", str(tmp_path / "x.csv")]) == 2
    assert cli.run(compare.main, [str(a), str(b), "--dataset", "watch"]) == 2


def test_an_out_that_cannot_be_written_is_said_before_anything_is_compared(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(compare.main, ["no run", "nor this", "--out", str(tmp_path / "file" / "x.json")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is no folder; name a file in a folder of yours" in err


def test_a_terminal_that_knows_ascii_alone(tmp_path):
    write(tmp_path, "a"), write(tmp_path, "b", skill=0.3)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUTF8", None)
    done = subprocess.run([sys.executable, "-m", "orchestrator.compare", "a", "b"], cwd=tmp_path, env=environment,
                          capture_output=True)
    assert done.returncode == 0 and done.stdout.isascii() and b"+-" in done.stdout and b"Traceback" not in done.stderr
