"""The registry of signal formats other than plain tables: for each name in SignalRef.format its reader.

Tables (csv, tsv, npy, npz, parquet) are read by tables.py. A plugin adds a format with `register` (docs/how-to/extend.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from preprocessing.errors import InputError
from preprocessing.named import itself
from preprocessing.recordings import SignalRef

if TYPE_CHECKING:
    import numpy as np

Read = TypeVar("Read", bound="Callable[[SignalRef], list[np.ndarray]]")
TABLES = ("csv", "tsv", "npy", "npz", "parquet", "ai4pain", "biovid", "biovid_filtered")


@dataclass(frozen=True)
class Format:
    """Functions, or their names as "module:name". read: returns the whole columns of a reference's file, one (rows,) float64
    per channel, or raises ClipError("signal", ...). files: the files that it reads, in the order of the channels; their
    hashes are part of the content key of the clips; None: the one file of the reference. text: whether these are text
    tables, whose size is checked before they are opened."""

    read: "str | Callable[[SignalRef], list[np.ndarray]]"
    files: str | Callable[[SignalRef], tuple[Path, ...]] | None = None
    text: bool = False

    def columns(self, ref: SignalRef) -> "list[np.ndarray]":
        return itself(self.read)(ref)

    def paths(self, ref: SignalRef) -> tuple[Path, ...]:
        return (ref.path,) if self.files is None else itself(self.files)(ref)

    @property
    def sources(self) -> tuple[str, ...]:
        """The functions of this format as "module:name"; their code is part of content keys."""
        return tuple(one if isinstance(one, str) else f"{one.__module__}:{one.__qualname__}"
                     for one in (self.read, self.files) if one is not None)


FORMATS: dict[str, Format] = {
    "watch": Format("preprocessing.signals.watch_file:read_channels"),
    "ai4pain_2025": Format("preprocessing.signals.trial_file:read_trial", "preprocessing.signals.trial_file:files", text=True),
}


def register(name: str, files: Callable[[SignalRef], tuple[Path, ...]] | None = None) -> Callable[[Read], Read]:
    """A decorator that adds the function below it as the reader of a format. InputError for a name that is taken."""
    def keep(read: Read) -> Read:
        if name in FORMATS or name in TABLES:
            raise InputError(f"There is a signal format called {name!r} already: give the new one another name.")
        FORMATS[name] = Format(read, files)
        return read

    return keep
