"""Settings chosen by a sweep, in loso: each half chooses for the other; a choice that depends on a test subject is an error."""

from dataclasses import replace

import pytest

from orchestrator import cli, loso
from orchestrator.cohort.cohort import Cohort, Person
from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import compose
from orchestrator.errors import LineageError, UserError
from orchestrator.evaluation import sweep_choice
from orchestrator.evaluation.sweep_points import Point, PointLedger
from orchestrator.files.storage import read_json, with_checksum, write_json
from orchestrator.plan.folds import make_plan
from orchestrator.stages import run_sweep
from tests.helpers.made_data import encoder, fit_entry, made_data, recipe
from tests.helpers.roads import PEOPLE, TINY, Road

N = 16


def cohort(n=N):
    people = tuple(Person(i, f"p{i}", cohort="made") for i in range(n))
    return Cohort(dataset="synthetic", name="made", class_names=("L0", "L1"), people=people, clips=(), key_fingerprint="key",
                  partial=False, notes=(), synthetic=True)


def config(*words):
    return compose("synthetic", ["model=video", "pretrain=none", "protocol.refit=false", *words])


@pytest.fixture
def swept(monkeypatch, inline, tmp_path):
    """sweep.json of a cross-fitted sweep over two halves of sixteen generated subjects."""
    data = made_data(n_people=N, n_clips=4)

    def stages(configs, people, plan, folder):
        return {name: Point(name=name, encoder=c.encoder.name, mask_ratio=float(c.pretrain.video["mask_ratio"]), key=name,
                            data=data, recipe=recipe("video", refit=False), encoders={None: encoder(i)},
                            ledger=PointLedger(folder / name, name))
                for i, (name, c) in enumerate(configs.items())}

    monkeypatch.setattr(run_sweep, "open_points", stages)
    monkeypatch.setattr(run_sweep.cohort, "load", lambda config: cohort())
    words = ("model=video", "pretrain=none", "sweep.encoder=[vit_micro,vit_tiny]", "sweep.mask_ratio=[0.9]")
    asked = config("sweep.halves=true", *words[2:], f"run.dir={tmp_path / 'sweep'}")
    return run_sweep.run(asked, run_sweep.grid(asked, words)), tmp_path / "sweep", asked


def test_halves_are_disjoint_and_choose_apart(swept):
    result, folder, asked = swept
    one, two = run_sweep.parts_of(asked, cohort().people)
    assert len(one) == len(two) == N // 2 and not {p.index for p in one} & {p.index for p in two}
    for half, members in zip(result["halves"], (one, two), strict=True):
        seen = Lineage.from_json(half["lineage"]).everyone()
        assert seen == {f"made/{p.pseudonym}" for p in members}, "a half met somebody of the other"
        assert half["chosen"] in ("vit_micro-mask-0.9", "vit_tiny-mask-0.9")
        assert all(row["n_folds"] == N // 2 and row["n_failed"] == 0 for row in half["points"])
    assert read_json(folder / "sweep.json")["halves"] == result["halves"]
    assert {p.name for p in folder.iterdir()} >= {"half-1", "half-2", "sweep.json"}


def test_every_fold_uses_the_choice_of_the_other_half(swept):
    result, folder, _ = swept
    run, people = config(f"sweep.read={folder}"), cohort()
    plan = make_plan(run, people.people)
    parts = sweep_choice.parts(run, ("model=video", "pretrain=none"), plan, people)
    assert sorted(f.index for part in parts for f in part.folds) == list(range(N))
    for part in parts:
        (lineage,) = part.lineages
        assert not set(people.keys([f.test[0] for f in part.folds])) & lineage.everyone()
        assert part.config.encoder.name == part.choice.encoder and part.config.model.name == "video"
        fold = part.folds[0]
        data = made_data(n_people=N, n_clips=2)
        how = replace(recipe("video", refit=False), train={"max_epochs": 1})
        assert fit_entry(fold, data, how, encoder(), part.lineages)["n_test"] == 2
        other = next(p for p in parts if p is not part).folds[0]
        with pytest.raises(LineageError, match="chosen by a sweep, half"):
            fit_entry(other, data, how, encoder(), part.lineages)
    assert len(sweep_choice.notes(parts)) == 2 and "a sweep over 8 subjects" in sweep_choice.notes(parts)[0]


def test_a_sweep_over_all_subjects_is_an_error_that_names_the_fix(swept, tmp_path):
    result, folder, _ = swept
    whole = {**result, **result["halves"][0]}
    del whole["halves"]
    write_json(tmp_path / "one.json", with_checksum(whole))
    run, people = config(f"sweep.read={tmp_path / 'one.json'}"), cohort()
    plan = make_plan(run, people.people)
    with pytest.raises(LineageError, match=r"made/p\d+ leaked into training through the setting vit_\w+-mask-0.9"
                                           r".*sweep.halves=true"):
        sweep_choice.parts(run, (), plan, people)
    paper = make_plan(config("protocol=as_paper"), people.people)
    assert len(sweep_choice.parts(run, (), paper, people)) == 1


@pytest.mark.parametrize(("change", "said"), [
    ({"task": "five"}, "made for task=five"), ({"key_fingerprint": "x"}, "key_fingerprint=x"),
    ({"dataset": None}, "dataset=None")])
def test_another_sweep_is_an_error(swept, tmp_path, change, said):
    result, _, _ = swept
    write_json(tmp_path / "other.json", with_checksum({**result, **change}))
    run, people = config(f"sweep.read={tmp_path / 'other.json'}"), cohort()
    with pytest.raises(UserError, match=said):
        sweep_choice.read(run, people)
    unfinished = [{**half, "chosen": None} for half in result["halves"]]
    write_json(tmp_path / "other.json", with_checksum({**result, "halves": unfinished}))
    with pytest.raises(UserError, match="no choice yet"):
        sweep_choice.read(run, people)


def test_an_edited_lineage_of_a_sweep_is_an_error(swept, tmp_path):
    """The guard checks the lineage: an edited file is not accepted."""
    result = read_json(swept[1] / "sweep.json")
    result["halves"][0]["lineage"]["people"] = []
    write_json(tmp_path / "sweep.json", result)
    with pytest.raises(UserError, match="its file was edited"):
        sweep_choice.read(config(f"sweep.read={tmp_path}"), cohort())


def test_mistakes(tmp_path):
    people = cohort()
    with pytest.raises(UserError, match="holds no sweep"):
        sweep_choice.read(config(f"sweep.read={tmp_path}"), people)
    run = config(f"sweep.read={tmp_path}")
    with pytest.raises(UserError, match="leave out encoder=vit_tiny"):
        sweep_choice.parts(run, ("encoder=vit_tiny",), make_plan(run, people.people), people)


def sweep_file(road, path, halves, proven=True):
    """A sweep in which each half (a list of subject indices) chose another mask ratio."""
    people = road.cohort()
    rows = [{"name": f"vit_micro-mask-{r}", "encoder": "vit_micro", "mask_ratio": r} for r in (0.9, 0.5)]
    seen = [Lineage("the setting chosen by a sweep", frozenset(people.keys(half)), proven=proven) for half in halves]
    found = [{"points": rows, "chosen": rows[i]["name"], "lineage": lineage.to_json()} for i, lineage in enumerate(seen)]
    write_json(path, with_checksum({"halves": found, "dataset": people.dataset, "task": "bl_pa4", "model": "video",
                           "key_fingerprint": people.key_fingerprint}))


def test_a_run_with_chosen_settings(road, inline, tmp_path, capsys):
    """Two configurations in one run: each fold uses the other half's choice; one ledger, one table, and it resumes."""
    words = [w for w in TINY if not w.startswith("encoder=")] + ["model=video", "max_folds=4", "train.max_epochs=1",
                                                                 "protocol.refit=false"]
    mine = replace(road.copy(tmp_path, run=False), words=[*words, f"sweep.read={tmp_path / 'sweep.json'}"])
    sweep_file(mine, tmp_path / "sweep.json", [[0, 2, 4], [1, 3, 5, 6]])
    assert mine.main() == 0
    found, lineage = mine.summary(), read_json(mine.run / "lineage.json")
    assert found["n_folds"] == 4 and found["encoder"] == "vit_micro"
    assert [f["fold"] for f in lineage["folds"]] == [0, 1, 2, 3] and len(lineage["encoders"]) == 4
    sha = {e["index"]: e["sha256"] for e in lineage["encoders"]}
    for fold, planned in zip(found["folds"], lineage["folds"], strict=True):
        assert fold["encoder_sha256"] == sha[planned["encoder"]] and (planned["encoder"] < 2) == (fold["fold"] in (1, 3))
    assert [len(c["people"]) for c in lineage["chosen_by"]] == [3, 4]
    assert "chosen by a sweep over 3 subjects" in (mine.run / "report.html").read_text()
    assert str(tmp_path) not in (mine.run / "config.yaml").read_text()
    inline["loso"].clear()
    assert mine.main() == 0 and inline["loso"] == []
    sweep_file(mine, tmp_path / "sweep.json", [[0, 2, 4, 6], [1, 3, 5]])
    assert cli.run(loso.main, mine.argv()) == 2 and "holds another run" in capsys.readouterr().err
    sweep_file(mine, tmp_path / "sweep.json", [list(range(PEOPLE))])
    fresh = Road(mine.root, mine.store, tmp_path / "fresh", mine.words)
    assert cli.run(loso.main, fresh.argv()) == 2
    assert "chosen by a sweep" in capsys.readouterr().err and not list(fresh.run.glob("ledger/*"))
    sweep_file(mine, tmp_path / "sweep.json", [[0, 2, 4], [1, 3, 5, 6]], proven=False)
    assert not found["unproven"] and fresh.main("max_folds=1") == 0
    assert fresh.summary()["unproven"], "the lineage of the setting is not known"


def test_sizes_of_halves():
    sizes = [[len(part) for part in run_sweep.parts_of(config("sweep.halves=true"), cohort(n).people)] for n in (14, 15)]
    assert sizes == [[7, 7], [7, 8]]
