"""`python -m orchestrator.preprocess` over every layout, the clips it excludes, and what it makes again after a crash.

Everything in this process (`inline`), on trees written here; bad files stand beside good ones.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from skimage import data

from orchestrator import cli, preprocess
from orchestrator.cohort import cohort
from orchestrator.config.configuration import compose
from orchestrator.executors import choice
from orchestrator.files import storage
from orchestrator.stages import make_clips
from orchestrator.stores import clip_store, shard_maker
from preprocessing.clip_format import decode_image
from preprocessing.recordings import VideoRef
from preprocessing.shard import read_signals
from tests.helpers import films
from tests.helpers.layouts import HEADER, bio, write_2025, write_ai4pain, write_bio, write_biovid, write_manifest
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, hashes

PARTIAL = "data.allow_partial=true"
LENGTH = 48
WORDS = (f"signal.length={LENGTH}", "signal.emd=false")


def words(name: str, root: Path | None, store: Path, *more: str) -> list[str]:
    return ["--dataset", name, *([f"data.root={root}"] if root else []), f"store={store}", *WORDS, *more]


def run(name: str, root: Path | None, store: Path, *more: str) -> int:
    return cli.run(preprocess.main, words(name, root, store, *more))


def shards(store: Path) -> list[dict]:
    """The rows of all subjects, in the order of their names."""
    return [row for path in sorted(store.glob("clips/*/s*.parquet")) for row in pq.read_table(path).to_pylist()]


def quarantine(store: Path) -> list[dict]:
    return pq.read_table(next(store.glob("clips/*/quarantine.parquet"))).to_pylist()


def raw_names(store: Path) -> dict[str, str]:
    """sample -> raw name, from the private folder."""
    maps = [json.loads(path.read_text()) for path in (store / "private").glob("*-*.json") if "quarantine" not in path.name]
    return {sample: raw for m in maps for sample, (_, raw) in m["samples"].items()}


def reasons(store: Path) -> dict[str, tuple[str, str]]:
    """raw name -> (stage, reason)."""
    names = raw_names(store)
    assert all(row["fix"] and row["sample"] not in names.values() for row in quarantine(store))
    return {names[row["sample"]]: (row["stage"], row["reason"]) for row in quarantine(store)}


# ---------------------------------------------------------------------------------------------- every layout


def several_rates(root: Path) -> Path:
    """700 Hz beside 4 Hz in one row, windows in a long file, a row without video, and frames in a folder."""
    root.mkdir(parents=True)
    two = json.dumps([{"name": "ecg", "column": "chest", "kind": "ecg", "fs": 700},
                      {"name": "eda", "column": "wrist", "kind": "eda", "fs": 4}])
    rows = []
    for person in ("anna", "bert"):
        np.savez(root / f"{person}.npz", chest=np.sin(np.arange(14000) / 50), wrist=1 + np.arange(80) / 80)
        films.write_folder(root / f"{person}-frames", films.nodding(18, width=160, height=120))
        for k in range(2):
            rows.append({"subject": person, "sample": f"{k}", "label": k, "signal_path": f"{person}.npz", "channels": two,
                         "start_s": 5 * k, "end_s": 5 * k + 5, "video_path": "", "video_fps": ""})
        rows[-1] |= {"start_s": 0, "end_s": 5, "video_path": f"{person}-frames", "video_fps": 3.6}
    return write_manifest(root, rows)


def test_a_row_of_pictures_alone_stands_beside_rows_with_signals(inline, engines, tmp_path):
    """In any mixture no clip is excluded, and only models that read signals leave some out."""
    root = tmp_path / "tree"
    root.mkdir()
    films.write_folder(root / "frames", films.nodding(18, width=160, height=120))
    rng, rows, ecg = np.random.default_rng(0), [], '[{"name": "ecg", "column": "ecg", "kind": "ecg", "fs": 100}]'
    for k in range(4):
        np.savetxt(root / f"{k}.csv", rng.normal(size=(400, 1)), header="ecg", comments="", delimiter=",")
        rows.append({"subject": "anna", "sample": str(k), "label": k % 2, "signal_path": f"{k}.csv", "channels": ecg,
                     "video_path": "", "video_fps": ""})
    for row in rows[1:]:
        row |= {"signal_path": "", "channels": "", "video_path": "frames", "video_fps": 3.6}
    assert run("manifest", write_manifest(root, rows), tmp_path / "store") == 0 and quarantine(tmp_path / "store") == []
    found = read_signals(next((tmp_path / "store").glob("clips/*/s*.parquet")))
    assert found.has_signal.tolist() == [True, False, False, False] and found.signals.shape == (4, LENGTH, 1)
    assert found.channels == ("ecg",) and found.signals[0].any() and not found.signals[1:].any()
    assert found.usable([0, 1], False, True).tolist() == found.has_signal.tolist()
    assert found.usable([0, 1], True, False).tolist() == (~found.has_signal).tolist()
    assert not found.usable([0, 1], True, True).any()
    assert found.usable([1], False, False).tolist() == [False, True, False, True]


def test_a_promised_file_that_is_not_there_is_a_row_and_the_clip_keeps_what_it_has(inline, tmp_path, capsys):
    root = write_biovid(tmp_path / "PartA", subjects=1, video=False)
    victim = sorted((root / "biosignals_raw").rglob("*.csv"))[1]
    victim.unlink()
    assert run("biovid_a", root, tmp_path / "store", PARTIAL) == 0
    (row,) = quarantine(tmp_path / "store")
    assert (row["stage"], row["reason"]) == ("signal", "missing_file") and len(shards(tmp_path / "store")) == 4
    assert run("biovid_a", root, tmp_path / "store", PARTIAL, "strict=true") == 2


def test_one_damaged_fnirs_file_excludes_its_subjects_signals_and_is_reported(inline, engines, tmp_path):
    root = write_ai4pain(tmp_path / "tree", ("1", "2"), ())
    for path in sorted((root / "Train" / "video").rglob("*.mp4")):
        films.write_video(path, films.nodding(50, width=160, height=120), fps=5)
    (root / "Train" / "fnirs" / "1.csv").write_text("nothing\n")
    assert run("ai4pain", root, tmp_path / "store", PARTIAL) == 0
    rows = quarantine(tmp_path / "store")
    assert len(rows) == 7 and {row["stage"] for row in rows} == {"signal"} and len({row["subject"] for row in rows}) == 1


LAYOUTS = {  # name -> (data set, writes a tree, further words, clips, channels)
    "A, doubled folders": ("biovid_a", lambda r: write_biovid(r / "PartA", doubled=True, video=False), (PARTIAL,), 10, 3),
    "A, partA, four columns": ("biovid_a", lambda r: write_biovid(r / "partA", columns=4, video=False).parent, (PARTIAL,),
                               10, 3),
    "A, filtered": ("biovid_a", lambda r: write_biovid(r, source="filtered", video=False), (PARTIAL, "data.source=filtered"),
                    10, 3),
    "B": ("biovid_b", lambda r: write_biovid(r / "PartB", facial=True, video=False), (PARTIAL,), 10, 5),
    "AI4Pain 2025": ("ai4pain_2025", write_2025, (), 16, 4),
    "AI4Pain 2026": ("ai4pain_2025", lambda r: write_2025(r, ("Baseline", "ARM", "HAND")), (), 12, 4),
    "manifest": ("manifest", several_rates, (), 4, 2),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_runs_on_every_layout(inline, tmp_path, capsys, layout):
    name, write, more, n_clips, n_channels = LAYOUTS[layout]
    root = write(tmp_path / "tree")
    assert run(name, root, tmp_path / "store", *more) == 0, capsys.readouterr().err
    rows = shards(tmp_path / "store")
    assert len(rows) == n_clips and quarantine(tmp_path / "store") == []
    signals = [np.frombuffer(row["signal"], "<f4").reshape(LENGTH, n_channels) for row in rows]
    assert all(np.isfinite(x).all() and np.ptp(x, axis=0).any() for x in signals)
    with_video = [row for row in rows if row["n_frames"]]
    assert [len(row["frames"]) for row in with_video] == [16] * (2 if layout == "manifest" else 0)
    capsys.readouterr()
    inline["preprocess"].clear()
    assert run(name, root, tmp_path / "store", *more) == 0 and inline["preprocess"] == []
    assert "are there already" in capsys.readouterr().out


def test_the_watch_and_the_synthetic_cohort(inline, tmp_path):
    assert run("watch", None, tmp_path / "watch", "signal.length=200") == 0
    assert len(shards(tmp_path / "watch")) == 2229
    tiny = ("synthetic.subjects=1", "synthetic.clips_per_level=1", "synthetic.size=[160,120]")
    assert run("synthetic", None, tmp_path / "made", *tiny) == 0
    rows = shards(tmp_path / "made")
    assert len(rows) == 2 and all(row["n_frames"] in (137, 138) and len(row["frames"]) >= 16 for row in rows)


def test_ai4pain_gives_every_class_ten_seconds(inline, tmp_path):
    """Baselines and rests last longer than pain does; a video that ends too early is no clip, whatever its class."""
    root = write_ai4pain(tmp_path / "tree", ("1",), (), fs=5.0)
    folder = root / "Train" / "video" / "1"
    lengths = {"Baseline": 14, "Rest_1": 13, "Rest_2": 10, "Pain_LOW_0": 11, "Pain_LOW_2": 7, "Pain_HIGH_1": 11,
               "Pain_HIGH_3": 10.2}
    for name, seconds in lengths.items():
        films.write_video(folder / f"1_{name}.mp4", films.nodding(round(5 * seconds), width=160, height=120), fps=5)
    assert run("ai4pain", root, tmp_path / "store", PARTIAL) == 0
    assert reasons(tmp_path / "store") == {"1_L2": ("video", "short_window")}
    rows = shards(tmp_path / "store")
    assert sorted(row["label"] for row in rows) == [0, 0, 0, 1, 2, 2]
    assert {(row["n_frames"], row["fps"], row["duration_s"]) for row in rows} == {(50, 5.0, 10.0)}
    assert {len(row["signal"]) for row in rows} == {4 * LENGTH * 48}


# ---------------------------------------------------------------------------------------------- bad files among good ones


def bad_videos(folder: Path) -> dict[str, tuple[str, str] | None]:
    """Writes one video each; name -> (stage, reason), or None where the clip must survive."""
    small = {"width": 160, "height": 120}
    nod = films.nodding(20, **small)
    good = films.write_video(folder / "good.mp4", nod)
    (folder / "truncated.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "empty.mp4").write_bytes(b"")
    films.write_sound(folder / "sound.mp4")
    (folder / "table.mp4").write_text("time,gsr\n0,1\n" * 500)
    moving = films.write_video(folder / "moving.avi", nod, codec="mjpeg", pix_fmt="yuvj420p")
    films.stop_clock(moving, folder / "no rate.mkv")
    films.write_video(folder / "black.mp4", [np.zeros((120, 160, 3), np.uint8)] * 20)
    films.write_video(folder / "coffee.mp4", [data.coffee()[:240, :320]] * 20)
    films.write_video(folder / "one frame.mp4", nod[:1])
    films.write_video(folder / "137 frames.mp4", films.nodding(137, **small))
    films.write_video(folder / "two faces.mp4", [films.two_faces()] * 20)
    away = [films.face(dx=min(28 * i, 28 * (30 - i), 380) if i < 30 else 0) for i in range(45)]
    films.write_video(folder / "away.mp4", away)
    films.write_video(folder / "turned.mp4", [np.rot90(frame, -1) for frame in nod], rotation=90)
    films.write_video(folder / "variable.mp4", nod, times=[40 * i if i < 10 else 400 + 100 * (i - 10) for i in range(20)])
    avi = films.write_video(folder / "x.avi", nod, codec="mpeg4")
    avi.rename(folder / "avi.mp4")
    return {"good.mp4": None, "truncated.mp4": ("video", "truncated"), "empty.mp4": ("video", "empty"),
            "sound.mp4": ("video", "no_video_stream"), "table.mp4": ("video", "not_a_video"),
            "no rate.mkv": ("video", "no_frame_rate"), "black.mp4": ("video", "black_video"),
            "coffee.mp4": ("face", "no_face"), "one frame.mp4": ("video", "too_few_frames"),
            "nowhere.mp4": ("video", "missing"), "137 frames.mp4": None, "two faces.mp4": None, "away.mp4": None,
            "turned.mp4": None, "variable.mp4": None, "avi.mp4": None, "moving.avi": None}


def test_every_bad_video_has_its_reason_and_its_neighbours_live(inline, engines, tmp_path, capsys):
    tree = tmp_path / "tree"
    tree.mkdir()
    wanted = bad_videos(tree)
    rows = [{"subject": "anna", "sample": name, "label": i % 2, "video_path": name} for i, name in enumerate(wanted)]
    rows += [{"subject": "bert", "sample": "good.mp4", "label": 0, "video_path": "good.mp4"}]
    write_manifest(tree, rows)
    assert run("manifest", tree, tmp_path / "store") == 0
    assert reasons(tmp_path / "store") == {name: why for name, why in wanted.items() if why}
    names = raw_names(tmp_path / "store")
    found = {names[row["sample"]]: row for row in shards(tmp_path / "store")}
    assert set(found) == {name for name, why in wanted.items() if why is None}
    assert found["137 frames.mp4"]["n_frames"] == 137 and found["two faces.mp4"]["max_faces"] == 2
    assert 5 < found["away.mp4"]["n_lost"] < 25 and found["variable.mp4"]["fps"] == pytest.approx(19 / 1.3)
    config = compose("manifest", words("manifest", tree, tmp_path / "store")[2:])
    options = clip_store.clip_options(config, True)
    for name in ("good.mp4", "turned.mp4", "moving.avi"):  # what a bad neighbour may not touch: the bytes of the good
        alone = engines(options.face).process(VideoRef(tree / name), options.keyframe)
        assert found[name]["landmarks"] == alone.landmarks.astype("<f4").tobytes()
    said = " ".join(capsys.readouterr().out.split())
    assert "1 clips with several faces, of which the largest was kept" in said and "frames without a face;" in said
    assert "9 clips excluded" in said and "1 x face/no_face" in said and "1 x video/black_video" in said
    assert "by class: 5 x 1, 4 x 0" in said and "by subject: 9 x s" in said


def test_every_bad_table_has_its_reason_and_its_neighbours_live(inline, tmp_path):
    root = write_biovid(tmp_path / "tree", subjects=2, per_class=3, video=False)
    files = sorted((root / "biosignals_raw").rglob("*_bio.csv"))[:15]
    rng = np.random.default_rng(0)

    def cell(text: str):
        def change(path: Path) -> None:
            lines = path.read_text().splitlines()
            lines[1000] = "\t".join([*lines[1000].split("\t")[:1], text, *lines[1000].split("\t")[2:]])
            path.write_text("\n".join(lines))
        return change

    def dust(scale: float):
        def change(path: Path) -> None:
            values = bio(rng)
            values[:, 3] = scale * rng.normal(size=len(values))
            write_bio(path, values)
        return change

    def reordered(path: Path) -> None:
        order = [3, 1, 5, 0, 4, 2]
        write_bio(path, bio(rng)[:, order], [HEADER[i] for i in order])

    changes = [(cell("NaN"), "nan"), (cell("inf"), "infinite"), (cell("n/v"), "not_a_number"),
               (lambda p: p.write_text(p.read_text().replace("ecg", "egc")), "missing_column"),
               (lambda p: p.write_text("\n".join(p.read_text().splitlines()[:1400])), "short_file"),
               (lambda p: p.write_bytes(p.read_bytes()[:-20000] + b"\t5"), "not_a_table"),
               (lambda p: p.write_bytes(b""), "empty_file"),
               (lambda p: p.write_bytes(bytes(range(256)) * 50), "missing_column"),
               (reordered, None), (lambda p: write_bio(p, bio(rng), sep=";"), None), (dust(0.0), None), (dust(1e-22), None)]
    for (change, _), path in zip(changes, files, strict=False):
        change(path)
    assert run("biovid_a", root, tmp_path / "store", PARTIAL) == 0
    stems = [path.name.removesuffix("_bio.csv") for path in files]
    wanted = {stem: ("signal", why) for (_, why), stem in zip(changes, stems, strict=False) if why}
    assert reasons(tmp_path / "store") == wanted
    (kept,) = (tmp_path / "store" / "private").glob("quarantine-*.json")
    told = {row["reason"]: row.get("columns", "") for row in json.loads(kept.read_text()) if row["files"] != [str(files[7])]}
    assert told.pop("missing_column").startswith(f"{files[3]} has column 'ecg' 0 times") and not any(told.values())
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.parent.name != "private"
                and b"egc" in path.read_bytes()]
    names = raw_names(tmp_path / "store")
    found = {names[row["sample"]]: np.frombuffer(row["signal"], "<f4").reshape(LENGTH, 3) for row in shards(tmp_path / "store")}
    assert len(found) == 30 - len(wanted) and all(np.isfinite(x).all() for x in found.values())
    flat = stems[10:12]
    assert all((found[name][:, 2] == 0).all() and np.ptp(found[name][:, 0]) > 0 for name in flat)
    assert all(np.ptp(x, axis=0).all() for name, x in found.items() if name not in flat)


def test_bad_paths_and_bad_numbers_are_rows_too(inline, tmp_path):
    """A name no file system takes, a table of one row, a value beyond float32, frames among which there is a folder."""
    folder = tmp_path / "tree"
    folder.mkdir()
    eda = json.dumps([{"name": "eda", "column": "EDA", "kind": "eda", "fs": 4}])
    values = [str(np.sin(k / 9)) for k in range(60)]
    for name, cells in (("good", values), ("one", values[:1]), ("huge", [*values[:9], "1e39", *values[10:]])):
        (folder / f"{name}.csv").write_text("\n".join(["EDA", *cells]))
    for name in ("frames", "odd"):
        films.write_folder(folder / name, films.nodding(18, width=160, height=120))
    (folder / "odd" / "x.png").mkdir()
    clips = {"long": ("x" * 300 + ".mp4", "good"), "one": ("frames", "one"), "huge": ("", "huge"), "odd": ("odd", "good"),
             "good": ("frames", "good")}
    rows = [{"subject": person, "sample": name, "label": k % 2, "video_path": video, "video_fps": 1.2, "channels": eda,
             "signal_path": f"{signal}.csv"}
            for person in ("anna", "bert") for k, (name, (video, signal)) in enumerate(clips.items())]
    write_manifest(folder, rows)
    assert run("manifest", folder, tmp_path / "store") == 0
    assert {(row["stage"], row["reason"]) for row in quarantine(tmp_path / "store")} == {
        ("video", "missing"), ("signal", "infinite"), ("video", "bad_frame"), ("signal", "other_durations")}
    assert len(quarantine(tmp_path / "store")) == 8 and len(shards(tmp_path / "store")) == 2


# ---------------------------------------------------------------------------------------------- a declared sha256


@pytest.fixture
def declared(tmp_path):
    """Three subjects' signals and videos with the right sha256: (folder, rows)."""
    folder = tmp_path / "tree"
    folder.mkdir()
    eda = json.dumps([{"name": "eda", "column": "EDA", "kind": "eda", "fs": 4}])
    rows = []
    for i, name in enumerate(("anna", "bert", "carl")):
        (folder / f"{name}.csv").write_text("EDA\n" + "\n".join(str(np.sin(k / 9 + i)) for k in range(60)))
        for k in range(2):
            rows.append({"subject": name, "sample": f"{k}", "label": k, "signal_path": f"{name}.csv", "channels": eda,
                         "video_path": "", "sha256": digest(folder / f"{name}.csv")})
    return folder, rows


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_not_the_declared_one_is_excluded(inline, declared, tmp_path, capsys):
    folder, rows = declared
    rows[3]["sha256"] = "0" * 64
    write_manifest(folder, rows)
    assert run("manifest", folder, tmp_path / "store") == 0
    (row,) = quarantine(tmp_path / "store")
    assert (row["stage"], row["reason"], row["label"]) == ("signal", "other_content", 1)
    assert "sha256" in row["fix"] and "bert" not in str(row)
    assert len(shards(tmp_path / "store")) == 5, "its neighbours live, and so does the person's other clip"
    before = hashes(tmp_path / "store" / "clips")
    inline["preprocess"].clear()
    rows[3]["sha256"] = rows[2]["sha256"]
    write_manifest(folder, rows)
    assert run("manifest", folder, tmp_path / "store") == 0 and inline["preprocess"] == [1]
    after = hashes(tmp_path / "store" / "clips")
    assert quarantine(tmp_path / "store") == [] and len(shards(tmp_path / "store")) == 6
    assert sum(before[n] == after[n] for n in before if Path(n).name.startswith("s")) == 4
    rows[3]["sha256"] = "0" * 64
    write_manifest(folder, rows)
    assert run("manifest", folder, tmp_path / "store", "strict=true") == 2
    assert "1 x signal/other_content" in capsys.readouterr().err


def test_the_declared_hash_is_the_videos_where_there_is_one(declared, tmp_path):
    folder, rows = declared
    shutil.copy(films.write_video(tmp_path / "x.mp4", films.nodding(3, width=160, height=120)), folder / "a.mp4")
    rows[0] |= {"video_path": "a.mp4"}  # with the signal file's hash: not the one that is meant
    rows[1] |= {"video_path": "a.mp4", "sha256": digest(folder / "a.mp4")}
    write_manifest(folder, rows)
    config = compose("manifest", words("manifest", folder, tmp_path / "store")[2:])
    people = cohort.load(config)
    job = clip_store.plan_shards(config, people)[0]
    assert {clip.recording.sample for clip in job.clips if clip.sample in job.other_content} == {"0"}
    assert [j.other_content for j in clip_store.plan_shards(config, people)[1:]] == [frozenset()] * 2


def test_declared_files_are_hashed_once(declared, tmp_path, monkeypatch):
    folder, rows = declared
    write_manifest(folder, rows)
    config = compose("manifest", words("manifest", folder, tmp_path / "store")[2:])
    read = []
    monkeypatch.setattr(storage, "file_sha256", lambda path: read.append(path.name) or digest(path))
    first = clip_store.plan_shards(config, cohort.load(config))
    assert sorted(read) == ["anna.csv", "bert.csv", "carl.csv"]
    again = clip_store.plan_shards(config, cohort.load(config))
    assert len(read) == 3 and [job.key for job in again] == [job.key for job in first]


# ---------------------------------------------------------------------------------------------- the user's mistakes


@pytest.fixture
def no_workers(monkeypatch):
    def fails():
        raise AssertionError("a worker would have seen the mistake, as a traceback")

    monkeypatch.setitem(choice.KINDS, "ray", fails)


@pytest.mark.parametrize("wrong", ["signal.emg_band=[250,20]", "signal.emg_order=abc", "signal.seconds=-3",
                                   "keyframe.k_min=16.5", "face.size=abc", "signal.emd_options={trials:0}"])
def test_a_wrong_option_is_one_sentence_before_any_work(no_workers, signal_tree, tmp_path, capsys, wrong):
    assert run("biovid_a", signal_tree, tmp_path / "store", wrong) == 2
    said = capsys.readouterr().err
    option = wrong.partition("=")[0].partition(".")[2] if "options" not in wrong else "trials"
    assert option in said and "does not fit" in said and "Traceback" not in said


def test_face_models_are_sought_before_any_work(no_workers, tree, signal_tree, tmp_path, capsys, monkeypatch):
    nowhere = f"face.weights_dir={tmp_path / 'nowhere'}"
    for more in ((), ("face.provider=cropped",)):
        assert run("biovid_a", tree, tmp_path / "store", nowhere, *more) == 2
        assert "is not in" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert run("biovid_a", tree, tmp_path / "store") == 2
    assert "ai-edge-litert is not installed" in capsys.readouterr().err
    for root, more in ((tree, "face.provider=precomputed"), (signal_tree, nowhere)):  # nobody needs them
        with pytest.raises(AssertionError, match="a worker"):
            preprocess.main(words("biovid_a", root, tmp_path / "store", more))


# ---------------------------------------------------------------------------------------------- what is said, and crashes


def test_size_and_time_are_reported_before_anything_is_made(inline, signal_tree, tmp_path, capsys, monkeypatch):
    said = []
    real = make_clips.mapped
    monkeypatch.setattr(make_clips, "mapped", lambda *words: (said.append(capsys.readouterr().out), real(*words))[1])
    assert run("biovid_a", signal_tree, tmp_path / "store") == 0
    words_said = " ".join(said[0].split())
    assert "7 subjects, 28 clips to do: about" in words_said and " MB" in words_said and "about 0" not in words_said
    assert "at most" not in words_said and "138 frames" not in words_said  # no video is among them
    monkeypatch.setattr(make_clips, "SIGNAL_BYTES", 10**15)
    assert run("biovid_a", signal_tree, tmp_path / "other") == 2
    assert "Preprocessing needs about" in capsys.readouterr().err and not list(tmp_path.glob("other/clips/*/s*"))


def test_the_predicted_size_knows_what_is_stored(inline, tree, signal_tree, tmp_path):
    """Signals alone, keyframes, all frames, JPEG: each forecast is above what the run leaves, and not ten times it."""
    sizes = {}
    for name, root, words_more in (("signals", signal_tree, ()), ("keyframes", tree, ()), ("all", tree, ("frames=all",)),
                                   ("jpeg", tree, ("face.image=jpeg",))):
        config = compose("biovid_a", words("biovid_a", root, tmp_path / "store", *words_more)[2:])
        jobs = clip_store.plan_shards(config, cohort.load(config))[:1]
        sizes[name] = make_clips._bytes(config, jobs) / len(jobs[0].clips)
        said = make_clips.forecast(config, jobs)  # of other videos nothing is known yet: no upper bound is promised
        assert "at most" not in said and ("if videos have 138 frames" in said) == (name != "signals")
        if name != "all":
            make_clips._run(config, jobs)
            assert sizes[name] / 10 < jobs[0].path.stat().st_size / len(jobs[0].clips) < sizes[name], name
    assert 20 * sizes["signals"] < sizes["jpeg"] < sizes["keyframes"] < sizes["all"]


class Killed(BaseException):
    """As near as a test within the process comes to kill -9: nothing but `finally` runs."""


@pytest.mark.parametrize("place", ["in the middle of a shard", "before the shard's name", "before the side file"])
@pytest.mark.parametrize("person", [0, 3])
def test_killed_anywhere_the_rest_is_made_and_nothing_else(inline, signal_tree, tmp_path, monkeypatch, place, person):
    (tmp_path / "key").write_text("k" * 40)
    key = f"store.key={tmp_path / 'key'}"
    assert run("biovid_a", signal_tree, tmp_path / "whole", key) == 0
    inline["preprocess"].clear()
    counted = {"in the middle of a shard": (shard_maker, "prepare_clip", 4 * person + 2),
               "before the shard's name": (shard_maker, "write_shard", person),
               "before the side file": (shard_maker, "write_checked", person)}
    module, name, after = counted[place]
    real, calls = getattr(module, name), []

    def dies(*arguments, **options):
        calls.append(name)
        if len(calls) > after:
            if name == "write_shard":
                list(arguments[1])  # all clips were prepared
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies)
        with pytest.raises(Killed):
            preprocess.main(words("biovid_a", signal_tree, tmp_path / "store", key))
    assert inline["preprocess"] == list(range(person))
    inline["preprocess"].clear()
    assert run("biovid_a", signal_tree, tmp_path / "store", key) == 0
    assert inline["preprocess"] == list(range(person, PEOPLE))
    assert hashes(tmp_path / "store" / "clips") == hashes(tmp_path / "whole" / "clips")


def test_jpeg_crops_are_smaller_and_nearly_the_same(inline, tree, tmp_path):
    people, found = None, {}
    for image in ("png", "jpeg"):
        config = compose("biovid_a", words("biovid_a", tree, tmp_path / "store", f"face.image={image}")[2:])
        people = people or cohort.load(config)
        job = clip_store.plan_shards(config, people)[0]
        make_clips._run(config, [job])
        found[image] = pq.read_table(job.path).to_pylist()
    assert len(found["png"]) == len(found["jpeg"]) == 2 * CLIPS_PER_LEVEL
    for png, jpeg in zip(found["png"], found["jpeg"], strict=True):
        same = set(png) - {"frames"}
        assert {n: png[n] for n in same} == {n: jpeg[n] for n in same}, "landmarks and keyframes come from the video"
        assert sum(map(len, jpeg["frames"])) < 0.4 * sum(map(len, png["frames"]))
        for a, b in zip(png["frames"], jpeg["frames"], strict=True):
            error = decode_image(a).astype(float) - decode_image(b)
            assert 0 < (error**2).mean() < 255**2 / 10**3.8  # 38 dB
