"""Code keys that a process caches for the next one: never those of other sources, and never required."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from orchestrator.files import code_cache, code_key
from orchestrator.files.storage import read_checked, write_checked
from tests.helpers.places import ROOT

FILTERS = "preprocessing/signals/filters.py"
ROOTS = ("preprocessing.signals.filters:butterworth",)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the packages in which Python may write compiled files."""
    for room in code_key.PACKAGES:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_key, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    code_key.forget()
    yield tmp_path
    code_key.forget()


def asked() -> str:
    """As a process that has just started would ask."""
    code_key.forget()
    return code_key.code_sha256(*ROOTS)


def kept(copy: Path) -> Path:
    return next(copy.rglob("code_keys.json"))


def test_the_second_process_takes_the_key_from_the_first(copy):
    first = asked()
    record = read_checked(kept(copy))
    assert list(record["keys"].values()) == [first] and asked() == first
    write_checked(kept(copy), {**record, "keys": dict.fromkeys(record["keys"], "as kept")})
    assert asked() == "as kept"


def test_an_edit_of_the_same_size_and_time_is_another_key(copy):
    before, path = asked(), copy / FILTERS
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace("NYQUIST_SHARE = 0.98", "NYQUIST_SHARE = 0.97"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns) and path.read_text() != text
    assert asked() != before
    path.write_text(text)
    assert asked() == before


def test_an_edit_while_a_key_is_worked_out_is_not_kept_for_others(copy, monkeypatch):
    first = code_key.sources_sha256()  # hashed before the edit, followed after it
    path = copy / FILTERS
    text = path.read_text()
    path.write_text(text.replace("NYQUIST_SHARE = 0.98", "NYQUIST_SHARE = 0.97"))
    late = code_key.code_sha256(*ROOTS)
    path.write_text(text)
    assert asked() != late and code_key.sources_sha256() == first


def test_an_editors_lock_is_no_source(copy):
    before = asked()
    (copy / "orchestrator" / ".#metrics.py").symlink_to("somebody@somewhere.1234")
    assert asked() == before


def test_another_file_changes_the_sources(copy):
    before = code_cache.sources_sha256(copy, code_key.PACKAGES)
    (copy / "models" / "another.py").write_text("")
    assert code_cache.sources_sha256(copy, code_key.PACKAGES) != before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sources": 1}', '{"keys": {}, "sources": "x", "checksum": "y"}'])
def test_what_is_kept_and_damaged_is_worked_out_again(copy, text):
    first = asked()
    kept(copy).write_text(text)
    assert asked() == first


def test_without_compiled_files_nothing_is_kept(copy, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert len(asked()) == 64 and not list(copy.rglob("code_keys.json"))
