"""Folders that cannot be written are found before anything is done. Tests may run as root, whom no mode stops: refusals of
the file system are injected where the system makes them."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from orchestrator.config.configuration import compose
from orchestrator.files import storage
from orchestrator.runtime import places
from orchestrator.runtime.finding import OK, STOP
from tests.helpers.roads import snapshot

pytestmark = pytest.mark.medium


def refuse(monkeypatch, number: int, below: Path) -> None:
    """From here on the file system says no to new files in this folder and below it."""
    real = tempfile.mkstemp

    def mkstemp(*words, dir=None, **more):
        if Path(dir).is_relative_to(below):
            raise OSError(number, os.strerror(number), str(dir))
        return real(*words, dir=dir, **more)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    (tmp_path / "a").mkdir()
    before = snapshot(tmp_path)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "b" / "c" / "d"):
        assert places.trouble(folder) == ""
    assert snapshot(tmp_path) == before and sorted(p.name for p in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EPERM, errno.ESTALE])
def test_errors_of_the_file_system_are_reported(tmp_path, monkeypatch, number):
    refuse(monkeypatch, number, tmp_path)
    for folder in (tmp_path, tmp_path / "new" / "store"):
        assert os.strerror(number) in places.trouble(folder) and str(tmp_path) in places.trouble(folder)
    found = places.store(compose("watch", [f"store={tmp_path / 'store'}"]))
    assert found.state == STOP and "store=DIR" in found.fix and found.sentence().count("\n") == 0
    (found,) = places.run_folders([tmp_path / "run"])
    assert found.state == STOP and "run.dir=DIR" in found.fix


def test_a_full_disk_takes_a_name_and_no_bytes():
    """A real one: what is opened can still not be written."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", lambda **words: (os.open("/dev/full", os.O_WRONLY), "/nowhere/probe"))
        assert places.trouble(Path("/")) != ""


def test_files_and_links_where_folders_belong(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, said in (("file", "not a folder"), ("file/store", "not a folder"), ("gone", "broken link"), ("circle/x", "")):
        text = places.trouble(tmp_path / name)
        assert text and said in text, name


@pytest.mark.parametrize("part", ["private", "clips", "tokens", "encoders", "synthetic"])
def test_every_part_of_a_store_is_tried(tmp_path, monkeypatch, part):
    (tmp_path / part).mkdir()
    config = compose("watch", [f"store={tmp_path}"])
    (tmp_path / part).chmod(0o700)
    assert places.store(config).state == OK
    refuse(monkeypatch, errno.EACCES, tmp_path / part)
    found = places.store(config)
    assert found.state == STOP and str(tmp_path / part) in found.text


def test_a_part_that_is_a_file_and_a_lock_that_is_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "clips").write_text("")
    assert places.store(compose("watch", [f"store={tmp_path / 'a'}"])).state == STOP
    (tmp_path / "b" / ".lock").mkdir(parents=True)
    assert places.store(compose("watch", [f"store={tmp_path / 'b'}"])).state == STOP
    assert places.run_folders([tmp_path / "b"])[0].state == STOP
    (tmp_path / "c" / "ledger").parent.mkdir()
    (tmp_path / "c" / "ledger").write_text("")
    assert places.run_folders([tmp_path / "c"])[0].state == STOP


def test_the_private_folder_and_the_lock_of_another_account(tmp_path, monkeypatch):
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / ".lock").write_text("")
    config = compose("watch", [f"store={tmp_path}"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 4711)
        assert "another account" in places.store(config).text
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith(".lock"))
    assert ".lock" in places.store(config).text

def test_the_clean_up_of_another_command_leaves_the_probe(tmp_path, monkeypatch):
    real = os.rename

    def swept(*names):
        storage.remove_temporaries(tmp_path)
        real(*names)
        storage.remove_temporaries(tmp_path)
        assert os.path.exists(names[1])

    monkeypatch.setattr(os, "rename", swept)
    assert places.trouble(tmp_path) == "" and not list(tmp_path.iterdir())
