"""The clip store: what is in a shard's key, what is made again and what is left alone, and what one bad clip may do."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator import cli, loso
from orchestrator.cohort import cohort
from orchestrator.cohort.cohort import Clip
from orchestrator.config.configuration import compose
from orchestrator.files.storage import read_checked, read_json
from orchestrator.stages import make_clips
from orchestrator.stores import clip_store, shard_maker
from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.face.engine import FaceClip, FaceOptions
from preprocessing.moments import Moments
from preprocessing.recordings import Channel, Recording, SignalRef, VideoRef
from preprocessing.shard import SCHEMA_VERSION, Row, read_signals, write_shard
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, TINY, Road, hashes, snapshot


@pytest.fixture
def mine(signal_tree, tmp_path):
    """A copy of the tree to spoil, with an empty store: ridge on signals."""
    shutil.copytree(signal_tree, tmp_path / "tree")
    return Road(tmp_path / "tree", tmp_path / "store", tmp_path / "run", [*TINY, "model=ridge"])


def signal_files(road, person=0):
    return sorted(sorted((road.root / "biosignals_raw").iterdir())[person].iterdir())


def keys(road, *words):
    config = road.config(*words)
    return {job.subject: job.key for job in clip_store.plan_shards(config, cohort.load(config))}


def test_one_changed_file_makes_one_subject_again(mine, inline):
    assert mine.main() == 0 and inline["preprocess"] == list(range(PEOPLE))
    before = snapshot(mine.store / "clips")
    inline["preprocess"].clear()
    file = signal_files(mine, 3)[0]
    text = file.read_text().splitlines()
    file.write_text("\n".join([*text[:-1], text[-2]]) + "\n")
    assert mine.main("run.dir=" + str(mine.run) + "2") == 0
    assert inline["preprocess"] == [3]
    after, name = snapshot(mine.store / "clips"), cohort.load(mine.config()).people[3].pseudonym
    assert {n.rpartition("/")[2] for n in before if after[n][0] != before[n][0]} <= {
        f"{name}.parquet", f"{name}.json", "manifest.json"}
    assert all(after[n] == before[n] for n in before if name not in n and "manifest" not in n and "quarantine" not in n)


def test_touching_or_moving_the_files_makes_nothing_again(mine, inline, tmp_path):
    assert mine.main() == 0
    inline["preprocess"].clear()
    for file in mine.root.rglob("*.csv"):
        file.touch()
    shutil.move(mine.root, tmp_path / "moved")
    moved = Road(tmp_path / "moved", mine.store, mine.run, mine.words)
    assert moved.main() == 0 and inline["preprocess"] == [] and len(inline["loso"]) == PEOPLE


FACES = ("frames=all", "keyframe.preset=paper", "face.margin=0.1", "face.image=jpeg")
LATER = ("train.lr=0.1", "encoder.image_size=64", "task=bl_pa4", "synthetic.seed=4", "smae.dim=8")


def test_one_changed_option_makes_all_subjects_again_and_changed_back_none(tree, tmp_path):
    road = Road(tree, tmp_path / "store", tmp_path / "run")
    first = keys(road)
    for word in ("signal.length=48", "signal.emd=true", *FACES):
        assert not set(first.values()) & set(keys(road, word).values())
    for word in LATER:
        assert keys(road, word) == first
    assert keys(road) == first


@pytest.mark.medium
def test_without_videos_the_options_of_faces_make_nothing_again(mine):
    first = keys(mine)
    assert not set(first.values()) & set(keys(mine, "signal.length=48").values())
    for word in (*FACES, *LATER):
        assert keys(mine, word) == first


def test_what_changes_no_byte_makes_nothing_again(tree, tmp_path):
    road = Road(tree, tmp_path / "store", tmp_path / "run")
    assert keys(road) == keys(road, "face.hold_mb=1") == keys(road, "face.quality=80")
    assert not set(keys(road, "face.image=jpeg").values()) & set(keys(road, "face.image=jpeg", "face.quality=80").values())


def test_a_subject_that_is_added_or_removed_changes_no_other_shard(mine):
    people = cohort.load(mine.config())
    moved = replace(people, people=tuple(replace(p, index=p.index + 1) for p in people.people),
                    clips=tuple(replace(c, subject=c.subject + 1) for c in people.clips))
    plans = [clip_store.plan_shards(mine.config(), found) for found in (people, moved)]
    assert [job.key for job in plans[0]] == [job.key for job in plans[1]]


def test_another_window_of_the_same_file_is_another_clip(mine):
    people = cohort.load(mine.config())
    first = people.clips[0]
    cut = replace(first, recording=replace(first.recording, signal=replace(first.recording.signal, start_s=1.0)))
    changed = replace(people, clips=(cut, *people.clips[1:]))
    before, after = (clip_store.plan_shards(mine.config(), found) for found in (people, changed))
    assert [a.key != b.key for a, b in zip(before, after, strict=True)] == [job.subject == first.subject for job in before]


def test_changed_code_makes_all_subjects_again(mine, monkeypatch):
    first = keys(mine)
    monkeypatch.setattr(clip_store, "code_sha256", lambda *roots: "other")
    assert not set(first.values()) & set(keys(mine).values())


@pytest.mark.parametrize("damage", ["shard gone", "shard cut", "shard other", "side gone", "side cut", "side changed",
                                    "manifest gone", "manifest cut", "quarantine gone"])
def test_a_damaged_artefact_is_made_again_byte_for_byte(road, inline, tmp_path, capsys, damage):
    """A shard with faces: the engine runs again for that subject alone, and the run continues unchanged."""
    mine = road.copy(tmp_path)
    before = hashes(mine.store / "clips")
    shards = sorted(mine.store.glob("clips/*/s*.parquet"))
    what, how = damage.split()
    victim = {"shard": shards[2], "side": shards[2].with_suffix(".json"), "manifest": shards[2].parent / "manifest.json",
              "quarantine": shards[2].parent / "quarantine.parquet"}[what]
    data = victim.read_bytes()
    if how == "gone":
        victim.unlink()
    else:
        victim.write_bytes({"cut": data[: len(data) // 2], "other": shards[3].read_bytes(),
                            "changed": data.replace(b'"count"', b'"c0unt"', 1)}[how])
    ledger = snapshot(mine.run / "ledger")
    capsys.readouterr()
    assert mine.main() == 0
    told = "made again: 1 clip shards" in capsys.readouterr().out
    assert told == (what in ("shard", "side") and damage != "side gone")  # without its sidecar it was never finished
    assert len(inline["preprocess"]) == (1 if what in ("shard", "side") else 0)
    assert inline["pretrain"] == inline["embed"] == inline["loso"] == []
    assert hashes(mine.store / "clips") == before
    assert snapshot(mine.run / "ledger") == ledger and mine.summary() == road.summary()


def test_what_a_killed_writer_left_is_swept(mine, inline):
    assert mine.main("max_folds=1") == 0
    shard = next(mine.store.glob("clips/*/s*.parquet"))
    shard.unlink()
    left = shard.with_name(f".{shard.name}.123.tmp")
    left.write_bytes(b"half")
    assert mine.main("max_folds=1") == 0
    assert not left.exists() and shard.exists()


BAD = {
    "unreadable": (lambda file: file.write_bytes(b"\x00\x01 no table"), "signal"),
    "empty": (lambda file: file.write_bytes(b""), "signal"),
    "missing column": (lambda file: file.write_text(file.read_text().replace("gsr", "gsx", 1)), "signal"),
    "not a number": (lambda file: file.write_text(file.read_text().replace("1", "x").replace("2", "y")), "signal"),
    "missing": (lambda file: file.unlink(), "signal"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_signal_file_is_excluded_and_the_others_stay(mine, signal_tree, inline, capsys, bad):
    spoil, stage = BAD[bad]
    spoil(signal_files(mine, 2)[1])
    assert mine.main("max_folds=3") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 clips excluded" in said
    folds = mine.summary()["folds"]
    assert [(f["n_test"], f["n_quarantined"]) for f in folds] == [(4, 0), (4, 0), (3, 1)]
    right = round(folds[2]["accuracy"] * 3)
    assert folds[2]["accuracy_with_quarantined"] == right / 4
    rows = read_quarantine(mine)
    assert [row["stage"] for row in rows] == [stage] and rows[0]["reason"] and rows[0]["fix"].endswith(".")
    raw = signal_files(mine, 2)[0].parent.name
    assert raw not in str(rows)
    for shard in mine.store.glob("clips/*/s*.parquet"):
        samples = pq.read_table(shard, columns=["sample"])["sample"].to_pylist()
        assert samples == sorted(samples)
    manifest = read_json(next(mine.store.glob("clips/*/manifest.json")))
    assert manifest["schema"] == SCHEMA_VERSION and manifest["dataset"] == "biovid_a" and len(manifest["shards"]) == PEOPLE
    assert manifest["options"]["signal"]["length"] == 32 and str(mine.store.parent) not in str(manifest)
    hidden = mine.store / "private" / "quarantine-biovid_a.json"
    assert raw in hidden.read_text() or bad == "missing"
    assert hidden.stat().st_mode & 0o777 == 0o600
    shutil.copytree(signal_tree, mine.root, dirs_exist_ok=True)
    make_clips.ensure(mine.config(), cohort.load(mine.config()))
    assert read_quarantine(mine) == [] and not hidden.exists()


def read_quarantine(road):
    """The excluded clips of every clip store: a model that reads no video has a store of its own."""
    return [row for file in sorted(road.store.glob("clips/*/quarantine.parquet")) for row in pq.read_table(file).to_pylist()]


def test_strict_makes_an_excluded_clip_an_error(mine, inline, capsys):
    signal_files(mine, 2)[1].write_bytes(b"")
    assert cli.run(loso.main, mine.argv("strict=true")) == 2
    assert "strict=true and 1 clips were excluded" in capsys.readouterr().err and not mine.run.exists()


def test_a_file_that_is_no_video_is_excluded_and_the_others_stay(road, inline, tmp_path):
    """With real faces; the subject's other clips, and the shards of all other subjects, stay unchanged."""
    mine = road.copy(tmp_path, run=False)
    tree = tmp_path / "tree"
    shutil.copytree(road.root, tree)
    victim = sorted(sorted((tree / "video").iterdir())[0].iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:300])
    mine = Road(tree, mine.store, tmp_path / "run")
    config = mine.config()
    store = make_clips.ensure(config, cohort.load(config))
    assert inline["preprocess"] == [0]
    (row,) = store.quarantine()
    assert row["stage"] == "video" and victim.name not in str(row) and victim.parent.name not in str(row)
    assert len(store.signals(0).samples) == 2 * CLIPS_PER_LEVEL - 1
    assert [len(store.signals(s).samples) for s in range(1, PEOPLE)] == [2 * CLIPS_PER_LEVEL] * (PEOPLE - 1)


def test_a_clip_without_its_video_stays_for_models_of_signals(road, inline, tmp_path):
    """Nor is it a row of their store, which reads no video, whichever subject is made again."""
    mine = road.copy(tmp_path, run=False)
    tree = tmp_path / "tree"
    shutil.copytree(road.root, tree)
    first = sorted((tree / "video").iterdir())[0]
    gone, twice = sorted(first.iterdir())[:2]
    gone.unlink()
    twice.unlink()
    (tree / "biosignals_raw" / first.name / f"{twice.stem}_bio.csv").unlink()
    mine = Road(tree, mine.store, tmp_path / "run", [*mine.words, "model=ridge", "max_folds=2"])
    assert mine.main() == 0
    assert sorted((row["stage"], row["reason"]) for row in read_quarantine(mine)) == [("signal", "missing_file")]
    assert [fold["n_quarantined"] for fold in mine.summary()["folds"]] == [1, 0]
    facts = read_json(mine.run / "facts.json")
    assert sum(facts["quarantine"]["by_class"].values()) == 1 == len(facts["quarantine"]["rows"])


def test_a_subject_without_any_clip_left(mine, inline):
    for file in signal_files(mine, 1):
        file.write_bytes(b"")
    assert mine.main("max_folds=3") == 0
    folds = mine.summary()["folds"]
    assert [(f["n_test"], f["n_quarantined"], f["accuracy"]) for f in folds][1] == (0, 4, None)
    assert folds[1]["accuracy_with_quarantined"] == 0.0 and folds[0]["n_test"] == 4
    assert "no usable clip of class" in (mine.run / "report.html").read_text()


class TestKeys:
    """What the hash of a clip's sources covers, without a data set."""

    def cache(self, tmp_path):
        from orchestrator.files.storage import HashCache

        return HashCache(tmp_path / "hashes.json")

    def hashes(self, tmp_path, options=None, **references):
        clip = Clip(0, 0, "c0", 0, Recording("a", "a-0", 0, "L", **references))
        return clip_store._source_hashes(clip, self.cache(tmp_path), options or ClipOptions())

    def test_a_folder_of_sensors_is_hashed_by_the_files_that_are_read(self, tmp_path):
        """AI4Pain 2025 keeps one file a sensor: a signal that points at the folder must follow those files."""
        for sensor in ("Bvp", "Eda"):
            (tmp_path / "train" / sensor).mkdir(parents=True)
            (tmp_path / "train" / sensor / "p1.csv").write_text("p1_LOW_1\n1\n")
        channels = tuple(Channel(s, f"{s}/p1.csv::p1_LOW_1", s.lower(), 100.0) for s in ("Bvp", "Eda"))
        reference = SignalRef(tmp_path / "train", "ai4pain_2025", channels)
        before = self.hashes(tmp_path, signal=reference)
        (tmp_path / "train" / "Eda" / "p1.csv").write_text("p1_LOW_1\n2\n")
        assert self.hashes(tmp_path, signal=reference) != before

    def test_a_folder_of_frames_is_hashed_whole(self, tmp_path):
        (tmp_path / "clip").mkdir()
        (tmp_path / "clip" / "1.png").write_bytes(b"1")
        before = self.hashes(tmp_path, video=VideoRef(tmp_path / "clip", "frames"))
        (tmp_path / "clip" / "2.png").write_bytes(b"2")
        assert self.hashes(tmp_path, video=VideoRef(tmp_path / "clip", "frames")) != before

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_landmarks_that_were_computed_elsewhere_are_part_of_the_clip(self, tmp_path, elsewhere):
        video = tmp_path / "videos" / "a" / "x[1].mp4"
        video.parent.mkdir(parents=True)
        video.write_bytes(b"video")
        folder = tmp_path / "landmarks" if elsewhere else None
        options = ClipOptions(face=FaceOptions(provider="precomputed", precomputed_dir=folder,
                                               precomputed_root=tmp_path / "videos" if elsewhere else None))
        place = (folder / "a" if elsewhere else video.parent) / "x[1].landmarks.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        found = [self.hashes(tmp_path, options, video=VideoRef(video))]
        for values in (np.zeros((3, 468, 2)), np.ones((3, 468, 2))):
            np.save(place, values)
            found.append(self.hashes(tmp_path, options, video=VideoRef(video)))
        assert len(set(found)) == 3

    def test_folders_of_options_are_no_content(self):
        one, two = (clip_store.options_key(ClipOptions(face=FaceOptions(precomputed_dir=f"/{x}"))) for x in "ab")
        assert one == two != clip_store.options_key(ClipOptions())

    def test_an_absent_file_is_hashed_as_such(self, tmp_path):
        assert self.hashes(tmp_path, video=VideoRef(tmp_path / "no.mp4")) == ("unreadable", "")


def test_another_key_moves_no_bit_of_the_moments(mine, inline, tmp_path):
    """Rows stand in the order of pseudonyms; what is computed from them must not."""
    found = []
    for number in range(3):
        key = tmp_path / f"key{number}"
        key.write_text(f"{number}" * 20)
        config = mine.config(f"store.key={key}", f"store={tmp_path / str(number)}")
        people = replace(cohort.load(config), name="private")
        jobs = clip_store.plan_shards(config, people)
        shuffled = [replace(job, clips=tuple(np.random.default_rng(number).permutation(np.array(job.clips, object))))
                    for job in jobs[:2]]
        options = clip_store.clip_options(config, False)
        for job in shuffled:
            shard_maker.make_shard(job, options, None)
        found.append([read_checked(job.path.with_suffix(".json"))["moments"] for job in shuffled])
    assert found[0] == found[1] == found[2]
    signals = read_signals(shuffled[0].path)
    assert Moments.of(signals.signals[signals.label == 0]).to_json() == found[0][0]["0"]


def test_one_clip_of_other_channels_stops_no_other(tmp_path):
    channels = tuple(Channel(name, name, "gsr", 100.0) for name in ("a", "b"))
    some = Recording("p", "p-0", 0, "L", signal=SignalRef(tmp_path / "x.csv", "csv", channels))
    clips = [Clip(0, i, f"c{i}", 0, some) for i in range(3)]
    odd = Clip(0, 3, "c0", 0, replace(some, signal=None))
    assert shard_maker._usual_channels([odd, *clips]) == ("a", "b") == shard_maker._usual_channels([odd, clips[0]])
    assert shard_maker._usual_channels([odd, odd, odd, clips[0]]) == ("a", "b"), "most of the signal files are gone"
    assert shard_maker._usual_channels([odd]) == () == shard_maker._usual_channels([])


def test_composed_options_reach_the_clip():
    config = compose("biovid_a", ["signal.length=77", "keyframe.preset=paper", "face.margin=0.1", "frames=all"])
    options = clip_store.clip_options(config, True)
    assert (options.signal.length, options.face.margin, options.frames, options.video) == (77, 0.1, "all", True)


def test_all_frames_are_stored_with_which_of_them_are_keyframes(tmp_path):
    class Engine:
        def process(self, video, options, frames, limits):
            crops = np.zeros((5, 8, 8, 3), np.uint8)
            return FaceClip(frames=crops, frame_index=np.arange(5, dtype=np.int32), landmarks=np.zeros((5, 92, 2), np.float32),
                            n_frames=5, fps=25.0, padded=False, n_lost=0, max_faces=1, scores=np.ones(5),
                            keyframes=np.array([0, 3], np.int32), threshold=1.0, distance=np.zeros(5))

    recording = Recording("p", "s", 0, "BL1", VideoRef(tmp_path / "x.mp4"), None)
    prepared = prepare_clip(recording, Engine(), ClipOptions(frames="all"))
    write_shard(tmp_path / "s.parquet", [Row("s", 0, 0, ("", ""), prepared)])
    found = read_signals(tmp_path / "s.parquet")
    assert found.n_crops.tolist() == [5] and found.n_keyframes.tolist() == [2] and found.n_frames.tolist() == [5]
    assert pq.read_table(tmp_path / "s.parquet")["keyframes"][0].as_py() == [0, 3]


def test_a_clip_of_another_length_is_a_row_and_moves_no_other_key(tmp_path):
    """One file of a quarter of its rows: it alone is excluded, its subject alone is made again."""
    lines = ["subject,sample,label,signal_path,fs,channels"]
    channels = '"[{""name"": ""x"", ""column"": 0, ""kind"": ""eda"", ""unit"": ""nS""}]"'
    for i in range(12):
        np.save(tmp_path / f"{i}.npy", 4000 + np.sin(np.arange(60.0) + i))
        lines.append(f"p{i % 3},s{i},{i % 2},{i}.npy,10,{channels}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    config = compose("manifest", [f"data.root={tmp_path}", f"store={tmp_path / 'store'}"])
    before = clip_store.plan_shards(config, cohort.load(config))
    np.save(tmp_path / "4.npy", 4000 + np.sin(np.arange(15.0)))
    jobs = clip_store.plan_shards(config, cohort.load(config))
    assert sum(a.key != b.key for a, b in zip(before, jobs, strict=True)) == 1
    options = clip_store.clip_options(config, False)
    jobs[0].path.parent.mkdir(parents=True)
    assert sum(shard_maker.make_shard(job, options, None)["quarantined"] for job in jobs) == 1
    store = clip_store.ClipStore(jobs[0].path.parent, jobs)
    assert [(row["stage"], row["reason"]) for row in store.quarantine()] == [("signal", "odd_length")]
    assert store.notes() == ["11 of 11 clips: eda: unit converted from nS to uS."]
    assert all(3.9 < store.signals(job.subject).signals.min() < 4.1 for job in jobs)
    assert store.length_warning({0: "rest", 1: "pain"}) == []


def test_what_the_lengths_of_stored_clips_tell_of_their_classes(tmp_path):
    lines = ["subject,sample,label,signal_path,fs,channels"]
    channels = '"[{""name"": ""x"", ""column"": 0, ""kind"": ""other""}]"'
    for i in range(12):
        np.save(tmp_path / f"{i}.npy", np.sin(np.arange(60.0 if i < 9 else 360.0) + i))
        lines.append(f"p{i % 3},s{i},{int(i < 9)},{i}.npy,10,{channels}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))

    def told(*words: str) -> list[str]:
        config = compose("manifest", [f"data.root={tmp_path}", f"store={tmp_path / 'store'}", *words])
        jobs = clip_store.plan_shards(config, cohort.load(config))
        jobs[0].path.parent.mkdir(parents=True)
        assert [shard_maker.make_shard(job, clip_store.clip_options(config, False), None)["clips"] for job in jobs] == [4] * 3
        return clip_store.ClipStore(jobs[0].path.parent, jobs).length_warning({0: "rest", 1: "pain"})

    assert told()[0].startswith("Clips of class rest last 36 s, of pain 6 s: a model can separate these classes by duration")
    assert told("signal.seconds=6") == told("signal.window_mode=crop", "signal.length=50") == []
