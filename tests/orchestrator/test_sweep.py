"""The sweep: a grid over scale and mask ratio that never opens a test subject's clips, and what it reports."""

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator import cli, sweep
from orchestrator.cohort.lineage import Lineage, subject_key
from orchestrator.errors import LineageError
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder
from orchestrator.evaluation.fit_validation import ValidationResult, fit_validation
from orchestrator.evaluation.sweep_points import Point, PointLedger, lineage_of, ranked
from orchestrator.executors import choice
from orchestrator.executors.on_ray import RayExecutor
from orchestrator.files.storage import read_json
from orchestrator.plan.folds import Fold, Plan
from orchestrator.runtime import ray_session
from preprocessing.moments import Moments
from tests.helpers.roads import TINY, Road, snapshot, without_times

pytestmark = pytest.mark.ci
START = ray_session.start
WORDS = [word for word in TINY if not word.startswith("encoder=")]
WORDS += ["sweep.encoder=[vit_micro]", "sweep.mask_ratio=[0.5,0.9]", "max_folds=2", "resources.cpus=1"]


@pytest.fixture
def place(tree, tmp_path) -> Road:
    return Road(tree, tmp_path / "store", tmp_path / "sweep", list(WORDS))


def sweep_on(place: Road, *more: str) -> int:
    return cli.run(sweep.main, place.argv(*more))


def test_a_grid_on_tune_then_resumed_without_it(road, tmp_path, inline, monkeypatch, capsys):
    place = replace(road.copy(tmp_path, run=False), words=list(WORDS))  # with what loso has left in the store
    recording, no_ray = choice.KINDS["ray"], ray_session.start

    def on_tune():
        made, ray = recording(), RayExecutor()
        made.start, made.trials = ray.start, ray.trials
        return made

    monkeypatch.setitem(choice.KINDS, "ray", on_tune)
    monkeypatch.setattr(ray_session, "start", START)
    assert sweep_on(place) == 0
    said = capsys.readouterr().out
    result = read_json(place.run / "sweep.json")
    assert [(p["encoder"], p["mask_ratio"]) for p in result["points"]] == [("vit_micro", 0.5), ("vit_micro", 0.9)]
    assert result["points"][0]["encoder_sha256"] != result["points"][1]["encoder_sha256"]
    assert inline["preprocess"] == [] and len(inline["pretrain"]) == 2  # only the ratio that loso did not use
    best = max(result["points"], key=lambda p: p["accuracy_mean"])
    assert result["chosen"] == best["name"] and "not a test result" in " ".join(said.split())

    entries = {path: read_json(path) for path in (place.run / "points").glob("*/ledger/*.json")}
    assert len(entries) == 4 and not list(place.run.glob("ledger"))
    cohort = place.cohort()
    names = [p.pseudonym for p in cohort.people]
    for entry in entries.values():
        test = names[entry["fold"]]
        assert entry["test_openings"] == 0 and "predictions" not in entry
        assert set(entry["people"]) == set(entry["val_subjects"])
        assert test not in {*entry["train_subjects"], *entry["val_subjects"]}
        assert entry["accuracy"] == pytest.approx(np.mean(list(entry["people"].values())))
    seen = Lineage.from_json(result["lineage"]).everyone()
    assert seen == {subject_key(cohort.name, name) for name in names}  # two folds are enough to meet everybody

    # killed between two folds: one file is missing, and it alone is made again
    monkeypatch.setitem(choice.KINDS, "ray", recording)
    monkeypatch.setattr(ray_session, "start", no_ray)
    victim = sorted(entries)[0]
    victim.unlink()
    before = snapshot(place.run / "points")
    (place.run / ".tune.dead.tmp" / "folds").mkdir(parents=True)  # as left by Tune in a killed sweep
    assert sweep_on(place) == 0 and len(inline["loso"]) == 1 and not list(place.run.glob(".tune.*"))
    after = snapshot(place.run / "points")
    assert {name: after[name] for name in before} == before
    assert without_times(read_json(victim)) == without_times(entries[victim])
    assert without_times(read_json(place.run / "sweep.json")) == without_times(result)


def test_a_dry_run_writes_nothing(place, capsys):
    assert sweep_on(place, "--dry-run") == 0
    assert "vit_micro-mask-0.5: about" in capsys.readouterr().out
    assert not place.store.exists() and not place.run.exists()


@pytest.mark.parametrize(("words", "said"), [
    (["encoder=vit_tiny"], "sweep.encoder"), (["protocol=as_paper"], "protocol=clean"),
    (["protocol=both"], "protocol=clean"), (["protocol.val=fixed_epochs"], "protocol=clean"),
    (["model=signal"], "model=dual"),
    (["pretrain=none"], "sweep.mask_ratio=[0.9]"), (["sweep.encoder=[vit_micr]"], "vit_micro"),
    (["sweep.mask_ratio=[1.5]"], "above 0 and below 1"), (["sweep.mask_ratio=[0.5,0.5]"], "once"),
    (["sweep.encoder=[]"], "a list of 1 to 1000 values")])
def test_refusals(place, words, said, capsys):
    place.words = [w for w in WORDS if w.partition("=")[0] not in [w.partition("=")[0] for w in words]]
    if words == ["pretrain=none"]:
        place.words = [w for w in place.words if not w.startswith("pretrain.")]
    assert sweep_on(place, *words) == 2
    assert said in capsys.readouterr().err and not place.store.exists()


def test_a_folder_that_holds_a_run_is_refused(place, inline, capsys):
    place.run.mkdir()
    (place.run / "lineage.json").write_text("{}")
    assert sweep_on(place) == 2 and "another run.dir" in capsys.readouterr().err


# ---------------------------------------------------------------- one fold, on made-up clips

PEOPLE, LENGTH = 6, 16


def made_data(spoil: int | None = None) -> FoldData:
    """Six subjects, eight clips each, a level that tells the class; one subject's clips may be spoilt."""
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(PEOPLE), 8)
    labels = np.tile([0, 1], PEOPLE * 4)
    signals = (rng.normal(size=(len(labels), LENGTH, 2)) + 2 * labels[:, None, None]).astype(np.float32)
    moments = {s: Moments.of(signals[subject == s]) for s in range(PEOPLE)}
    if spoil is not None:
        signals[subject == spoil] = np.nan
        labels[subject == spoil] = 0
        moments[spoil] = Moments.of(np.full((1, LENGTH, 2), 1e9))
    names = tuple(f"s{i}" for i in range(PEOPLE))
    return FoldData(samples=tuple(map(str, range(len(labels)))), subject=subject, labels=labels, signals=signals,
                    channels=("a", "b"), tokens={}, token_grid=(1, 1, 1), numbers=np.zeros((len(labels), 3)), moments=moments,
                    pseudonyms=names, cohort="made", n_classes=2)


RECIPE = FoldRecipe(model="signal", options={"hpa": {"filters": 4}}, train={"max_epochs": 3, "batch_size": 8}, refit=True,
                    leaky=False, fixed_epochs=False, signal={"dim": 8, "depth": 1, "heads": 2, "ff": 8})
FOLD = Fold(0, 0, (0,), (2, 3, 4, 5), (1,), 0)


def test_the_clips_of_the_test_subject_change_nothing():
    clean, spoilt = (fit_validation(FOLD, made_data(spoil), RECIPE, None).to_json() for spoil in (None, 0))
    assert without_times(clean) == without_times(spoilt)
    assert clean["n_val"] == 8 and set(clean["people"]) == {"s1"}
    # while a training subject's clips do change the weights: the comparison can fail
    other = fit_validation(replace(FOLD, train=(2, 3, 4)), made_data(), RECIPE, None).to_json()
    assert other["weights_sha256"] != clean["weights_sha256"]


def test_the_score_is_that_of_the_epoch_with_the_least_validation_loss():
    recipe = replace(RECIPE, train={"max_epochs": 6, "batch_size": 8, "lr": 0.02})
    entry = fit_validation(FOLD, made_data(), recipe, None).to_json()
    assert 1 <= entry["epochs"] <= 6 and 0 <= entry["accuracy"] <= 1
    assert entry["accuracy"] * 8 == pytest.approx(round(entry["accuracy"] * 8))  # eight clips of one subject


@pytest.mark.parametrize("person", [0, 1])
def test_an_encoder_trained_on_a_scored_subject_is_refused(person):
    encoder = UsedEncoder(0, "e", None, Lineage("encoder 1", frozenset({f"made/s{person}"})))
    with pytest.raises(LineageError, match=f"s{person}"):
        fit_validation(FOLD, made_data(), RECIPE, encoder)


@pytest.mark.parametrize("change", [{"leaky": True}, {"fixed_epochs": True}, {"model": "ridge"}])
def test_a_recipe_without_inner_validation_is_a_programmers_error(change):
    with pytest.raises(ValueError, match="inner validation"):
        fit_validation(FOLD, made_data(), replace(RECIPE, **change), None)


# ---------------------------------------------------------------- the choice

def made_result(**given) -> ValidationResult:
    plain = {"fold": 0, "seed": 0, "accuracy": 0.5, "people": {}, "val_loss": 1.0, "epochs": 1, "n_val": 4, "test_openings": 0,
             "scaler_sha256": None, "encoder_sha256": None, "weights_sha256": "", "wall_s": 0.0}
    return ValidationResult(**{**plain, **given})


def made_point(folder, name: str, scores: dict[tuple[int, int], float]) -> Point:
    ledger = PointLedger(folder / name, name)
    for (number, seed), accuracy in scores.items():
        ledger.write(Fold(number, seed, (number,), (), (), 0),
                     made_result(fold=number, seed=seed, accuracy=accuracy, train_subjects=[f"s{number + 1}"],
                                 val_subjects=[f"s{number + 2}"]))
    used = UsedEncoder(0, name, None, Lineage(f"encoder of {name}", frozenset({"made/s9"})))
    return Point(name=name, encoder="vit_micro", mask_ratio=0.9, key=name, data=made_data(), recipe=RECIPE, encoders={0: used},
                 ledger=ledger)


class Made:
    name = "made"


def plan(n_folds: int, seeds: int) -> Plan:
    folds = tuple(Fold(i, s, (i,), (), (), 0) for i in range(n_folds) for s in range(seeds))
    return Plan(folds=folds, groups=(), n_subjects=n_folds, n_val=1, refit=False, leaky=False)


def test_seeds_are_averaged_within_a_fold_before_folds_are(tmp_path):
    a = made_point(tmp_path, "a", {(0, 0): 0.5, (0, 1): 0.7, (1, 0): 0.9, (1, 1): 0.9})
    b = made_point(tmp_path, "b", {(0, 0): 0.7, (0, 1): 0.7, (1, 0): 0.7, (1, 1): 0.7})
    result = ranked({"a": a, "b": b}, plan(2, 2), Made())
    first, second = result["points"]
    assert first["accuracy_mean"] == pytest.approx(0.75)
    assert first["accuracy_std"] == pytest.approx(np.std([0.6, 0.9], ddof=1))
    assert second["accuracy_mean"] == pytest.approx(0.7) and second["accuracy_std"] == pytest.approx(0)
    assert result["chosen"] == "a"
    assert Lineage.from_json(result["lineage"]).everyone() == {f"made/s{i}" for i in (1, 2, 3, 9)}
    json.dumps(result, allow_nan=False)


def test_nothing_is_chosen_while_a_fold_is_missing(tmp_path):
    a = made_point(tmp_path, "a", {(0, 0): 1.0})
    b = made_point(tmp_path, "b", {(0, 0): 0.2, (1, 0): 0.3})
    result = ranked({"a": a, "b": b}, plan(2, 1), Made())
    assert result["chosen"] is None and result["points"][0]["accuracy_mean"] is None
    assert result["points"][0]["n_failed"] == 1 and result["points"][1]["accuracy_mean"] == pytest.approx(0.25)


def test_the_lineage_includes_configurations_that_were_not_chosen(tmp_path):
    a, b = made_point(tmp_path, "a", {}), made_point(tmp_path, "b", {})
    entries = {"a": [made_result(train_subjects=["s1"], val_subjects=[])],
               "b": [made_result(train_subjects=[], val_subjects=["s2"])]}
    lineage = lineage_of({"a": a, "b": b}, entries, "made")
    assert lineage.everyone() == {"made/s1", "made/s2", "made/s9"} and len(lineage.parents) == 2
