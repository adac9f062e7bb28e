"""The data file of `watch`: the only pickle that is read. Its hash is checked, and only numpy arrays are built from it."""

import hashlib
import io
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.carriers import FETCH
from preprocessing.errors import ClipError
from preprocessing.recordings import SignalRef

SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


def read_channels(ref: SignalRef) -> list[np.ndarray]:
    """The channels of one of the 140 recordings, each (rows,) float64; ClipError if the file is damaged."""
    recording = read_file(ref.path)["X"][int(ref.item or 0)]
    return [recording[:, int(channel.column)] for channel in ref.channels]


def read_file(path: Path) -> dict[str, Any]:
    """The whole content, cached while the size and the time of the file stay the same."""
    try:
        stat = path.stat()
    except OSError:
        raise ClipError("signal", "missing_file", f"The watch file is missing; {FETCH}") from None
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, mtime_ns: int, size: int) -> dict[str, Any]:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ClipError("signal", "wrong_hash", f"The watch file is not the published one; {FETCH}")
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    assert version == (1, 0)
    np.lib.format.read_array_header_1_0(stream)
    box = ArraysOnly(stream).load()  # an object array of 0 dimensions that holds the dict
    return box.item()


class ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays, plain containers and numbers; any other class is an UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("_codecs", "encode"): _latin1,  # how pickles of protocol 2 store bytes
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"the pickle contains {module}.{name}, which is not allowed")
        return allowed[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the pickle contains the encoding {encoding}, which is not allowed")
    return text.encode("latin1")
