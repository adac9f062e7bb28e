"""Files are complete or absent, keys are made of content, one command works in a folder."""

import json
import os
import subprocess
import sys

import pytest

from orchestrator.errors import UserError
from orchestrator.files import owners, storage


def test_canonical_json_is_one_text_for_one_value():
    assert storage.canonical_json({"b": 1, "a": [1.5, None, "ä"]}) == '{"a":[1.5,null,"ä"],"b":1}'
    assert storage.key_of({"a": 1, "b": 2}) == storage.key_of({"b": 2, "a": 1})
    assert storage.key_of({"a": 1}) != storage.key_of({"a": 1.5})
    assert len(storage.key_of(0)) == 16 and len(storage.key_of(0, 64)) == 64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_key_and_no_file_of_a_number_that_is_none(value, tmp_path):
    with pytest.raises(ValueError):
        storage.key_of([value])
    with pytest.raises(ValueError):
        storage.write_json(tmp_path / "x.json", [value])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    storage.write_bytes(path, b"old")
    with pytest.raises(RuntimeError), storage.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def test_a_reader_never_sees_an_incomplete_file(tmp_path, monkeypatch):
    seen = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append((path.exists(), os.path.getsize(a))), real(a, b)))
    path = tmp_path / "x"
    storage.write_bytes(path, b"0123456789", mode=0o600)
    assert seen == [(False, 10)] and path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_known_by_whatever_wrote(tmp_path):
    full = [OSError(28, "x"), OSError(122, "quota"), OSError("4000000 requested and 522176 written"),
            ValueError('Error while serializing: I/O error: No space left on device (os error 28)')]
    assert all(map(storage.disk_is_full, full))
    assert not any(map(storage.disk_is_full, [OSError(13, "x"), ValueError("requested"), OSError("os error 2")]))
    with pytest.raises(UserError, match="disk is full"):
        storage.in_new_folder(tmp_path / "x", lambda folder: (_ for _ in ()).throw(full[2]))
    with pytest.raises(UserError, match="disk is full"), storage.atomic_path(tmp_path / "y"):
        raise full[2]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UserError, match="disk is full"), storage.atomic_path(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match="broken"), storage.atomic_path(tmp_path / "x"):
        raise OSError(5, "broken")


def test_need_space_says_how_much(tmp_path):
    storage.need_space(tmp_path / "not" / "there", 1, "This")
    with pytest.raises(UserError, match=r"^This needs about 1000000000.00 GB but .* store=DIR"):
        storage.need_space(tmp_path, 10**18, "This")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_json_is_an_absent_one(tmp_path):
    path = tmp_path / "x.json"
    assert storage.read_json(path) is None
    for damage in (b"", b'{"a": 1', b"\xff\xfe"):
        path.write_bytes(damage)
        assert storage.read_json(path) is None


def test_a_checksum_shows_every_change(tmp_path):
    path = tmp_path / "x.json"
    storage.write_json(path, storage.with_checksum({"a": 0.1, "people": ["x"]}))
    assert storage.read_checked(path) == storage.with_checksum({"people": ["x"], "a": 0.1})
    changed = json.loads(path.read_text())
    changed["a"] = 0.2
    path.write_text(json.dumps(changed))
    assert storage.read_checked(path) is None
    path.write_text("[1]")
    assert storage.read_checked(path) is None


def test_clean_up_removes_only_temporaries(tmp_path):
    (tmp_path / ".a.tmp").write_text("")
    (tmp_path / ".b.tmp").mkdir()
    (tmp_path / ".b.tmp" / "x").write_text("")
    (tmp_path / "c.tmp").write_text("")
    (tmp_path / ".lock").write_text("")
    storage.remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", "c.tmp"]
    storage.remove_temporaries(tmp_path / "absent")


def test_clean_up_keeps_the_files_of_living_processes(tmp_path, monkeypatch):
    """Another command may be at work beside this one, and one of another machine on the same disk."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    tags = {"mine": owners.tag(), "zombie": owners.tag().replace(str(os.getpid()), str(ended.pid), 1)}
    ended.wait()
    mine = owners.tag().split("-")
    tags |= {"again": f"{mine[0]}-{int(mine[1]) + 1}-{mine[2]}",  # the process id was given to another since
             "far": f"{mine[0]}-{mine[1]}-abcdef", "old": "7-7-abcdef", "none": "x"}
    for name, tag in tags.items():
        (tmp_path / f".{name}.json.{tag}.0a1b.tmp").write_text("")
        (tmp_path / f".{name}.{tag}.0a1b.tmp").mkdir()
    for path in tmp_path.glob(".old*"):
        os.utime(path, (0, 0))
    storage.remove_temporaries(tmp_path)
    assert {path.name.split(".")[1] for path in tmp_path.iterdir()} == {"mine", "far"}


@pytest.mark.parametrize("name", ["x.json", "s1-a.b.parquet", "a.12-34-abcdef.b.json"])
def test_a_writers_own_names_carry_its_tag(tmp_path, name):
    with storage.atomic_path(tmp_path / name) as temporary:
        temporary.write_text("x")
        storage.remove_temporaries(tmp_path)
        assert owners.is_living(temporary) and temporary.exists()
    assert os.listdir(tmp_path) == [name]

    def fill(folder):
        storage.remove_temporaries(tmp_path)
        (folder / "x").write_text("x")

    storage.in_new_folder(tmp_path / "folder", fill)
    assert (tmp_path / "folder" / "x").exists()


def test_a_new_folder_is_complete_or_absent(tmp_path):
    path = tmp_path / "new"
    with pytest.raises(RuntimeError):
        storage.in_new_folder(path, lambda folder: (_ for _ in ()).throw(RuntimeError()))
    assert list(tmp_path.iterdir()) == []
    storage.in_new_folder(path, lambda folder: (folder / "x").write_text("1"))
    assert (path / "x").read_text() == "1" and os.listdir(tmp_path) == ["new"]


HOLDER = """
import sys, time
from pathlib import Path
from orchestrator.files.storage import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_command_a_folder_and_a_dead_one_holds_nothing(tmp_path):
    lock = tmp_path / "run" / ".lock"
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="Another command is working on"), storage.exclusive(lock):
            pass
        waited = []

        def end():  # what the one who waits says, and here: the end of the one it waits for
            waited.append(1)
            other.kill()

        with storage.exclusive(lock, end):
            assert waited == [1]
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    with storage.exclusive(lock):
        pass


class TestHashCache:
    def test_remembers_by_stamp_and_sees_a_change(self, tmp_path, monkeypatch):
        file, path = tmp_path / "x", tmp_path / "hashes.json"
        file.write_bytes(b"one")
        cache = storage.HashCache(path)
        first = cache.sha256(file)
        cache.save()
        assert path.stat().st_mode & 0o777 == 0o600  # it names raw paths
        monkeypatch.setattr(storage, "file_sha256", lambda p: pytest.fail("read again"))
        assert storage.HashCache(path).sha256(file) == first
        monkeypatch.undo()
        file.write_bytes(b"two")
        assert storage.HashCache(path).sha256(file) == storage.file_sha256(file) != first

    @pytest.mark.parametrize("damage", ["", "[]", '{"PATH": [1, 2]}', '{"PATH": 3}', "null"])
    def test_a_damaged_cache_is_an_empty_one(self, tmp_path, damage):
        file, path = tmp_path / "x", tmp_path / "hashes.json"
        file.write_bytes(b"one")
        path.write_text(damage.replace("PATH", str(file)))
        assert storage.HashCache(path).sha256(file) == storage.file_sha256(file)

    def test_an_unchanged_cache_is_not_written(self, tmp_path):
        cache = storage.HashCache(tmp_path / "hashes.json")
        cache.save()
        assert list(tmp_path.iterdir()) == []


def test_a_cache_that_may_not_read_knows_what_another_has_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    first = storage.HashCache(tmp_path / "hashes.json")
    known = first.sha256(tmp_path / "a")
    first.save()
    second = storage.HashCache(tmp_path / "hashes.json", read=False)
    assert second.sha256(tmp_path / "a") == known
    with pytest.raises(OSError, match="remembered"):
        second.sha256(tmp_path / "b")
