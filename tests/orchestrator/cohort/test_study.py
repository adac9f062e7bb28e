"""Which study a run used: marks depend on the content of recordings and do not reveal subjects."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.cohort.cohort import Clip, Cohort, Person
from orchestrator.cohort.study import KEPT, in_one, marks, record, same_recordings, some_differ
from orchestrator.config.configuration import compose
from orchestrator.plan.folds import make_plan
from preprocessing.recordings import Recording, SignalRef

THREE = tuple(Person(i, f"s{i}") for i in range(3))
PEOPLE = Cohort(dataset="made", name="made", class_names=("a", "b"), people=THREE, clips=(), key_fingerprint="", partial=False,
                notes=(), synthetic=False, secret="a-secret")
HASHES = {i: {f"c{i}{k}": ("", f"{i}{k}") for k in range(2)} for i in range(3)}


def test_a_mark_follows_the_content_of_its_file():
    plain = marks(PEOPLE, HASHES)
    assert set(plain) == {"s0", "s1", "s2"} and all(set(own) == {"signals"} for own in plain.values())
    assert len({mark for own in plain.values() for mark in own["signals"]}) == 9 and plain == marks(PEOPLE, HASHES)
    changed = marks(PEOPLE, HASHES | {1: {**HASHES[1], "c11": ("", "other")}})
    assert [person for person in plain if plain[person] != changed[person]] == ["s1"]
    assert same_recordings(plain["s1"], changed["s1"]) is True and some_differ(plain["s1"], changed["s1"])
    assert same_recordings(plain["s1"], plain["s2"]) is False and not some_differ(plain["s1"], plain["s1"])


def test_a_mark_cannot_be_made_without_the_key():
    one = marks(PEOPLE, HASHES)["s0"]["signals"][0]
    assert one not in marks(replace(PEOPLE, secret="another"), HASHES)["s0"]["signals"]
    assert one not in [hashlib.sha256(text).hexdigest()[:12] for text in (b"00", b"01", b"\n00", b"\n01")]
    assert "a-secret" not in repr(PEOPLE)


def test_what_is_not_read_or_not_there_has_no_mark():
    hashes = {0: {"c": ("film", "")}, 1: {"c": ("", "unreadable")}, 2: {"c": ("another", "signal")}}
    found = marks(PEOPLE, hashes)
    assert {person: set(own) for person, own in found.items()} == {"s0": {"video"}, "s2": {"video", "signals"}}
    assert same_recordings(found["s0"], found["s2"]) is False and same_recordings(found["s0"], {}) is None
    assert same_recordings({"video": ["1"], "signals": ["2"]}, {"video": ["other"], "signals": ["2"]}) is True


def test_older_marks_compare_with_each_other_but_not_with_newer_ones():
    old, other, new = {"signals": "1"}, {"signals": "2"}, {"signals": ["1"]}
    assert same_recordings(old, dict(old)) is True and same_recordings(old, other) is False
    assert same_recordings(old, new) is None and same_recordings(new, old) is None


@pytest.mark.parametrize("kept", [0.5, 0.75, 0.98])
def test_a_subject_is_recognised_by_some_of_many_clips(kept):
    whole = {0: {f"c{i}": ("", f"file {i}") for i in range(400)}}
    ours = marks(PEOPLE, whole)["s0"]
    assert len(ours["signals"]) == KEPT + 1
    for seed in range(50):
        chosen = np.random.default_rng(seed).choice(400, int(400 * kept), replace=False)
        theirs = marks(PEOPLE, {0: {f"renamed {i}": ("", f"file {i}") for i in chosen}})["s0"]
        assert same_recordings(ours, theirs) is True and some_differ(ours, theirs)
    stranger = marks(PEOPLE, {0: {f"c{i}": ("", f"another {i}") for i in range(400)}})["s0"]
    assert same_recordings(ours, stranger) is False


def test_a_file_that_several_subjects_share_marks_its_parts():
    """One archive (as in the data set watch) or table of all subjects: two of its subjects are not the same."""
    def cohort(rows):
        files = [SignalRef(Path("all.npz"), "watch", (), item=i) for i in range(len(rows))]
        clips = tuple(Clip(person, i, f"x{i}", 0, Recording("r", f"r{i}", 0, "a", None, files[i]))
                      for i, person in enumerate(rows))
        hashes = {p: {f"x{i}": ("", "archive") for i, q in enumerate(rows) if q == p} for p in set(rows)}
        return replace(PEOPLE, clips=clips), hashes

    whole = marks(*cohort([0, 0, 1, 1, 2]))
    assert same_recordings(whole["s0"], whole["s1"]) is False and same_recordings(whole["s1"], whole["s2"]) is False
    assert same_recordings(whole["s0"], marks(*cohort([0, 0, 1, 1]))["s0"]) is True
    fewer = marks(*cohort([0, 1, 1]))  # of the first a clip was left out; here the numbers of the parts move on
    assert same_recordings(whole["s0"], fewer["s0"]) is True and some_differ(whole["s0"], fewer["s0"])


def test_a_subject_in_two_data_sets_has_the_marks_of_both():
    twice = replace(PEOPLE, people=(Person(0, "s0"), Person(1, "s0")))
    found = marks(twice, {0: {"a": ("", "1")}, 1: {"b": ("", "2")}})
    assert set(found) == {"s0"} and len(found["s0"]["signals"]) == 3
    assert in_one([found["s0"], {"video": ["x"]}, found["s0"]]) == {"signals": sorted(found["s0"]["signals"]), "video": ["x"]}


def test_the_record_names_scale_refit_and_settings():
    people = [Person(i, f"s{i}") for i in range(9)]
    network = compose("watch", ["scale=subject_z"])
    found = record(network, make_plan(network, people), PEOPLE, HASHES)
    assert (found["scale"], found["refit"]) == ("subject_z", True) and "nine of these ten" in found["settings"]
    ridge = compose("watch", ["model=ridge"])
    assert {**record(ridge, make_plan(ridge, people), PEOPLE, {}), "recordings": 0} == {
        "recordings": 0, "scale": "train_z", "refit": False, "settings": None}
