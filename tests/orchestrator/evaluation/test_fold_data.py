"""The data that folds share; an identical recording of two subjects is an error."""

import shutil

import numpy as np
import pytest

from orchestrator import cli, loso
from orchestrator.cohort.cohort import Cohort, Person
from orchestrator.errors import UserError
from orchestrator.evaluation.fold_data import check_duplicates
from tests.helpers.roads import Road


def cohort(*names):
    people = tuple(Person(i, name, None, None, "made", frozenset()) for i, name in enumerate(names))
    return Cohort(dataset="made", name="made", class_names=("a", "b"), people=people, clips=(), key_fingerprint="",
                  partial=False, notes=(), synthetic=False)


def clips(n=4):
    return np.random.default_rng(0).normal(size=(n, 8, 2)).astype(np.float32)


def test_an_identical_recording_of_two_subjects_is_an_error():
    signals, subject = clips(), np.array([0, 0, 1, 2])
    check_duplicates(signals, subject, cohort("p0", "p1", "p2"))
    signals[3] = signals[0]
    with pytest.raises(UserError, match="Subjects made/p0 and made/p2 contain an identical recording"):
        check_duplicates(signals, subject, cohort("p0", "p1", "p2"))
    check_duplicates(signals, subject, cohort("p0", "p1", "p0"))  # one subject in two data sets
    check_duplicates(signals, subject, cohort("p0", "p1", "p2"), np.zeros(len(subject), bool))  # too little information
    signals[[0, 3]] = 1.5
    check_duplicates(signals, subject, cohort("p0", "p1", "p2"))  # a constant signal is no duplicate
    check_duplicates(np.zeros((0, 0, 0), np.float32), subject, cohort("p0", "p1", "p2"))


def test_a_copied_file_stops_the_run(ridge, inline, tmp_path, capsys):
    tree = tmp_path / "tree"
    shutil.copytree(ridge.root, tree)
    first, second = sorted((tree / "biosignals_raw").iterdir())[:2]
    for own, theirs in zip(sorted(first.iterdir()), sorted(second.iterdir()), strict=True):
        shutil.copyfile(own, theirs)
    copied = Road(tree, tmp_path / "store", tmp_path / "run", list(ridge.words))
    assert cli.run(loso.main, copied.argv()) == 2
    said = capsys.readouterr().err
    assert "contain an identical recording" in said and len(said.strip().splitlines()) == 1 and inline["loso"] == []
