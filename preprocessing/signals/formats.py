"""The register of signal formats that are no plain table: by the name in SignalRef.format, who reads one.

Tables (csv, tsv, npy, npz, parquet) are read by tables.py. A file of somebody else's adds a format with `register`
(docs/how-to/extend.md).
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
    """Itself or as "module:name". read: the whole columns of a reference's file, one (rows,) float64 a channel;
    ClipError("signal", ...) where it cannot. files: what it reads, in the order of the channels, whose hashes are in the clips'
    key; None: the reference's one file. text: these are text tables, whose size is told before they are opened."""

    read: "str | Callable[[SignalRef], list[np.ndarray]]"
    files: str | Callable[[SignalRef], tuple[Path, ...]] | None = None
    text: bool = False

    def columns(self, ref: SignalRef) -> "list[np.ndarray]":
        return itself(self.read)(ref)

    def paths(self, ref: SignalRef) -> tuple[Path, ...]:
        return (ref.path,) if self.files is None else itself(self.files)(ref)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where its code begins, as "module:name"."""
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
