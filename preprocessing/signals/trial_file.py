"""AI4Pain 2025: one table per sensor and subject, one column per trial, shorter trials padded with empty cells."""

from pathlib import Path

import numpy as np

from preprocessing.recordings import SignalRef
from preprocessing.signals import tables


def files(ref: SignalRef) -> tuple[Path, ...]:
    """The tables that hold the channels."""
    return tuple(ref.path / str(channel.column).partition("::")[0] for channel in ref.channels)


def read_trial(ref: SignalRef) -> list[np.ndarray]:
    """For each channel, whose column is "Sensor/<sid>.csv::<trial>", the (rows,) values without the NaN padding at the end."""
    columns = []
    for channel in ref.channels:
        file, _, trial = str(channel.column).partition("::")
        columns.append(tables.trim(tables.read_columns(ref.path / file, (trial,))[trial]))
    return columns
