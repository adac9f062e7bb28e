"""Every test is run by one of the make targets, and by no two that CI runs."""

import re
import subprocess
import sys
from itertools import combinations

import pytest

from tests.helpers.places import ROOT

MARKS = ("medium", "ci", "slow")
MAKEFILE = (ROOT / "Makefile").read_text()


def expression(target: str) -> str:
    return re.search(rf"^IN_{target} := (.+)$", MAKEFILE, re.M)[1]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """target -> the tests that its expression chooses, of one test for every set of marks there can be."""
    folder, lines = tmp_path_factory.mktemp("marks"), ["import pytest"]
    for marks in (marks for n in range(len(MARKS) + 1) for marks in combinations(MARKS, n)):
        lines += [*(f"@pytest.mark.{mark}" for mark in marks), f"def {'_'.join(['test', *marks])}(): pass"]
    (folder / "test_marks.py").write_text("\n".join(lines))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n" + "".join(f"  {mark}\n" for mark in MARKS))

    def collected(*words: str) -> set[str]:
        done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *words],
                              cwd=folder, capture_output=True, text=True, check=True)
        return set(re.findall(r"^test_marks\.py::(\w+)$", done.stdout, re.M))

    return {target: collected("-m", expression(target)) for target in ("CHECK", "TEST", "TEST_CI")} | {"all": collected()}


@pytest.mark.medium
def test_check_test_and_test_ci_leave_the_slow_ones_alone(chosen):
    assert len(chosen["all"]) == 2 ** len(MARKS)
    assert chosen["CHECK"] == {"test"} and chosen["CHECK"] < chosen["TEST"]
    assert chosen["TEST"] == {"test", "test_medium"} and not chosen["TEST"] & chosen["TEST_CI"]
    assert chosen["all"] - chosen["TEST"] - chosen["TEST_CI"] == {name for name in chosen["all"] if "slow" in name}


def test_test_all_leaves_nothing_out():
    assert "-m" not in re.search(r"^test-all:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)[1]
    apart = re.search(r"^APART := (.+)$", MAKEFILE, re.M)[1].split()
    assert apart and all((ROOT / folder).is_dir() for folder in apart)
    assert re.search(r"^tests-apart:.*\n\t.*pytest .*\$\(APART\) \$\(ONLY\)$", MAKEFILE, re.M)
    assert re.search(r"^tests-together:.*\n\t.*pytest \$\(APART:%=--ignore=%\) \$\(ONLY\)$", MAKEFILE, re.M)


def test_ci_runs_test_and_test_ci():
    assert re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(), re.M) == ["test", "test-ci"]


def test_the_marks_are_those_of_the_tests(request):
    """A mark of another name would be refused (--strict-markers); kill tests and roads get theirs from conftest.py."""
    known = {line.partition(":")[0] for line in request.config.getini("markers")}
    assert {*MARKS} <= known and "--strict-markers" in request.config.getini("addopts")
    for item in request.session.items:
        if item.path.parent.name == "faults" or "road" in item.fixturenames:
            assert item.get_closest_marker("medium"), item.nodeid
