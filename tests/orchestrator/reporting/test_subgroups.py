"""Results by sex and age: groups of subjects, with intervals, and differences only if they are shown."""

import numpy as np
import pytest
from scipy import stats

from orchestrator.cohort.cohort import Cohort, Person
from orchestrator.reporting.findings import Report
from orchestrator.reporting.subgroups import age_band, subgroup_rows, subgroups_section, welch
from orchestrator.reporting.summary import build_summary
from tests.helpers.made_runs import made_run, takes_entries, words_of

Report, build_summary, subgroup_rows = map(takes_entries, (
    Report, build_summary, subgroup_rows))


def people_like(folds, sexes, ages) -> Cohort:
    people = tuple(Person(i, f["subject"], s, a) for i, (f, s, a) in enumerate(zip(folds, sexes, ages, strict=True)))
    return Cohort(dataset="synthetic", name="synthetic", class_names=(), people=people, clips=(), key_fingerprint="",
                  partial=False, notes=(), synthetic=True)


def with_accuracy(folds, accuracies):
    """Folds with the given numbers of 16 correct predictions."""
    found = []
    for fold, accuracy in zip(folds, accuracies, strict=True):
        rows = [{**row, "y_pred": row["y_true"] if i < round(16 * accuracy) else 1 - row["y_true"]}
                for i, row in enumerate(fold["predictions"])]
        found.append({**fold, "predictions": rows})
    return found


def test_age_bands():
    assert [age_band(a) for a in (18, 35, 36, 50, 51, 65, 66, 90)] == [
        "up to 35", "up to 35", "36 to 50", "36 to 50", "51 to 65", "51 to 65", "over 65", "over 65"]


def test_groups_with_intervals_and_differences():
    run, folds = made_run(n_people=8)
    folds = with_accuracy(folds, [1.0, 0.875, 1.0, 0.875, 0.5, 0.625, 0.5, 0.625])
    people = people_like(folds, "ffffmmmm", [20, 22, 40, 41, 20, 22, 40, 70])
    sex, age = subgroup_rows(people, folds, 2)
    assert [(g["name"], g["n_people"], g["accuracy"]) for g in sex["groups"]] == [("female", 4, 0.9375), ("male", 4, 0.5625)]
    (gap,) = sex["differences"]
    assert gap["difference"] == pytest.approx(0.375) and 0 < gap["ci95"][0] < gap["ci95"][1]
    assert [(g["name"], g["n_people"]) for g in age["groups"]] == [("up to 35", 4), ("36 to 50", 3)] and age["left_out"] == 1
    page = words_of(subgroups_section(Report({**run, "subgroups": [sex, age]}, folds, build_summary(run, folds))))
    assert "female minus male: +37.5 points" in page and "one of several comparisons" in page
    assert "Fewer than 10 subjects, too few for a conclusion: female, male" in page
    assert "Subjects in groups of fewer than 2, which are not shown: 1" in page and "no difference is shown" in page
    assert "over 65" not in page, "one subject is a group"


def test_welch_is_scipys_and_no_spread_is_no_certainty():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=5).tolist(), rng.normal(1, 3, size=9).tolist()
    theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert welch(one, other)[1] == pytest.approx([theirs.low, theirs.high])
    assert welch([1.0, 1.0], [0.5, 0.5]) == (0.5, None) and welch([1.0, 1.0], [0.5, 0.6])[1] is not None
    run, folds = made_run(n_people=4)
    folds = with_accuracy(folds, [1.0, 1.0, 0.5, 0.5])
    (sex,) = subgroup_rows(people_like(folds, "ffmm", [None] * 4), folds, 2)
    assert [g["ci95"] for g in sex["groups"]] == [None, None], "two equal subjects are no certainty"
    page = words_of(subgroups_section(Report({**run, "subgroups": [sex]}, folds, build_summary(run, folds))))
    assert "+50.0 points, without an interval" in page


def test_no_difference_is_reported_for_equal_subjects():
    """95 % intervals without a true difference: about one in twenty excludes zero."""
    claimed = 0
    for chooser in range(100):
        _, folds = made_run(n_people=12, skill=0.0, chooser=chooser)
        sex = subgroup_rows(people_like(folds, "fm" * 6, [None] * 12), folds, 2)[0]
        low, high = sex["differences"][0]["ci95"]
        claimed += low > 0 or high < 0
    assert claimed <= 12


def test_without_sex_and_age_there_is_no_section():
    run, folds = made_run(n_people=4)
    assert subgroup_rows(people_like(folds, [None] * 4, [None] * 4), folds, 2) == []
    assert subgroups_section(Report(run, folds, build_summary(run, folds))) is None
    (sex,) = subgroup_rows(people_like(folds, ["f", "f", "f", None], [None] * 4), folds, 2)
    assert sex["unknown"] == 1 and len(sex["groups"]) == 1 and not sex["differences"]
    assert np.isfinite(sex["groups"][0]["ci95"]).all()
