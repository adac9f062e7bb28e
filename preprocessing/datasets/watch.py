"""The `watch` set: 10 people, 7 shoulder exercises, a smartwatch (Burns et al. 2018), as carried by seglearn 1.2.5.

The file is a pickled dict inside an npy. It is read only after its hash matches, through an unpickler that admits
numpy's array types and nothing else; seglearn itself is never imported.
"""

import hashlib
import io
import pickle
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.errors import ClipError, InputError
from preprocessing.recordings import Channel, DataSet, Recording, SignalRef, Subject

SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
FILE = "watch_dataset.npy"
FS = 50.0
WINDOW, HOP = 200, 100  # samples: 4 s, half overlapping
CLASS_NAMES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
COLUMNS = ("ax", "ay", "az", "wx", "wy", "wz")
CHANNELS = tuple(Channel(name, i, "imu", FS) for i, name in enumerate(COLUMNS))
EXPECTED = {"subjects": 10, "clips": 2229}
LAYOUT = "pip install --no-deps seglearn==1.2.5   (the file is found inside the package, or in data.root)"


def load(root: Path | None = None) -> DataSet:
    """All windows of 200 samples, hop 100. root: a folder that holds watch_dataset.npy, or None for the package."""
    path = find_file(root)
    try:
        data = read_file(path)
    except ClipError as error:
        raise InputError(f"{path} is not the published file ({error.reason}); {LAYOUT}") from None
    recordings = []
    for item, values in enumerate(data["X"]):
        label = int(data["y"][item])
        subject = f"watch-{int(data['subject'][item]):02d}"
        for number, start in enumerate(range(0, len(values) - WINDOW + 1, HOP)):
            ref = SignalRef(path, "watch", CHANNELS, start_row=start, end_row=start + WINDOW, item=item)
            recordings.append(Recording(subject, f"{item:03d}-{number:02d}", label, CLASS_NAMES[label], signal=ref,
                                        session=f"{item:03d}", attributes={"side": int(data["side"][item])}))
    recordings.sort(key=lambda r: (r.subject, r.sample))
    people = sorted({r.subject for r in recordings})
    found = {"subjects": len(people), "clips": len(recordings)}
    return DataSet("watch", "watch", path.parent, CLASS_NAMES, tuple(Subject(p) for p in people), tuple(recordings),
                   dict(EXPECTED), found, found == EXPECTED)


def find_file(root: Path | None) -> Path:
    """The data file below `root` or in the installed distribution; InputError with the command that fetches it."""
    if root is not None:
        for path in (root, root / FILE, root / "seglearn" / "data" / FILE):
            if path.name == FILE and path.is_file():
                return path
        raise InputError(f"{root} holds no {FILE}; leave data.root out after: {LAYOUT}")
    try:
        files = metadata.files("seglearn") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == FILE and path.is_file():
            return path
    raise InputError(f"The watch data set is not installed; run: {LAYOUT}")


def read_recordings(path: Path) -> list[np.ndarray]:
    """The 140 recordings, each (rows, 6) float64, kept in memory after the first call; ClipError if damaged."""
    return read_file(path)["X"]


def read_file(path: Path) -> dict[str, Any]:
    """The whole content, kept for as long as the file keeps its size and time."""
    try:
        stat = path.stat()
    except OSError:
        raise ClipError("signal", "missing_file", f"The watch file is absent; {LAYOUT}") from None
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, mtime_ns: int, size: int) -> dict[str, Any]:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ClipError("signal", "wrong_hash", f"The watch file is not the published one; {LAYOUT}")
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    assert version == (1, 0)
    np.lib.format.read_array_header_1_0(stream)
    box = ArraysOnly(stream).load()  # an object array of no axes around the dict
    return box.item()


class ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays, plain containers and numbers; any other class is an UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("_codecs", "encode"): _latin1,  # how pickles of protocol 2 spell bytes
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")
        return allowed[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the pickle asks for the encoding {encoding}")
    return text.encode("latin1")
