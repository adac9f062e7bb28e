"""audit=true: the canaries on a run's own data sing where something leaks, and only there."""

from dataclasses import replace

import numpy as np
import pytest
from made_runs import made_run

from orchestrator import audit, canaries, cli, foldfit, loso
from orchestrator.canaries import FAILED, PASSED, UNCLEAR, VARIANTS, judge_accuracy
from orchestrator.foldfit import fit_fold
from orchestrator.storage import read_json
from preprocessing.moments import fit_scaler
from tests.made_data import encoder, fold, made_data, recipe
from tests.roads import PEOPLE, TINY, Road, snapshot

FOREST = [*TINY, "model=random_forest", "model.trees=30", "audit=true"]


@pytest.fixture
def made(ridge, tmp_path):
    return Road(ridge.root, ridge.store, tmp_path / "run", list(FOREST))


def verdicts(road):
    return {row["name"]: row["verdict"] for row in read_json(road.run / "audit.json")}


def test_a_clean_run_passes_and_says_so(made, inline):
    assert made.main() == 0
    assert verdicts(made) == dict.fromkeys(audit.QUESTIONS, PASSED)
    page = (made.run / "report.html").read_text()
    assert "Leakage canaries" in page and all(question in page for question in audit.QUESTIONS.values())
    assert len(inline["loso"]) == PEOPLE + 2 * PEOPLE + 2
    before = snapshot(made.run / "audit")
    assert made.main() == 0 and len(inline["loso"]) == 3 * PEOPLE + 2, "a finished canary was fitted again"
    assert snapshot(made.run / "audit") == before


def test_the_folds_are_those_of_a_run_without_it(made, inline, tmp_path):
    assert made.main("max_folds=2") == 0
    plain = Road(made.root, made.store, tmp_path / "plain", [w for w in FOREST if w != "audit=true"])
    assert plain.main("max_folds=2") == 0
    assert (plain.run / "predictions.parquet").read_bytes() == (made.run / "predictions.parquet").read_bytes()
    assert "Leakage canaries" not in (plain.run / "report.html").read_text()


def test_a_scaler_that_has_seen_everybody_fails_the_audit(made, inline, monkeypatch, capsys):
    monkeypatch.setattr(foldfit, "_scaler", lambda data, subjects, how: replace(
        fit_scaler(data.moments, list(data.moments)), subjects=tuple(sorted(subjects))))  # and says otherwise
    assert cli.run(loso.main, made.argv("max_folds=3")) == 1
    assert verdicts(made)["noisy_test"] == FAILED and "defect of dualpain" in capsys.readouterr().out
    assert "Do not use the number" in (made.run / "report.html").read_text()


def test_a_guard_that_looks_away_fails_the_audit(made, inline, monkeypatch):
    monkeypatch.setattr(foldfit, "guard", lambda *a: None)
    assert cli.run(loso.main, made.argv("max_folds=2")) == 1
    assert verdicts(made)["guard"] == FAILED


def test_an_audit_of_leaks_on_purpose_is_refused(made, capsys):
    assert cli.run(loso.main, made.argv("protocol=as_paper")) == 2
    assert "protocol=clean" in capsys.readouterr().err


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model", ["dual", "video", "ridge"])
def test_what_the_canaries_do_to_the_data(variant, model):
    data, place = made_data(), fold(2)
    spoilt = VARIANTS[variant](data, place)
    changed = {"noisy_test": data.subject == 2, "noisy_other": data.subject == place.train[0]}.get(
        variant, np.full(len(data.labels), variant == "coded"))
    rows = np.arange(len(data.labels))
    same = [(spoilt.signals[i] == data.signals[i]).all() and (spoilt.tokens[0][[i]] == data.tokens[0][[i]]).all() for i in rows]
    assert [not s for s in same] == changed.tolist()
    if variant == "coded":
        for i, j in ((0, 2), (1, 3)):  # the same person and class
            assert (spoilt.signals[i] == spoilt.signals[j]).all() and (spoilt.tokens[1][[i]] == spoilt.tokens[1][[j]]).all()
        assert (spoilt.signals[0] != spoilt.signals[1]).any() and (spoilt.signals[0] != spoilt.signals[6]).any()
    if variant == "shuffled":
        assert (spoilt.labels != data.labels).any()
        assert all(sorted(spoilt.labels[data.subject == s]) == sorted(data.labels[data.subject == s]) for s in range(7))
    entry = fit_fold(place, spoilt, canaries.recipe_of(variant, recipe(model)), encoder(), score_training=True)
    assert 0 <= entry["train_accuracy"] <= 1 and entry["test_openings"] == 1


def test_accuracies_above_chance_fail_and_noise_does_not():
    _, skilled = made_run(n_people=12, skill=3.0)
    assert judge_accuracy(skilled, 2, False)["verdict"] == FAILED
    _, noise = made_run(n_people=12, skill=0.0)
    assert judge_accuracy(noise, 2, False)["verdict"] == PASSED
    assert judge_accuracy(noise[:2], 2, False)["verdict"] == UNCLEAR
    unlearnt = [{**entry, "train_accuracy": 0.6} for entry in noise]
    assert judge_accuracy(unlearnt, 2, True)["verdict"] == UNCLEAR
    constant = [{**e, "predictions": [{**r, "y_pred": 0} for r in e["predictions"]], "train_accuracy": 1.0} for e in noise]
    assert judge_accuracy(constant, 2, True)["verdict"] == PASSED
