"""Duplicate recordings of two subjects: by file content, overlapping windows, and decoded values."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cohort import duplicates
from orchestrator.cohort.cohort import Clip, Cohort, Person
from orchestrator.errors import UserError
from preprocessing.duplicates.fingerprints import signal_fingerprint
from preprocessing.recordings import Channel, Recording, SignalRef, VideoRef


def cohort(*clips: Clip, names=None) -> Cohort:
    n = 1 + max(clip.subject for clip in clips)
    people = tuple(Person(i, (names or {}).get(i, f"p{i}"), cohort="made") for i in range(n))
    return Cohort(dataset="made", name="made", class_names=("a", "b"), people=people, clips=clips, key_fingerprint="",
                  partial=False, notes=(), synthetic=False)


def heard(subject: int, path: Path, column: str | int = 0, **window) -> Clip:
    ref = SignalRef(path, path.suffix[1:], (Channel("x", column, "other", 10.0),), **window)
    return Clip(subject, 0, f"c{subject}", 0, Recording(f"r{subject}", "s", 0, "a", signal=ref))


def seen(subject: int, path: Path) -> Clip:
    return Clip(subject, 0, f"c{subject}", 0, Recording(f"r{subject}", "s", 0, "a", VideoRef(path)))


def by_path(clip: Clip) -> tuple[str, str]:
    return tuple("" if ref is None else str(ref.path) for ref in (clip.recording.video, clip.recording.signal))


@pytest.fixture
def walk(tmp_path):
    def save(name, values=None, seed=0):
        values = np.random.default_rng(seed).normal(size=100).cumsum() if values is None else values
        if name.endswith(".npy"):
            np.save(tmp_path / name, values)
        else:
            np.savetxt(tmp_path / name, values, header="x", comments="")
        return tmp_path / name

    return save


def test_only_overlapping_windows_of_identical_files_are_duplicates(walk):
    path = walk("a.npy")
    for window, other, bad in (({}, {}, True), ({"start_s": 0.0, "end_s": 5.0}, {"start_s": 4.0, "end_s": 9.0}, True),
                               ({"start_s": 0.0, "end_s": 5.0}, {"start_s": 5.0, "end_s": 10.0}, False),
                               ({"start_row": 0, "end_row": 50}, {"start_row": 49, "end_row": 99}, True),
                               ({"start_row": 0, "end_row": 50}, {"start_row": 50, "end_row": 99}, False)):
        people = cohort(heard(0, path, **window), heard(1, path, **other))
        if bad:
            with pytest.raises(UserError, match="made/p0 and made/p1 contain an identical recording"):
                duplicates.check_files(people, by_path)
            one_subject = (people.people[0], replace(people.people[1], pseudonym="p0"))
            duplicates.check_files(replace(people, people=one_subject), by_path)
        else:
            duplicates.check_files(people, by_path)


def by_content(clip: Clip) -> tuple[str, str]:
    return "", clip.recording.signal.path.read_bytes().hex()


def coarse(kind: str, rng: np.random.Generator, n: int = 10) -> np.ndarray:
    """(n,) integer beats per minute, or integer per cent with one step down, at 1 Hz."""
    if kind == "heart rate":
        return np.round(rng.integers(60, 80) + rng.normal(0, 0.4, n).cumsum())
    return float(rng.integers(96, 100)) - (np.arange(n) >= rng.integers(1, n))


@pytest.mark.parametrize("kind", ["heart rate", "SpO2"])
def test_coarse_values_that_are_equal_by_chance_are_no_duplicates(walk, kind):
    rng = np.random.default_rng(1)
    clips = [heard(p, walk(f"{p}-{c}.npy", coarse(kind, rng))) for p in range(20) for c in range(10)]
    assert list(duplicates._overlaps(cohort(*clips), by_content))  # there are equal ones
    duplicates.check_files(cohort(*clips), by_content)
    assert duplicates.shared_decoded(cohort(*clips)) == ([], True, 200)


def test_a_real_copy_among_coarse_cohorts_is_refused(walk, tmp_path):
    rng = np.random.default_rng(2)
    clips = [heard(p, walk(f"{p}-{c}.npy", coarse("heart rate", rng))) for p in range(20) for c in range(10)]
    long = coarse("heart rate", rng, 3600)  # one hour of integer heart rates is unique
    copied = [heard(20, walk("a.npy", long), start_row=0, end_row=10), heard(21, walk("b.npy", long), start_row=5, end_row=15)]
    with pytest.raises(UserError, match="made/p20 and made/p21 .*overlapping windows of one file"):
        duplicates.check_files(cohort(*clips, *copied), by_content)
    same = walk("c.npy", coarse("heart rate", rng))  # even with little information: the manifest names one file twice
    with pytest.raises(UserError, match="made/p0 and made/p1"):
        duplicates.check_files(cohort(heard(0, same), heard(1, same)), by_content)


@pytest.mark.parametrize("what", ["ten channels", "ECG", "EDA", "24-bit counts"])
def test_a_copy_is_found_after_decoding(tmp_path, what):
    rng = np.random.default_rng(3)
    t = np.arange(40) / 4
    values = {"ten channels": np.round(rng.normal(size=(10, 10)), 2), "ECG": np.round(40 * rng.normal(size=(512, 1))),
              "EDA": np.round(5 + 0.05 * rng.normal(size=(40, 1)).cumsum(0), 3),
              "24-bit counts": np.round(6e6 + 30 * t + 3 * rng.normal(size=40))[:, None]}[what]
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", values.astype(np.float32))
    np.save(tmp_path / "c.npy", values[::-1])
    channels = tuple(Channel(f"x{i}", i, "other", 4.0) for i in range(values.shape[1]))
    clips = [heard(p, tmp_path / name) for p, name in enumerate(("a.npy", "b.npy", "c.npy"))]
    clips = [replace(c, recording=replace(c.recording, signal=replace(c.recording.signal, channels=channels))) for c in clips]
    pairs, _, n_little = duplicates.shared_decoded(cohort(*clips))
    assert [(a.subject, b.subject) for a, b, _ in pairs] == [(0, 1)] and n_little == 0


def test_columns_of_one_table_belong_to_several_subjects(walk, tmp_path):
    np.save(tmp_path / "both.npy", np.random.default_rng(0).normal(size=(100, 2)))
    duplicates.check_files(cohort(heard(0, tmp_path / "both.npy", 0), heard(1, tmp_path / "both.npy", 1)), by_path)


def test_constant_or_unreadable_recordings_are_no_duplicates(walk, tmp_path):
    duplicates.check_files(cohort(heard(0, walk("c.npy", np.full(100, 2.5))), heard(1, tmp_path / "c.npy")), by_path)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    for make, name in ((heard, "broken.npy"), (seen, "broken.mp4")):
        duplicates.check_files(cohort(make(0, tmp_path / name), make(1, tmp_path / name)), by_path)
    duplicates.check_files(cohort(heard(0, walk("a.npy")), heard(1, tmp_path / "a.npy")), lambda clip: ("", "unreadable"))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(1, 8)), min_size=2, max_size=9))
def test_an_overlap_is_found_whenever_there_is_one(windows):
    clips = [heard(s, Path("x.npy"), start_s=float(a), end_s=float(a + n)) for s, a, n in windows]
    real = any(s != t and a < b + m and b < a + n for s, a, n in windows for t, b, m in windows)
    assert bool(list(duplicates._overlaps(cohort(*clips), by_path))) == real


def test_another_format_and_unit_decode_to_one_recording(walk, tmp_path):
    values = np.random.default_rng(3).normal(size=100).cumsum()
    clips = [heard(0, walk("a.csv", values), "x"), heard(1, walk("b.npy", (values * 1e-3).astype(np.float32))),
             heard(2, walk("c.npy", seed=9)), heard(3, walk("d.csv", np.full(100, 1.0)), "x"),
             heard(4, walk("e.npy", np.full(100, 1.0)))]
    pairs, whole, n_little = duplicates.shared_decoded(cohort(*clips))
    assert [(a.subject, b.subject) for a, b, _ in pairs] == [(0, 1)] and whole and n_little == 2
    assert not duplicates.shared_decoded(cohort(*clips), most_signals=2)[1]


def film(path: Path, codec: str, pictures: np.ndarray) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame(pictures.shape[2], pictures.shape[1], "yuv420p")
            for plane, size in zip(frame.planes, (picture, picture[::2, ::2], picture[1::2, ::2]), strict=True):
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, :plane.width] = size
                plane.update(rows.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_another_container_and_lossless_coding_decode_to_one_video(tmp_path):
    one, two = (np.random.default_rng(seed).integers(40, 200, (8, 48, 64)).astype(np.uint8) for seed in (0, 1))
    clips = [seen(0, film(tmp_path / "a.mkv", "ffv1", one)), seen(1, film(tmp_path / "b.avi", "ffvhuff", one)),
             seen(2, film(tmp_path / "c.mkv", "ffv1", two)), seen(3, film(tmp_path / "d.mkv", "ffv1", one * 0 + 90)),
             seen(4, film(tmp_path / "e.avi", "ffvhuff", one * 0 + 90))]
    pairs, _, _ = duplicates.shared_decoded(cohort(*clips))
    assert [(a.subject, b.subject) for a, b, _ in pairs] == [(0, 1)]


def test_fingerprints_in_sidecars_find_duplicates_of_two_subjects():
    values = np.random.default_rng(0).normal(size=(50, 2))
    sides = {s: {"prints": {f"c{s}": {"signal": signal_fingerprint(values * (1 + s)), "video": None}}} for s in (0, 1)}
    people = cohort(heard(0, Path("a.npy")), heard(1, Path("b.npy")))
    with pytest.raises(UserError, match="recording .equal after decoding"):
        duplicates.check_prints(people, sides)
    duplicates.check_prints(cohort(*people.clips, names={1: "p0"}), sides)
    sides[1]["prints"]["c1"]["signal"] = None
    duplicates.check_prints(people, sides)
