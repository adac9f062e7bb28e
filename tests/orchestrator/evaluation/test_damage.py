"""Damage: a finished file that has changed; not an unfinished one, and not one with another key."""

import pytest

from orchestrator.config.configuration import compose
from orchestrator.evaluation import damage
from orchestrator.files import storage
from orchestrator.runtime.store_lock import KEYS, clean_up_store, writing


@pytest.mark.parametrize(("spoil", "damaged"), [
    (lambda side: None, True),  # the caller found other bytes
    (lambda side: side.write_text(side.read_text()[:-5]), True),
    (lambda side: side.write_text(""), True),
    (lambda side: side.write_text(side.read_text().replace("one", "two")), True),
    (lambda side: side.write_text("[]"), True),
    (lambda side: side.unlink(), False),
    (lambda side: storage.write_json(side, storage.with_checksum({"key": "another"})), False)])
def test_a_sidecar_shows_damage(tmp_path, spoil, damaged):
    side = tmp_path / "s1.json"
    storage.write_json(side, storage.with_checksum({"key": "k", "more": "one"}))
    spoil(side)
    assert damage.is_damaged(side, "k") is damaged


def test_damage_is_reported_once_with_its_number(capsys):
    damage.warn("embed", "token files", [True, False, True])
    damage.warn("embed", "token files", [False])
    assert capsys.readouterr().out.count("\n") == 1


def test_only_unreadable_files_are_reported(tmp_path, capsys):
    storage.write_json(tmp_path / "facts.json", {})
    (tmp_path / "summary.json").write_text("{")
    (tmp_path / "lineage.json").write_bytes(b"\xff\xfe")
    said = damage.facts("loso", tmp_path)
    assert said == [f"{name} of this run was damaged and was written again." for name in ("lineage.json", "summary.json")]
    assert capsys.readouterr().out.count("is written again") == 2


@pytest.fixture
def store(tmp_path):
    """A store with temporary files of killed commands in all places."""
    for folder in ("", "private", "clips/watch-1", "encoders", "tokens/ab", "synthetic", "tensorboard"):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / ".x.json.4194305-1-abcd.tmp").write_text("half")
        (place / ".train.x.tmp" / "deep").mkdir(parents=True)
        (place / "kept.json").write_text("{}")
    for key in ("whole", "half"):
        (tmp_path / "encoders" / f"{key}.partial").mkdir()
        (tmp_path / "encoders" / f"{key}.partial" / "video-00000003.json").write_text("{}")
    (tmp_path / "encoders" / "whole").mkdir()
    storage.write_json(tmp_path / "encoders" / "whole" / "encoder.json", storage.with_checksum({"key": "whole"}))
    return tmp_path


def test_the_whole_store_is_cleaned_up(store):
    clean_up_store(compose("watch", [f"store={store}"]))
    assert not list(store.rglob(".*.tmp")) and len(list(store.rglob("kept.json"))) == 7
    assert [p.name for p in store.glob("encoders/*.partial")] == ["half.partial"], "what a training goes on from"


def test_nothing_is_cleaned_up_while_another_command_uses_the_store(store):
    config = compose("watch", [f"store={store}"])
    storage.write_json(store / "store.json", {"keys": KEYS})
    with writing(config, "embed"):
        clean_up_store(config)
    assert len(list(store.rglob(".*.tmp"))) == 14 and len(list(store.glob("encoders/*.partial"))) == 2


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    clean_up_store(compose("watch", [f"store={tmp_path / 'absent'}"]))
    assert not (tmp_path / "absent").exists()
