"""Warnings of workers: with the artefact, once on the terminal, once in the report, and the same after a kill."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from models.classifier.token_pool import TokenPool
from models.mae import training
from orchestrator.files.storage import read_json
from orchestrator.runtime.worker_warnings import collected, counted, kept, read
from preprocessing.notes import note

SAID = {
    "a note of ours": (lambda: note("The pictures were turned."), "The pictures were turned."),
    "numpy": (lambda: np.log(np.zeros(1)), "RuntimeWarning: divide by zero encountered in log"),
    "scikit-learn": (lambda: warnings.warn("did not converge", ConvergenceWarning, stacklevel=1),
                     "ConvergenceWarning: did not converge"),
    "an address": (lambda: warnings.warn("<X object at 0x7f3a19c0> leaked", stacklevel=1),
                   "UserWarning: <X object at ...> leaked"),
}


@pytest.mark.parametrize("kind", SAID)
def test_what_a_user_should_know_is_kept_at_once_and_one_time(kind, tmp_path):
    say, text = SAID[kind]
    with kept(tmp_path / "said"):
        say()
        assert read(tmp_path / "said") == [text], "a kill from here on loses nothing"
        say()
    with collected() as said:
        say()
        say()
    assert read(tmp_path / "said") == [text] == said


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, PendingDeprecationWarning, ResourceWarning])
def test_words_for_developers_are_left_out(category, tmp_path):
    with collected() as said, kept(tmp_path / "said"):
        warnings.warn("old", category, stacklevel=1)
    assert said == [] == read(tmp_path / "said")


def test_a_block_that_was_killed_and_goes_on_has_what_an_undisturbed_one_has(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with kept(whole):
        note("b.")
        note("a.")
    with kept(cut):
        note("b.")
    with open(cut, "a") as handle:
        handle.write('\n"a')  # half a line
    with kept(cut):
        note("a.")
        note("b.")
    assert read(whole) == read(cut) == ["a.", "b."]
    assert read(whole, cut, tmp_path / "absent") == ["a.", "b."]


def test_a_full_disk_stops_nothing(tmp_path):
    with kept(tmp_path / "no" / "folder"):
        note("a.")


def test_torch_says_it_to_every_artefact_and_is_left_as_it_was():
    before = torch.is_warn_always_enabled()
    for _ in range(2):
        with collected() as said:
            torch.ones(2, requires_grad=True).mean().backward()
            warnings.warn("x", stacklevel=1)
        assert said == ["UserWarning: x"] and torch.is_warn_always_enabled() == before


def test_artefacts_are_counted():
    assert counted([["a", "a"], ["b", "a"], []], "files") == ["2 of 3 files: a", "1 of 3 files: b"]
    assert counted([], "files") == []


def test_warnings_of_pretraining_and_embedding_reach_terminal_and_report(road, inline, tmp_path, monkeypatch, capsys):
    def step(*arguments):
        warnings.warn("a loss looks odd", RuntimeWarning, stacklevel=1)
        return real_step(*arguments)

    def pool(self, tokens):
        warnings.warn("a token looks odd", stacklevel=1)
        return real_pool(self, tokens)

    assert not [text for text in read_json(road.run / "facts.json")["notes"] if "Warning: " in text], "nothing odd, no word"
    real_step, real_pool = training.step, TokenPool.__call__
    monkeypatch.setattr(training, "step", step)
    monkeypatch.setattr(TokenPool, "__call__", pool)
    mine = road.copy(tmp_path, run=False)
    for made in ("encoders", "tokens"):
        shutil.rmtree(mine.store / made)
    for again in (False, True):  # the second command finds everything there, and says it all the same
        assert mine.main("max_folds=1") == 0
        out, notes = " ".join(capsys.readouterr().out.split()), read_json(mine.run / "facts.json")["notes"]
        for what, text in (("encoders", "RuntimeWarning: a loss looks odd"), ("token files", "UserWarning: a token looks odd")):
            (line,) = [one for one in notes if text in one]
            n, _, total = line.partition(" of ")
            assert line == f"{n} of {n} {what}: {text}" and total.startswith(n) and int(n) >= 2
            assert out.count(line) == 1
        assert bool(inline["pretrain"]) and len(inline["loso"]) == 1, again
    page = (mine.run / "report.html").read_text()
    # a fold pools tokens as well, and says so in a line of its own
    assert page.count("encoders: RuntimeWarning: a loss looks odd") == 1
    assert page.count("token files: UserWarning: a token looks odd") == 1
    assert not list(mine.store.glob("encoders/*.partial"))
