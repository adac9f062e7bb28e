"""Controls that use one number of a clip, in the folds of the run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator import loso
from orchestrator.cohort.cohort import Clip, Cohort, Person
from orchestrator.cohort.trial_order import trial_order
from orchestrator.errors import LineageError
from orchestrator.evaluation.fit_fold import fit_fold
from orchestrator.files.storage import read_json
from orchestrator.reporting import controls
from orchestrator.reporting.controls import control_rows
from preprocessing.recordings import Channel, Recording, SignalRef, VideoRef
from tests.helpers.made_data import fold, made_data, recipe, watched
from tests.helpers.roads import Road

GSR = (Channel("gsr", 0, "gsr", 100.0),)


def numbered(sex=None, age=None, order=None, seconds=None, **more):
    """made_data with the columns of FoldData.numbers."""
    data = made_data(n_people=8, n_clips=12, **more)
    n = len(data.labels)
    columns = [np.full(n, np.nan) if value is None else np.asarray(value(data), float) for value in (sex, age, order)]
    numbers = np.concatenate([data.numbers, np.stack(columns, 1)], 1)
    if seconds is not None:
        numbers[:, 0] = seconds(data)
    return replace(data, numbers=numbers)


def rows_of(data):
    folds = [fold(s, 8) for s in range(8)]
    entries = [fit_fold(f, data, recipe("ridge"), None) for f in folds]
    return {row["name"]: row for row in control_rows(folds, data, entries)}


def test_a_duration_that_reveals_the_class_is_shown():
    found = rows_of(numbered(seconds=lambda d: 5.0 + d.labels, effect=0.0))
    assert found["duration"]["accuracy"] == 1.0 and found["duration"]["varies"] and found["duration"]["n_people"] == 8
    low, high = found["duration"]["difference_ci95"]
    assert high < 0, "the model is worse than the duration alone"
    assert not found["sex and age"]["known"] and not found["trial order"]["known"]


def test_a_subject_in_several_test_sets_counts_once():
    data = numbered(seconds=lambda d: 5.0 + (d.labels ^ (np.arange(len(d.labels)) % 7 == 0)), effect=0.0)
    sets = [replace(fold(0, 8), index=0), replace(fold(0, 8, val=(1, 2)), index=1), replace(fold(3, 8), index=2)]
    each = [controls._tested(one, data, "clip_length") for one in sets]
    row = next(r for r in control_rows(sets, data, [fit_fold(f, data, recipe("ridge"), None) for f in sets])
               if r["name"] == "duration")
    zero, three = data.pseudonyms[0], data.pseudonyms[3]
    assert row["accuracy"] == pytest.approx((np.mean([each[0][zero], each[1][zero]]) + each[2][three]) / 2)


def test_an_order_that_reveals_the_class_is_shown():
    found = rows_of(numbered(order=lambda d: d.labels * 0.5 + np.tile(np.arange(12), 8) / 40, effect=0.0))
    assert found["trial order"]["accuracy"] == 1.0
    alternating = rows_of(numbered(order=lambda d: np.tile(np.arange(12), 8) // 2 / 5, effect=0.0))
    assert alternating["trial order"]["accuracy"] == pytest.approx(0.5)


def test_sex_and_age_are_useless_if_classes_are_balanced():
    found = rows_of(numbered(sex=lambda d: d.subject % 2, age=lambda d: 20 + 5 * d.subject, effect=3.0))
    assert found["sex and age"]["accuracy"] == pytest.approx(0.5) and found["sex and age"]["varies"]
    assert found["sex and age"]["difference"] > 0.2 and found["sex and age"]["difference_ci95"][0] > 0
    assert not found["duration"]["varies"] and found["duration"]["accuracy"] == pytest.approx(0.5)


def test_a_correlation_of_sex_and_class_is_found_on_other_subjects():
    """Women mostly of class 1, men mostly of class 0."""
    data = numbered(sex=lambda d: d.subject % 2, effect=0.0)
    labels = np.where(np.tile(np.arange(12), 8) < 10, 1 - data.subject % 2, data.subject % 2)
    found = rows_of(replace(data, labels=labels))
    assert found["sex and age"]["accuracy"] == pytest.approx(10 / 12)


def test_no_control_uses_the_test_subject(monkeypatch):
    """Its numbers and labels change its own predictions and no fit; a control fitted on it is an error."""
    data = numbered(seconds=lambda d: 5.0 + d.labels, effect=0.0)
    seen = []
    honest = controls.guard
    monkeypatch.setattr(controls, "guard", lambda keys, lineages: (seen.append((set(keys), lineages[0].everyone())),
                                                                  honest(keys, lineages)))
    rows_of(data)
    assert len(seen) == 8 and not any(test & trained for test, trained in seen)
    with pytest.raises(LineageError):
        controls.guard(data.keys([0]), [controls.Lineage("a control", frozenset(data.keys([0, 1])))])
    turned = replace(data, labels=np.where(data.subject == 3, 1 - data.labels, data.labels))
    own = controls._tested(fold(3, 8), turned, "clip_length")
    assert own == {"p3": 0.0}, "its turned labels were learnt"
    read = watched(monkeypatch)
    controls._tested(fold(3, 8, leaky=True), data, "clip_length")
    fitted = np.flatnonzero(~np.isnan(read[0]["numbers"]).all(1))
    assert len(fitted) and not set(fitted) & set(data.rows([3]).tolist()), "the leaky protocol lets the test subject in"


def test_only_rows_asked_for_can_be_read():
    found = controls._only(np.ones((4, 6)), np.array([1, 2]))["numbers"]
    assert np.isnan(found[[0, 3]]).all() and (found[[1, 2]] == 1).all()


# ---------------------------------------------------------------- trial order

def cohort(*recordings: Recording) -> Cohort:
    clips = tuple(Clip(0, i, f"c{i}", 0, r) for i, r in enumerate(recordings))
    return Cohort(dataset="manifest", name="c", class_names=("a",), people=(Person(0, "s0"),), clips=clips, key_fingerprint="",
                  partial=False, notes=(), synthetic=False)


def cut(start=None, row=None, file="a.csv", video=False) -> Recording:
    if video:
        return Recording("p", "s", 0, "a", VideoRef(Path(file), start_s=start))
    return Recording("p", "s", 0, "a", None, SignalRef(Path(file), "csv", GSR, start_s=start, start_row=row))


def test_order_comes_from_where_windows_begin():
    found = trial_order(cohort(cut(20.0), cut(0.0), cut(10.0), cut(5.0, file="b.csv"), cut(1.0, file="b.csv")))
    assert list(found.values()) == [1.0, 0.0, 0.5, 1.0, 0.0]
    assert list(trial_order(cohort(cut(row=300), cut(row=0))).values()) == [1.0, 0.0]
    assert list(trial_order(cohort(cut(3.0, video=True), cut(9.0, video=True))).values()) == [0.0, 1.0]


def test_clips_that_are_files_of_their_own_have_no_order():
    """In BioVid, the rank of a name reveals the class, so it is not used as order."""
    found = trial_order(cohort(*(cut(0.0, file=f"{i}.csv") for i in range(4)), cut(file="x.csv")))
    assert np.isnan(list(found.values())).all()


# ---------------------------------------------------------------- in a run

def test_a_run_has_controls_beside_it(ridge, tmp_path, inline):
    made = Road(ridge.root, ridge.store, tmp_path / "run", list(ridge.words))
    assert made.main() == 0
    rows = {row["name"]: row for row in read_json(made.run / "facts.json")["controls"]}
    assert rows["sex and age"]["known"] and rows["duration"]["known"] and not rows["trial order"]["known"]
    assert rows["duration"]["accuracy"] == pytest.approx(0.5) and not rows["duration"]["varies"]
    page = (made.run / "report.html").read_text()
    assert "Controls without the recordings" in page and "it may reveal the class" in page
    without = Road(ridge.root, ridge.store, tmp_path / "without", list(ridge.words))
    assert without.main("controls=false") == 0
    assert "Controls without the recordings" not in (without.run / "report.html").read_text()
    assert (without.run / "predictions.parquet").read_bytes() == (made.run / "predictions.parquet").read_bytes()


def test_one_number_of_sex_and_age_and_of_an_order_that_is_not_known(ridge, tmp_path, inline, capsys):
    from orchestrator import cli

    words = [word for word in ridge.words if word != "model=ridge"]
    made = Road(ridge.root, ridge.store, tmp_path / "run", [*words, "model=one_number"])
    assert made.main("model.feature=sex_age") == 0 and made.summary()["accuracy_mean"] == pytest.approx(0.5)
    other = Road(ridge.root, ridge.store, tmp_path / "other", [*words, "model=one_number"])
    assert cli.run(loso.main, other.argv("model.feature=trial_order")) == 2
    assert "their order is not known: use another model.feature" in capsys.readouterr().err
