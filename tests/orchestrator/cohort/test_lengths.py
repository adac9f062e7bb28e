"""Durations and sampling rates of clips before preprocessing, of signals and videos."""

import numpy as np
import pytest

from orchestrator.cohort.cohort import Clip
from orchestrator.cohort.lengths import by_class, check_rates, measure
from orchestrator.errors import UserError
from preprocessing.clip import check_same_duration
from preprocessing.errors import ClipError
from preprocessing.recordings import Channel, Recording, SignalRef
from preprocessing.signals.signals import SignalOptions, seconds_of

OPTIONS = SignalOptions()


def clips(tmp_path, lengths, fs=10.0, people=2, form="npy", **window) -> list[Clip]:
    """One file per clip of the given durations, assigned to subjects in turn."""
    made = []
    for i, seconds in enumerate(lengths):
        path, x = tmp_path / f"{i}.{form}", np.sin(np.arange(round(seconds * 10.0)))
        np.save(path, x) if form == "npy" else np.savetxt(path, x, header="x", comments="")
        rate = fs[i] if isinstance(fs, list) else fs
        ref = SignalRef(path, form, (Channel("x", 0 if form == "npy" else "x", "other", rate),), **window)
        made.append(Clip(i % people, i, f"s{i}", i % 2, Recording("p", f"s{i}", i % 2, "a", signal=ref)))
    return made


def odd(made: list[Clip], options: SignalOptions = OPTIONS) -> set[str]:
    return {sample for _, sample in measure(made, options).odd}


@pytest.mark.parametrize("form", ["npy", "csv"])
def test_clips_far_from_the_usual_duration_are_odd(tmp_path, form):
    whole = [6.0] * 8
    assert odd(clips(tmp_path, whole, form=form)) == set()
    assert odd(clips(tmp_path, [*whole, 0.1, 3.0, 12.0, 5.0, 7.5], form=form)) == {"s8", "s9", "s10"}
    assert "3 of 13 clips last 0.1 to 12 s, but the usual duration is 6 s" in \
        measure(clips(tmp_path, [*whole, 0.1, 3.0, 12.0, 5.0, 7.5]), OPTIONS).sentence()


def test_a_wrong_rate_of_one_subject_is_odd(tmp_path):
    made = clips(tmp_path, [6.0] * 12, fs=[20.0 if i % 4 == 3 else 10.0 for i in range(12)], people=4)
    assert odd(made) == {"s3", "s7", "s11"}


def test_clips_of_many_durations_have_no_usual_one(tmp_path):
    made = clips(tmp_path, [3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 0.2])
    assert odd(made) == {"s6"} and "0.2 s" in measure(made, OPTIONS).sentence()
    assert "resampled" in measure(made[:-1], OPTIONS).sentence()
    assert odd(made, SignalOptions(seconds=3.0)) == {"s6"}
    assert measure(made[:-1], SignalOptions(seconds=3.0)).sentence() == ""


def test_declared_windows_are_kept_and_no_label_is_read(tmp_path):
    declared = clips(tmp_path, [30.0] * 3, start_s=0.0, end_s=30.0)
    made = [*clips(tmp_path, [6.0] * 8), *declared]
    assert odd(made) == set()
    short = clips(tmp_path, [6.0] * 8 + [1.0])
    flipped = [Clip(c.subject, c.index, c.sample, 1 - c.label, c.recording) for c in reversed(short)]
    assert odd(short) == odd(flipped) == {"s8"}


@pytest.mark.parametrize("far", [60.0, 3.0, 0.5])
def test_a_duration_that_half_of_the_subjects_have_is_a_design(tmp_path, far):
    def of(holders: int, people: int = 8) -> set[str]:  # five usual clips for each subject, then one of another duration
        return odd(clips(tmp_path, [10.0] * 5 * people + [far * (1 + 0.01 * i) for i in range(holders)], people=people))

    assert of(8) == of(5) == of(4) == set()
    assert of(3) == {"s40", "s41", "s42"} and of(1) == {"s40"}
    assert of(1, people=2) == {"s10"} and of(2, people=2) == set()  # one subject alone is no design
    assert of(1, people=1) == {"s5"}


def test_far_lengths_that_are_not_alike_are_no_design(tmp_path):
    assert len(odd(clips(tmp_path, [10.0] * 20 + [0.5, 1.5, 3.0, 4.5], people=4))) == 4


def test_a_wrong_rate_of_half_of_the_subjects_is_no_design(tmp_path):
    """All clips of these subjects have this duration, and none of the others."""
    made = clips(tmp_path, [10.0] * 8 * 3, people=8, fs=[10.0 if i % 8 < 4 else 40.0 for i in range(24)])
    fewer = [c for c in made if c.subject < 4 or c.sample < "s2"]
    assert odd(fewer) == {c.sample for c in fewer if c.subject >= 4}


def test_durations_that_reveal_the_class_are_reported():
    assert by_class({"rest": [60.0] * 8, "pain": [10.0] * 40}) == (
        "Clips of class rest last 60 s, of pain 10 s: a model can separate these classes by duration; use one window for all "
        "(start_s, end_s, or signal.seconds).")
    three = by_class({"a": [5.0, 5.1], "b": [8.0, 8.1], "c": [8.05, 8.0, 30.0]})
    assert three.startswith("Clips of class b last 8 to 8.1 s, of c 8 to 30 s, of a 5 to 5.1 s: a model can separate")
    assert by_class({"a": [5.0] * 9, "b": [5.2] * 9}) == ""  # rounding
    assert by_class({"a": [3.0, 5.0, 8.0, 13.0], "b": [4.0, 6.0, 9.0, 12.0]}) == ""  # mixed
    assert by_class({"a": [], "b": [5.0]}) == by_class({}) == ""


def test_durations_are_known_without_reading_the_signals(tmp_path):
    (one,) = clips(tmp_path, [6.0])
    assert seconds_of(one.recording.signal) == 6.0
    assert seconds_of(clips(tmp_path, [6.0], start_s=2.0)[0].recording.signal) == 4.0
    assert seconds_of(clips(tmp_path, [6.0], start_row=2, end_row=12)[0].recording.signal) == 1.0
    (tmp_path / "0.npy").write_bytes(b"no array")
    assert seconds_of(one.recording.signal) is None and odd([one]) == set()


@pytest.mark.parametrize("mode", ["crop", "full"])
@pytest.mark.parametrize("rates", [[100.0, 200.0], [50.0, 51.5], [4.0, 64.0], [256.0, 250.0]])
def test_time_steps_have_one_duration(tmp_path, mode, rates):
    made = clips(tmp_path, [6.0, 6.0], fs=rates)
    with pytest.raises(UserError, match="rates .* Hz.*signal.window_mode=resample"):
        check_rates(made, SignalOptions(window_mode=mode))
    check_rates(made, OPTIONS)
    check_rates(clips(tmp_path, [6.0, 6.0], fs=[49.9, 50.2]), SignalOptions(window_mode=mode))  # estimated for each subject


@pytest.mark.parametrize(("n_frames", "fps", "seconds", "fs", "fits"), [
    (137, 25.0, 5.5, 512.0, True), (138, 25.0, 5.5, 512.0, True), (250, 25.0, 10.0, 50.1, True), (238, 25.0, 10.0, 50.1, True),
    (75, 25.0, 1.5, 500.0, False), (150, 25.0, 3.0, 250.0, False), (38, 25.0, 3.0, 250.0, False), (75, 25.0, 2.4, 250.0, False),
    (75, 25.0, 0.004, 250.0, False), (75, 25.0, 3.0, 1.0, True), (0, 25.0, 0.0, 1.0, True), (75, 0.0, 9.0, 1.0, True)])
def test_a_video_lasts_as_long_as_its_signals(n_frames, fps, seconds, fs, fits):
    if fits:
        check_same_duration(n_frames / fps if fps else 0.0, fps, seconds, fs)
    else:
        with pytest.raises(ClipError, match="other_durations: The video lasts"):
            check_same_duration(n_frames / fps if fps else 0.0, fps, seconds, fs)
