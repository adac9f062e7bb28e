"""The lint that keeps licensed data out: it finds what it should, in a repository made for it, and nothing in ours."""

import hashlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocessing.signals import watch_file
from tests.helpers.places import ROOT

SUBJECT = "{:06d}_{}_{:02d}".format(990101, "m", 33)  # an id of BioVid's form, never written out


@pytest.fixture(scope="module")
def lint():
    spec = importlib.util.spec_from_file_location("provenance", ROOT / ".ci" / "provenance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    (tmp_path / "docs" / "reference" / "provenance.md").write_text("- `known.npz`: made here\n")
    return tmp_path


def check(lint, root: Path) -> list[str]:
    return lint.problems(lint.tracked(root), root)


def array(path: Path, size: int) -> None:
    """A file of exactly `size` bytes that begins as an array archive does."""
    np.savez(path, x=np.zeros(8))
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))


def test_a_clean_repository_passes(lint, repository):
    (repository / "notes.md").write_text("091123_x_45 and 12345_w_21 are not of that form\n")
    array(repository / "small.npz", 64 * 1024)
    array(repository / "known.npz", 65 * 1024)
    assert check(lint, repository) == []


@pytest.mark.parametrize("content", [
    SUBJECT.encode(), f"path/{SUBJECT}/{SUBJECT}-PA4-012_bio.csv".encode(), b"\x00\xff" + SUBJECT.encode() + b"\x00"])
@pytest.mark.parametrize("added", [True, False])
def test_a_planted_subject_id_is_found(lint, repository, content, added):
    """Committed, or only lying there and not ignored: the next `git add` would take it."""
    (repository / "innocent.bin").write_bytes(content)
    if added:
        subprocess.run(["git", "add", "innocent.bin"], cwd=repository, check=True)
    (found,) = check(lint, repository)
    assert found.startswith("innocent.bin:") and "subject id" in found


def test_the_file_of_published_lists_may_hold_ids(lint, repository):
    (repository / "preprocessing" / "datasets").mkdir(parents=True)
    for name in ("biovid_lists.py", "other.py"):
        (repository / "preprocessing" / "datasets" / name).write_text(f'NAMES = ["{SUBJECT}"]\n')
    assert [line.partition(":")[0] for line in check(lint, repository)] == ["preprocessing/datasets/other.py"]


@pytest.mark.parametrize("name", [f"{SUBJECT}-PA4-012.txt", f"deep/{SUBJECT}/notes.md"])
def test_a_subject_id_in_a_name_is_found(lint, repository, name):
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("innocent")
    (found,) = check(lint, repository)
    assert found.startswith(f"{name}:") and "in its name" in found


def test_every_kind_of_recording_that_is_read_is_known(lint):
    from preprocessing.datasets import manifest
    from preprocessing.video import video

    containers = {"mov", "mp4", "avi", "mkv", "webm", "mpeg", "ts", "asf", "ogg", "flv", "h264", "hevc", "m4v", "mjpeg", "gif",
                  "mxf", "wav", "mp3", "flac", "aac"}
    assert video.IMAGE_SUFFIXES | {f".{name}" for name in (*containers, *manifest.FORMATS)} <= lint.MEDIA
    assert {".bmp", ".xlsx", ".h5", ".hdf5", ".feather", ".arrow", ".zip", ".gz", ".edf", ".json", ".jsonl"} < lint.MEDIA


@pytest.mark.parametrize("name", ["planted.npz", "planted.PNG", "deep/er/planted.csv", "planted.pt", "planted.mkv", "a.csv.gz"])
def test_a_planted_array_above_64_kb_is_found(lint, repository, name):
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    array(repository / "x.npz", 65 * 1024)
    (repository / "x.npz").rename(repository / name)
    (found,) = check(lint, repository)
    assert found.startswith(f"{name}: {65 * 1024} bytes")


def test_a_line_for_another_file_is_no_line(lint, repository):
    array(repository / "unknown.npz", 65 * 1024)  # ends as `known.npz` does
    assert len(check(lint, repository)) == 1


def test_what_git_ignores_is_not_looked_at(lint, repository):
    (repository / ".gitignore").write_text("store/\n")
    (repository / "store").mkdir()
    (repository / "store" / "a.txt").write_text(SUBJECT)
    assert check(lint, repository) == []


def test_a_name_with_odd_characters_is_looked_at(lint, repository):
    (repository / "a b\nö.txt").write_text(SUBJECT)
    assert len(check(lint, repository)) == 1


def test_as_a_command_it_passes_here():
    done = subprocess.run([sys.executable, ROOT / ".ci" / "provenance.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_pages_hashes_are_true():
    """Short hashes of committed files, and whole ones of what the code checks at run time."""
    from preprocessing.datasets import watch
    from preprocessing.face import weights

    page = (ROOT / "docs" / "reference" / "provenance.md").read_text()
    lines = re.findall(r"^- `(tests/golden/\S+?)`.*?sha256 `([0-9a-f]{8})…([0-9a-f]{4})`", page, re.M | re.S)
    assert len(lines) == 3
    for name, head, tail in lines:
        digest = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
        assert digest.startswith(head) and digest.endswith(tail), name
    for name, digest in {**weights.SHA256, watch.FILE: watch_file.SHA256}.items():
        assert re.search(rf"`{re.escape(name)}`.*`{digest}`", page), name
    import skimage

    picture = Path(skimage.__file__).parent / "data" / "astronaut.png"
    assert f"`{hashlib.sha256(picture.read_bytes()).hexdigest()}`" in page
