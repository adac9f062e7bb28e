"""What the README and the other pages tell people to type exists: make targets, stages, options, files."""

import re
import runpy
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from models.registry import MODELS
from orchestrator.config.configuration import compose
from orchestrator.config.groups import choices
from orchestrator.config.model_inputs import VIDEO
from orchestrator.stages import check_options
from tests.helpers.places import ROOT

TEXT = (ROOT / "README.md").read_text()
LISTED = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
PAGES = [name for name in LISTED.split("\0") if (ROOT / name).is_file()]
PLACES = {"DIR": "/tmp/x", "RUN_A": "runs/a", "RUN_B": "runs/b", "NAME": "biovid_a"}
COMMAND = re.compile(r"(make [\w =/-]+|(?:\.venv/bin/)?python (?:-m \w[\w.]*\w|[\w/]+\.py)(?: .*)?)$")


def commands(name: str) -> set[str]:
    """Every command of a page, in a code block or between backticks, without its comment; those of one line apart."""
    text = (ROOT / name).read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M) + re.findall(r"(?:^ {4}\S.*\n)+", text, re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    parts = [re.sub(r"^(?:\w+=\S+ )+", "", part.strip(" '"))
             for line in lines for part in re.split(r"&&|;|\bdo\b", line.partition("  #")[0])]
    return {part for part in parts if COMMAND.match(part) and "STAGE" not in part and len(part.split()) > 1}


COMMANDS = [(name, line) for name in PAGES for line in sorted(commands(name))]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_the_first_lines_are_the_issues():
    assert "\nmake demo" in TEXT and "\nmake test" in TEXT
    assert "python -m orchestrator.loso --dataset biovid_a data.root=/data/BioVid/PartA" in TEXT


def test_make_has_the_contracts_targets():
    assert {"install", "demo", "check", "test", "test-ci", "test-all", "lint", "bench"} <= targets()


def test_commands_are_found_in_the_pages():
    found = {name for name, _ in COMMANDS}
    assert {"README.md", "CONTRIBUTING.md", "benchmarks/probe.md"} <= found and len(COMMANDS) > 60
    assert {"docs/explanation/science.md", "docs/how-to/extend.md", "docs/reference/pretraining.md"} <= found


@pytest.mark.parametrize(("name", "line"), [c for c in COMMANDS if c[1].startswith("make ")])
def test_a_make_command_is_a_target(name, line):
    assert {word for word in line.split()[1:] if "=" not in word} <= targets()


@pytest.mark.parametrize(("name", "line"), [c for c in COMMANDS if ".py" in c[1].split()[1]])
def test_a_script_is_there_and_knows_its_flags(name, line):
    _, script, *words = shlex.split(line)
    source = (ROOT / script).read_text()
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in source]


@pytest.mark.parametrize(("name", "line"), [pytest.param(*c, marks=[] if c[0] == "README.md" else pytest.mark.medium)
                                            for c in COMMANDS if c[1].split()[1] == "-m"])
def test_a_command_composes_with_its_options(name, line):
    given = re.sub(r"\[(key=value \.\.\.|[\w.]+=[^\]]+)\](?= |$)", lambda m: "" if "..." in m[1] else m[1], line)
    _, _, module, *arguments = [PLACES.get(word, word) for word in shlex.split(given)]
    if module == "build":  # of a package that people bring along
        return
    if module == "pytest":
        assert all((ROOT / word).exists() for word in arguments)
        return
    if module == "preprocessing.synthetic":  # a folder: what runs is its __main__
        source = Path(import_module(f"{module}.__main__").__file__).read_text()
        assert not [word for word in arguments if word.startswith("--") and f'"{word}"' not in source]
        return
    assert hasattr(import_module(module), "main")
    if "--plugin" in arguments:  # its files are on the page, whose own test composes them
        return
    if "..." in arguments:  # an abbreviation
        arguments = ["--dataset", "synthetic", *(word for word in arguments if word != "...")]
    if "--dataset" not in arguments:
        assert module == "orchestrator.compare" or arguments == ["--fetch"]
        return
    at = arguments.index("--dataset")
    overrides = [word for word in arguments[:at] + arguments[at + 2:] if not word.startswith("--")]
    check_options.check(compose(arguments[at + 1], overrides), overrides, module.rpartition(".")[2])


def test_the_table_of_stages_names_real_ones():
    table = re.findall(r"^\| `(\w+)` \|", TEXT.partition("| stage |")[2].partition("\n\n")[0], re.M)
    assert {"doctor", "preprocess", "pretrain", "embed", "loso", "sweep", "compare", "report"} <= set(table)
    for stage in table:
        assert hasattr(import_module(f"orchestrator.{stage}"), "main"), stage


def test_the_status_names_the_loaders_protocols_and_pixel_models_that_there_are():
    status = TEXT.partition("\n## Status\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", status, re.M))
    loaders = [name for part in rows if part.startswith("loaders of") for name in re.findall(r"`(\w+)`", part)]
    assert sorted(loaders) == choices("dataset")
    assert sorted(re.search(r"protocols ([\w, ]+);", rows["folds"])[1].split(", ")) == choices("protocol")
    assert "the five that read pixels" in rows["models in the folds"]
    assert sum(VIDEO <= entry.needs for entry in MODELS.values()) == 5


def test_the_status_names_a_target_that_runs_each_kind_of_killed_process():
    """The tests of each process, by their marks."""
    row = next(line for line in TEXT.splitlines() if line.startswith("| tests with killed processes |"))
    parts = dict(zip(*[iter(re.split(r"in `make ([\w-]+)`: ", row)[1:])] * 2, strict=True))
    texts = "".join(path.read_text() for path in (ROOT / "tests" / "faults").glob("test_*.py"))
    marks = {name: mark for mark, name in re.findall(
        r"^(?:@pytest\.mark\.(ci|slow).*\n(?:@.*\n)*)?def (test_\w+)", texts, re.M)}
    for word, name, mark, target in (
            ("GCS,", "test_the_gcs_in_preprocessing", "", "test"),
            ("a node", "test_a_lost_node_is_replaced_and_the_training_goes_on", "", "test"),
            ("a worker during pretraining", "test_the_driver_is_killed_then_a_worker", "ci", "test-ci"),
            ("preprocessing", "test_killed_in_preprocessing", "ci", "test-ci"),
            ("raylet", "test_the_raylet_among_the_folds", "ci", "test-ci"),
            ("GCS among the folds", "test_the_gcs_among_the_folds", "slow", "test-all"),
            ("embedding", "test_killed_while_embedding_then_an_actor", "slow", "test-all")):
        assert word in parts[target] and marks[name] == mark, name


def test_links_into_the_repository_lead_somewhere():
    found = set(re.findall(r"\]\(([^)#:\s]+)\)", TEXT))
    found |= set(re.findall(r"\b((?:docs|experiments|benchmarks)/[\w./-]+\w)", TEXT))
    assert found and not [name for name in found if not (ROOT / name).exists()]


def test_the_tables_of_models_data_sets_and_splits_are_those_of_the_registers():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"), run_name="tables")
    assert tables["written"](TEXT, tables["registers"]()) == TEXT, "run python docs/tables.py"
    assert all(f"| `{name}` |" in TEXT for name in ("dual", "one_number", "biovid_b", "manifest", "cross_dataset"))
