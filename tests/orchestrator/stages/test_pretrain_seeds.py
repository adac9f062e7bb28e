"""pretrain.seeds: several pretrainings, each with its own groups, weights and folds, in one run that says which is which."""

import pytest

from orchestrator import cli, loso
from orchestrator.cohort.cohort import Person
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.files.storage import read_checked, read_json
from orchestrator.plan import folds
from tests.helpers.roads import PEOPLE, TINY, Road

pytestmark = pytest.mark.ci
SIGNAL = ["model=signal", "protocol.seeds=[1,3]", "max_folds=2"]


@pytest.fixture
def signal(signal_tree, tmp_path) -> Road:
    return Road(signal_tree, tmp_path / "store", tmp_path / "run", list(TINY))


def plan(*words: str) -> folds.Plan:
    people = [Person(i, f"k{i}", "fm"[i % 2], 20 + i) for i in range(PEOPLE + 1)]
    return folds.make_plan(compose("synthetic", list(words)), people)


def roles(fold: folds.Fold) -> tuple:
    return fold.index, fold.protocol_seed, fold.test, fold.train, fold.val, fold.group


def test_the_plan_is_every_pretrain_seeds_own_under_seeds_of_the_run():
    together = plan("protocol.seeds=[1,3]", "pretrain.seed=5", "pretrain.seeds=2")
    one, two = (plan("protocol.seeds=[1,3]", f"pretrain.seed={seed}") for seed in (5, 6))
    assert [roles(fold) for fold in together.folds] == [roles(fold) for fold in (*one.folds, *two.folds)]
    assert {g.subjects for g in one.groups} != {g.subjects for g in two.groups}
    assert together.seeds() == [1, 3, 1001, 1003] and len({fold.name for fold in together.folds}) == len(together.folds)
    assert folds.seed_of(together) == {
        "1": {"protocol": 1, "pretrain": 5}, "3": {"protocol": 3, "pretrain": 5},
        "1001": {"protocol": 1, "pretrain": 6}, "1003": {"protocol": 3, "pretrain": 6}}
    assert "drawn for each of 2 pretrain seeds" in together.text()
    assert folds.seed_of(one) == {} and one.seeds() == [1, 3] and one.by_pretrain_seed == ()


def test_a_further_protocol_seed_leaves_the_others_as_they_are():
    """Ledger files are named by the run's seed: one that stood for another pair would be taken for it."""
    less, more = (folds.seed_of(plan(f"protocol.seeds={seeds}", "pretrain.seeds=2")) for seeds in ("[0]", "[0,1]"))
    assert set(less) < set(more) and all(more[seed] == pair for seed, pair in less.items())
    with pytest.raises(UserError, match="use protocol seeds below 1000"):
        plan("protocol.seeds=[1000]", "pretrain.seeds=2")


def test_nobody_left_to_test_is_one_sentence():
    with pytest.raises(UserError, match="protocol=exclude_pretrain leaves no test subject"):
        plan("protocol=exclude_pretrain", f"pretrain.subjects={list(range(PEOPLE + 1))}")


def test_a_group_that_is_drawn_anew_cannot_be_left_untested():
    with pytest.raises(UserError, match="protocol=exclude_pretrain does not test the subjects of one pretraining group"):
        plan("protocol=exclude_pretrain", "pretrain.seeds=2")
    fixed = plan("protocol=exclude_pretrain", "pretrain.seeds=2", "pretrain.subjects=[0,1,2]")
    assert {fold.test for fold in fixed.folds} == {(i,) for i in range(3, PEOPLE + 1)}


def test_folds_run_for_every_pretraining_as_they_would_alone(signal, inline, tmp_path):
    assert signal.main(*SIGNAL, "pretrain.seed=2", "pretrain.seeds=2") == 0
    assert len(inline["pretrain"]) == 4 and len(inline["loso"]) == 8
    summary = signal.summary()
    assert summary["seeds"] == [1, 3, 1001, 1003] and summary["pretrain_seeds"] == [2, 3] and summary["n_planned"] == 8
    assert summary["seed_of"]["1003"] == {"protocol": 3, "pretrain": 3}
    found = {(f["fold"], f["seed"]): f for f in summary["folds"]}
    again = list(inline["loso"])
    assert signal.main(*SIGNAL, "pretrain.seed=2", "pretrain.seeds=2") == 0 and inline["loso"] == again
    for number, seed in enumerate((2, 3)):
        alone = Road(signal.root, signal.store, tmp_path / f"alone-{seed}", list(TINY))
        assert alone.main(*SIGNAL, f"pretrain.seed={seed}") == 0
        for fold in alone.summary()["folds"]:
            same = found[fold["fold"], fold["seed"] + 1000 * number]
            assert {**same, "seed": fold["seed"]} == fold, "another encoder or other draws"
        assert "seed_of" not in alone.summary()
    assert len(inline["pretrain"]) == 4, "the encoders are those of the single runs"
    encoders = {read_checked(path)["about"]["pretrain"]["seed"] for path in signal.store.glob("encoders/*/encoder.json")}
    assert encoders == {2, 3}
    lineage = read_json(signal.run / "lineage.json")
    assert len(lineage["encoders"]) == 4
    assert {(f["seed"], f["encoder"] // 2) for f in lineage["folds"]} == {(1, 0), (3, 0), (1001, 1), (1003, 1)}
    assert "encoder 1, pretrain seed 3" in (signal.run / "report.html").read_text()


@pytest.mark.parametrize(("words", "said"), [
    (["model=ridge", "pretrain.seeds=2"], "pretrain.seeds=2 has no effect with model=ridge, which uses no encoder"),
    (["model=signal", "pretrain=none", "pretrain.seeds=2"], "pretrain.seeds=2 has no effect with pretrain=none"),
    (["model=video", "pretrain.seeds=2", "pretrain.checkpoint=x.pt"],
     "pretrain.seeds=2 has no effect with pretrain.checkpoint"),
    (["pretrain.seeds=0"], "pretrain.seeds=0 does not fit: it must be a whole number at least 1"),
    (["pretrain.seeds=[0,1]"], "pretrain.seeds=[0, 1] does not fit: it must be a whole number"),
])
def test_mistakes_are_one_sentence(capsys, words, said):
    assert cli.run(loso.main, ["--dataset", "synthetic", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_dry_run_prices_every_pretraining(signal, capsys):
    from orchestrator.estimate import costs
    from orchestrator.stages import dry_run
    from orchestrator.stores import cross_dataset

    def rows(*words):
        config = signal.config("model=signal", "protocol.seeds=2", *words)
        people = cross_dataset.load(config, preview=True)
        own = folds.make_plan(config, people.people)
        return {cost.stage: cost for cost in dry_run.prices(config, people, [own])[0] if "Ray Train" not in cost.what}

    one, three = rows(), rows("pretrain.seeds=3")
    assert one["pretrain"].what == "2 signal MAE" and three["pretrain"].what == "6 signal MAE"
    assert costs.middle(three["pretrain"].seconds) > 2 * costs.middle(one["pretrain"].seconds)
    assert one["loso"].what.startswith(f"{2 * PEOPLE} folds") and three["loso"].what.startswith(f"{6 * PEOPLE} folds")
