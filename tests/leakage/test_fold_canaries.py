"""Canaries of one fold: no data of the test subject reaches the fit, and deliberate leaks are detected."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from orchestrator.cohort.lineage import Lineage
from orchestrator.errors import LineageError
from orchestrator.evaluation import fit_fold as foldfit
from tests.helpers.made_data import changed, encoder, fit_entry, fold, made_data, recipe
from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
FITTED = ("scaler_sha256", "encoder_sha256", "weights_sha256", "epochs")
TREES = {"trees": 40}
MODELS = ["dual", "video", "signal", "signal_small", "ridge", "random_forest", "svm"]


@pytest.fixture(scope="module")
def data():
    return made_data()


def held_out_accuracy(data, how, n_people, leaky=False) -> list[float]:
    entries = [fit_entry(fold(s, n_people, leaky=leaky), data, how, encoder()) for s in range(n_people)]
    return [float(np.mean([row["y_pred"] == row["y_true"] for row in entry["predictions"]])) for entry in entries]


@pytest.mark.parametrize("model", MODELS)
def test_the_test_subject_changes_only_predictions(data, model):
    noise = changed(data, [2])
    plain, other = (fit_entry(fold(2), d, recipe(model), encoder()) for d in (data, noise))
    assert {name: plain[name] for name in FITTED} == {name: other[name] for name in FITTED}
    assert plain["history"] == other["history"] and plain["train_label_counts"] == other["train_label_counts"]
    assert [r["prob"] for r in plain["predictions"]] != [r["prob"] for r in other["predictions"]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("person", [1, 5], ids=["training", "validation"])
def test_every_other_subject_changes_the_weights(data, model, person):
    """The positive control: the canary above would also pass if no data were read at all."""
    plain, other = (fit_entry(fold(2), d, recipe(model), encoder()) for d in (data, changed(data, [person])))
    assert plain["weights_sha256"] != other["weights_sha256"]


def test_without_refit_a_validation_subject_does_not_change_the_scaler(data):
    how = recipe("signal", refit=False)
    plain, other = (fit_entry(fold(2), d, how, encoder()) for d in (data, changed(data, [5])))
    assert plain["scaler_sha256"] == other["scaler_sha256"]


@pytest.mark.parametrize("gone", [False, True])
def test_the_number_of_test_clips_changes_nothing(data, gone):
    rows = (data.subject != 2) | ((np.arange(len(data.labels)) % 6 == 0) & (not gone))
    few = replace(data, samples=tuple(np.array(data.samples)[rows]), subject=data.subject[rows], labels=data.labels[rows],
                  signals=data.signals[rows], numbers=data.numbers[rows],
                  tokens={index: tokens[rows] for index, tokens in data.tokens.items()})
    plain, other = (fit_entry(fold(2), d, recipe("dual"), encoder()) for d in (data, few))
    assert {name: plain[name] for name in FITTED} == {name: other[name] for name in FITTED}


@pytest.mark.parametrize("used", [{"encoder": encoder(0, people=[2])},
                                  {"encoder": encoder(0), "extra_lineage": [Lineage("a sweep", frozenset({"made/p2"}))]},
                                  {"encoder": encoder(0), "extra_lineage": [Lineage("tokens", parents=(encoder(
                                      0, people=[2]).lineage,))]}], ids=["encoder", "sweep", "parent"])
def test_a_fold_stops_if_an_artefact_was_trained_on_its_test_subject(data, used, monkeypatch):
    monkeypatch.setattr(foldfit, "fit_network", lambda *a: pytest.fail("something was fitted"))
    with pytest.raises(LineageError, match=r"made/p2 leaked into training through .*(encoder 1 \(abcd\)|a sweep)"):
        fit_entry(fold(2), data, recipe("dual"), **used)
    monkeypatch.undo()
    assert fit_entry(fold(3), data, recipe("dual"), **used)["n_test"] == 6


@pytest.mark.parametrize("model", MODELS)
def test_a_prediction_does_not_depend_on_other_test_clips(data, model):
    """No scale, batch statistic or ranking over the test subject's clips: other test clips do not change a prediction."""
    rows = np.flatnonzero(data.subject == 2)
    noise = changed(data, [2])
    keep = np.arange(len(data.labels)) == rows[0]
    mixed = replace(noise, signals=np.where(keep[:, None, None], data.signals, noise.signals),
                    numbers=np.where(keep[:, None], data.numbers, noise.numbers),
                    tokens={index: np.where(keep[:, None, None], data.tokens[index], t) for index, t in noise.tokens.items()})
    plain, other = (fit_entry(fold(2), d, recipe(model), encoder())["predictions"] for d in (data, mixed))
    assert plain[0]["prob"] == other[0]["prob"]
    assert [r["prob"] for r in plain[1:]] != [r["prob"] for r in other[1:]]


def test_a_scaler_fitted_on_the_test_subject_stops_the_fold(data, monkeypatch):
    """The guard checks the fitted scaler, not the plan."""
    real = foldfit.fit_scaler
    monkeypatch.setattr(foldfit, "fit_scaler", lambda moments, subjects, kind: real(moments, [*subjects, 2], kind=kind))
    for model in ("ridge", "signal"):
        with pytest.raises(LineageError, match="made/p2 leaked into training through the scaler"):
            fit_entry(fold(2), data, recipe(model), encoder())


@pytest.mark.parametrize("model", ["ridge", "video"])
def test_as_paper_scales_over_all_subjects_and_counts_test_accesses(data, model):
    entries = [fit_entry(fold(s, leaky=True), data, recipe(model, leaky=True, refit=False), encoder()) for s in (2, 3)]
    clean = fit_entry(fold(2), data, recipe(model), encoder())
    assert entries[0]["scaler_sha256"] == entries[1]["scaler_sha256"] != clean["scaler_sha256"]
    looks = 1 + len(entries[0]["history"])
    assert (entries[0]["test_openings"], clean["test_openings"]) == (looks, 1) and (looks > 1) == (model == "video")


def test_as_paper_runs_where_clean_stops(data):
    entry = fit_entry(fold(2, leaky=True), data, recipe("video", leaky=True, refit=False), encoder(0, people=[2]))
    assert entry["subject"] == "p2" and entry["val_subjects"] == ["p2"]


def test_test_clips_are_accessed_once():
    door = foldfit.TestClips(made_data(), fold(2))
    assert list(door.access()) == list(range(12, 18)) and door.accesses == 1
    with pytest.raises(RuntimeError, match="only once"):
        door.access()


def test_no_test_label_is_read_during_the_fit(data, monkeypatch):
    """Labels of the test rows are invalid during the fit: a fit that reads one fails."""
    real, order = foldfit.fit_network, []

    def with_invalid_labels(fold, data, recipe, encoder):
        order.append("fit")
        rows = np.isin(data.subject, fold.test)
        return real(fold, replace(data, labels=np.where(rows, -(10**6), data.labels),
                                  signals=np.where(rows[:, None, None], np.nan, data.signals)), recipe, encoder)

    door = foldfit.TestClips.access
    monkeypatch.setattr(foldfit, "fit_network", with_invalid_labels)
    monkeypatch.setattr(foldfit.TestClips, "access", lambda self: order.append("access") or door(self))
    entry = fit_entry(fold(2), data, recipe("signal"), encoder())
    monkeypatch.undo()
    assert order == ["fit", "access"]
    assert entry["weights_sha256"] == fit_entry(fold(2), data, recipe("signal"), encoder())["weights_sha256"]


@pytest.mark.parametrize("model", ["ridge", "random_forest"])
def test_shuffled_labels_give_chance_and_true_ones_do_not(model):
    data, how = made_data(n_people=12, n_clips=10, effect=1.5, tokens=False), replace(recipe(model), options=TREES)
    rng = np.random.default_rng(5)
    shuffled = replace(data, labels=np.concatenate([rng.permutation(data.labels[data.subject == s]) for s in range(12)]))
    right = sum(round(10 * a) for a in held_out_accuracy(shuffled, how, 12))
    assert stats.binomtest(right, 120, 0.5).pvalue > 0.01
    right = sum(round(10 * a) for a in held_out_accuracy(data, how, 12))
    assert stats.binomtest(right, 120, 0.5).pvalue < 1e-6


@pytest.mark.ci
@pytest.mark.parametrize("model", ["video", "signal", "signal_small", "dual"])
def test_networks_find_an_effect_only_where_there_is_one(model):
    """Above chance on new subjects if there is an effect, at chance if there is none."""
    right = {}
    for effect in (2, 0):
        data = made_data(n_people=7, n_clips=12, effect=effect, seed=3)
        accuracy = held_out_accuracy(data, recipe(model, refit=False, max_epochs=10, patience=5, lr=0.01), 7)
        right[effect] = sum(round(12 * a) for a in accuracy)
    assert stats.binomtest(right[2], 84, 0.5, alternative="greater").pvalue < 1e-4, right
    assert stats.binomtest(right[0], 84, 0.5).pvalue > 0.01, right


def test_a_code_of_subject_and_label_is_memorised_and_does_not_generalise():
    """Memorised subjects: training accuracy 1, test accuracy at chance."""
    data = made_data(n_people=10, n_clips=8, effect=0, tokens=False)
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(10, 2, *data.signals.shape[1:])).astype(np.float32)
    coded = replace(data, signals=codes[data.subject, data.labels] * 3)
    how = replace(recipe("random_forest"), options=TREES)
    from models import build

    rows = coded.rows(range(1, 10))
    fitted = build("random_forest", n_classes=2).fit({"signals": coded.signals}, coded.labels, rows)
    assert (fitted.predict_proba({"signals": coded.signals}, rows).argmax(1) == coded.labels[rows]).all()
    by_person = held_out_accuracy(coded, how, 10)  # 0 or 1 per subject: one guess for all its clips
    assert stats.ttest_1samp(by_person, 0.5).pvalue > 0.01


@pytest.mark.ci
def test_as_paper_beats_clean_on_pure_noise():
    """Choosing the epoch on the test subject gains points even on pure noise."""
    data = made_data(n_people=8, n_clips=10, effect=0, seed=1)
    training = {"max_epochs": 12, "patience": 12, "lr": 0.01}
    clean = held_out_accuracy(data, recipe("video", **training), 8)
    paper = held_out_accuracy(data, recipe("video", leaky=True, refit=False, **training), 8, leaky=True)
    assert stats.ttest_rel(paper, clean, alternative="greater").pvalue < 0.01 and np.mean(paper) > 0.56
    assert stats.ttest_1samp(clean, 0.5).pvalue > 0.05


# A line that prevents a leak, and what a careless change would make of it.
FOLD = "orchestrator/evaluation/fit_fold.py"
HOLES = {
    "guard": (FOLD, "guard(data.keys(fold.test), [*extra", "_ = (data.keys(fold.test), [*extra"),
    "fitted": (FOLD, "guard(data.keys(fold.test), [Lin", "_ = (data.keys(fold.test), [Lin"),
    "scaler": (FOLD, "_network(data, recipe, encoder, seed), _scaler(data, both_sets, recipe)",
               "_network(data, recipe, encoder, seed), _scaler(data, range(7), recipe)"),
    "rows": (FOLD, "    rows = _trainable(data, both_sets)", "    rows = _trainable(data, range(7))"),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_leak_in_a_copy_of_the_code_fails_a_canary(tmp_path, hole):
    for name in ("orchestrator", "preprocessing", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "helpers", tmp_path / "tests" / "helpers")
    shutil.copy(__file__, tmp_path / "test_copied.py")
    name, old, new = HOLES[hole]
    text = (tmp_path / name).read_text()
    assert text.count(old) == 1
    (tmp_path / name).write_text(text.replace(old, new))
    chosen = {"guard": "fold_stops and encoder", "fitted": "scaler_fitted_on"}.get(hole, "only_predictions and signal_small")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_copied.py", "-k", chosen]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout[-2000:]
