"""What the README tells people to type exists: make targets, stages, options, files."""

import re
import runpy
import shlex
from importlib import import_module

import pytest

from orchestrator.config.configuration import compose
from orchestrator.stages import check_options
from tests.helpers.places import ROOT

TEXT = (ROOT / "README.md").read_text()
PLACES = {"DIR": "/tmp/x", "RUN_A": "runs/a", "RUN_B": "runs/b", "NAME": "synthetic"}


def commands() -> list[str]:
    """Every command in a code block or between backticks, without its comment."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", TEXT)
    lines = [line.partition("  #")[0].strip() for line in lines]
    return sorted({line for line in lines if line.startswith(("make ", "python -m ", ".venv/bin/python -m "))
                   and "STAGE" not in line and len(line.split()) > 1})


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_the_first_lines_are_the_issues():
    assert "\nmake demo" in TEXT and "\nmake test" in TEXT
    assert "python -m orchestrator.loso --dataset biovid_a data.root=/data/BioVid/PartA" in TEXT


def test_make_has_the_contracts_targets():
    assert {"install", "demo", "check", "test", "test-ci", "test-all", "lint", "bench"} <= targets()


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("make ")])
def test_a_make_command_is_a_target(line):
    assert {word for word in line.split()[1:] if "=" not in word} <= targets()


@pytest.mark.parametrize("line", [c for c in commands() if not c.startswith("make ")])
def test_a_command_composes_with_its_options(line):
    words = [PLACES.get(word, word) for word in shlex.split(line.replace("[key=value ...]", "").replace("...", ""))]
    module, arguments = words[2], words[3:]
    if module == "preprocessing.synthetic":  # a folder: what runs is its __main__
        assert hasattr(import_module(f"{module}.__main__"), "main")
        pytest.skip("its own test reads its flags")
    if module == "build":  # of a package that people bring along
        return
    assert hasattr(import_module(module), "main")
    if "--dataset" not in arguments:
        assert module == "orchestrator.compare" or arguments == ["--fetch"]
        return
    at = arguments.index("--dataset")
    overrides = [word for word in arguments[:at] + arguments[at + 2:] if not word.startswith("--")]
    check_options.check(compose(arguments[at + 1], overrides))


def test_the_table_of_stages_names_real_ones():
    table = re.findall(r"^\| `(\w+)` \|", TEXT.partition("| stage |")[2].partition("\n\n")[0], re.M)
    assert {"doctor", "preprocess", "pretrain", "embed", "loso", "sweep", "compare", "report"} <= set(table)
    for stage in table:
        assert hasattr(import_module(f"orchestrator.{stage}"), "main"), stage


def test_links_into_the_repository_lead_somewhere():
    found = set(re.findall(r"\]\(([^)#:\s]+)\)", TEXT))
    found |= set(re.findall(r"\b((?:docs|experiments|benchmarks)/[\w./-]+\w)", TEXT))
    assert found and not [name for name in found if not (ROOT / name).exists()]


def test_the_tables_of_models_data_sets_and_splits_are_those_of_the_registers():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"), run_name="tables")
    assert tables["written"](TEXT) == TEXT, "run python docs/tables.py"
    assert all(f"| `{name}` |" in TEXT for name in ("dual", "one_number", "biovid_b", "manifest", "cross_dataset"))
