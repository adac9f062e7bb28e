"""Pseudonyms of subjects, order by rank of the raw name, and a bad root: one sentence before anything is written."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import cli, loso
from orchestrator.cohort import cohort
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.stores import clip_store, cross_dataset
from preprocessing.datasets import registry
from preprocessing.recordings import DataSet, Recording, Subject
from tests.helpers.roads import TINY, Road


def data_set(name="biovid_a", cohort="biovid", people=("x", "a", "m"), labels=(0, 4), **more) -> DataSet:
    subjects = tuple(Subject(p, "f", 30) for p in sorted(people))
    recordings = tuple(Recording(person, f"{person}-{k}-{i:03d}", k, f"L{k}")
                       for person in sorted(people) for k in labels for i in range(2))
    return DataSet(name=name, cohort=cohort, root=Path("/data"), class_names=("BL1", "PA1", "PA2", "PA3", "PA4"),
                   subjects=subjects, recordings=recordings, **more)


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """load(data set, *words) -> Cohort, without files."""
    def load(data, *words):
        monkeypatch.setattr(registry, "load", lambda name, root, **options: data)
        return cohort.load(compose("biovid_a", [f"store={tmp_path / 'store'}", *words]))

    return load


def test_index_is_the_rank_of_the_raw_name(loaded):
    people = loaded(data_set())
    assert [p.index for p in people.people] == [0, 1, 2]
    assert [people.clips[i].recording.subject for i in (0, 4, 8)] == ["a", "m", "x"]
    assert [c.index for c in people.of(1)] == [0, 1, 2, 3]
    assert people.label_counts([0, 4])[2] == {0: 2, 1: 2} and people.label_counts([4])[0] == {0: 2}


def test_pseudonyms_reveal_nothing_and_depend_on_the_key(loaded, tmp_path):
    one = loaded(data_set())
    names = [p.pseudonym for p in one.people] + [c.sample for c in one.clips]
    assert len(set(names)) == 15 and all(name[0] in "sc" and len(name) == 17 for name in names)
    assert loaded(data_set()).people == one.people
    other = tmp_path / "other.key"
    other.write_bytes(b"0123456789abcdef")
    two = loaded(data_set(), f"store.key={other}")
    assert not {p.pseudonym for p in one.people} & {p.pseudonym for p in two.people}
    assert [p.index for p in one.people] == [p.index for p in two.people]
    assert one.key_fingerprint != two.key_fingerprint and len(one.key_fingerprint) == 12


def test_a_subject_has_one_pseudonym_in_both_parts_of_a_cohort(loaded):
    a, b = loaded(data_set()), loaded(data_set(name="biovid_b"))
    assert [p.pseudonym for p in a.people] == [p.pseudonym for p in b.people] and a.name == b.name == "biovid"
    assert not {c.sample for c in a.clips} & {c.sample for c in b.clips}
    other = loaded(data_set(cohort="another"))
    assert not {p.pseudonym for p in a.people} & {p.pseudonym for p in other.people}


def test_public_cohorts_need_no_key_and_are_the_same_everywhere(loaded, tmp_path):
    one = loaded(data_set(cohort="watch"))
    assert not (tmp_path / "store").exists()
    assert one.key_fingerprint == loaded(data_set(cohort="synthetic")).key_fingerprint


def test_the_key_is_made_once_and_is_the_owners_alone(loaded, tmp_path):
    loaded(data_set())
    key = tmp_path / "store" / "private" / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o600 and key.parent.stat().st_mode & 0o777 == 0o700
    before = key.read_bytes()
    assert len(before) >= 32
    loaded(data_set())
    assert key.read_bytes() == before
    key.write_bytes(b"short")
    with pytest.raises(UserError, match="shorter than 16 bytes"):
        loaded(data_set())


@pytest.mark.parametrize("links", [True, False])
def test_two_first_commands_make_one_key(tmp_path, monkeypatch, links):
    """The second command, between check and write, reads the key of the first."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(PermissionError()))
    path = tmp_path / "pseudonym.key"
    barrier = threading.Barrier(8)

    def first():
        barrier.wait()
        cohort._make_key(path)
        return path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        keys = {future.result() for future in [pool.submit(first) for _ in range(8)]}
    assert len(keys) == 1 and len(keys.pop()) == 64 and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["pseudonym.key"]


def manifest(folder: Path, people=("a", "b"), **more) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{p},{p}-{k},{k},{p}.csv,\"[{{\"\"name\"\": \"\"x\"\"}}]\",4" + "".join(f",{v}" for v in more.values())
            for p in people for k in (0, 1)]
    (folder / "manifest.csv").write_text("\n".join([",".join(["subject,sample,label,signal_path,channels,fs", *more]), *rows]))
    return folder


def read_manifest(folder, *words):
    return cohort.load(compose("manifest", [f"store={folder.parent / 'store'}", f"data.root={folder}", *words]))


def test_two_manifests_with_the_same_subjects_have_separate_stores(tmp_path):
    a, b = (read_manifest(manifest(tmp_path / name)) for name in "ab")
    again = cohort.load(compose("manifest", [f"store={tmp_path / 'store'}", f"data.root={tmp_path / 'a' / 'manifest.csv'}"]))
    assert a.people == b.people and a.store_name == again.store_name != b.store_name
    config = compose("manifest", [f"store={tmp_path / 'store'}"])
    folders = [clip_store.plan_shards(config, people)[0].path.parent for people in (a, b, again)]
    assert folders[0] == folders[2] != folders[1]
    for people in (a, b, again):
        cohort.write_private_map(config, people)
    assert len(list((tmp_path / "store" / "private").glob("manifest-*.json"))) == 2


def test_unused_columns_of_a_manifest_are_reported(tmp_path):
    folder = manifest(tmp_path / "a", session="1", split="train")
    assert read_manifest(folder).notes[-2:] == ("The column session is not used by split=loso.",
                                                "The column split is not used by split=loso.")
    assert read_manifest(folder, "split=fixed").notes[1:] == ("The column session is not used by split=fixed.",)
    assert read_manifest(folder, "split=fixed", "split.list=random").notes[-1].endswith("split=fixed split.list=random.")


def test_the_parts_of_an_own_split(loaded):
    def parts(**split_of):
        data = data_set(people=tuple(split_of))
        data = replace(data, recordings=tuple(replace(r, split=split_of[r.subject]) for r in data.recordings))
        return [sorted(p.held_out & {"own", "own_train", "own_validation"}) for p in loaded(data).people]

    assert parts(a="train", m="validation", x="test") == [["own_train"], ["own_validation"], ["own"]]
    assert parts(a="train", m="validation", x="train") == [["own_train"], ["own"], ["own_train"]]  # AI4Pain's


@pytest.mark.parametrize(("name", "word", "said"), [
    ("manifest", "data.source=filtered", "has no effect for manifest"),
    ("watch", "data.subjects=67", "has no effect for watch"),
    ("synthetic", "data.root=/tmp", "data.root has no effect for synthetic"), ("ai4pain", "data.subjects=67", "for ai4pain"),
    ("synthetic", "data.source=filtered", "no effect for synthetic")])
def test_an_option_without_effect_for_this_data_set_is_an_error(name, word, said):
    with pytest.raises(UserError, match=said):
        cohort.preview(compose(name, [word]))


@pytest.mark.parametrize("name", ["BioVid", "bio_vid", "ai4pain 2025", "Watch"])
def test_a_manifest_under_another_spelling_of_a_built_in_cohort(name):
    with pytest.raises(UserError, match="close to the built-in"):
        cohort._check(compose("manifest", []), data_set(cohort=name))


def test_a_key_file_that_is_not_there(loaded, tmp_path):
    with pytest.raises(UserError, match=r"does not exist: give an existing file with store.key=FILE"):
        loaded(data_set(), f"store.key={tmp_path / 'no.key'}")


@pytest.mark.parametrize("name", ["watch", "synthetic"])
def test_a_manifest_cannot_take_a_built_in_sets_name_and_with_it_the_public_key(loaded, name):
    with pytest.raises(UserError, match=f"names its data set {name}, which is the name of a built-in one"):
        cohort._check(compose("manifest", []), data_set(cohort=name))


def test_an_incomplete_cohort_writes_nothing_and_can_be_accepted(loaded, tmp_path):
    few = data_set(expected={"subjects": 87, "clips": 8700}, complete=False)
    with pytest.raises(UserError, match=r"incomplete: found .*'clips': 12.* expected .*8700.*data.allow_partial=true"):
        loaded(few)
    assert not (tmp_path / "store").exists()
    assert loaded(few, "data.allow_partial=true").partial and not loaded(data_set()).partial


def test_a_class_without_clips_writes_nothing(loaded, tmp_path):
    with pytest.raises(UserError, match=r"task=five needs the classes PA1, PA2, PA3, which no subject in .* has"):
        loaded(data_set(), "task=five")
    with pytest.raises(UserError, match="no usable recording"):
        loaded(replace(data_set(), recordings=()))
    assert not (tmp_path / "store").exists()


def test_the_private_map_is_the_only_one_with_names(loaded, tmp_path):
    config = compose("biovid_a", [f"store={tmp_path / 'store'}"])
    people = loaded(data_set())
    cohort.write_private_map(config, people)
    path = next((tmp_path / "store" / "private").glob("biovid_a-*.json"))
    assert path.stat().st_mode & 0o777 == 0o600
    value = json.loads(path.read_text())
    assert value["subjects"][people.people[0].pseudonym] == "a"
    stamp = path.stat().st_mtime_ns
    cohort.write_private_map(config, people)
    assert path.stat().st_mtime_ns == stamp


class TestSynthetic:
    WORDS = ["synthetic.subjects=2", "synthetic.clips_per_level=1", "synthetic.size=[64,64]", "resources.cpus=1"]

    @pytest.fixture
    def generated(self, monkeypatch):
        """generate() without videos: the tree's place and parameters are what is tested here."""
        from preprocessing.synthetic import cohort as synthetic

        real, calls = synthetic.generate, []

        def generate(root, **words):
            calls.append(words)
            return real(root, **{**words, "videos": False})

        monkeypatch.setattr(synthetic, "generate", generate)
        return calls

    def test_goes_through_the_loader_from_files(self, generated, tmp_path):
        config = compose("synthetic", [f"store={tmp_path}", *self.WORDS])
        people = cohort.load(config)
        assert people.synthetic and (people.dataset, people.name) == ("synthetic", "synthetic")
        assert len(people.people) == 2 and len(people.clips) == 4 and generated[0]["levels"] == ("BL1", "PA4")
        root = cohort.synthetic_root(config)
        assert root.is_relative_to(tmp_path)
        assert all(clip.recording.signal.path.is_relative_to(root) for clip in people.clips)
        before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
        cohort.load(config)
        assert before == {p: p.stat().st_mtime_ns for p in root.rglob("*")}

    def test_another_parameter_is_another_tree(self, monkeypatch):
        from preprocessing.synthetic import cohort as synthetic

        roots = [cohort.synthetic_root(compose("synthetic", words)) for words in (
            [], ["synthetic.effect=0"], ["synthetic.seed=1"], ["task=five"], ["synthetic.levels=[BL1,PA3]"])]
        assert len(set(roots)) == 5
        monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
        assert cohort.synthetic_root(compose("synthetic", [])) not in roots, "an older generator's tree would be refused"

    def test_a_preview_writes_nothing(self, tmp_path):
        config = compose("synthetic", [f"store={tmp_path / 'store'}", *self.WORDS])
        assert len(cohort.preview(config).people) == 2 and not (tmp_path / "store").exists()


MISTAKES = {
    "missing": (lambda root: shutil.rmtree(root), [], ["does not exist", "biosignals_raw", "preprocessing.synthetic"]),
    "empty": (lambda root: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in root.iterdir()], [],
              ["holds neither video", "biosignals_raw"]),
    "incomplete": (lambda root: [shutil.rmtree(p) for p in sorted((root / "biosignals_raw").iterdir())[:1]]
                   and strip_samples(root, 1), [], ["is incomplete", "data.allow_partial=true"]),
    "few subjects": (lambda root: strip_samples(root, 1), ["data.allow_partial=true", "model=signal"],
                   ["6 subjects are too few", "pretrain=none protocol.val=fixed_epochs"]),
    "absent class": (lambda root: None, ["task=five"], ["PA1, PA2, PA3", "choose another task"]),
    "one has it": (lambda root: only_first_has(root, "PA4"), ["data.allow_partial=true"],
                   ["No training subject of fold 0", "PA4"]),
    "two classes in a row": (lambda root: spoil_samples(root), [], ["samples.csv", "line 2"]),
}


def strip_samples(root: Path, n: int) -> None:
    """Leave the first n subjects out of the list."""
    path = root / "starting_point" / "samples.csv"
    header, *rows = path.read_text().splitlines()
    gone = sorted({row.split("\t")[1] for row in rows})[:n]
    path.write_text("\n".join([header, *(row for row in rows if row.split("\t")[1] not in gone)]) + "\n")


def only_first_has(root: Path, level: str) -> None:
    path = root / "starting_point" / "samples.csv"
    header, *rows = path.read_text().splitlines()
    first = min(row.split("\t")[1] for row in rows)
    path.write_text("\n".join([header, *(r for r in rows if level not in r or r.split("\t")[1] == first)]) + "\n")


def spoil_samples(root: Path) -> None:
    path = root / "starting_point" / "samples.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("\t4\t", "\t2\t").replace("\t0\t", "\t2\t")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_root_is_one_sentence_exit_2_and_nothing_written(signal_tree, inline, tmp_path, capsys, mistake):
    spoil, words, said = MISTAKES[mistake]
    shutil.copytree(signal_tree, tmp_path / "tree")
    spoil(tmp_path / "tree")
    wrong = Road(tmp_path / "tree", tmp_path / "store", tmp_path / "run", [*TINY, "model=ridge"])
    assert cli.run(loso.main, wrong.argv(*words)) == 2
    err = capsys.readouterr().err
    assert all(word in err for word in said) and err.startswith("error: ") and "Traceback" not in err
    assert not wrong.run.exists() and inline == {"preprocess": [], "pretrain": [], "embed": [], "loso": []}
    written = [p for p in (tmp_path / "store").rglob("*") if p.is_file()] if wrong.store.exists() else []
    assert not written, written


def test_three_subjects_are_enough_without_pretraining(signal_tree, inline, tmp_path):
    shutil.copytree(signal_tree, tmp_path / "tree")
    strip_samples(tmp_path / "tree", 4)
    few = Road(tmp_path / "tree", tmp_path / "store", tmp_path / "run", [*TINY, "model=signal"])
    assert few.main("data.allow_partial=true", "pretrain=none", "protocol.val=fixed_epochs") == 0
    summary = few.summary()
    assert summary["n_folds"] == 3 and summary["partial"] and [f["epochs"] for f in summary["folds"]] == [2, 2, 2]
    assert all(fold["val_subjects"] == [] and len(fold["train_subjects"]) == 2 for fold in summary["folds"])
    assert "PARTIAL" in (few.run / "report.html").read_text()


def test_two_data_sets_of_one_cohort_must_spell_a_subject_alike(tmp_path):
    first = read_manifest(manifest(tmp_path / "a", ("S1", "S2"), dataset="lab"))
    cross_dataset._check_spellings(first, read_manifest(manifest(tmp_path / "b", ("S1", "S3"), dataset="lab")))
    twin = read_manifest(manifest(tmp_path / "c", ("S01", "S3"), dataset="lab"))
    with pytest.raises(UserError, match="may spell one subject in two ways .'S1' and 'S01'."):
        cross_dataset._check_spellings(first, twin)
    cross_dataset._check_spellings(first, read_manifest(manifest(tmp_path / "d", ("S01", "S3"), dataset="clinic")))
    with pytest.raises(UserError, match="call their cohorts 'lab' and 'Lab'"):
        cross_dataset._check_spellings(first, read_manifest(manifest(tmp_path / "e", ("S01", "S3"), dataset="Lab")))


def test_a_preview_uses_the_pseudonyms_of_the_stores_key(tmp_path):
    folder = manifest(tmp_path / "a")
    words = [f"data.root={folder}", f"store={tmp_path / 'store'}"]
    config = compose("manifest", words)
    before = cohort.preview(config)
    assert not (tmp_path / "store").exists()
    loaded = cohort.load(config)
    assert cohort.preview(config).people == loaded.people != before.people
    (tmp_path / "key").write_bytes(b"another key of the owner")
    named = compose("manifest", [*words, f"store.key={tmp_path / 'key'}"])
    assert cohort.preview(named).people == cohort.load(named).people != loaded.people
    (tmp_path / "key").write_bytes(b"short")
    assert cohort.preview(named).people == before.people
