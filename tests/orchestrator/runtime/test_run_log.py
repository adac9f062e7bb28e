"""The run's log: the lines of the terminal, in a form that may be shared."""

import logging
import re
from pathlib import Path

import pytest

from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.evaluation.run_record import places
from orchestrator.runtime import progress, run_log

RAW = "walker_07"
NAMES = {RAW: "s0123abcd", f"{RAW}-BL1-081": "c0456", "12": "s0000"}


@pytest.fixture(autouse=True)
def fresh():
    run_log.start()


def lines(folder):
    return (folder / "run.log").read_text(encoding="utf-8").splitlines()


def test_a_line_has_utc_time_level_and_stage_and_the_terminal_stays_as_it_was(tmp_path, capsys):
    with run_log.kept(tmp_path, "loso", {}, []):
        progress.say("plan", "9 folds")
        progress.say("folds", "1 of 9 folds: no clip", logging.WARNING)
        with progress.bar("embed", 2, "files") as tick:
            tick(2)
    said = capsys.readouterr().out
    assert said.startswith("plan        9 folds\nfolds       1 of 9 folds: no clip\nembed       2 files in ")
    found = lines(tmp_path)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO   |WARNING) \w+ +\S", line) for line in found)
    assert [line[21:] for line in found[-6:-2]] == ["INFO    loso        begins", "INFO    plan        9 folds",
                                                    "WARNING folds       1 of 9 folds: no clip",
                                                    "INFO    embed       begins: 2 files"]
    assert re.fullmatch(r".* INFO    loso        ends after \d+\.\d s", found[-1])


def test_no_raw_name_and_no_path_that_the_terminal_shows_is_in_it(tmp_path, capsys):
    folder = tmp_path / "a run"
    folder.mkdir()
    config = compose("biovid_a", [f"data.root={tmp_path}/my data", f"run.dir={folder}", "store=some/where"])
    with run_log.kept(folder, "loso", NAMES, places(config)):
        progress.say("preprocess", f"{RAW}: {tmp_path}/my data/video/{RAW}/{RAW}-BL1-081.mp4 is cut")
        progress.say("preprocess", f"which files: {Path('some/where').resolve()}/private/q.csv, s3://bucket/{RAW}?key=a")
        progress.say("preprocess", f"Clip {RAW}-BL1-081 of 12 clips ({RAW}) has no face")
        progress.say("preprocess", "a run will stop with this error: Ann and Bob are one", private=True)
    said, text = capsys.readouterr().out, (folder / "run.log").read_text()
    assert said.count(RAW) == 6 and str(tmp_path) in said and "Ann" in said
    assert "071309" not in text and "my data" not in text and str(tmp_path) not in text and "bucket" not in text
    assert "Ann" not in text and run_log.WITHHELD in text
    assert "Clip c0456 of 12 clips (s0123abcd) has no face" in text


def test_a_resumed_run_appends_and_a_refused_one_leaves_nothing(tmp_path):
    with run_log.kept(tmp_path, "loso", {}, []):
        progress.say("plan", "once")
        (tmp_path / "lineage.json").write_text("{}")
    before = lines(tmp_path)
    with pytest.raises(UserError), run_log.kept(tmp_path, "loso", {}, []):  # another run's folder: never opened
        progress.say("plan", "twice")
        raise UserError("holds another run")
    assert lines(tmp_path) == before
    with run_log.kept(tmp_path, "loso", {}, []) as log:
        progress.say("plan", "thrice")
        log.open()
    assert lines(tmp_path)[:len(before)] == before and any(line.endswith("thrice") for line in lines(tmp_path)[len(before):])
    new = tmp_path / "new"
    new.mkdir()
    with pytest.raises(UserError), run_log.kept(new, "loso", {}, []):
        raise UserError(f"{RAW} is nobody")
    assert not list(new.iterdir())


def test_earlier_lines_are_in_the_log_of_both_runs(tmp_path):
    progress.say("plan", "before")
    for name in ("clean", "as_paper"):
        (tmp_path / name).mkdir()
        with run_log.kept(tmp_path / name, "loso", {}, []):
            progress.say("loso", name)
    assert [line.split()[-1] for line in lines(tmp_path / "as_paper")] == ["before", "begins", "as_paper", "s"]


def test_what_ended_the_run_is_named_without_its_sentence(tmp_path):
    with pytest.raises(RuntimeError), run_log.kept(tmp_path, "loso", {}, []):
        raise RuntimeError(f"{RAW} is broken")
    assert "ERROR   loso        stopped" in lines(tmp_path)[-1] and "RuntimeError" in lines(tmp_path)[-1]
    assert RAW not in (tmp_path / "run.log").read_text()


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, capsys):
    (tmp_path / "run.log").mkdir()
    with run_log.kept(tmp_path, "loso", {}, []):
        progress.say("plan", "9 folds")
    said = capsys.readouterr().out
    assert said.count("cannot be written any more") == 1 and "9 folds" in said
