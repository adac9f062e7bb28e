"""The `watch` data set: 10 subjects, 7 shoulder exercises, a smartwatch (Burns et al. 2018), from the package seglearn 1.2.5.

The file is a pickled dict inside an npy. It is read only if its hash matches, by an unpickler that allows only the array types
of numpy; seglearn itself is never imported.
"""

from pathlib import Path

from preprocessing.carriers import FETCH, WATCH
from preprocessing.errors import ClipError, InputError
from preprocessing.recordings import Channel, DataSet, Recording, SignalRef, Subject
from preprocessing.signals.watch_file import read_file

FILE = "watch_dataset.npy"
LAYOUT = f"{FETCH}   ({FILE} is found inside {WATCH.name} {WATCH.version}, or in data.root)"
FS = 50.0
WINDOW, HOP = 200, 100  # samples: 4 s, half overlapping
CLASS_NAMES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
COLUMNS = ("ax", "ay", "az", "wx", "wy", "wz")
CHANNELS = tuple(Channel(name, i, "imu", FS) for i, name in enumerate(COLUMNS))
EXPECTED = {"subjects": 10, "clips": 2229}


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
    subjects = sorted({r.subject for r in recordings})
    found = {"subjects": len(subjects), "clips": len(recordings)}
    return DataSet(name="watch", cohort="watch", root=path.parent, class_names=CLASS_NAMES,
                   subjects=tuple(Subject(s) for s in subjects), recordings=tuple(recordings), expected=dict(EXPECTED),
                   found=found, complete=found == EXPECTED)


def find_file(root: Path | None) -> Path:
    """The data file below `root` or in the installed package; InputError with the command that fetches it."""
    if root is not None:
        for path in (root, root / FILE, root / "seglearn" / "data" / FILE):
            if path.name == FILE and path.is_file():
                return path
        raise InputError(f"{root} holds no {FILE}; leave data.root out after: {LAYOUT}")
    carried = WATCH.file(FILE)
    if carried is None:
        raise InputError(f"The watch data set is missing: {LAYOUT}")
    return carried


