"""What a plan prices: every fit, encoder and run of it, and nothing that is finished. No clock is asked here."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import loso
from orchestrator.cohort import cohort
from orchestrator.config.configuration import Config, compose, with_protocol
from orchestrator.estimate import costs, data_fingerprint, flops, fold_costs
from orchestrator.estimate.costs import Cost, Speed
from orchestrator.estimate.finished import NOTHING, Finished
from orchestrator.evaluation import run_record
from orchestrator.plan import folds
from orchestrator.stages import check

pytestmark = pytest.mark.medium
SPEED = Speed(50e9, 2, "2 cores", clip=0.001)
PEOPLE = 24


def plans_of(config: Config) -> list[folds.Plan]:
    people = tuple(cohort.Person(i, f"s{i}") for i in range(PEOPLE))
    names = ["clean", "as_paper"] if config.protocol.name == "both" else [config.protocol.name]
    return [folds.make_plan(with_protocol(config, name), people) for name in names]


def data_of(config: Config) -> data_fingerprint.Fingerprint:
    return data_fingerprint.planned_synthetic(config, cohort.preview(config))


def prices(*words: str, found: Finished = NOTHING, speed: Speed = SPEED, planned: bool = True) -> list[Cost]:
    config = compose("synthetic", [f"synthetic.subjects={PEOPLE}", "store=/nowhere/at/all", *words])
    return costs.forecast(config, replace(data_of(config), planned=planned), plans_of(config), speed, found)


def stage(rows: list[Cost], name: str) -> tuple[float, float]:
    return tuple(sum(row.seconds[end] for row in rows if row.stage == name) for end in (0, 1))


def folds_alone(rows: list[Cost], name: str = "loso") -> tuple[float, float]:
    """Without the start of the workers, which is there once whatever they do."""
    low, high = costs.interval(costs.TORCH_START)
    return stage(rows, name)[0] - low, stage(rows, name)[1] - high


ADDED = ("audit=true", "protocol=both", "protocol.refit=true", "protocol.seeds=3", "encoder=vit_small",
         "pretrain.video.epochs=300", "train.max_epochs=300", "synthetic.clips_per_level=12", "frames=all",
         "synthetic.size=[1280,960]")


@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from(ADDED), max_size=4), st.sampled_from(ADDED),
       st.sampled_from(["dual", "video", "signal", "signal_small", "lstm", "mte_mer", "ridge", "random_forest", "svm"]))
@pytest.mark.ci
def test_whatever_is_added_never_lowers_the_price(words, another, model):
    with_it = {word.partition("=")[0]: word for word in ("encoder=vit_tiny", f"model={model}", *sorted(words))}
    less = prices(*(word for word in with_it.values() if word != another))
    more = prices(*{**with_it, another.partition("=")[0]: another}.values())
    for one, other in zip(costs.total([p.seconds for p in less]), costs.total([p.seconds for p in more]), strict=True):
        assert other >= one * (1 - 1e-9)
    assert sum(p.size + p.passing for p in more) >= sum(p.size + p.passing for p in less)


@pytest.mark.parametrize("model", ["dual", "lstm", "vit3d", "ridge", "random_forest", "one_number"])
def test_twice_the_seeds_are_twice_the_folds_and_nothing_else(model):
    one, two = prices(f"model={model}"), prices(f"model={model}", "protocol.seeds=2")
    assert folds_alone(two) == pytest.approx([2 * x for x in folds_alone(one)])
    for other in {row.stage for row in one} - {"loso"}:
        assert stage(one, other) == stage(two, other)


def test_a_refit_is_a_second_training_that_includes_the_validation_subjects():
    """24 subjects, 2 of them for validation: 21 train, whose fit passes 21 + 2/3 subjects an epoch, the refit 23."""
    without, refit = prices("protocol.refit=false"), prices("protocol.refit=true")
    most = 200 * 16 * 24 * 0.001 / 2  # epochs, clips a subject, folds, seconds a clip, workers
    assert folds_alone(refit)[1] - folds_alone(without)[1] == pytest.approx(23 * most)
    assert folds_alone(refit)[0] - folds_alone(without)[0] == pytest.approx(23 * most / 200)  # after one epoch at the earliest
    tested = 16 * 24 * 0.001 / 2 / 3
    assert folds_alone(without)[1] == pytest.approx((21 + 2 / 3) * most + tested + 24 * fold_costs.FOLD_SECONDS / 2)


def test_the_audit_is_one_seed_four_times_and_the_first_fold_thrice():
    words = ["model=ridge", "protocol.seeds=3"]
    rows = prices(*words, "audit=true")
    assert "99 fits" in next(row.what for row in rows if row.stage == "audit")
    one_seed = folds_alone(prices("model=ridge"))
    assert folds_alone(rows, "audit") == pytest.approx([x * 99 / 24 for x in one_seed], rel=0.02)
    assert folds_alone(rows) == pytest.approx([3 * x for x in one_seed])
    assert not [row for row in prices(*words, "audit=true", "protocol=as_paper") if row.stage == "audit"]
    asked = prices(*words, "audit=true", "canaries.repeats=3")
    assert f"{3 * 96 + 3} fits" in next(row.what for row in asked if row.stage == "audit")
    small = prices(*words, "audit=true", "canaries.points=0.2")  # 24 x 16 clips see 0.4 points at once
    assert f"{2 * 96 + 3} fits" in next(row.what for row in small if row.stage == "audit")


def test_a_code_is_learnt_over_every_epoch():
    """The canary of codes has no validation subjects: patience does not end its training."""
    low, high = folds_alone(prices("audit=true", "train.max_epochs=50"), "audit")
    coded = 2 * 50 * 16 * 24 * 21 * 0.001 / 2
    assert low > coded and high - low == pytest.approx(51 / 24 * (50 - 11) * 16 * 24 * (21 + 2 / 3) * 0.001 / 2, rel=0.01)


def test_fixed_epochs_have_no_range():
    low, high = folds_alone(prices("protocol.val=fixed_epochs", "train.max_epochs=30"))
    assert low == pytest.approx(high)


def test_tokens_are_clips_through_every_encoder():
    words = ("encoder=vit_micro",)
    size = sum(row.size for row in prices(*words) if row.stage == "embed")
    assert size == 24 * 16 * 2 * 512 * 64 * 2  # subjects, clips, encoders, tokens, width, float16
    one = sum(row.size for row in prices(*words, "protocol=as_paper") if row.stage == "embed")
    assert one == size / 2  # the published way has one encoder


def test_both_protocols_are_two_runs_on_the_same_store():
    both, paper = prices("protocol=both", "audit=true"), prices("protocol=as_paper", "audit=true")
    clean = prices("protocol=clean", "audit=true", "protocol.refit=true")  # like as_paper it is to fit on everybody else
    sums = [a + b for a, b in zip(stage(clean, "loso"), stage(paper, "loso"), strict=True)]
    assert stage(both, "loso") == pytest.approx(sums)
    assert stage(both, "audit") == stage(clean, "audit") and len([row for row in both if row.stage == "report"]) == 2
    assert stage(both, "preprocess") == stage(clean, "preprocess") and stage(both, "pretrain") == stage(clean, "pretrain")


def test_fewer_folds_on_purpose():
    assert folds_alone(prices("max_folds=6")) == pytest.approx([x / 4 for x in folds_alone(prices())], rel=0.01)


@pytest.mark.parametrize("model", ["signal", "signal_small", "lstm", "transformer", "convtran", "ridge", "svm"])
def test_a_signal_model_decodes_no_video(model):
    rows = prices(f"model={model}")
    assert "0 with video" in next(row.what for row in rows if row.stage == "preprocess")
    assert stage(rows, "preprocess")[1] < 0.5 * stage(prices("model=video"), "preprocess")[0]
    assert not [row for row in rows if row.stage == "embed" or "video MAE" in row.what]


@pytest.mark.parametrize("model", ["dual", "video", "signal", "signal_small", "lstm", "transformer", "convtran", "resnet3d",
                                   "vit3d", "vgg_rnn", "e2e_mer", "mte_mer", "random_forest", "svm", "ridge", "one_number"])
def test_every_model_has_a_price(model):
    rows = prices(f"model={model}", speed=replace(SPEED, clip=None))
    assert all(row.seconds is not None and 0 < row.seconds[0] <= row.seconds[1] for row in rows)


def test_operations_of_the_comparison_networks():
    """GFLOP a clip at the paper's sizes. ViT3D by hand: 6 layers of 1024 with an MLP of 2048 over 1568 tokens."""
    by_hand = 6 * (16 * 1568 * 1024**2 + 4 * 1568**2 * 1024) + 2 * 1568 * 1536 * 1024
    config = compose("synthetic", ["model=vit3d", "encoder=vit_small"])
    assert flops.classifier(config, 3) == pytest.approx(by_hand, rel=0.01)
    lstm = compose("synthetic", ["model=lstm"])
    both_ways = 2 * 400 * 2 * 4 * 128 * (3 + 128)
    convolutions = 2 * 401 * 3 * 128 * 8 + 2 * 401 * 128 * 256 * 5 + 2 * 401 * 256 * 128 * 3
    assert flops.classifier(lstm, 3) == pytest.approx(both_ways + convolutions, rel=0.01)


# ---------------------------------------------------------------- what is there already

def test_what_is_finished_costs_nothing():
    config = compose("synthetic", [f"synthetic.subjects={PEOPLE}"])
    (plan,) = plans_of(config)
    people, groups = frozenset(range(PEOPLE)), frozenset(group.subjects for group in plan.groups)
    names = frozenset(fold.name for fold in plan.folds)
    whole = prices(planned=False)

    half = prices(found=Finished(frozenset(range(12))), planned=False)
    low, high = (costs.interval(costs.FACE_START)[end] for end in (0, 1))
    assert [x - y for x, y in zip(stage(half, "preprocess"), (low, high), strict=True)] == pytest.approx(
        [(x - y) / 2 for x, y in zip(stage(whole, "preprocess"), (low, high), strict=True)])

    clips = prices(found=Finished(people), planned=False)
    assert {row.stage for row in clips} == {"start", "pretrain", "embed", "loso", "report"}
    trained = prices(found=Finished(people, groups), planned=False)
    assert {row.stage for row in trained} == {"start", "embed", "loso", "report"}
    one = prices(found=Finished(people, frozenset([plan.groups[0].subjects])), planned=False)
    assert "1 video MAE" in next(row.what for row in one if row.stage == "pretrain")
    embedded = prices(found=Finished(people, groups, 24 * 16 * 2), planned=False)
    assert {row.stage for row in embedded} == {"start", "loso", "report"}
    some = prices(found=Finished(people, groups, 24 * 16 * 2, (names - {"fold-003-seed-0"},)), planned=False)
    assert "1 folds" in next(row.what for row in some if row.stage == "loso")
    done = prices(found=Finished(people, groups, 24 * 16 * 2, (names,)), planned=False)
    assert [row.stage for row in done] == ["start", "report"] and "Ray" not in done[0].what


def test_a_finished_run_has_nothing_to_do(road, capsys, monkeypatch):
    """On the stores of a run that ended: found by the same keys as the stages go by, and nothing is written."""
    from orchestrator import cli
    from orchestrator.estimate import finished
    from tests.helpers.roads import snapshot

    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(costs, "measured", lambda config: SPEED)
    before = {place: snapshot(place) for place in (road.store, road.run)}
    assert cli.run(loso.main, ["--dry-run", *road.argv()]) == 0
    said = capsys.readouterr().out
    (left,) = [line for line in said.splitlines() if "to do" in line]
    assert "only the report" in left

    config = cli.parse("loso", "", road.argv()).config
    people = cohort.preview(config)
    plan = folds.make_plan(config, people.people)
    found = finished.find(config, people, [plan])
    assert len(found.subjects) == len(people.people) and len(found.encoders) == len(plan.groups)
    assert found.folds(0) == {fold.name for fold in plan.folds}

    assert cli.run(loso.main, ["--dry-run", *road.argv("protocol.seeds=2")]) == 0
    (left,) = [line for line in capsys.readouterr().out.splitlines() if "to do" in line]
    assert "loso; the rest is finished" in left
    assert cli.run(loso.main, ["--dry-run", *road.argv("signal.length=64")]) == 0
    assert "to do" not in capsys.readouterr().out  # other signals are other clips
    assert before == {place: snapshot(place) for place in (road.store, road.run)}


def test_a_stage_without_estimate_is_left_out_in_words(capsys):
    from rich.console import Console

    rows = [Cost("embed", "clips", (10.0, 10.0), 1e6), Cost("loso", "folds of elsewhere", None, 2e6)]
    Console(width=200, force_terminal=False).print(check.cost_table(rows, None, SPEED))
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "all" in line and "without" in line]
    assert "without loso (folds of elsewhere)" in said and "about 10 s" in said


def test_the_guess_lies_inside_its_span():
    assert costs.middle((4.0, 9.0)) == 6 and costs.span((60.0, 240.0)) == "about 2.0 min (60 s to 4.0 min)"
    assert costs.total([(1.0, 4.0), None, (10.0, 10.0)]) == (11.0, 12.0, 14.0)


def test_a_step_is_tried_with_the_run_s_own_options():
    """A wider model has a dearer clip; what cannot be built is left to the run, which says why."""
    from orchestrator.estimate import timed_steps

    made = {}
    for width in (8, 512):
        config = compose("watch", [f"model.signal.ff={width}", "train.batch_size=4"])
        data = replace(data_of(compose("synthetic", [])), n_channels=6)
        made[width] = timed_steps.with_timed_step(Speed(50e9, 2, "2 cores"), config, data).clip
        assert made[width] > 0
    broken = compose("watch", ["model.signal.heads=7"])
    assert timed_steps.with_timed_step(Speed(50e9, 2, "2 cores"), broken, data).clip is None
    assert timed_steps.with_timed_step(SPEED, compose("watch", ["model=ridge"]), data) == SPEED
    large = compose("synthetic", ["model=resnet3d", "encoder=vit_small"])
    assert timed_steps.with_timed_step(Speed(50e9, 2, "2 cores"), large, data).clip is None  # priced by its operations


def test_runs_of_both_protocols_are_found_in_their_own_folders(tmp_path):
    config = compose("synthetic", ["protocol=both", f"run.dir={tmp_path}"])
    assert [run_record.run_dir(c).name for c in run_record.runs(config)] == ["clean", "as_paper"]


def test_as_paper_is_priced_by_its_own_epochs_and_its_own_rule():
    """1e-3 halves ten times before 1e-6, after 8 epochs each: 81 at the least, 1,000 at most; patience says nothing."""
    from models.classifier import training

    assert (fold_costs.LEAST_RATE, fold_costs.PLATEAU_PATIENCE) == (training.LEAST_RATE, training.PLATEAU_PATIENCE)
    paper = compose("synthetic", ["protocol=as_paper"])
    assert fold_costs.epochs(paper) == (81, 1000)
    assert fold_costs.epochs(compose("synthetic", ["protocol=as_paper", "protocol.as_paper_epochs=50"])) == (50, 50)
    assert fold_costs.epochs(compose("synthetic", ["train.stop=rate", "train.lr=1e-4"])) == (57, 200)
    assert fold_costs.epochs(compose("synthetic", [])) == (11, 200)
    low, high = folds_alone(prices("protocol=as_paper"))
    assert low > folds_alone(prices("protocol.refit=false"))[0] and high > 4 * folds_alone(prices("protocol.refit=false"))[1]
    both = prices("protocol=both", "protocol.refit=true", "protocol.as_paper_epochs=100")
    words = [row.what for row in both if row.stage == "loso"]
    assert len(words) == 2 and "refit" in words[0] and "refit" not in words[1]
