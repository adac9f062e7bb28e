"""The synthetic tree: exactly BioVid's layout, complete or absent, same arguments, same files."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from preprocessing.datasets.registry import load
from preprocessing.errors import InputError
from preprocessing.synthetic import cohort as synthetic
from preprocessing.synthetic import tree as synthetic_tree
from preprocessing.synthetic.__main__ import main
from preprocessing.synthetic.people import LEVELS, draw_people, session
from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
SUBJECT = re.compile(r"^\d{6}" + r"_[mw]_" + r"\d{2}$")
HEADER = "time gsr ecg emg_trapezius emg_corrugator emg_zygomaticus".split()
SMALL = {"subjects": 2, "clips_per_level": 2, "levels": ("BL1", "PA4"), "size": (96, 72), "jobs": 1}


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def table(path: Path) -> tuple[list[str], np.ndarray]:
    lines = path.read_text().splitlines()
    return lines[0].split("\t"), np.array([line.split("\t") for line in lines[1:]], dtype=float)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Two subjects, two levels, two clips each, with (tiny) videos."""
    return synthetic.generate(tmp_path_factory.mktemp("synthetic") / "tree", **SMALL)


@pytest.fixture(scope="module")
def part_b(tmp_path_factory) -> Path:
    """Part B with all five levels, signals only."""
    out = tmp_path_factory.mktemp("synthetic") / "PartB"
    return synthetic.generate(out, part="B", subjects=1, clips_per_level=3, jobs=1, videos=False)


def test_layout(tree):
    lines = [line.split("\t") for line in (tree / "starting_point" / "samples.csv").read_text().splitlines()]
    assert lines[0] == "subject_id subject_name class_id class_name sample_id sample_name".split()
    rows = lines[1:]
    assert len(rows) == 8 and len({row[4] for row in rows}) == 8
    names = set()
    for _, subject, class_id, class_name, _, sample in rows:
        assert SUBJECT.match(subject) and subject.startswith("99")
        assert LEVELS[int(class_id)] == class_name
        assert re.fullmatch(rf"{subject}-{class_name}-\d{{3}}", sample)
        names |= {f"biosignals_{kind}/{subject}/{sample}_bio.csv" for kind in ("raw", "filtered")}
        names.add(f"video/{subject}/{sample}.mp4")
    assert set(files(tree)) == names | {"starting_point/samples.csv", "SYNTHETIC.json"}
    mark = json.loads((tree / "SYNTHETIC.json").read_text())
    assert mark["expected"]["subjects"] == 2 and mark["expected"]["clips"] == 8
    assert mark["parameters"]["effect"] == 1.0 and mark["cohort"] == "synthetic"


@pytest.mark.parametrize("part", ["A", "B"])
def test_signal_tables(part, tree, part_b):
    root = tree if part == "A" else part_b
    for kind in ("raw", "filtered"):
        paths = sorted((root / f"biosignals_{kind}").rglob("*_bio.csv"))
        for path in paths[:4]:
            header, values = table(path)
            assert header == HEADER and values.shape == (2816, 6) and np.isfinite(values).all()
            step = np.diff(values[:, 0])
            assert (values[:, 0] == np.round(values[:, 0])).all() and (step > 0).all()
            assert 5.49e6 < values[-1, 0] < 5.5e6 and 50 < step.std() < 500  # jitter
            assert 0.05 <= values[:, 1].min() and values[:, 1].max() < 60
            facial = values[:, 4:]
            assert (facial == 0).all() if part == "A" else (facial.std(0) > 0).all()
            quiet = np.quantile(np.abs(values[:, 3]), 0.1)
            assert quiet < 1e-20 if kind == "filtered" else quiet > 0.01  # gated between bursts, or not


def test_the_biovid_loader_reads_it(tree):
    cohort = load("biovid_a", tree)
    assert cohort.synthetic and cohort.complete and cohort.cohort == "synthetic"
    assert len(cohort.subjects) == 2 and len(cohort.recordings) == 8
    assert Counter(r.label_name for r in cohort.recordings) == {"BL1": 4, "PA4": 4}
    assert all(r.video and r.signal for r in cohort.recordings)


def test_clip_numbers():
    person = draw_people(1, seed=3)[0]
    clips = session(person, 20, 1.0, LEVELS)
    baseline = [c.number for c in clips if c.level == "BL1"]
    pain = [c.number for c in clips if c.level != "BL1"]
    assert baseline == list(range(81, 101)) and pain == list(range(1, 81))  # each in the order of the session
    assert len({c.level for c in clips[:10]}) > 2  # levels are interleaved
    many = session(person, 25, 1.0, LEVELS)
    assert len({c.number for c in many}) == len(many)  # more clips than BioVid has: still no number twice


def test_fewer_levels_do_not_change_the_other_clips():
    person = draw_people(1, seed=3)[0]
    everything = {c.name: c for c in session(person, 4, 1.0, LEVELS)}
    two = {c.name: c for c in session(person, 4, 1.0, ("BL1", "PA4"))}
    assert len(two) == 8 and all(everything[name] == clip for name, clip in two.items())


def test_same_arguments_same_bytes_whatever_the_jobs(tree, tmp_path):
    again = synthetic.generate(tmp_path / "again", **{**SMALL, "jobs": 2})
    assert files(again) == files(tree)
    other = synthetic.generate(tmp_path / "other", **SMALL, seed=1, videos=False)
    ours = {name.split("-", 1)[1]: data for name, data in files(tree).items() if name.startswith("biosignals_raw")}
    theirs = {name.split("-", 1)[1]: data for name, data in files(other).items() if name.startswith("biosignals_raw")}
    assert not set(ours.values()) & set(theirs.values())


def test_a_complete_tree_is_kept_and_a_damaged_one_is_written_again(tmp_path):
    arguments = {**SMALL, "subjects": 1, "videos": False}
    out = synthetic.generate(tmp_path / "tree", **arguments)
    before = files(out)
    inode = out.stat().st_ino
    synthetic.generate(out, **arguments)
    assert out.stat().st_ino == inode
    victim = next(out.rglob("*PA4*_bio.csv"))
    data = bytearray(victim.read_bytes())
    data[-5] ^= 1  # same size, one bit
    victim.write_bytes(data)
    synthetic.generate(out, **arguments)
    assert files(out) == before
    victim.unlink()
    synthetic.generate(out, **arguments)
    assert files(out) == before and os.listdir(tmp_path) == ["tree"]


def test_refuses_what_is_not_the_same_cohort(tree, tmp_path):
    before = files(tree)
    with pytest.raises(InputError, match="another synthetic cohort"):
        synthetic.generate(tree, **{**SMALL, "seed": 7})
    assert files(tree) == before
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a synthetic cohort"):
        synthetic.generate(tmp_path, **SMALL)
    with pytest.raises(InputError, match="is a file"):
        synthetic.generate(tmp_path / "thesis.txt", **SMALL)
    with pytest.raises(InputError, match="cannot write"):
        synthetic.generate(tmp_path / "thesis.txt" / "below", **SMALL)
    assert os.listdir(tmp_path) == ["thesis.txt"] and (tmp_path / "thesis.txt").read_text() == "mine"


def test_nothing_remains_of_a_failed_run(tmp_path, monkeypatch):
    made = []

    def fail(root, clip, *rest):
        made.append(clip)
        if len(made) == 3:
            raise RuntimeError("the disk is full")

    monkeypatch.setattr(synthetic_tree, "make_clip", fail)
    with pytest.raises(RuntimeError):
        synthetic.generate(tmp_path / "tree", **SMALL)
    assert len(made) == 3 and os.listdir(tmp_path) == []


def test_leftovers_of_a_killed_run_are_cleared(tmp_path):
    script = (
        "import os, sys\nfrom preprocessing.synthetic import cohort, tree\n"
        "tree.make_clip = lambda *a: os.kill(os.getpid(), 9)\n"
        "cohort.generate(sys.argv[1], subjects=1, clips_per_level=1, jobs=1, videos=False)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "tree")], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert [name.startswith(".tree.partial") for name in os.listdir(tmp_path)] == [True]
    synthetic.generate(tmp_path / "tree", subjects=1, clips_per_level=1, jobs=1, videos=False)
    assert os.listdir(tmp_path) == ["tree"]


def test_progress_counts_every_clip(tmp_path):
    seen = []
    arguments = {**SMALL, "clips_per_level": 5, "videos": False}
    synthetic.generate(tmp_path / "tree", **arguments, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(8, 20), (10, 20), (18, 20), (20, 20)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"part": "C"}, {"levels": ("BL1", "PA9")}, {"levels": ()}, {"subjects": 0}, {"clips_per_level": 0},
        {"effect": -1.0}, {"effect": float("nan")}, {"size": (639, 480)}, {"size": (16, 16)}, {"jobs": 0}, {"seed": -1},
    ],
)  # fmt: skip
def test_impossible_arguments(wrong, tmp_path):
    with pytest.raises(InputError, match=next(iter(wrong))):
        synthetic.generate(tmp_path / "tree", **{**SMALL, **wrong})
    assert os.listdir(tmp_path) == []


def test_command_line(tmp_path, capsys, monkeypatch):
    def fake(out, **words):
        words.pop("on_progress", None)
        calls.append((out, words))

    calls: list[tuple] = []
    monkeypatch.setattr("preprocessing.synthetic.__main__.generate", fake)
    words = "--part B --subjects 3 --clips-per-level 2 --effect 0 --seed 5 --levels BL1,PA4 --size 320x240 --jobs 2"
    assert main(["--out", str(tmp_path / "x"), *words.split()]) == 0
    assert calls == [(tmp_path / "x", {"part": "B", "subjects": 3, "clips_per_level": 2, "effect": 0.0, "seed": 5,
                                       "levels": ["BL1", "PA4"], "size": (320, 240), "jobs": 2})]
    monkeypatch.undo()
    assert main(["--out", str(tmp_path / "x"), "--subjects", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as refused:
        main(["--out", str(tmp_path / "x"), "--size", "big"])
    assert refused.value.code == 2


def half_a_cohort(parent: Path, host: str, pid: int, name: str = "tree", more: str = "") -> Path:
    folder = parent / f".{name}.partial-{host}-{pid}{more}"
    (folder / "video").mkdir(parents=True)
    (folder / "video" / "half").write_bytes(b"x")
    return folder


def test_leftovers_of_killed_processes_of_any_cohort_are_removed(tmp_path):
    """By the next command, also where its cohort is complete. Files of running processes are kept."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here, quick = socket.gethostname(), {"subjects": 1, "clips_per_level": 1, "jobs": 1, "videos": False}
    synthetic.generate(tmp_path / "tree", **quick)
    old = half_a_cohort(tmp_path, "another-machine", 7, "old")
    os.utime(old, (0, 0))
    gone = [half_a_cohort(tmp_path, here, ended.pid), half_a_cohort(tmp_path, here, ended.pid, "other", "-old"), old]
    kept = [half_a_cohort(tmp_path, here, os.getppid(), "beside"), half_a_cohort(tmp_path, "another-machine", 7),
            tmp_path / ".x.partial-notes", tmp_path / f".mine.partial-{here}-{ended.pid}.txt"]
    for file in kept[2:]:
        file.write_text("the user's")
    synthetic.generate(tmp_path / "tree", **quick)
    assert not any(p.exists() for p in gone) and all(p.exists() for p in kept)


def test_a_damaged_cohort_is_reported_and_written_again(tmp_path, capsys):
    quick = {"subjects": 1, "clips_per_level": 1, "jobs": 1, "videos": False}
    tree = synthetic.generate(tmp_path / "tree", **quick)
    assert synthetic.generate(tree, **quick) and capsys.readouterr().err == ""
    file = next(tree.glob("biosignals_raw/*/*.csv"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    synthetic.generate(tree, **quick)
    assert file.read_bytes() == whole and "is damaged or was changed: it is written again" in capsys.readouterr().err


@pytest.mark.parametrize(("problem", "said"), [
    (OSError(errno.ENOSPC, "No space left on device"), "disk is full"), (OSError(errno.EDQUOT, "quota"), "disk is full"),
    (BrokenProcessPool("a process died"), "was killed")])
def test_a_full_disk_and_a_killed_process_are_one_sentence(tmp_path, monkeypatch, problem, said):
    def fail(*_):
        raise problem

    monkeypatch.setattr(synthetic_tree, "make_clip", fail)
    with pytest.raises(InputError, match=f"{said}.*the same command"):
        synthetic.generate(tmp_path / "tree", **SMALL)
    assert os.listdir(tmp_path) == []
