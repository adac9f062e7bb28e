import shutil

import numpy as np
import pytest

from preprocessing.datasets import registry
from preprocessing.errors import InputError
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal
from tests.helpers.layouts import write_ai4pain, write_fnirs


@pytest.mark.parametrize("upper", [True, False])
def test_both_labelled_splits(tmp_path, upper):
    data = registry.load("ai4pain", write_ai4pain(tmp_path, upper=upper))
    assert (data.cohort, data.class_names) == ("ai4pain", ("No pain", "Low", "High"))
    assert [s.raw_id for s in data.subjects] == ["1", "2", "3"]  # none of the blinded test split
    assert len(data.recordings) == 21 and data.expected == {"subjects": 53, "clips": 2544} and not data.complete
    assert {(r.subject, r.split) for r in data.recordings} == {("1", "train"), ("2", "train"), ("3", "validation")}
    for subject in "123":
        labels = [r.label for r in data.recordings if r.subject == subject]
        assert np.bincount(labels).tolist() == [3, 2, 2]
    assert all(r.video.path.is_file() and r.signal.path.is_file() for r in data.recordings)


def test_one_rule_of_ten_seconds_for_every_class(tmp_path):
    data = registry.load("ai4pain", write_ai4pain(tmp_path))
    rows = {r.signal.end_row - r.signal.start_row for r in data.recordings}
    assert rows == {50}  # 10 s at the 5 Hz of the tree, baseline, rest and pain alike
    assert {(r.video.start_s, r.video.end_s) for r in data.recordings} == {(0.0, 10.0)}
    shapes = {process_signal(read_signal(r.signal), SignalOptions(length=200)).shape for r in data.recordings}
    assert shapes == {(200, 48)}


@pytest.mark.parametrize("fs", [5.0, 10.0])
def test_the_rate_comes_from_the_baseline(tmp_path, fs):
    data = registry.load("ai4pain", write_ai4pain(tmp_path, ("1",), (), fs))
    assert {c.fs for r in data.recordings for c in r.signal.channels} == {fs}
    assert any(f"{fs:.2f} Hz" in note or f"{fs:.2f} to {fs:.2f} Hz" in note for note in data.notes)


def test_segments_start_at_their_own_marker(tmp_path):
    write_ai4pain(tmp_path, ("1",), ())
    at = write_fnirs(tmp_path / "Train" / "fnirs" / "1.csv")
    data = registry.load("ai4pain", tmp_path)
    by_sample = {r.sample: r for r in data.recordings}
    assert set(by_sample) == {"1_B1", "1_L1", "1_L2", "1_H1", "1_H2", "1_R1", "1_R2"}  # stimulus markers are dropped
    for sample, r in by_sample.items():
        signal = read_signal(r.signal)
        start = at[sample.removeprefix("1_")]
        np.testing.assert_array_equal(signal.channels[0].values, 2000 + np.arange(start, start + 50))
        np.testing.assert_array_equal(signal.channels[47].values, 49000 + np.arange(start, start + 50))
    # High and low share the running number of the videos: the rank within the level pairs them.
    names = {sample: r.video.path.stem for sample, r in by_sample.items()}
    assert names["1_L1"] == "1_Pain_LOW_0" and names["1_L2"] == "1_Pain_LOW_2"
    assert names["1_H1"] == "1_Pain_HIGH_1" and names["1_H2"] == "1_Pain_HIGH_3"
    assert names["1_B1"] == "1_Baseline" and names["1_R2"] == "1_Rest_2"


def test_a_missing_video_does_not_shift_the_others(tmp_path):
    write_ai4pain(tmp_path, ("1",), ())
    videos = tmp_path / "Train" / "video" / "1"

    def named():
        data = registry.load("ai4pain", tmp_path)
        return {r.sample: r.video and r.video.path.stem for r in data.recordings}, " ".join(data.notes)

    (videos / "1_Pain_HIGH_1.mp4").unlink()
    names, _ = named()
    assert names["1_H1"] is None and names["1_H2"] == "1_Pain_HIGH_3" and names["1_L2"] == "1_Pain_LOW_2"
    fnirs = tmp_path / "Train" / "fnirs" / "1.csv"
    kept = fnirs.read_bytes()
    fnirs.unlink()
    names, notes = named()  # the ranks within a level are ambiguous
    assert set(names) == {"1_B1", "1_R1", "1_R2"} and "3 pain videos of one subject of train are excluded" in notes
    (videos / "1_Pain_HIGH_1.mp4").touch()
    names, notes = named()
    assert names["1_H1"] == "1_Pain_HIGH_1" and names["1_L2"] == "1_Pain_LOW_2" and "excluded" not in notes
    fnirs.write_bytes(kept.replace(b"L1\n", b"X1\n").replace(b"H1\n", b"L1\n").replace(b"X1\n", b"H1\n"))
    names, notes = named()  # the recording has them in another order than the videos
    assert names["1_H1"] is None and names["1_B1"] == "1_Baseline" and "4 pain videos" in notes


def test_one_subject_in_two_spellings_in_two_splits(tmp_path):
    write_ai4pain(tmp_path, ("p1",), ("P1",))
    with pytest.raises(InputError, match="differ only by case"):
        registry.load("ai4pain", tmp_path)


def test_row_0_is_never_read_and_blanks_around_markers_do_not_matter(tmp_path):
    write_ai4pain(tmp_path, ("1",), ())
    path = tmp_path / "Train" / "fnirs" / "1.csv"
    write_fnirs(path, marker_case=lambda name: f" {name.lower()} ")
    assert len(registry.load("ai4pain", tmp_path).recordings) == 7
    lines = path.read_text().splitlines()
    # B1 moves to the outlier's own row: its segment starts one row later.
    lines = [lines[0], lines[1] + "B1", *[line.replace("b1", "s9") for line in lines[2:]]]
    path.write_text("\n".join(lines))
    data = registry.load("ai4pain", tmp_path)
    base = next(r for r in data.recordings if r.sample == "1_B1")
    assert base.signal.start_row == 1


def test_a_segment_that_would_run_into_the_next_has_no_signal(tmp_path):
    write_ai4pain(tmp_path, ("1",), ())
    write_fnirs(tmp_path / "Train" / "fnirs" / "1.csv", seconds=6.0)
    data = registry.load("ai4pain", tmp_path)
    assert {r.label for r in data.recordings if r.signal is None} == {1, 2}
    assert any("4 of 7 clips have no signal" in note for note in data.notes)
    short = registry.load("ai4pain", tmp_path, seconds=5.0)
    assert all(r.signal is not None for r in short.recordings)


BAD = {
    "B1 absent": lambda text: text.replace("B1", ""),
    "a marker twice": lambda text: text.replace(",L2\n", ",L1\n"),
    "no marker at all": lambda text: text.replace(",L1\n", ",zz\n"),
    "no marker column": lambda text: text.replace("49,50\n", "49,51\n"),
    "half a row": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_fnirs_file_affects_only_the_signals_of_its_subject(tmp_path, name):
    write_ai4pain(tmp_path)
    path = tmp_path / "Train" / "fnirs" / "1.csv"
    path.write_text(BAD[name](path.read_text()))
    data = registry.load("ai4pain", tmp_path)
    assert {r.subject for r in data.recordings if r.signal is None} == {"1"}
    assert {r.subject for r in data.recordings if r.signal is not None} == {"2", "3"}
    assert any("is excluded" in note for note in data.notes) and len(data.recordings) == 21


def test_missing_modalities(tmp_path):
    write_ai4pain(tmp_path)
    (tmp_path / "Train" / "fnirs" / "1.csv").unlink()
    shutil.rmtree(tmp_path / "Train" / "video" / "2")
    data = registry.load("ai4pain", tmp_path)
    assert {r.subject for r in data.recordings if r.signal is None} == {"1"}
    assert {r.subject for r in data.recordings if r.video is None} == {"2"}


def test_a_subject_in_two_splits_is_refused(tmp_path):
    with pytest.raises(InputError, match="both train and validation"):
        registry.load("ai4pain", write_ai4pain(tmp_path, ("1", "2"), ("2",)))


def test_duplicates_and_links(tmp_path):
    write_ai4pain(tmp_path / "root", ("1",), ())
    clip = tmp_path / "root" / "Train" / "video" / "1" / "1_Rest_1.mp4"
    twin = clip.with_name("1_REST_1.mp4")
    twin.touch()
    with pytest.raises(InputError, match="second video"):
        registry.load("ai4pain", tmp_path / "root")
    twin.unlink()
    clip.unlink()
    (tmp_path / "elsewhere.mp4").touch()
    clip.symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(InputError, match="leads outside"):
        registry.load("ai4pain", tmp_path / "root")
    clip.unlink()
    (tmp_path / "root" / "TRAIN").mkdir()
    with pytest.raises(InputError, match="differ only in case"):
        registry.load("ai4pain", tmp_path / "root")


def test_a_doubled_top_folder(tmp_path):
    write_ai4pain(tmp_path / "AI4Pain")
    assert len(registry.load("ai4pain", tmp_path).recordings) == 21


@pytest.mark.parametrize("names", [("1", "01"), ("2", "2.0"), ("3", "３")])
def test_one_subject_with_two_ids_is_an_error_and_other_files_are_counted(tmp_path, names):
    with pytest.raises(InputError, match="may be one subject spelt in two ways"):
        registry.load("ai4pain", write_ai4pain(tmp_path / "two", (names[0],), (names[1],)))
    root = write_ai4pain(tmp_path / "one", ("1",), ("2",))
    (root / "Train" / "video" / "1" / "1_Holiday.mp4").touch()
    assert any(note.startswith("1 videos of train are not named") for note in registry.load("ai4pain", root).notes)
