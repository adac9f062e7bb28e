"""Which study a run was made of: marks that follow the content of recordings and give nobody away."""

import hashlib
from dataclasses import replace

from orchestrator.cohort import Cohort, Person
from orchestrator.config import compose
from orchestrator.folds import make_plan
from orchestrator.study import marks, record, same_recordings

THREE = tuple(Person(i, f"s{i}") for i in range(3))
PEOPLE = Cohort("made", "made", ("a", "b"), THREE, (), "", False, (), False, secret="a-secret")
HASHES = {i: {f"c{i}{k}": ("", f"{i}{k}") for k in range(2)} for i in range(3)}


def test_a_mark_follows_the_content_of_every_file():
    plain = marks(PEOPLE, HASHES)
    assert set(plain) == {"s0", "s1", "s2"} and all(set(own) == {"signals"} for own in plain.values())
    assert len({own["signals"] for own in plain.values()}) == 3 and plain == marks(PEOPLE, HASHES)
    changed = marks(PEOPLE, HASHES | {1: {**HASHES[1], "c11": ("", "other")}})
    assert [person for person in plain if plain[person] != changed[person]] == ["s1"]


def test_a_mark_cannot_be_made_without_the_key():
    ours = marks(PEOPLE, HASHES)["s0"]["signals"]
    assert ours != marks(replace(PEOPLE, secret="another"), HASHES)["s0"]["signals"]
    assert ours != hashlib.sha256(b"c00 00\nc01 01").hexdigest()[:16] and "a-secret" not in repr(PEOPLE)


def test_what_is_not_read_or_not_there_has_no_mark():
    hashes = {0: {"c": ("film", "")}, 1: {"c": ("", "unreadable")}, 2: {"c": ("another", "signal")}}
    found = marks(PEOPLE, hashes)
    assert {person: set(own) for person, own in found.items()} == {"s0": {"video"}, "s2": {"video", "signals"}}
    assert same_recordings(found["s0"], found["s2"]) is False and same_recordings(found["s0"], {}) is None
    assert same_recordings({"video": "1", "signals": "2"}, {"video": "other", "signals": "2"}) is True


def test_somebody_in_two_data_sets_has_one_mark():
    twice = replace(PEOPLE, people=(Person(0, "s0"), Person(1, "s0")))
    assert set(marks(twice, {0: {"a": ("", "1")}, 1: {"b": ("", "2")}})) == {"s0"}


def test_the_record_names_scale_refit_and_settings():
    people = [Person(i, f"s{i}") for i in range(9)]
    network = compose("watch", ["scale=subject_z"])
    found = record(network, make_plan(network, people), PEOPLE, HASHES)
    assert (found["scale"], found["refit"]) == ("subject_z", True) and "nine of these ten" in found["settings"]
    ridge = compose("watch", ["model=ridge"])
    assert {**record(ridge, make_plan(ridge, people), PEOPLE, {}), "recordings": 0} == {
        "recordings": 0, "scale": "train_z", "refit": False, "settings": None}
