"""docs/reference/options.md shows every option as the code has it: values, defaults, and a meaning with one source."""

import re
import runpy
from fnmatch import fnmatch

import pytest

from orchestrator.config.configuration import PATHS, compose
from orchestrator.config.defaults import filled
from orchestrator.config.schema import OPTIONS, TABLE
from tests.helpers.places import ROOT

TEXT = (ROOT / "docs" / "reference" / "options.md").read_text()
LINES = [re.split(r"(?<!\\) ?\| ?", line.strip("| ")) for line in TEXT.splitlines() if line.startswith("| `")]
ROWS = {key.strip("`"): rest for key, *rest in LINES}
pytestmark = pytest.mark.medium  # imports every model
GIVEN = ("*.name", "dataset", "experiment", "train.augment", "encoder.decoder", "encoder.frames", "smae.tokenizer",
         "model.dcan.*_tokens", "pretrain.video.warmup_epochs")  # names of groups, and what is set by other options


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(ROOT / "docs" / "tables.py"), run_name="tables")


def test_the_page_is_made_from_the_code(made):
    assert made["written"](TEXT, made["options"]()) == TEXT, "run python docs/tables.py"


def test_the_page_has_every_option_that_is_checked_and_every_option_of_a_run():
    assert not [option.key for option in OPTIONS if option.key not in ROWS]
    run = filled(compose("synthetic", []).model_dump(mode="json", by_alias=True), "dual")
    assert not [key for key in (*run, *PATHS) if key not in ROWS and not any(fnmatch(key, name) for name in GIVEN)]


def test_every_option_has_a_meaning_and_a_default():
    groups = {"--dataset", "task", "model", "encoder", "protocol", "split", "pretrain", "experiment"}
    assert len(ROWS) > 230 and groups <= set(ROWS)
    assert not [key for key, row in ROWS.items() if not all(row) or (key not in groups and len(row) != 3)]


def test_a_meaning_is_written_in_one_place(made):
    """In the table of options, or beside the key in experiments/: not in both."""
    assert not [option.key for option in OPTIONS if option.about and made["commented"](option.key)]


def test_a_default_is_a_value_that_the_option_takes(made):
    shipped = {key: value for model in ("signal_small", "dual") for key, value in made["defaults"](model).items()}
    found = {key: shipped[key] for key in TABLE if key in shipped and shipped[key] is not None}
    assert len(found) > 130
    for key, value in found.items():
        TABLE[key].check(value)
        assert made["shown"](value) in ROWS[key][1] or f"`{key.replace('model.signal', 'smae')}`" in ROWS[key][1], key


def test_a_comment_is_read_with_the_lines_that_continue_it(made, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("# a file\nrun:          # a node\n  dir: null   # the first\n              # and the second\n  key: 1\n"
                    "size: [1, 2]\nname: x  # a | b\n")
    assert made["comments"](file) == {"run": "a node", "run.dir": "the first and the second", "name": "a | b"}


def test_the_example_of_an_option_stands_where_the_page_says():
    section = (ROOT / "docs" / "how-to" / "extend.md").read_text().partition("\n## An option\n")[2]
    files = {name: (ROOT / name).read_text() for name in re.findall(r"`([\w/]+\.py)`", section)}
    row, field = re.findall(r"^    (\S.*)$", section, re.M)
    assert row in files["orchestrator/config/schema.py"] and field in files["models/classifier/training.py"]
    assert "NOT_CONTENT = " in files["orchestrator/evaluation/run_record.py"]
    option = TABLE["train.label_smoothing"]
    assert ROWS[option.key] == [option.wanted(), "`0.0`", option.about]
    assert 'train__label_smoothing="' in files["orchestrator/reporting/paper_deviations.py"]
    rule = files["orchestrator/config/unread.py"]
    assert '("train", _train)' in rule and "fitted without epochs" in rule


def test_a_new_section_needs_its_marks(made):
    with pytest.raises(SystemExit, match="<!-- nodes -->"):
        made["written"](TEXT, {"nodes": ""})
