"""pretrain.from: an encoder of one data set in another, guarded by cohort; and what is refused, in one sentence each."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import cli, loso, pretrain
from orchestrator.errors import LineageError, UserError
from orchestrator.files.storage import read_checked, read_json, with_checksum, write_json
from orchestrator.plan import folds
from orchestrator.stores import clip_store, cross_dataset, origin
from preprocessing.synthetic.cohort import generate
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, Road, hashes, without_times

pytestmark = pytest.mark.ci
FROM = "pretrain.from=biovid_a"


@pytest.fixture(scope="module")
def tree_b(tmp_path_factory) -> Path:
    """Part B of the same subjects: two signal channels more."""
    return generate(tmp_path_factory.mktemp("part-b") / "tree", part="B", subjects=PEOPLE, clips_per_level=CLIPS_PER_LEVEL,
                    levels=("BL1", "PA4"), size=(160, 120), jobs=2)


@pytest.fixture(scope="module")
def b(road, tree_b, tmp_path_factory) -> Road:
    """Part B in a copy of the store that holds Part A's encoders. Its encoders are not to be spoilt; see `spoilt`."""
    place = tmp_path_factory.mktemp("b")
    shutil.copytree(road.store, place / "store")
    return Road(tree_b, place / "store", place / "run", [*road.words, "task=bl_pa4"], "biovid_b")


@pytest.fixture
def spoilt(b, tmp_path) -> Road:
    """With encoders of its own."""
    shutil.copytree(b.store / "encoders", tmp_path / "store" / "encoders")
    shutil.copytree(b.store / "private", tmp_path / "store" / "private")
    shutil.copy(b.store / "store.json", tmp_path / "store")
    return Road(b.root, tmp_path / "store", tmp_path / "run", list(b.words), "biovid_b")


def encoders_of_a(road: Road) -> list[Path]:
    """In the order of their groups."""
    sides = [(read_checked(path), path.parent) for path in road.store.glob("encoders/*/encoder.json")]
    return [folder for side, folder in sorted(sides, key=lambda one: one[0]["about"]["group"])
            if side["about"]["dataset"] == "biovid_a"]


def planned(road: Road, *words: str) -> folds.Plan:
    config = road.config(*words)
    people = cross_dataset.load(config)
    return folds.make_plan(config, people.people, origin.read(config, people))


def refused(capsys, argv: list[str]) -> str:
    """The sentence of a command that exits with 2."""
    assert cli.run(loso.main, argv) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said and "Traceback" not in said
    return said


def test_the_encoders_of_part_a_serve_part_b_without_their_training_subjects(b, inline):
    before = {folder.name: hashes(folder) for folder in encoders_of_a(b)}
    assert b.main(FROM) == 0
    assert inline["preprocess"] == list(range(PEOPLE)) and len(inline["loso"]) == PEOPLE
    lineage, summary = read_json(b.run / "lineage.json"), b.summary()
    assert len(lineage["encoders"]) == 2 and not summary["leaky"] and not summary["unproven"]
    seen = [set(read_checked(folder / "encoder.json")["lineage"]["people"]) for folder in encoders_of_a(b)]
    assert all(len(one) == 2 and all(person.startswith("synthetic/") for person in one) for one in seen)
    assert {fold["encoder"] for fold in lineage["folds"]} == {0, 1}
    for fold in lineage["folds"]:
        assert not seen[fold["encoder"]] & set(fold["test"])
        assert not {name.removeprefix("synthetic/") for name in seen[fold["encoder"]]} & set(fold["val"])
    for number, encoder in enumerate(lineage["encoders"]):
        (parent,) = encoder["lineage"]["parents"]
        assert set(parent["people"]) == seen[number] == set(encoder["lineage"]["people"]), "the signal MAE has the same people"
    # the video weights are Part A's to the byte, the signal MAE with five channels is Part B's own
    for side in (read_checked(path) for path in b.store.glob("encoders/*/encoder.json")):
        if side["about"]["dataset"] == "biovid_b":
            theirs = read_checked(encoders_of_a(b)[side["about"]["group"]] / "encoder.json")
            assert side["weights"]["video"] == theirs["weights"]["video"]
            assert side["weights"]["signal"] != theirs["weights"]["signal"] and side["about"]["signal"]["n_channels"] == 5
            quality = read_checked(next(b.store.glob(f"encoders/{side['key']}/quality.json")))
            there = read_checked(encoders_of_a(b)[side["about"]["group"]] / "quality.json")
            assert quality["kind"] == "video" and quality["measured"] == "where it was trained"
            assert quality["ratio"] == there["ratio"] and quality["signal"]["kind"] == "signal"
    assert "2 encoders of 2 subjects; each is used for test subjects outside its group; encoders from biovid_a" in \
        (b.run / "report.html").read_text()
    assert inline["pretrain"] == ["encoder 1", "encoder 2"]
    assert {folder.name: hashes(folder) for folder in encoders_of_a(b)} == before
    text = (b.run / "report.html").read_text()
    assert "Pretrained already: encoder 1 of biovid_a" in text and str(b.store) not in text
    done = [len(inline[stage]) for stage in ("pretrain", "embed", "loso")]
    assert b.main(FROM) == 0 and [len(inline[stage]) for stage in ("pretrain", "embed", "loso")] == done


def test_one_encoder_is_refused_for_its_own_subjects_and_serves_the_others(b, inline, capsys):
    one = encoders_of_a(b)[0]
    seen = sorted(read_checked(one / "encoder.json")["lineage"]["people"])
    said = refused(capsys, b.argv(f"pretrain.from={one}", "model=video"))
    assert all(person in said for person in seen) and said.count("synthetic/") == len(seen)
    assert "protocol=exclude_pretrain" in said and inline["embed"] == inline["loso"] == []
    run = Road(b.root, b.store, b.run.with_name("one"), b.words, b.dataset)
    assert run.main(f"pretrain.from={one}", "model=video", "protocol=exclude_pretrain") == 0
    tested = {fold["subject"] for fold in run.summary()["folds"]}
    assert len(tested) == PEOPLE - len(seen) and not tested & {person.removeprefix("synthetic/") for person in seen}
    assert inline["pretrain"] == [], "nothing is left to train"


def test_two_folders_are_what_the_name_stands_for(b):
    one, two = encoders_of_a(b)
    named, given = planned(b, FROM, "model=video"), planned(b, f"pretrain.from=[{one},{two}]", "model=video")
    assert [g.subjects for g in named.groups] == [g.subjects for g in given.groups]
    assert named.folds == given.folds and {fold.group for fold in named.folds} == {0, 1}


def test_people_tested_together_need_one_encoder_that_saw_none_of_them(b):
    with pytest.raises(LineageError, match="subjects on whom each of the encoders of pretrain.from=biovid_a was pretrained"):
        planned(b, FROM, "model=video", "split=kfold", "split.k=2")
    assert planned(b, FROM, "model=video", "split=kfold", "split.k=2", "protocol=as_paper").leaky


def test_the_same_signals_take_the_signal_encoder_over(b, road, inline, tmp_path):
    """Part A's own encoders in Part A: channels, rates and sizes agree, so that nothing is trained."""
    mine = road.copy(tmp_path, run=False)
    assert mine.main(FROM) == 0
    assert inline["pretrain"] == [] and len(inline["loso"]) == PEOPLE
    ours, theirs = without_times(read_json(mine.run / "summary.json")), road.summary()
    assert [f["weights_sha256"] for f in ours["folds"]] == [f["weights_sha256"] for f in theirs["folds"]]
    with pytest.raises(UserError, match=r"no signal encoder that fits here \(other channels: gsr, ecg, emg_trapezius there"):
        planned(b, f"pretrain.from={encoders_of_a(b)[0]}", "model=signal")


def test_a_stranger_data_set_is_served_by_one_encoder(b):
    """It knows no subject of the cohort: the first encoder serves all, and a signal MAE is pretrained on drawn groups."""
    config = b.config(FROM)
    people = cross_dataset.load(config)
    strangers = replace(people, name="elsewhere", people=tuple(replace(p, cohort="elsewhere") for p in people.people))
    origins = origin.read(config, strangers)
    assert [o.subjects for o in origins] == [(), ()] and origins[0].trains_signal
    plan = folds.make_plan(config, strangers.people, origins)
    assert len(plan.groups) == 2 and {g.origin.folder for g in plan.groups} == {origins[0].folder}
    assert [len(g.own) for g in plan.groups] == [2, 2] and not set(plan.groups[0].own) & set(plan.groups[1].own)
    video = b.config(FROM, "model=video")
    (group,) = folds.make_plan(video, strangers.people, origin.read(video, strangers)).groups
    assert group.subjects == group.trained_here == ()


def test_a_subject_under_another_name_is_found_by_the_recordings(b, road, spoilt, inline, capsys):
    config = b.config(FROM)
    people = cross_dataset.load(config)
    one = origin.read(config, people)[0]
    seen = {p.index for p in people.people if f"synthetic/{p.pseudonym}" in one.lineage.everyone()}
    stranger = next(p.index for p in people.people if p.index not in seen)
    there = road.config()
    theirs = clip_store.ClipStore(road.store, clip_store.plan_shards(there, cross_dataset.load(there))).hashes
    learnt = theirs[next(iter(seen))]
    one.check_recordings(people, {})
    one.check_recordings(people, {stranger: theirs[stranger]})  # not among its training subjects
    one.check_recordings(people, {next(iter(seen)): learnt})  # known by name: the plan keeps it from testing them
    some = dict(list(learnt.items())[1:])
    name = people.people[stranger].pseudonym
    with pytest.raises(UserError, match=f"recordings of synthetic/{name} under other names"):
        one.check_recordings(people, {stranger: some})
    with pytest.MonkeyPatch.context() as patch:  # the whole pipeline checks it before it trains
        patch.setattr(origin, "marks", lambda people, hashes: {people.people[stranger].pseudonym: one.recordings})
        assert "under other names" in refused(capsys, spoilt.argv(FROM)) and inline["pretrain"] == inline["loso"] == []


def test_an_encoder_of_another_width_is_one_sentence(b, capsys):
    one = encoders_of_a(b)[0]
    for given in (one, "biovid_a"):
        said = refused(capsys, b.argv(f"pretrain.from={given}", "encoder.dim=24", "encoder.heads=3"))
        assert "another shape than encoder=vit_micro here (dim 16 there, 24 here; heads 2 there, 3 here)" in said


def test_another_pseudonym_key_is_one_sentence(b):
    """Of another cohort, or of the same in another store: the pseudonyms cannot be compared."""
    config = b.config(f"pretrain.from={encoders_of_a(b)[0]}")
    people = replace(cross_dataset.load(config), key_fingerprint="0" * 12)
    for stranger in (people, replace(people, name="elsewhere")):
        with pytest.raises(UserError, match="has another pseudonym key for the subjects of cohort synthetic") as refusal:
            origin.read(config, stranger)
        assert "store.key=FILE" in str(refusal.value) and "\n" not in str(refusal.value)


def resealed(folder: Path, **changed) -> None:
    side = {**read_json(folder / "encoder.json"), **changed}
    write_json(folder / "encoder.json", with_checksum({name: value for name, value in side.items() if value is not None}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


SPOIL = {
    "has weights but its lineage file is missing": lambda folder: (folder / "encoder.json").unlink(),
    "has no lineage, so that its training subjects": lambda folder: resealed(folder, lineage=None),
    r"is damaged (encoder.json was truncated": lambda folder: cut(folder / "encoder.json"),
    r"is damaged (encoder.json was truncated, or changed": lambda folder: write_json(
        folder / "encoder.json", {**read_json(folder / "encoder.json"), "subjects": []}),
    "its files disagree about": lambda folder: resealed(folder, lineage={
        "artefact": "nobody", "people": [], "parents": [], "proven": True}),
    "video.safetensors is not a safetensors file": lambda folder: cut(folder / "video.safetensors"),
    "only its sidecar exists": lambda folder: (folder / "video.safetensors").unlink(),
    "was made by an older version": lambda folder: resealed(folder, about=None),
    "is not an encoder's folder": lambda folder: [path.unlink() for path in folder.iterdir()],
    "is neither a data set nor an encoder's folder": shutil.rmtree,
    "holds no trained video encoder": lambda folder: resealed(
        folder, about={**read_json(folder / "encoder.json")["about"], "random": True}),
}


@pytest.mark.parametrize("said", SPOIL)
def test_an_encoder_that_cannot_be_used_is_one_sentence(spoilt, capsys, said):
    folder = encoders_of_a(spoilt)[0]
    SPOIL[said](folder)
    assert said in refused(capsys, spoilt.argv(f"pretrain.from={folder}", "model=video"))


@pytest.mark.parametrize(("words", "said"), [
    ([FROM, "pretrain=none"], "pretrain.from=biovid_a has no effect with pretrain=none"),
    ([FROM, "pretrain.checkpoint=x.pt"], "pretrain.from=biovid_a has no effect with pretrain.checkpoint"),
    ([FROM, "model=ridge"], "pretrain.from=biovid_a has no effect with model=ridge, which uses no encoder"),
    ([FROM, "pretrain.video.epochs=3"], "pretrain.video.epochs=3 has no effect with pretrain.from"),
    ([FROM, "pretrain.seeds=2"], "pretrain.seeds=2 has no effect with pretrain.from"),
    (["pretrain.from=biovid_c"], "neither a data set nor an encoder's folder (did you mean biovid_b"),
    (["pretrain.from="], "pretrain.from= is empty"),
    (["pretrain.from=watch"], "has no video encoder that was trained for watch: run python -m orchestrator.pretrain "),
])
def test_words_that_do_not_go_together(b, capsys, words, said):
    assert said in refused(capsys, ["--dataset", "biovid_b", f"data.root={b.root}", f"store={b.store}", "task=bl_pa4", *words])


def test_missing_encoders_and_several_configurations_are_reported(spoilt, capsys):
    one, two = encoders_of_a(spoilt)
    kept = spoilt.store / "kept"
    shutil.move(two, kept)
    said = refused(capsys, spoilt.argv(FROM, "model=video"))
    assert "1 of the 2 encoders that were planned for biovid_a are in" in said and str(one) in said
    shutil.move(kept, two)
    about = read_json(two / "encoder.json")["about"]
    resealed(two, about={**about, "pretrain": {**about["pretrain"], "seed": 5}})
    said = refused(capsys, spoilt.argv(FROM, "model=video"))
    assert "several configurations were trained for biovid_a, which differ in pretrain.seed: " in said
    assert f"pretrain.from=[{one}]" in said or f"pretrain.from=[{two}]" in said


def test_a_checkpoint_of_unknown_subjects_stays_unproven(spoilt):
    side = encoders_of_a(spoilt)[0] / "video.json"
    unknown = {**json.loads(side.read_text())["lineage"], "proven": False}
    write_json(side, {**json.loads(side.read_text()), "lineage": unknown})
    resealed(side.parent, lineage=unknown)
    config = spoilt.config(f"pretrain.from={side.parent}", "model=video")
    (found,) = origin.read(config, cross_dataset.load(config))
    assert not found.lineage.is_proven()


def test_pretrain_alone_says_what_is_there_already(b, inline, capsys):
    assert pretrain.main(b.argv(FROM, "model=video")) == 0
    said = capsys.readouterr().out
    assert re.search(r"already pretrained: encoder 1 of biovid_a \([0-9a-f]{16}\) on 2 subjects, 2 of them in this cohort",
                     said)
    assert inline["pretrain"] == []
