"""audit=true: the canaries on a run's own data fail if information leaks, and only then."""

from dataclasses import replace

import numpy as np
import pytest

from orchestrator import cli, loso
from orchestrator.evaluation import audit, canaries, fold_data, raw_noise
from orchestrator.evaluation import fit_fold as foldfit
from orchestrator.evaluation.canaries import FAILED, KINDS, PASSED, UNCLEAR, _against_chance, judge_crossed, perturbed
from orchestrator.evaluation.fit_fold import FoldData
from orchestrator.files.storage import read_json
from orchestrator.plan import folds
from orchestrator.stages import make_clips
from preprocessing.moments import fit_scaler
from tests.helpers.made_data import encoder, fit_entry, fold, made_data, recipe
from tests.helpers.made_runs import made_run, takes_entries
from tests.helpers.roads import PEOPLE, TINY, Road, snapshot

judge_crossed, _against_chance = map(takes_entries, (judge_crossed, _against_chance))

pytestmark = pytest.mark.ci
FOREST = [*TINY, "model=random_forest", "model.trees=30", "audit=true"]


@pytest.fixture
def made(ridge, tmp_path):
    return Road(ridge.root, ridge.store, tmp_path / "run", list(FOREST))


def verdicts(road):
    return {row["name"]: row["verdict"] for row in read_json(road.run / "audit.json")}


def test_a_clean_run_passes(made, inline):
    assert made.main() == 0
    assert verdicts(made) == dict.fromkeys(audit.QUESTIONS, PASSED)
    page = (made.run / "report.html").read_text()
    assert "Leakage canaries" in page and all(question in page for question in audit.QUESTIONS.values())
    # two kinds, two repeats (28 clips are too few for one), two label shifts; and three fits of the first fold
    fits = 2 * 2 * 2 * PEOPLE + 3
    assert len(inline["loso"]) == PEOPLE + fits
    rows = {row["name"]: row for row in read_json(made.run / "audit.json")}
    assert all(0 < rows[name]["smallest_leak_points"] < 5 for name in KINDS) and not (made.run / "audit" / "raw").exists()
    assert "Noise was inserted in the files of 4 recordings" in rows["noisy_test"]["text"]
    before = snapshot(made.run / "audit")
    assert made.main() == 0 and len(inline["loso"]) == PEOPLE + fits, "a finished canary was fitted again"
    assert snapshot(made.run / "audit") == before


def test_the_folds_are_those_of_a_run_without_it(made, inline, tmp_path):
    assert made.main("max_folds=2") == 0
    plain = Road(made.root, made.store, tmp_path / "plain", [w for w in FOREST if w != "audit=true"])
    assert plain.main("max_folds=2") == 0
    assert (plain.run / "predictions.parquet").read_bytes() == (made.run / "predictions.parquet").read_bytes()
    assert "Leakage canaries" not in (plain.run / "report.html").read_text()


def test_a_scaler_fitted_on_all_subjects_fails_the_audit(made, inline, monkeypatch, capsys):
    monkeypatch.setattr(foldfit, "fit_scaler", lambda moments, subjects, kind: replace(
        fit_scaler(moments, list(moments)), subjects=tuple(sorted(subjects))))  # with a wrong lineage
    assert cli.run(loso.main, made.argv("max_folds=3")) == 1
    assert verdicts(made)["noisy_test"] == FAILED and "defect of dualpain" in capsys.readouterr().out
    assert "Do not use this result" in (made.run / "report.html").read_text()


def test_a_guard_that_checks_nothing_fails_the_audit(made, inline, monkeypatch):
    monkeypatch.setattr(foldfit, "guard", lambda *a: None)
    assert cli.run(loso.main, made.argv("max_folds=2")) == 1
    assert verdicts(made)["guard"] == FAILED


def test_an_audit_of_leaks_on_purpose_is_refused(made, capsys):
    assert cli.run(loso.main, made.argv("protocol=as_paper")) == 2
    assert "protocol=clean" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["dual", "video", "ridge"])
def test_what_the_canaries_do_to_the_data(kind, model):
    data, place = made_data(), fold(2)
    first, second = (perturbed(kind, data, place, 0, shift) for shift in (0, 1))
    own = data.subject == 2
    assert (second.labels[own] == (first.labels[own] + 1) % 2).all() and (second.labels[~own] == first.labels[~own]).all()
    assert (first.signals == second.signals).all() and (first.tokens[0][np.arange(42)] == second.tokens[0][np.arange(42)]).all()
    if kind == "coded":
        assert (first.signals != data.signals).any(axis=(1, 2)).all() and (first.labels == data.labels).all()
        for i, j in ((0, 2), (1, 3)):  # the same subject and class
            assert (first.signals[i] == first.signals[j]).all() and (first.tokens[1][[i]] == first.tokens[1][[j]]).all()
        assert (first.signals[0] != first.signals[1]).any() and (first.signals[0] != first.signals[6]).any()
        assert (perturbed(kind, data, place, 1, 0).signals[0] != first.signals[0]).any(), "a repeat has the same codes"
    else:
        assert (first.labels != data.labels).any() and (first.signals == data.signals).all()
        assert all(sorted(first.labels[data.subject == s]) == sorted(data.labels[data.subject == s]) for s in range(7))
        assert (perturbed(kind, data, place, 1, 0).labels != first.labels).any(), "a repeat has the same order"
    entry = fit_entry(place, first, canaries.recipe_of(kind, recipe(model)), encoder(), score_training=True)
    assert 0 <= entry["train_accuracy"] <= 1 and entry["test_openings"] == 1


def test_noise_of_one_subject_only():
    data = made_data()
    noise = canaries.noisy(data, [2])
    rows = np.arange(len(data.labels))
    same = [(noise.signals[i] == data.signals[i]).all() and (noise.tokens[0][[i]] == data.tokens[0][[i]]).all() for i in rows]
    assert [not s for s in same] == (data.subject == 2).tolist()


# ---------------------------------------------------------------- the smallest leak that is detected

def predictions(rng, follow, n_people=8, n_clips=16, n_classes=2, noise=0.0, train=1.0):
    """Entries with label shift 0 and 1: predictions independent of the labels, except for a share `follow` that equals them.

    noise: a share of predictions that differ between the two fits at random, as if training were not reproducible.
    """
    pairs = []
    for person in range(n_people):
        truth = rng.permutation(np.arange(n_clips) % n_classes)
        base, two = rng.integers(0, n_classes, n_clips), []
        for shift in (0, 1):
            label = (truth + shift) % n_classes
            y_pred = np.where(rng.random(n_clips) < noise, rng.integers(0, n_classes, n_clips), base)
            y_pred = np.where(rng.random(n_clips) < follow, label, y_pred)
            rows = [{"sample": f"{person}-{i}", "subject": f"p{person}", "y_true": int(t), "y_pred": int(y),
                     "prob": np.eye(n_classes)[y].tolist()} for i, (t, y) in enumerate(zip(label, y_pred, strict=True))]
            two.append({"fold": person, "seed": 0, "subject": f"p{person}", "predictions": rows, "train_accuracy": train,
                        "epochs": 1, "scaler_sha256": "", "weights_sha256": "", "train_subjects": ["another"],
                        "val_subjects": []})
        pairs.append(tuple(two))
    return pairs


def verdict(pairs, n_classes=2, points=5.0, exact=True, learnt=False):
    return judge_crossed(pairs, n_classes, points, exact, learnt)["verdict"]


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_a_planted_leak_of_five_points_is_detected_and_none_is_not(n_classes):
    """The demo's size: 8 subjects, 16 clips (15 of 3 or 5 classes), one shuffle. A share f gains f (1 - 1/K) of accuracy."""
    rng = np.random.default_rng(0)
    n_clips, follow = 16 - 16 % n_classes, 0.05 / (1 - 1 / n_classes)
    seen = [verdict(predictions(rng, follow, n_clips=n_clips, n_classes=n_classes), n_classes) == FAILED for _ in range(100)]
    assert np.mean(seen) >= 0.95
    clean = [verdict(predictions(rng, 0.0, n_clips=n_clips, n_classes=n_classes), n_classes) for _ in range(100)]
    assert clean.count(FAILED) <= 2 and clean.count(PASSED) >= 98, "one in a thousand alarms by chance"


def test_a_leak_of_the_reported_size_is_detected_19_times_of_20():
    rng = np.random.default_rng(1)
    points = canaries.smallest_detectable(8 * 16, 2)
    assert points == pytest.approx(100 * (1 - 0.05 ** (1 / 128)) / 2) and 1.1 < points < 1.2
    seen = [verdict(predictions(rng, points / 100 / 0.5)) == FAILED for _ in range(200)]
    assert 0.91 <= np.mean(seen) <= 1.0, "each of the two fits may show it, so slightly more leaks are detected than promised"


def test_a_leak_that_cannot_be_detected_is_unclear():
    rng = np.random.default_rng(2)
    few = judge_crossed(predictions(rng, 0.0, n_people=3, n_clips=4), 2, 5.0, True)
    assert few["verdict"] == UNCLEAR and few["smallest_leak_points"] == pytest.approx(11.0, abs=0.1)
    assert "11.0 points, more than the required 5" in few["text"]
    assert verdict(predictions(rng, 0.0, n_people=3, n_clips=4), points=12.0) == PASSED
    assert verdict(predictions(rng, 0.0, n_people=2)) == UNCLEAR
    assert verdict(predictions(rng, 0.0, train=0.6), learnt=True) == UNCLEAR
    assert verdict(predictions(rng, 0.0), learnt=True) == PASSED


def test_if_fits_are_not_reproducible_the_leak_is_tested_over_subjects():
    rng = np.random.default_rng(3)
    clean = [judge_crossed(predictions(rng, 0.0, noise=0.3), 2, 5.0, False) for _ in range(100)]
    assert sum(row["verdict"] == FAILED for row in clean) <= 2
    assert all(row["verdict"] != PASSED or row["smallest_leak_points"] <= 5 for row in clean)
    assert np.median([row["smallest_leak_points"] for row in clean]) > 5, "8 subjects with that much noise see no 5 points"
    many = judge_crossed(predictions(rng, 0.3, n_people=40, noise=0.3), 2, 5.0, False)
    assert many["verdict"] == FAILED and many["leak_points"] == pytest.approx(15, abs=4)


def test_repeats_are_as_many_as_five_points_need():
    assert [canaries.repeats(n, 2, 5.0) for n in (128, 28, 8, 1)] == [1, 2, 4, 20]
    assert all(canaries.smallest_detectable(n * canaries.repeats(n, k, 5.0), k) <= 5.0
               for n in range(3, 200) for k in (2, 3, 5))
    fits = audit.planned([fold(i) for i in range(7)], 28, 2, None, 5.0)
    assert len(fits) == 2 * 2 * 2 * 7 + 3 and len({fit.name for fit in fits}) == len(fits)
    assert len(audit.planned([fold(i) for i in range(7)], 28, 2, 3, 5.0)) == 2 * 3 * 2 * 7 + 3


def test_accuracies_above_chance_fail_even_if_label_shifts_change_nothing():
    _, skilled = made_run(n_people=12, skill=3.0)
    second = [{**e, "predictions": [{**r, "y_true": 1 - r["y_true"]} for r in e["predictions"]]} for e in skilled]
    assert verdict(list(zip(skilled, second, strict=True))) == FAILED
    _, noise = made_run(n_people=12, skill=0.0)
    other = [{**e, "predictions": [{**r, "y_true": 1 - r["y_true"]} for r in e["predictions"]]} for e in noise]
    assert verdict(list(zip(noise, other, strict=True))) == PASSED
    flat = [{**e, "predictions": [{**r, "y_pred": 0} for r in e["predictions"]]} for e in noise]
    assert verdict([(e, e) for e in flat]) == UNCLEAR, "a model that predicts one class cannot show a leak"


def test_constant_predictions_are_no_leak_and_hide_none():
    """20 % positives: a constant prediction is correct for 80 %, which is no leak; 100 % is a leak."""
    truth = [int(i % 5 == 0) for i in range(20)]

    def pair(person, predicted):
        def rows(shift):
            return [{"sample": f"{person}{i}", "subject": person, "y_true": (t + shift) % 2, "y_pred": y, "prob": [1.0 - y, y]}
                    for i, (t, y) in enumerate(zip(truth, predicted, strict=True))]
        return tuple({"fold": 0, "seed": 0, "subject": person, "epochs": 0, "scaler_sha256": "", "weights_sha256": "",
                      "train_subjects": ["another"], "val_subjects": [], "train_accuracy": 1.0, "predictions": rows(shift)}
                     for shift in (0, 1))

    assert verdict([pair(f"p{i}", [0] * 20) for i in range(6)], learnt=True) == PASSED
    assert verdict([pair(f"p{i}", truth) for i in range(6)], learnt=True) == FAILED
    few = _against_chance([pair(f"p{i}", truth)[0] for i in range(3)], 2)
    assert few["p"] == pytest.approx(1 / 64), "without variance: one random prediction per class and subject, 2^-6"


def test_the_alarm_of_a_run_without_information_is_as_rare_as_it_says():
    """A test that treats subjects with shared training as independent gives too many false alarms."""
    _, noise = made_run(n_people=10, skill=0.0)
    alone = [{**entry, "train_subjects": [f"else{i}"], "val_subjects": []} for i, entry in enumerate(noise)]
    shared, apart = _against_chance(noise, 2)["p"], _against_chance(alone, 2)["p"]
    assert abs(shared - 0.5) < abs(apart - 0.5), "shared training widens the standard error"


@pytest.mark.parametrize("share", [0.1])
def test_a_leak_in_prediction_fails_the_audit(made, inline, monkeypatch, share):
    """One prediction in ten is the true label, which is 5 points of accuracy with two classes."""
    honest = foldfit.predict

    def leaky(fitted, data, rows, scaler, encoder):
        found = honest(fitted, data, rows, scaler, encoder)
        known = np.flatnonzero(np.random.default_rng(int(rows[0])).random(len(rows)) < share) if len(rows) < 10 else []
        for place in known:
            found[place] = np.eye(data.n_classes)[data.labels[rows[place]]]
        return found

    monkeypatch.setattr(foldfit, "predict", leaky)
    assert cli.run(loso.main, made.argv()) == 1
    assert verdicts(made)["shuffled"] == FAILED


def test_test_rows_in_training_fail_the_audit(made, inline, monkeypatch):
    honest = FoldData.rows

    def rows(data, subjects):
        """Rows of the test subject; for training subjects, one row too many."""
        found = honest(data, subjects)
        return found if len(subjects) == 1 else np.union1d(found, honest(data, [s for s in range(7) if s not in subjects])[:1])

    monkeypatch.setattr(FoldData, "rows", rows)
    assert cli.run(loso.main, made.argv("max_folds=3")) == 1
    assert {verdicts(made)[name] for name in ("shuffled", "coded", "noisy_test")} == {FAILED}


# ---------------------------------------------------------------- noise at the recordings

def test_noise_enters_at_the_recordings(made, inline, tmp_path):
    """For one subject, everything computed from the recordings differs; for the others it is bit-identical."""
    assert made.main("audit=false", "max_folds=1") == 0
    config = made.config("max_folds=1")
    people = made.cohort()
    plan = folds.make_plan(config, people.people)
    clips = make_clips.ensure(config, people)
    data = fold_data.build(config, people, clips, [], [])
    pipeline = raw_noise.Pipeline(config, plan, people, clips, [])
    found = raw_noise.reprocess(pipeline, data, plan.folds[0], [0], tmp_path / "raw")
    own = data.subject == 0
    assert found.where == "in the files of 4 recordings" and not found.other_encoder
    assert (found.data.signals[~own] == data.signals[~own]).all() and found.data.samples == data.samples
    assert (found.data.signals[own] != data.signals[own]).any(axis=1).all(), "a channel kept its recording"
    assert [found.data.moments[s].to_json() == data.moments[s].to_json() for s in range(7)] == [False] + 6 * [True]
    assert (found.data.labels[own] == 1 - data.labels[own]).all()
    gsr = data.channels.index("gsr")  # noise around the recording's mean, then the usual processing
    ratio = found.data.signals[own][:, :, gsr].mean() / data.signals[own][:, :, gsr].mean()
    assert 0.2 < ratio < 5
    assert not list((made.store / "clips").rglob("*.npz"))


def test_a_noisy_video_still_shows_a_face(tree, engines, tmp_path):
    from orchestrator.stores.clip_store import clip_options
    from preprocessing.recordings import VideoRef

    config = Road(tree, tmp_path / "store", tmp_path / "run").config()
    options = clip_options(config, True)
    video = VideoRef(sorted((tree / "video").rglob("*.mp4"))[0])
    plain = engines(options.face).process(video, options.keyframe, "keyframes", options.limits)
    other = raw_noise._NoisyVideos(options, np.random.default_rng(0))
    noisy = other.process(video, options.keyframe, "keyframes", options.limits)
    assert noisy.n_frames == plain.n_frames and noisy.n_lost < 0.2 * noisy.n_frames
    assert noisy.frames[0].astype(int).mean() != plain.frames[0].astype(int).mean()
    assert noisy.seconds == pytest.approx(plain.seconds, abs=0.1)
