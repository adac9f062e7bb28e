"""Notes on clips: ours word by word, libraries' without paths, each once a clip."""

import warnings

import numpy as np
import pytest

from preprocessing.notes import gathered, note


def test_a_note_arrives_once_a_clip_and_word_by_word():
    with gathered() as said:
        for _ in range(3):
            note("The pictures were turned.")
        note("Another.")
    assert said == ["The pictures were turned.", "Another."]


def test_a_library_s_warning_arrives_with_its_kind():
    with gathered() as said:
        np.log(np.zeros(1))
    assert said == ["RuntimeWarning: divide by zero encountered in log"]


def test_no_path_is_repeated():
    with gathered() as said:
        warnings.warn("cannot read /data/Anna/7.mp4 well", stacklevel=1)
    assert said == ["UserWarning: cannot read ... well"]


def test_notes_for_developers_are_left_out():
    with gathered() as said:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert said == []


def test_what_was_said_before_a_failure_is_kept():
    with pytest.raises(ValueError, match="x"), gathered() as said:
        note("A.")
        raise ValueError("x")
    assert said == ["A."]
