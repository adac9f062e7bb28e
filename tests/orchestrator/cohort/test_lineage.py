"""Lineage through any number of artefacts; these tests must fail if the guard checks nothing."""

import shutil
import subprocess
import sys

import pytest

from orchestrator.cohort.lineage import Lineage, check_roles, guard, subject_key
from orchestrator.errors import EXIT_USER, LineageError, UserError
from tests.helpers.places import ROOT

SCALER = Lineage("scaler of fold 3", frozenset({"biovid/a", "biovid/b"}))
ENCODER = Lineage("encoder 1 (ab12)", frozenset({"biovid/c"}), (SCALER,))
TOKENS = Lineage("tokens of encoder 1", parents=(ENCODER,))


def test_a_subject_is_found_through_every_parent():
    assert TOKENS.everyone() == {"biovid/a", "biovid/b", "biovid/c"}
    assert TOKENS.chain_to("biovid/a") == ["tokens of encoder 1", "encoder 1 (ab12)", "scaler of fold 3"]
    assert TOKENS.chain_to("biovid/d") is None


def test_the_guard_shows_how_the_test_subject_leaked_in():
    with pytest.raises(LineageError, match=r"biovid/a leaked into training through tokens of encoder 1 <- encoder 1 \(ab12\)"
                                           r" <- "
                                           r"scaler of fold 3.*as_paper"):
        guard(["biovid/x", "biovid/a"], [Lineage("nobody"), TOKENS])


def test_the_guard_accepts_other_subjects():
    guard(["biovid/d", "watch/a"], [SCALER, ENCODER, TOKENS])
    guard([], [TOKENS])


def test_a_subject_is_cohort_and_name():
    # Parts A and B of BioVid are one cohort: an encoder trained on a subject in A may not test it in B.
    assert subject_key("biovid", "s1") == "biovid/s1"
    with pytest.raises(LineageError):
        guard([subject_key("biovid", "a")], [SCALER])
    guard([subject_key("watch", "a")], [SCALER])


def test_unproven_is_inherited():
    public = Lineage("a public checkpoint", proven=False)
    assert not Lineage("tokens", parents=(ENCODER, public)).is_proven() and TOKENS.is_proven()


def test_a_lineage_survives_its_file_and_every_change_shows():
    again = Lineage.from_json(TOKENS.to_json())
    assert again == TOKENS and again.sha256() == TOKENS.sha256()
    others = [Lineage("tokens of encoder 1", frozenset({"biovid/z"}), (ENCODER,)),
              Lineage("tokens of encoder 1", parents=(SCALER,)),
              Lineage("tokens of encoder 1", parents=(ENCODER,), proven=False)]
    assert len({other.sha256() for other in [TOKENS, *others]}) == 4


def test_a_lineage_error_has_exit_code_2():
    assert issubclass(LineageError, UserError) and EXIT_USER == 2


@pytest.mark.parametrize(("test", "train", "val", "leaky", "fits"), [
    ([0], [1, 2], [3], False, True), ([0], [0, 1], [3], False, False), ([0], [1, 3], [3], False, False),
    ([0], [1], [0], False, False), ([0], [1], [0], True, True), ([0], [0, 1], [0], True, False)])
def test_no_subject_has_two_roles(test, train, val, leaky, fits):
    if fits:
        check_roles(test, train, val, leaky)
    else:
        with pytest.raises(UserError, match="two roles"):
            check_roles(test, train, val, leaky)


@pytest.mark.medium
@pytest.mark.parametrize(("old", "new"), [
    ("            if chain:\n                raise", "            if chain and False:\n                raise"),
    ("    if overlap:\n", "    if False:\n")], ids=["guard", "roles"])
def test_a_guard_that_checks_nothing_fails_these_tests(tmp_path, old, new):
    for name in ("orchestrator", "preprocessing", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "helpers", tmp_path / "tests" / "helpers")
    shutil.copy(__file__, tmp_path / "test_scratch.py")
    source = tmp_path / "orchestrator" / "cohort" / "lineage.py"
    text = source.read_text()
    assert text.count(old) == 1
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_scratch.py", "-k",
               "guard_shows or two_roles"]
    source.write_text(text.replace(old, new))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "DID NOT RAISE" in done.stdout, done.stdout
