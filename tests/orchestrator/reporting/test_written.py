"""The files of a run are shown again only if they and their inputs are unchanged."""

import pytest

from orchestrator.files.storage import write_json
from orchestrator.reporting import written

MADE_OF = ["content", 1, {"notes": []}]


@pytest.fixture
def run(tmp_path):
    for name in written.FILES:
        write_json(tmp_path / name, {"name": name})
    written.remember(tmp_path, MADE_OF)
    return tmp_path


def test_the_summary_stands_while_nothing_has_changed(run):
    assert written.standing(run, MADE_OF) == {"name": "summary.json"}
    assert written.standing(run, ["content", 2, {"notes": []}]) is None


@pytest.mark.parametrize("name", [*written.FILES, written.RECORD])
def test_a_file_that_was_changed_or_is_gone_is_written_anew(run, name):
    (run / name).write_text((run / name).read_text().replace("e", "i"))
    assert written.standing(run, MADE_OF) is None
    (run / name).unlink()
    assert written.standing(run, MADE_OF) is None
