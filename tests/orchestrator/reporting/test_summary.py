"""The files of a run: their documented names, order and definitions."""

import copy
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import stats
from sklearn import metrics

from orchestrator.errors import UserError
from orchestrator.reporting.summary import build_summary, headline, print_table, stamps, write_run_files
from orchestrator.scores.results import clips_of, seed_table, subject_scores
from tests.helpers.made_runs import made_run, results, takes_entries

build_summary, write_run_files, clips_of, subject_scores = map(takes_entries, (
    build_summary, write_run_files, clips_of, subject_scores))

FIELDS = """dataset task classes model encoder n_parameters protocol leaky unproven partial n_subjects n_planned n_folds
n_failed accuracy_mean accuracy_std accuracy_ci95 accuracy_ci95_bootstrap macro_f1_mean macro_f1_pooled chance
chance_uniform majority_baseline balanced_accuracy_mean balanced_accuracy_ci95 auroc_mean auroc_ci95 verdict split draws
configurations_on_cohort seeds wall_s versions git_commit dirty key_fingerprint folds""".split()
FOLD_FIELDS = """fold seed subject n_test n_quarantined accuracy accuracy_with_quarantined macro_f1 epochs
train_subjects val_subjects scaler_sha256 encoder_sha256 weights_sha256""".split()


def test_exactly_the_fields_of_the_contract():
    summary = build_summary(*made_run())
    assert set(summary) == set(FIELDS)
    assert all(set(fold) == set(FOLD_FIELDS) for fold in summary["folds"])
    json.dumps(summary, allow_nan=False)


def test_seeds_are_averaged_within_a_subject_first():
    run, folds = made_run(n_people=9, seeds=(0, 1, 2))
    folds = [fold for fold in folds if not (fold["fold"] == 4 and fold["seed"] > 0)]  # two seeds of one subject failed
    summary = build_summary(run, folds)
    by_person = {}
    for fold in summary["folds"]:
        by_person.setdefault(fold["subject"], []).append(fold["accuracy"])
    means = [np.mean(values) for values in by_person.values()]
    assert summary["accuracy_mean"] == pytest.approx(np.mean(means))
    assert summary["accuracy_mean"] != pytest.approx(np.mean([fold["accuracy"] for fold in summary["folds"]]))
    assert summary["accuracy_std"] == pytest.approx(np.std(means, ddof=1))
    t = stats.t.interval(0.95, len(means) - 1, loc=np.mean(means), scale=stats.sem(means))
    assert summary["accuracy_ci95"] == pytest.approx([max(t[0], 0), min(t[1], 1)])
    assert summary["n_folds"] == 25 and summary["n_planned"] == 27


def test_thirty_subjects_or_more_get_the_bootstrap_and_intervals_stay_within_0_and_1():
    many = build_summary(*made_run(n_people=30))
    assert many["accuracy_ci95"] == many["accuracy_ci95_bootstrap"]
    few = build_summary(*made_run(n_people=3, skill=2.0))
    assert few["accuracy_ci95"] != few["accuracy_ci95_bootstrap"]
    assert few["accuracy_ci95"][1] == 1.0


def test_macro_f1_and_pooled_equal_scikit_learn():
    run, folds = made_run(classes=("a", "b", "c"), n_clips=15)
    summary, clips = build_summary(run, folds), clips_of(folds, 3)
    assert summary["macro_f1_pooled"] == pytest.approx(metrics.f1_score(clips.y_true, clips.y_pred, average="macro"))
    each = [metrics.f1_score([r["y_true"] for r in f["predictions"]], [r["y_pred"] for r in f["predictions"]],
                             average="macro") for f in folds]
    assert summary["macro_f1_mean"] == pytest.approx(np.mean(each))
    assert summary["chance_uniform"] == pytest.approx(1 / 3)


def test_chance_is_the_better_of_guessing_and_the_training_majority():
    """Not the majority baseline alone, which is below guessing if leaving a subject out makes its class rarer in training."""
    run, folds = made_run(n_people=2, n_clips=4)
    folds[0]["train_label_counts"], folds[1]["train_label_counts"] = [9, 3], [3, 9]
    del folds[1]["predictions"][0]  # truth of fold 1 is now 0, 1, 1
    summary = build_summary(run, folds)
    assert summary["chance"] == summary["majority_baseline"] == pytest.approx((2 / 4 + 2 / 3) / 2)
    counts = {fold["fold"]: fold.pop("train_label_counts") for fold in folds}
    assert build_summary(run | {"train_label_counts": counts}, folds)["chance"] == pytest.approx((2 / 4 + 2 / 3) / 2)
    low = build_summary(run | {"train_label_counts": {0: [9, 3], 1: [9, 3]}}, folds)
    assert low["majority_baseline"] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert low["chance"] == low["chance_uniform"] == 0.5


def test_balanced_accuracy_and_auroc_are_of_subjects_with_several_classes():
    run, folds = made_run(n_people=8)
    folds[2]["predictions"] = [row for row in folds[2]["predictions"] if row["y_true"] == 1]
    summary, people = build_summary(run, folds), subject_scores(folds, 2)
    both = [p for p in people if p.subject != folds[2]["subject"]]
    for field, name in (("balanced_accuracy", "balanced_accuracy"), ("auroc", "auroc")):
        values = [p.mean(name) for p in both]
        assert summary[f"{field}_mean"] == pytest.approx(np.mean(values))
        low, high = stats.t.interval(0.95, 6, loc=np.mean(values), scale=stats.sem(values))
        assert summary[f"{field}_ci95"] == pytest.approx([max(low, 0), min(high, 1)])


def drawn(draws, n_people=6, **more):
    """(run, folds) of a fixed split: the subjects of made_run, drawn into test sets; predictions differ between draws."""
    run, one = made_run(n_people=n_people, **more)
    folds = []
    for number, draw in enumerate(draws):
        again = made_run(n_people=n_people, chooser=number, **more)[1]
        names = [one[i]["subject"] for i in draw]
        train = [fold["subject"] for i, fold in enumerate(one) if i not in draw]
        folds.append({**one[draw[0]], "fold": number, "subject": names[0], "subjects": names, "train_subjects": train,
                      "val_subjects": [], "n_quarantined": 0, "quarantined_by_class": {},
                      "predictions": [row for i in draw for row in again[i]["predictions"]]})
    return run | {"split": "fixed"}, folds


def test_draws_of_a_fixed_split_count_each_subject_once():
    draws = [(0, 1), (0, 2), (0, 3)]
    run, folds = drawn(draws)
    summary, people = build_summary(run, folds), subject_scores(folds, 2)

    def right(number, person):
        rows = [r for r in folds[number]["predictions"] if r["subject"] == folds[number]["subjects"][person]]
        return np.mean([r["y_true"] == r["y_pred"] for r in rows])

    by_draw = [np.mean([right(n, 0), right(n, 1)]) for n in range(3)]
    by_person = [np.mean([right(n, 0) for n in range(3)]), *(right(n, 1) for n in range(3))]
    assert summary["draws"] == {"n": 3, "accuracy_mean": pytest.approx(np.mean(by_draw)),
                                "accuracy_std": pytest.approx(np.std(by_draw, ddof=1)), "n_subjects": 4, "n_more_than_once": 1}
    assert summary["accuracy_mean"] == pytest.approx(np.mean(by_person)) != summary["draws"]["accuracy_mean"]
    assert summary["split"] == "fixed"
    assert {p.by_seed[0].n for p in people} == {16}, "a subject's clips are counted once"
    clips = clips_of(folds, 2)
    assert len(clips.y_true) == 6 * 16 and clips.n_clips() == 4 * 16 == pytest.approx(clips.weight().sum())
    weights = [1 / 3 if r["subject"] == folds[0]["subject"] else 1 for f in folds for r in f["predictions"]]
    expected = metrics.f1_score(clips.y_true, clips.y_pred, average="macro", sample_weight=weights)
    assert summary["macro_f1_pooled"] == pytest.approx(expected)
    line = headline(summary)
    assert f"over 3 test sets: {100 * np.mean(by_draw):.1f} ± {100 * np.std(by_draw, ddof=1):.1f} %" in line


def test_one_test_set_drawn_twice_is_one():
    run, folds = drawn([(0, 1), (0, 2), (1, 0)])
    once = build_summary(run, folds[:2])["draws"]
    twice = build_summary(run, folds)["draws"]
    assert twice["n"] == once["n"] == 2 and twice["n_more_than_once"] == 1


def test_auroc_of_a_subject_in_several_draws_is_computed_within_a_draw():
    """Scores of two models have different scales: pooled ranks would be meaningless."""
    run, folds = drawn([(0, 1), (0, 2)])
    for row in folds[1]["predictions"]:
        row["prob"] = [0.9 + row["prob"][0] / 10, row["prob"][1] / 10]
    own = [[(r["y_true"], r["prob"][1]) for r in f["predictions"] if r["subject"] == f["subjects"][0]] for f in folds]
    areas = [metrics.roc_auc_score(*zip(*rows, strict=True)) for rows in own]
    person = next(p for p in subject_scores(folds, 2) if p.subject == folds[0]["subject"])
    assert person.mean("auroc") == pytest.approx(np.mean(areas))


def test_seeds_are_averaged_within_a_subject_of_a_draw():
    run, folds = drawn([(0, 1), (2, 3)])
    other = [{**fold, "seed": 1, "predictions": [{**r, "y_pred": r["y_true"]} for r in fold["predictions"]]} for fold in folds]
    one, two = build_summary(run, folds)["draws"], build_summary(run, [*folds, *other])["draws"]
    assert two["n"] == 2 and two["accuracy_mean"] == pytest.approx((one["accuracy_mean"] + 1) / 2)
    assert two["n_more_than_once"] == 0


def test_leaving_one_out_has_no_draws_and_one_fixed_test_set_no_spread():
    assert build_summary(*made_run())["draws"] is None
    alone = build_summary(*drawn([(0, 1, 2)]))
    assert alone["draws"]["n"] == 1 and alone["draws"]["accuracy_std"] is None and "test sets" not in headline(alone)


def test_excluded_clips_are_those_of_one_seed():
    one, three = build_summary(*made_run()), build_summary(*made_run(seeds=(0, 1, 2)))
    assert "2 test clips were excluded" in headline(one) and "2 test clips were excluded" in headline(three)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_probabilities_are_an_error(value):
    run, folds = made_run()
    folds[2]["predictions"][1]["prob"] = [value, 0.5]
    with pytest.raises(UserError, match="1 of 128 predictions have NaN"):
        build_summary(run, folds)


def test_a_missing_class_leaves_defined_scores():
    run, folds = made_run(classes=("a", "b", "c"), n_clips=15)
    for fold in folds:
        fold["predictions"] = [row for row in fold["predictions"] if row["y_true"] < 2]
    summary = build_summary(run, folds)
    assert summary["verdict"]["above_chance"] in (True, False) and 0 <= summary["auroc_mean"] <= 1
    assert json.dumps(summary, allow_nan=False)


def test_excluded_clips_count_as_errors_in_the_second_accuracy():
    summary = build_summary(*made_run())
    fold = summary["folds"][1]
    assert (fold["n_test"], fold["n_quarantined"]) == (16, 2)
    assert fold["accuracy_with_quarantined"] == pytest.approx(fold["accuracy"] * 16 / 18)
    other = summary["folds"][0]
    assert other["accuracy_with_quarantined"] == other["accuracy"]


def test_a_fold_whose_clips_are_all_excluded_is_undefined_not_zero():
    run, folds = made_run()
    folds[2] = folds[2] | {"predictions": [], "n_test": 0, "n_quarantined": 16}
    summary = build_summary(run, folds)
    assert summary["folds"][2]["accuracy"] is None and summary["folds"][2]["accuracy_with_quarantined"] == 0
    assert summary["accuracy_mean"] == pytest.approx(
        np.mean([fold["accuracy"] for fold in summary["folds"] if fold["accuracy"] is not None]))


def test_accuracies_reported_by_workers_are_not_used():
    run, folds = made_run()
    lying = [fold | {"accuracy": 1.0, "n_test": 999} for fold in folds]
    assert build_summary(run, lying) == build_summary(run, folds)


def test_no_finished_fold_is_a_summary_without_numbers(tmp_path):
    run, _ = made_run()
    summary = write_run_files(tmp_path, run | {"n_failed": 8}, [])
    assert summary["accuracy_mean"] is None and summary["accuracy_ci95"] is None and summary["chance"] is None
    assert summary["n_folds"] == 0 and pq.read_table(tmp_path / "predictions.parquet").num_rows == 0
    assert print_text(summary).rstrip().endswith("on 0 of 8 folds")


def test_folds_of_several_subjects_weigh_subjects_equally():
    run, folds = made_run(n_people=4)
    pair = {**folds[0], "subjects": [folds[0]["subject"], folds[1]["subject"]],
            "predictions": folds[0]["predictions"] + folds[1]["predictions"][:4]}
    summary = build_summary(run, [pair, folds[2], folds[3]])
    assert summary["folds"][0]["subject"] == f"{folds[0]['subject']}+{folds[1]['subject']}"
    people = subject_scores([pair, folds[2], folds[3]], 2)
    assert len(people) == 4 and seed_table(people).shape == (4, 1)
    assert summary["accuracy_mean"] == pytest.approx(np.mean([p.mean("accuracy") for p in people]))


def test_predictions_are_sorted_by_seed_fold_sample(tmp_path):
    run, folds = made_run(n_people=12, seeds=(1, 0))
    for fold in folds:
        fold["predictions"].reverse()
    write_run_files(tmp_path, run, folds[::-1])
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table.column_names == ["fold", "seed", "sample", "subject", "y_true", "y_pred", "prob_0", "prob_1"]
    keys = [(row["seed"], row["fold"], row["sample"]) for row in table.to_pylist()]
    assert keys == sorted(keys) and len(keys) == 12 * 2 * 16


def test_same_folds_same_bytes_whatever_their_order_and_times(tmp_path):
    run, folds = made_run()
    write_run_files(tmp_path / "a", run, folds)
    other = copy.deepcopy(folds)[::-1]
    for fold in other:
        fold["wall_s"], fold["peak_memory_mb"] = 99.0, 1.0
        fold["predictions"].reverse()
    write_run_files(tmp_path / "b", run, other)
    for name in ("predictions.parquet", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    changed = copy.deepcopy(folds)
    changed[0]["predictions"][0]["prob"][0] += 1e-12
    write_run_files(tmp_path / "c", run, changed)
    a, c = (tmp_path / name / "predictions.parquet" for name in "ac")
    assert a.read_bytes() != c.read_bytes()


def test_folds_table_has_every_score_and_the_cost(tmp_path):
    run, folds = made_run()
    one_class = [row for row in folds[3]["predictions"] if row["y_true"] == 0]
    folds[3] = folds[3] | {"predictions": one_class, "warnings": ["no clip of PA4"]}
    write_run_files(tmp_path, run, folds)
    rows = pq.read_table(tmp_path / "folds.parquet").to_pylist()
    assert [row["auroc"] is None for row in rows] == [i == 3 for i in range(8)]
    assert rows[3]["warnings"] == ["no clip of PA4"] and rows[0]["wall_s"] == 1.5 and rows[0]["test_openings"] == 1
    assert {"balanced_accuracy", "macro_precision", "macro_recall", "brier"} <= set(rows[0])
    assert [sum(row["confusion"]) for row in rows] == [row["n_test"] for row in rows]
    assert [row["quarantined_by_class"] for row in rows] == [[0, 2] if i == 1 else [0, 0] for i in range(8)]
    assert rows[3]["confusion"][2:] == [0, 0] and rows[3]["confusion"][0] == round(rows[3]["accuracy"] * rows[3]["n_test"])


def test_wrong_number_of_probabilities_is_a_defect_not_a_result():
    run, folds = made_run(classes=("a", "b", "c"), n_clips=15)
    with pytest.raises(ValueError, match="probabilities a clip"):
        build_summary(run | {"class_names": ["a", "b"]}, folds)


def print_text(summary, **more):
    console = Console(file=io.StringIO(), width=100)
    print_table(summary, console=console, **more)
    return console.file.getvalue()


def test_the_last_lines_are_table_mean_and_report():
    summary = build_summary(*made_run())
    lines = print_text(summary, report="out/[x]/report.html").rstrip().splitlines()
    assert lines[-1] == "report: out/[x]/report.html"
    mean, std = 100 * summary["accuracy_mean"], 100 * summary["accuracy_std"]
    assert lines[-2].startswith(f"accuracy {mean:.1f} ± {std:.1f} % (mean ± std over 8 subjects, 95 % CI")
    assert "└" in lines[-3] and "folds" not in lines[-2]
    assert "; chance 50.0 (uniform guessing 1/2), majority baseline 50.0); above chance (accuracy, p = 0.0" in lines[-2]


def test_stamps_and_failures_are_loud():
    run, folds = made_run(leaky=True, unproven=True, partial=True)
    summary = build_summary(run, folds[:7])
    assert [word for word, _ in stamps(summary)] == ["LEAKY", "UNPROVEN", "PARTIAL"]
    text = print_text(summary, failed=[{"fold": 7, "seed": 0, "reason": "out of memory [3 times]"}])
    assert "*** LEAKY ***" in text and "*** UNPROVEN ***" in text and "*** PARTIAL ***" in text
    assert "fold 7 seed 0 failed: out of memory [3 times]" in text and "on 7 of 8 folds" in text
    assert "***" not in print_text(build_summary(*made_run()))


def test_pooled_f1_counts_a_clip_once_a_seed():
    from sklearn.metrics import f1_score

    run, folds = made_run(n_people=5, seeds=(0, 1, 2), skill=0.4)
    by_seed = [[row for fold in folds if fold["seed"] == seed for row in fold["predictions"]] for seed in (0, 1, 2)]
    means = [f1_score([r["y_true"] for r in rows], [r["y_pred"] for r in rows], average="macro") for rows in by_seed]
    assert build_summary(run, folds)["macro_f1_pooled"] == pytest.approx(np.mean(means))


def test_excluded_clips_count_for_their_own_subject():
    from orchestrator.reporting.findings import Report
    from orchestrator.reporting.sections import accuracies_with_excluded

    def rows(name, right):
        return [{"sample": f"{name}{i}", "subject": name, "y_true": 0, "y_pred": 1 - int(i < right), "prob": [0.5, 0.5]}
                for i in range(4)]

    run, (fold, *_) = made_run(n_people=4)
    fold = {**fold, "subjects": ["a", "b"], "predictions": rows("a", 4) + rows("b", 2), "n_quarantined": 4,
            "quarantined_by_subject": {"a": 4}}
    assert accuracies_with_excluded(Report(run, results([fold]), {})) == [0.5, 0.5]
