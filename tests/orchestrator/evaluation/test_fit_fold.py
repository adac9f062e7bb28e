"""One fold, without Ray: what it reads, fits and writes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.cohort.lineage import Lineage
from orchestrator.config.model_inputs import is_estimator
from orchestrator.errors import FoldError, LineageError, UserError
from orchestrator.evaluation import fit_fold as foldfit
from orchestrator.evaluation.fit_validation import fit_validation
from orchestrator.plan.folds import Fold
from preprocessing.moments import KINDS, fit_scaler
from tests.helpers.made_data import changed, encoder, fit_entry, fold, made_data, recipe, watched, with_moments

pytestmark = pytest.mark.medium
FIELDS = {"fold", "seed", "subject", "subjects", "n_test", "n_quarantined", "quarantined_by_class", "epochs",
          "train_subjects", "val_subjects", "train_label_counts", "scaler_sha256", "encoder_sha256", "weights_sha256",
          "n_parameters", "test_openings", "history", "wall_s", "predictions", "warnings"}
FITTED = ("scaler_sha256", "weights_sha256", "epochs", "history")
MODELS = ["dual", "video", "signal", "signal_small", "ridge", "random_forest", "svm", "one_number"]


@pytest.fixture(scope="module")
def data():
    return made_data()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_leaves_a_whole_entry(data, model):
    entry = fit_entry(fold(2), data, recipe(model), encoder())
    assert set(entry) >= FIELDS and json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert (entry["fold"], entry["subject"], entry["n_test"], entry["test_openings"]) == (2, "p2", 6, 1)
    others = ["p0", "p1", "p3", "p4"]
    assert entry["train_subjects"] + entry["val_subjects"] == [*others, "p5", "p6"]
    assert entry["val_subjects"] == ([] if is_estimator(model) else ["p5", "p6"]) and entry["train_label_counts"] == [18, 18]
    assert [row["sample"] for row in entry["predictions"]] == [f"c{i:04d}" for i in range(12, 18)]
    for row in entry["predictions"]:
        assert sum(row["prob"]) == pytest.approx(1) and row["y_pred"] == int(np.argmax(row["prob"]))
        assert row["subject"] == "p2"


@pytest.mark.parametrize("model", ["dual", "ridge", "random_forest"])
def test_twice_the_same_and_another_seed_another(data, model):
    one, two = (fit_entry(fold(1), data, recipe(model), encoder()) for _ in range(2))
    assert one["predictions"] == two["predictions"] and one["weights_sha256"] == two["weights_sha256"]
    other = fit_entry(fold(1, seed=3), data, recipe(model), encoder())
    assert (other["weights_sha256"] == one["weights_sha256"]) == (model == "ridge")


def test_the_place_of_a_fold_in_the_plan_changes_nothing(data):
    """exclude_pretrain and max_folds renumber folds: their results must not follow the number."""
    one, two = (fit_entry(fold(3, index=i), data, recipe("signal"), encoder()) for i in (3, 0))
    assert one["weights_sha256"] == two["weights_sha256"] and one["predictions"] == two["predictions"]


def test_the_scaler_is_that_of_the_training_subjects(data):
    entry = fit_entry(fold(0), data, recipe("signal", refit=False), encoder())
    assert entry["scaler_sha256"] == fit_scaler(data.moments, [1, 2, 3, 4]).sha256()
    entry = fit_entry(fold(0), data, recipe("signal", refit=True), encoder())
    assert entry["scaler_sha256"] == fit_scaler(data.moments, [1, 2, 3, 4, 5, 6]).sha256()
    entry = fit_entry(fold(0, leaky=True), data, recipe("signal", leaky=True, refit=False), encoder())
    assert entry["scaler_sha256"] == fit_scaler(data.moments, range(7)).sha256()


def test_the_epoch_is_chosen_on_validation_subjects_and_refit_uses_them_too(data):
    chosen = fit_entry(fold(0), data, recipe("signal", refit=False, max_epochs=4), encoder())
    again = fit_entry(fold(0), data, recipe("signal", refit=True, max_epochs=4), encoder())
    assert chosen["epochs"] == again["epochs"] == 1 + int(np.argmin([row["val_loss"] for row in chosen["history"]]))
    assert chosen["weights_sha256"] != again["weights_sha256"]
    turned = changed(data, [5])  # a validation subject
    other = fit_entry(fold(0), turned, recipe("signal", refit=False, max_epochs=4), encoder())
    losses = [[row["train_loss"] for row in entry["history"]] for entry in (chosen, other)]
    assert all(a == b for a, b in zip(*losses, strict=False))
    assert other["history"][0]["val_loss"] != chosen["history"][0]["val_loss"]


def test_fixed_epochs_uses_all_subjects_for_all_epochs(data):
    plan = Fold(0, 0, (0,), (1, 2, 3, 4, 5, 6), (), None)
    entry = fit_entry(plan, data, recipe("signal", refit=False, fixed_epochs=True), None)
    assert entry["epochs"] == 3 and entry["val_subjects"] == [] and len(entry["history"]) == 3


def test_three_subjects_are_enough_for_fixed_epochs():
    data = made_data(n_people=3)
    entry = fit_entry(Fold(0, 0, (0,), (1, 2), (), None), data, recipe("signal", refit=False, fixed_epochs=True), None)
    assert entry["n_test"] == 6


def test_the_fold_reads_the_tokens_of_its_own_encoder(data):
    one, two = (fit_entry(fold(0), data, recipe("video"), encoder(i)) for i in (0, 1))
    assert one["weights_sha256"] != two["weights_sha256"]
    assert one["encoder_sha256"] == encoder(0).sha256 != two["encoder_sha256"]


def test_pretrained_signal_weights_are_where_training_starts(data):
    from models.mae.signal_mae import SignalMAE
    from tests.helpers.made_data import CHANNELS, LENGTH, SIGNAL

    state = {k: v.numpy() for k, v in SignalMAE(CHANNELS, LENGTH, **SIGNAL).state_dict().items()}
    plain = fit_entry(fold(0), data, recipe("signal"), encoder())
    assert fit_entry(fold(0), data, recipe("signal"), replace(encoder(), signal_state=state))["weights_sha256"] \
        != plain["weights_sha256"]


def test_rows_outside_are_zero_in_what_a_model_sees(data, monkeypatch):
    seen = watched(monkeypatch)
    fit_entry(fold(2), data, recipe("ridge"), None)
    fitted, tested = seen
    own, others = data.rows([2]), data.rows([0, 1, 3, 4, 5, 6])
    assert not fitted["signals"][own].any() and fitted["signals"][others].any()
    assert not fitted["numbers"][own].any()
    assert tested["signals"][own].any() and not tested["signals"][others].any()


def test_reading_a_test_clip_during_the_fit_is_an_error(data, monkeypatch):
    import models.classifier.training

    real = models.classifier.training.fit_classifier

    def peek(model, arrays, labels, *rest, **more):
        assert (labels[data.rows([2])] == -1).all() and (labels[data.rows([1])] >= 0).all()
        arrays["tokens"][data.rows([2])[:1]]
        return real(model, arrays, labels, *rest, **more)

    monkeypatch.setattr(models.classifier.training, "fit_classifier", peek)
    with pytest.raises(RuntimeError, match="must not be used"):
        fit_entry(fold(2), data, recipe("video"), encoder())


def test_a_subject_without_a_usable_clip_has_an_entry_without_predictions(data):
    rows = data.subject != 4
    tokens = {i: t[rows] for i, t in data.tokens.items()}
    samples = tuple(s for s, keep in zip(data.samples, rows, strict=True) if keep)
    lost = replace(data, samples=samples, subject=data.subject[rows], labels=data.labels[rows], signals=data.signals[rows],
                   numbers=data.numbers[rows], tokens=tokens, moments={s: m for s, m in data.moments.items() if s != 4},
                   quarantined={4: {0: 3, 1: 3}})
    entry = fit_entry(fold(4), lost, recipe("signal"), encoder())
    assert entry["predictions"] == [] and entry["n_quarantined"] == 6 and entry["quarantined_by_class"] == {"0": 3, "1": 3}
    assert len(entry["warnings"]) == 2
    leaky = fit_entry(replace(fold(4), val=(4,)), lost, replace(recipe("signal"), leaky=True), encoder())
    assert leaky["predictions"] == [] and leaky["epochs"] == 0 and leaky["leaky"]
    assert fit_entry(fold(0), lost, recipe("signal"), encoder())["n_test"] == 6


def test_a_class_missing_in_the_test_clips_is_a_warning(data):
    few = replace(data, labels=np.where(data.subject == 1, 0, data.labels))
    entry = fit_entry(fold(1), few, recipe("ridge"), None)
    assert entry["warnings"] == ["no usable clip of class L1 among the test clips"]
    assert fit_entry(fold(2), few, recipe("ridge"), None)["warnings"] == []


def test_a_class_missing_in_training_is_a_user_error(data):
    few = replace(data, labels=np.where(data.subject == 1, data.labels, 0))
    with pytest.raises(FoldError, match="No training subject has a usable clip of class"):
        fit_entry(fold(1), few, recipe("ridge"), None)


def test_nan_probabilities_stop_the_fold_with_a_message(data, monkeypatch):
    """A ledger entry cannot hold NaN, and argmax would take NaN for the prediction."""
    monkeypatch.setattr(foldfit, "predict", lambda fitted, data, rows, *rest: np.full((len(rows), data.n_classes), np.nan))
    with pytest.raises(FoldError, match="probabilities for 6 of 6 test clips are NaN"):
        fit_entry(fold(1), data, recipe("ridge"), None)


def test_tokens_with_a_test_subject_in_their_lineage_are_an_error(data):
    told = replace(data, token_lineages={0: Lineage("tokens of encoder 1", frozenset({"made/p3"}))})
    with pytest.raises(LineageError, match="made/p3 leaked into training through tokens of encoder 1:"):
        fit_entry(fold(3), told, recipe("video"), encoder())
    assert fit_entry(fold(2), told, recipe("video"), encoder())["n_test"] == 6
    with pytest.raises(LineageError, match="made/p3"):  # a sweep's validation subject is scored too
        fit_validation(fold(2, val=(3, 4)), told, recipe("video"), encoder())


@pytest.mark.parametrize("scale", KINDS)
@pytest.mark.parametrize("model", ["signal", "ridge"])
def test_no_scale_depends_on_the_test_subject(data, model, scale):
    """The test subject's clips become noise: the fit does not change with any kind of scale."""
    how = replace(recipe(model), scale=scale)
    entry, noise = (fit_entry(fold(2), d, how, None) for d in (data, changed(data, [2])))
    assert {n: entry[n] for n in FITTED} == {n: noise[n] for n in FITTED}
    assert entry["predictions"] != noise["predictions"] and entry["n_test"] == 6
    if scale != "train_z":
        assert entry["scaler_sha256"] != fit_entry(fold(2), data, recipe(model), None)["scaler_sha256"]
        assert entry["weights_sha256"] != fit_entry(fold(2), data, recipe(model), None)["weights_sha256"]


def test_subject_z_depends_only_on_the_subject(data):
    """One subject's sensor has sixteen times the gain: scaling by subject removes this."""
    gain = np.where(data.subject == 2, np.float32(16), np.float32(1))[:, None, None]
    louder = with_moments(replace(data, signals=gain * data.signals))
    how = replace(recipe("ridge"), scale="subject_z")
    one, two = (fit_entry(fold(0), d, how, None) for d in (data, louder))
    assert one["weights_sha256"] == two["weights_sha256"] and one["predictions"] == two["predictions"]


def test_no_usable_validation_clip_is_a_user_error(data):
    rows = ~np.isin(data.subject, (5, 6))
    few = replace(data, samples=data.samples[: rows.sum()], subject=data.subject[rows], labels=data.labels[rows],
                  signals=data.signals[rows], numbers=data.numbers[rows], tokens={})
    with pytest.raises(FoldError, match="validation subjects have no usable clip"):
        fit_entry(fold(1), few, recipe("signal"), None)


def test_an_unknown_training_option_is_a_user_error(data):
    with pytest.raises(UserError, match="train.epochs"):
        fit_entry(fold(1), data, recipe("signal", epochs=3), None)


def test_the_control_reads_the_number_it_is_asked_for():
    data = made_data(effect=0)
    told = replace(data, numbers=np.stack([data.numbers[:, 0], data.numbers[:, 1], 16.0 + 4 * data.labels], 1))
    asked = replace(recipe("one_number"), options={"feature": "n_keyframes"})
    assert [p["y_pred"] == p["y_true"] for p in fit_entry(fold(0), told, asked, None)["predictions"]] == [True] * 6
    asked = replace(recipe("one_number"), options={"feature": "clip_length"})
    assert len({p["y_pred"] for p in fit_entry(fold(0), told, asked, None)["predictions"]}) == 1


def test_a_warning_of_a_library_reaches_the_entry_of_every_fold(data, monkeypatch):
    """Python and torch would give this warning only in the first fold of a process."""
    import warnings

    import torch
    from sklearn.exceptions import ConvergenceWarning

    def predict(*arguments):
        warnings.warn("lbfgs failed, see /home/anna/x.py for more.", ConvergenceWarning, stacklevel=1)
        torch.ones(2, requires_grad=True).mean().backward()
        return real(*arguments)

    real = foldfit.predict
    monkeypatch.setattr(foldfit, "predict", predict)
    for model in ("ridge", "signal"):
        for place in (0, 1):
            entry = fit_entry(fold(place), data, recipe(model), encoder())
            assert entry["warnings"].count("ConvergenceWarning: lbfgs failed, see ... for more") == 1
    monkeypatch.setattr(foldfit, "predict", real)
    assert not fit_entry(fold(0), data, recipe("ridge"), encoder())["warnings"]


@pytest.mark.parametrize("model", ["ridge", "random_forest", "svm", "one_number"])
@pytest.mark.parametrize("leaky", [False, True])
def test_an_estimator_is_fitted_on_all_but_the_test_subjects(data, model, leaky):
    """For any split into training and validation: the entry names the subjects of the fit, and the fit is the same."""
    how = recipe(model, leaky=leaky)
    entries = [fit_entry(plan, data, how, None) for plan in (fold(2, leaky=leaky), replace(fold(2), val=(5, 6)),
                                                           replace(fold(2), train=(0, 1, 3, 4, 5, 6), val=()))]
    for entry in entries:
        assert entry["train_subjects"] == ["p0", "p1", "p3", "p4", "p5", "p6"] and entry["val_subjects"] == []
        assert entry["refit"] is False and entry["train_label_counts"] == [18, 18]
    assert len({entry["weights_sha256"] for entry in entries}) == 1
    assert entries[0]["predictions"] == entries[1]["predictions"] == entries[2]["predictions"]


def test_training_subjects_of_a_network(data):
    plain = fit_entry(fold(2), data, recipe("signal", refit=False), None)
    assert (plain["train_subjects"], plain["val_subjects"], plain["refit"]) == (["p0", "p1", "p3", "p4"], ["p5", "p6"], False)
    assert fit_entry(fold(2), data, recipe("signal", refit=True), None)["refit"] is True
    fixed = fit_entry(fold(2), data, recipe("signal", refit=False, fixed_epochs=True), None)
    assert fixed["train_subjects"] == ["p0", "p1", "p3", "p4"] and fixed["val_subjects"] == []  # no epoch was chosen
    leaky = fit_entry(fold(2, leaky=True), data, recipe("signal", leaky=True, refit=False), None)
    assert leaky["val_subjects"] == ["p2"] and len(leaky["train_subjects"]) == 6 and leaky["refit"] is False


def test_as_paper_uses_the_stopping_rule_of_the_released_code():
    from models.classifier.training import ClassifierRecipe

    given = ClassifierRecipe(max_epochs=12, patience=3, lr=3e-3, lr_schedule="cosine", lr_decay=0.9, batch_size=48)
    found = foldfit.published(given, 1000)
    assert found == replace(given, max_epochs=1000, stop="rate", monitor="val_accuracy", lr_schedule="constant", lr_decay=1.0)
    assert foldfit.published(given, None).max_epochs == 12


def test_as_paper_has_its_own_number_of_epochs(data):
    how = replace(recipe("signal", leaky=True, refit=False, max_epochs=2, patience=1, lr=0.01), as_paper_epochs=6)
    entry = fit_entry(fold(2, leaky=True), data, how, None)
    assert len(entry["history"]) == 6 and entry["test_openings"] == 7  # one test-set access per epoch, and the last one
    accuracies = [row["val_accuracy"] for row in entry["history"]]
    assert entry["epochs"] == 1 + accuracies.index(max(accuracies))
