"""The identity of a run: its content key, its folder, and what its files may contain."""

import pytest

from orchestrator.config.configuration import compose
from orchestrator.evaluation import run_record
from orchestrator.evaluation.fold_data import recipe
from orchestrator.files.storage import key_of, read_json


@pytest.fixture(scope="module")
def parts(road):
    """The inputs of a content key, from the session's run."""
    from orchestrator.cohort import cohort
    from orchestrator.config.model_inputs import needs
    from orchestrator.plan import folds
    from orchestrator.stores import clip_store, token_store
    from orchestrator.stores import encoder_store as encoders

    config = road.config()
    people = cohort.load(config)
    clips = clip_store.ClipStore(road.store, clip_store.plan_shards(config, people))
    plan = folds.make_plan(config, people.people)
    found = [encoders.open_encoder(p) for p in encoders.plan_encoders(config, people, clips, plan.groups, needs(config))]
    return config, people, clips, found, token_store.plan_tokens(config, people, clips, found)


def content(parts, config=None, **more):
    found, people, clips, encoders, tokens = parts
    config = config or found
    refit = config.protocol.refit is not False  # the default with so few subjects
    return run_record.content(config, people, clips, encoders, more.get("tokens", tokens), recipe(config, refit, False))


def key(parts, config=None, **more):
    return key_of(run_record.together([content(parts, config, **more)]), 32)


def test_the_key_is_the_one_the_run_has(road, parts):
    lineage = read_json(road.run / "lineage.json")
    assert key(parts) == lineage["content_key"] and run_record.together([content(parts)]) == lineage["content"]


def test_what_differs_between_two_runs_has_a_name(road, parts, monkeypatch):
    def differing(other):
        return [name for name, value in content(parts).items() if other[name] != value]

    assert differing(content(parts, road.config("train.lr=0.002"))) == ["configuration"]
    assert differing(content(parts, tokens=parts[4][1:])) == ["tokens"]
    monkeypatch.setattr(parts[2], "sha256", lambda subject: "0" * 64, raising=False)
    others = content(parts)
    monkeypatch.undo()
    assert differing(others) == ["clips"]


@pytest.mark.parametrize("word", ["max_folds=2", "strict=true", "protocol.seeds=3", "resources.cpus=1", "run.dir=/x",
                                  "store=/x", "data.root=/elsewhere", "pretrain.workers=2"])
def test_what_is_no_content(road, parts, word):
    assert key(parts, road.config(word)) == key(parts)


def test_how_a_refit_was_asked_for_is_no_content(road, parts):
    """protocol=both requests it, a small cohort has it by default, and an estimator is fitted once in any case."""
    assert key(parts, road.config("protocol.refit=true")) == key(parts)
    asked = ([], ["protocol.refit=true"], ["protocol.refit=false"])
    ridge = [key(parts, road.config("model=ridge", *words)) for words in asked]
    assert len(set(ridge)) == 1 and ridge[0] != key(parts)


@pytest.mark.parametrize("word", ["train.lr=0.002", "protocol.val_subjects=3", "model.dcan.dim=32", "pretrain.seed=1",
                                  "embed.pool=none", "protocol.refit=false", "frames=all", "task=five"])
def test_what_is_content(road, parts, word):
    assert key(parts, road.config(word)) != key(parts)


def test_other_tokens_are_another_run(parts):
    assert key(parts, tokens=parts[4][1:]) != key(parts)


def test_other_code_is_another_run(parts, monkeypatch):
    before = key(parts)
    monkeypatch.setattr(run_record, "code_sha256", lambda *roots: "0" * 64)
    assert key(parts) != before


def test_the_report_names_the_data_on_which_default_settings_were_chosen():
    (said,) = run_record._settings(compose("watch", []))
    assert "inner validation subjects: nine of these ten subjects" in said
    assert run_record._settings(compose("watch", ["model=random_forest"])) == []
    assert run_record._settings(compose("synthetic", [])) == []


def test_folds_of_several_configurations_differ_in_what_they_do_not_share(road, parts):
    one, other = content(parts), content(parts, road.config("train.lr=0.002"))
    alone, both = run_record.together([one]), run_record.together([one, other])
    assert [name for name in alone if alone[name] != both[name]] == ["configuration"]
    assert both != run_record.together([other, one]), "the configuration of each fold is content"


def test_the_folder_without_a_name_is_named_by_content(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = [run_record.run_dir(compose("watch", words)).name for words in (
        [], ["max_folds=2", "resources.cpus=1"], ["model=ridge"], ["protocol=as_paper"], ["train.lr=0.1"])]
    assert names[0] == names[1] and len(set(names)) == 4
    assert names[0].startswith("watch-exercise-signal_small-clean-")
    roots = [run_record.run_dir(compose("manifest", ["model=ridge", *words])).name for words in (
        ["data.root=one"], [f"data.root={tmp_path / 'one'}"], ["data.root=two"], [])]
    assert roots[0] == roots[1] and len(set(roots)) == 3 and not any("one" in name for name in roots)
    for word in ("sweep.read=one", "pretrain.checkpoint=one", "face.precomputed_dir=one"):
        assert run_record.run_dir(compose("manifest", ["model=ridge", word])).name not in roots
    assert run_record.run_dir(compose("watch", ["run.dir=here"])) == tmp_path.resolve() / "here"


@pytest.mark.parametrize(("command", "kept"), [
    ("python -m orchestrator.loso --dataset biovid_a 'data.root=/data/Bio Vid/x' store=/s store.key=/k run.dir=/r "
     "model=ridge",
     "python -m orchestrator.loso --dataset biovid_a data.root=... store=... store.key=... run.dir=... model=ridge"),
    ("python -m orchestrator.loso --dataset watch face.weights_dir=/w", "python -m orchestrator.loso --dataset watch "
     "face.weights_dir=...")])
def test_a_command_is_kept_without_its_paths(command, kept):
    assert run_record.without_paths(command) == kept


def test_a_configuration_is_kept_without_its_paths():
    words = ["data.root=/data/x", "store=/s", "store.key=/k", "run.dir=/r", "pretrain.checkpoint=/c/marlin.pt",
             "pretrain.checkpoint_saw=/c/people.txt", "face.weights_dir=/w", "face.precomputed_dir=/p"]
    text = str(run_record.portable(compose("biovid_a", words)))
    assert not [path for path in ("/data", "/s'", "/k", "/r'", "/c/", "/w", "/p'") if path in text], text
    assert run_record.portable(compose("biovid_a", []))["pretrain"]["checkpoint_saw"] == "unknown"
