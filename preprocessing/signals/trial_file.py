"""AI4Pain 2025: one table a sensor and subject, one column a trial, shorter trials padded with empty cells."""

from pathlib import Path

import numpy as np

from preprocessing.recordings import SignalRef
from preprocessing.signals import tables


def files(ref: SignalRef) -> tuple[Path, ...]:
    """The tables that the channels lie in."""
    return tuple(ref.path / str(channel.column).partition("::")[0] for channel in ref.channels)


def read_trial(ref: SignalRef) -> list[np.ndarray]:
    """Of each channel, whose column is "Sensor/<sid>.csv::<trial>", the trial's (rows,) values without the NaN at its end."""
    columns = []
    for channel in ref.channels:
        file, _, trial = str(channel.column).partition("::")
        columns.append(tables.trim(tables.read_columns(ref.path / file, (trial,))[trial]))
    return columns
