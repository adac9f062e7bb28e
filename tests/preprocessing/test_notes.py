"""Notes on clips: ours unchanged, those of libraries without paths, each once per clip."""

import warnings

import numpy as np
import pytest

from preprocessing.notes import gathered, note


def test_a_note_is_collected_once_per_clip_and_unchanged():
    with gathered() as said:
        for _ in range(3):
            note("The pictures were turned.")
        note("Another.")
    assert said == ["The pictures were turned.", "Another."]


def test_a_warning_of_a_library_is_collected_with_its_class():
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


def test_notes_before_a_failure_are_kept():
    with pytest.raises(ValueError, match="x"), gathered() as said:
        note("A.")
        raise ValueError("x")
    assert said == ["A."]
