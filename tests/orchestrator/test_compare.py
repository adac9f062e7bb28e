"""python -m orchestrator.compare: what it refuses, what it says, what it writes."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from orchestrator import cli, compare
from orchestrator.cohort.lineage import Lineage
from orchestrator.errors import UserError
from orchestrator.files.storage import write_json
from orchestrator.reporting.comparison import choosing, margin_words, optimism, optimism_words, print_comparison, read_run
from orchestrator.reporting.comparison import compare as compare_runs
from orchestrator.reporting.summary import write_run_files
from orchestrator.scores import chance
from tests.helpers.made_runs import made_run, pseudonym, results, takes_entries
from tests.helpers.places import ROOT

choosing, optimism, write_run_files = map(takes_entries, (
    choosing, optimism, write_run_files))


def write(tmp_path, name, drop=0, record=None, changes=lambda fold: fold, **more):
    """A finished run with the record of a run today; record=False: of a run before there was one."""
    run, folds = made_run(**more)
    folds = [changes(fold) for fold in folds[drop:]]
    write_run_files(tmp_path / name, run, folds)
    if record is not False:
        recordings = {fold["subject"]: {"signals": [f"{fold['fold']:012x}"]} for fold in folds}
        write_json(tmp_path / name / "lineage.json", {"folds": [], "recordings": recordings, "scale": "train_z", "refit": False,
                                                      "settings": None} | (record or {}))
    return tmp_path / name


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fitted_on_everybody(fold):
    return fold | {"train_subjects": fold["train_subjects"] + fold["val_subjects"], "val_subjects": []}


def test_pairs_by_subject(tmp_path):
    a, b = write(tmp_path, "a", n_people=10, seeds=(0, 1)), write(tmp_path, "b", n_people=10, seeds=(0, 1), skill=0.4)
    found = compare_runs([a, b])
    pair = found.pairs[0]
    d = [read_run(a).by_subject[p] - read_run(b).by_subject[p] for p in read_run(a).by_subject]
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


def test_other_subjects_are_refused(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", drop=7)
    with pytest.raises(UserError, match="share fewer than 2"):
        compare_runs([a, b])


def test_differences_are_reported(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", drop=2, leaky=True, protocol="as_paper", skill=3.0)
    run, folds = made_run()
    folds[5]["predictions"].pop()
    write_run_files(tmp_path / "c", run, folds)
    text = " ".join(compare_runs([a, b]).warnings)
    assert "differ in protocol: clean and as_paper" in text and "2 are left out" in text and "leaky on purpose" in text
    assert compare_runs([a, b]).pairs[0].n_people == 6 and compare_runs([a, b]).pairs[0].n_left_out == 2
    assert "different clips of 1 subjects" in " ".join(compare_runs([a, tmp_path / "c"]).warnings)
    assert optimism(a, b)["gap"] > 0
    split = write(tmp_path, "d", split="lnso")
    assert "differ in split: unknown and lnso" in " ".join(compare_runs([a, split]).warnings)


def test_a_run_over_fewer_folds_than_planned_is_reported(tmp_path):
    a, b, c = write(tmp_path, "a"), write(tmp_path, "b", drop=3), write(tmp_path, "c", drop=1)
    n = read_run(a).summary["n_planned"]
    text = " ".join(compare_runs([a, b, c]).warnings)
    assert f"b has {n - 3} of {n} planned folds." in text and f"c has {n - 1} of {n} planned folds." in text
    assert "a has" not in text


def test_other_classes_are_another_question_and_one_run_given_twice_is_reported(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    c = write(tmp_path, "c", record={"content_key": "one"})
    d = write(tmp_path, "d", record={"content_key": "one"})
    assert "are the same run" in " ".join(compare_runs([c, d]).warnings) and compare_runs([a, b]).warnings == []
    b = write(tmp_path, "other", classes=("BL1", "PA2"))
    with pytest.raises(UserError, match="different list of classes"):
        compare_runs([a, b])


def test_no_optimism_is_reported_with_a_clean_run_that_gives_one_answer():
    pair = {"gap": 0.2, "gap_ci95": (0.1, 0.3), "same_training": True, "choosing": None, "clean_one_answer": [7, 8]}
    assert "is not known" in optimism_words(pair)[0]
    assert "This is optimism bias" in optimism_words(pair | {"clean_one_answer": [3, 8]})[0]
    assert "no optimism bias is shown" in optimism_words(pair | {"gap": -0.2, "gap_ci95": (-0.3, -0.1)})[0]


def test_a_margin_says_nothing_of_a_leaky_run_and_is_given_once(tmp_path, capsys):
    a, leaky = write(tmp_path, "a"), write(tmp_path, "leaky", leaky=True)
    found = compare_runs([a, leaky], 0.5)
    assert found.pairs[0].margin is None and "The margin is not applied to it" in " ".join(found.warnings)
    assert cli.run(compare.main, [str(a), str(leaky), "compare.margin=5", "compare.margin=1"]) == 2
    assert "given more than once" in capsys.readouterr().err


@pytest.mark.parametrize("spoil, words", [
    (lambda p: (p / "summary.json").unlink(), "not a finished run"),
    (lambda p: (p / "summary.json").write_text("{"), "not a finished run"),
    (lambda p: (p / "predictions.parquet").unlink(), "not a finished run"),
    (lambda p: (p / "predictions.parquet").write_bytes(b"PAR1 no"), "cannot be read"),
    (lambda p: os.replace(p.parent / "other" / "predictions.parquet", p / "predictions.parquet"), "truncated or edited"),
    (lambda p: edit(p / "summary.json", accuracy_mean=float("nan")), "do not belong"),
    (lambda p: edit(p / "summary.json", folds=None), "truncated or edited"),
    (lambda p: edit(p / "summary.json", folds=[{}]), "truncated or edited"),
    (lambda p: edit(p / "summary.json", accuracy_ci95="x"), "truncated or edited"),
    (lambda p: (p / "lineage.json").write_text("{}"), "truncated or edited")])
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
    with pytest.raises(UserError, match="holds two runs: give .*clean or .*as_paper"):
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


def test_an_out_that_cannot_be_written_is_reported_before_anything_is_compared(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(compare.main, ["no run", "nor this", "--out", str(tmp_path / "file" / "x.json")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is not a folder; choose a file in a folder that you can write to" in err


def test_a_terminal_that_knows_ascii_alone(tmp_path):
    write(tmp_path, "a"), write(tmp_path, "b", skill=0.3)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUTF8", None)
    done = subprocess.run([sys.executable, "-m", "orchestrator.compare", "a", "b"], cwd=tmp_path, env=environment,
                          capture_output=True)
    assert done.returncode == 0 and done.stdout.isascii() and b"+-" in done.stdout and b"Traceback" not in done.stderr


def marked(change):
    """The record of a run in which the recordings of some subjects (by number of their fold) are others."""
    return {"recordings": {pseudonym(i): {"signals": [f"{i:012x}" if i not in change else "f" * 12]} for i in range(8)}}


def test_two_studies_with_the_same_names_are_refused(tmp_path, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", record=marked(range(8)))
    assert cli.run(compare.main, [str(a), str(b)]) == 2
    said = capsys.readouterr().err
    assert "two studies" in said and said.count("\n") == 1


def test_some_other_recordings_are_reported(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", record=marked({2, 5}))
    assert "different recordings of 2 of 8 subjects" in " ".join(compare_runs([a, b]).warnings)
    both = {"recordings": {pseudonym(i): {"signals": [f"{i:012x}"], "video": ["0" * 12]} for i in range(8)}}
    assert compare_runs([a, write(tmp_path, "c", record=both)]).warnings == []  # a video that only one of them reads
    films = {"recordings": {pseudonym(i): {"video": [f"{i:012x}"]} for i in range(8)}}
    assert "one reads video only" in " ".join(compare_runs([a, write(tmp_path, "d", record=films)]).warnings)


def test_runs_with_excluded_clips_are_compared_with_a_warning(tmp_path):
    """A subject without one of the trials is compared, with a warning, as the difference may come from the trials."""
    one, two = ({"recordings": {pseudonym(i): {"signals": [f"{i:012x}", more]} for i in range(8)}}
                for more in ("a" * 12, "b" * 12))
    a, b = write(tmp_path, "a", record=one), write(tmp_path, "b", record=two)
    assert "do not read exactly the same recordings of 8 of 8 subjects" in " ".join(compare_runs([a, b]).warnings)
    older = {"recordings": {pseudonym(i): {"signals": f"{i:016x}"} for i in range(8)}}
    assert "was made by an older version" in " ".join(compare_runs([a, write(tmp_path, "c", record=older)]).warnings)


def test_a_run_that_does_not_record_its_inputs_is_reported(tmp_path):
    a, old = write(tmp_path, "a"), write(tmp_path, "old", record=False)
    said = " ".join(compare_runs([a, old]).warnings)
    assert "old was made by a version that did not record it" in said and "paired by name alone" in said


@pytest.mark.parametrize("text", ["[]", "{", '{"recordings": 3}', '{"recordings": {"x": 1}}', '{"encoders": [{}]}',
                                  '{"folds": [1]}'])
def test_a_record_that_was_changed_is_one_sentence(tmp_path, text, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    (b / "lineage.json").write_text(text)
    assert cli.run(compare.main, [str(a), str(b)]) == 2
    err = capsys.readouterr().err
    assert "lineage.json was truncated or edited" in err and err.count("\n") == 1


def test_a_transductive_scale_is_another_question(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", record={"scale": "subject_z"})
    assert "b is transductive" in " ".join(compare_runs([a, b]).warnings)
    c = write(tmp_path, "c", record={"scale": "clip_minmax"})
    assert "differ in scale: train_z and clip_minmax" in " ".join(compare_runs([a, c]).warnings)
    assert compare_runs([a, write(tmp_path, "d", record={"scale": None})]).warnings == []  # reads no signals


def test_a_fit_on_fewer_subjects_is_reported_and_a_refit_evens_it_out(tmp_path):
    forest = write(tmp_path, "forest", model="random_forest", changes=fitted_on_everybody)
    network = write(tmp_path, "network")
    said = " ".join(compare_runs([forest, network]).warnings)
    assert "forest on 7, network on 5 and keeps for choosing the epoch 2" in said and "protocol.refit=true" in said
    again = write(tmp_path, "again", record={"refit": True})
    assert compare_runs([forest, again]).warnings == []
    other = write(tmp_path, "other", changes=lambda fold: fold | {
        "train_subjects": fold["val_subjects"] + fold["train_subjects"][2:], "val_subjects": fold["train_subjects"][:2]})
    assert "fitted on different subjects for 8 of 8 test results" in " ".join(compare_runs([network, other]).warnings)


def test_encoders_trained_on_other_subjects_are_reported(tmp_path):
    def encoded(people):
        lineage = Lineage("encoder 1", frozenset(f"made/{p}" for p in people)).to_json()
        return {"encoders": [{"index": 0, "sha256": "0", "lineage": lineage}],
                "folds": [{"fold": i, "seed": 0, "encoder": 0, "test": [f"made/{pseudonym(i)}"]} for i in range(8)]}

    a, b = write(tmp_path, "a", record=encoded("xyz")), write(tmp_path, "b", record=encoded("xy"))
    assert "on different subjects for 8 of 8 test subjects (3 and 2 each)" in " ".join(compare_runs([a, b]).warnings)
    assert compare_runs([a, write(tmp_path, "same", record=encoded("zyx"))]).warnings == []
    none = write(tmp_path, "none", record=encoded(""))
    said = " ".join(compare_runs([a, none]).warnings)
    assert "encoders of a were pretrained on 3 subjects without labels; none has no" in said


def test_a_public_checkpoint_is_no_run_without_pretraining(tmp_path):
    def served(lineage):
        return {"encoders": [{"index": 0, "sha256": "0", "lineage": lineage.to_json()}],
                "folds": [{"fold": i, "seed": 0, "encoder": 0, "test": [f"made/{pseudonym(i)}"]} for i in range(8)]}

    ours = write(tmp_path, "ours", record=served(Lineage("encoder 1", frozenset({"made/x"}))))
    for number, parent in enumerate((Lineage("a file", proven=False), Lineage("a file"))):
        theirs = write(tmp_path, f"file{number}", record=served(Lineage("encoder 1", parents=(parent,))))
        said = " ".join(compare_runs([ours, theirs]).warnings)
        assert f"encoders of file{number} were trained elsewhere" in said and "no pretrained encoder" not in said


def test_encoders_of_every_pretraining_are_checked(tmp_path):
    def two(second):
        lineages = [Lineage("encoder 1", frozenset({"made/x"})), Lineage("encoder 1", frozenset({second}))]
        return {"encoders": [{"index": i, "sha256": "0", "lineage": one.to_json()} for i, one in enumerate(lineages)],
                "folds": [{"fold": i, "seed": 1000 * n, "encoder": n, "test": [f"made/{pseudonym(i)}"]} for n in (1, 0)
                          for i in range(8)]}

    a, b = write(tmp_path, "a", record=two("made/y")), write(tmp_path, "b", record=two("made/z"))
    assert "on different subjects for 8 of 8 test subjects (2 and 2 each)" in " ".join(compare_runs([a, b]).warnings)


def test_what_pretraining_moves_is_not_called_training(tmp_path, capsys):
    of = {"0": {"protocol": 0, "pretrain": 0}, "1000": {"protocol": 0, "pretrain": 1}}
    run = write(tmp_path, "a", seeds=(0, 1000), seed_of=of, pretrain_seeds=[0, 1])
    found = read_run(run).variance()
    assert found.seed_within_person is None and found.pretraining_within_person > 0
    print_comparison(compare_runs([run, write(tmp_path, "b")]))
    assert "(pretraining)" in capsys.readouterr().out


def test_tuned_settings_are_reported(tmp_path):
    sweep = Lineage("a setting", frozenset({"made/x", "made/y"})).to_json()
    a, b = write(tmp_path, "a", record={"chosen_by": [sweep]}), write(tmp_path, "b")
    said = " ".join(compare_runs([a, b]).warnings)
    assert "a were chosen by a sweep over 2 subjects" in said and "b were not chosen by a sweep" in said
    c = write(tmp_path, "c", record={"settings": "chosen on subjects who are tested here."})
    assert "settings of c's training were chosen on subjects who are tested here." in " ".join(compare_runs([b, c]).warnings)


def test_no_worse_is_a_claim_about_a_margin(tmp_path, capsys):
    a, b = write(tmp_path, "a", n_people=10), write(tmp_path, "b", n_people=10, skill=0.4)
    pair = compare_runs([a, b], 0.05).pairs[0]
    d = np.array([read_run(a).by_subject[p] - read_run(b).by_subject[p] for p in read_run(a).by_subject])
    shared = chance.inflation(results(made_run(n_people=10)[1]))
    assert 1 < shared <= 2, "subjects who train each other's models are not independent"
    low, high = stats.t.interval(0.9, 9, loc=d.mean(), scale=stats.sem(d) * np.sqrt(shared))
    assert pair.bounds95 == pytest.approx((low, high)) and pair.a_no_worse and not pair.b_no_worse
    assert pair.a_no_worse == (stats.ttest_1samp(d, -0.05, alternative="greater").pvalue < 0.05)
    assert cli.run(compare.main, [str(a), "compare.margin=5", str(b)]) == 0
    assert "a is no worse than b by a margin of 5 points" in capsys.readouterr().out
    assert cli.run(compare.main, [str(a), str(a), "compare.margin=0.1"]) == 0
    assert "equivalent within 0.1 points" in capsys.readouterr().out
    assert cli.run(compare.main, [str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert "is no worse" not in said and "compare.margin=POINTS tests it" in said
    wide = margin_words(replace(pair, bounds95=(-0.2, 0.3)))
    assert wide.startswith("Neither of a and b is shown to be no worse than the other by 5 points")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "", "two", "100", "[1]"])
def test_a_margin_that_is_none_is_one_sentence(tmp_path, value, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    assert cli.run(compare.main, [str(a), str(b), f"compare.margin={value}"]) == 2
    out, err = capsys.readouterr()
    assert "compare.margin" in err and err.count("\n") == 1 and out == ""


def test_an_option_of_another_command_is_refused(tmp_path, capsys):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    assert cli.run(compare.main, [str(a), str(b), "protocol.seeds=3"]) == 2
    assert "no option 'protocol.seeds'" in capsys.readouterr().err


def test_names_stay_whole_where_the_output_is_no_terminal(tmp_path):
    long = "watch-exercise-signal_small-clean-with_a_name_that_no_table_of_80_columns_holds"
    a, b = write(tmp_path, long + "-1"), write(tmp_path, long + "-2", skill=0.2)
    out = io.StringIO()
    print_comparison(compare_runs([a, b]), Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert any(f"{long}-1" in line and "dual" in line for line in lines)
    assert any(f"{long}-1 - {long}-2" in line and "dz" not in line for line in lines)
    assert not any(len(line.strip()) == 1 for line in lines)


def entries(histories, epochs, val, refit=False):
    return [{"seed": 0, "fold": i, "subjects": [f"p{i}"], "train_subjects": ["x", "y"], "val_subjects": val or [f"p{i}"],
             "refit": refit, "epochs": n, "history": [{"val_accuracy": a} for a in own]}
            for i, (own, n) in enumerate(zip(histories, epochs, strict=True))]


def test_choosing_the_epoch_is_measured_within_the_same_fits():
    leaky = entries([(0.5, 0.7, 0.6), (0.9, 0.4, 0.8), (0.2, 0.2)], [2, 1, 1], None)
    found = choosing(leaky)  # best together: the first epoch, 1.6 in all; a fit that has ended keeps its last score
    assert found["gap"] == pytest.approx((0.7 - 0.5 + 0.9 - 0.9 + 0.2 - 0.2) / 3) and found["n"] == 3
    again = [fold | {"seed": 1, "history": [{"val_accuracy": 0.5}], "epochs": 1} for fold in leaky]
    assert choosing([*leaky, *again])["gap"] == pytest.approx(found["gap"] / 2), "seeds are averaged within a subject"
    assert choosing(leaky[:1]) is None and choosing([fold | {"history": [], "epochs": 0} for fold in leaky]) is None


def test_choosing_on_noise_is_no_more_than_what_it_is_worth():
    """Right is 1/2 at every epoch, so that all of the best of 40 looks at 20 clips, about 0.74, is optimism."""
    for seed in range(20):
        looks = np.random.default_rng(seed).binomial(20, 0.5, (20, 40)) / 20
        found = choosing(entries(looks.tolist(), (looks.argmax(axis=1) + 1).tolist(), None))
        assert 0.1 < found["gap"] < looks.max(axis=1).mean() - 0.5 and found["gap_ci95"][0] > 0.05


def test_a_gap_is_called_optimism_only_where_it_is_shown():
    shown = {"gap": 0.1, "gap_ci95": (0.05, 0.15), "same_training": True}
    assert "This is optimism bias, not a better model, and a lower bound" in optimism_words(shown)[0]
    for other in ({"gap": -0.009, "gap_ci95": (-0.017, -0.001)}, {"gap_ci95": (-0.05, 0.25)}, {"gap_ci95": None},
                  {"gap": 0.0, "gap_ci95": (0.0, 0.0)}, {"same_training": False}):
        assert "is optimism bias, not" not in " ".join(optimism_words(shown | other))
    assert "also fitted on the validation subjects" in optimism_words(shown | {"same_training": False})[0]
    own = {"choosing": {"gap": 0.056, "gap_ci95": (0.01, 0.1), "n": 8}}
    whole, alone = optimism_words(shown | own)
    assert "It also trains for longer" in whole and "This is optimism bias" not in whole
    assert "gives +5.6 points (95 % interval +1.0 to +10.0)" in alone and "and a lower bound" in alone
    unsure = optimism_words(shown | {"choosing": {"gap": 0.02, "gap_ci95": (-0.01, 0.05), "n": 8}})
    assert "not a better model" not in " ".join(unsure)


def test_like_is_compared_with_like(tmp_path):
    run, folds = made_run()
    a, b = write(tmp_path, "a"), write(tmp_path, "b", skill=2.0, leaky=True, protocol="as_paper")
    plain = [fold | {"history": [], "subjects": [fold["subject"]]} for fold in folds]
    leaky = [fitted_on_everybody(fold) | {"history": [], "subjects": [fold["subject"]], "val_subjects": [fold["subject"]]}
             for fold in folds]
    assert optimism(a, b, plain, leaky)["same_training"] is False
    assert optimism(a, b, [fold | {"refit": True} for fold in plain], leaky)["same_training"] is True
