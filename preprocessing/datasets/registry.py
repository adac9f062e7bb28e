"""The table of loaders: one name, one file, one DataSet."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.datasets import ai4pain, ai4pain_2025, biovid, manifest, watch
from preprocessing.errors import InputError
from preprocessing.recordings import DataSet

TRY_SYNTHETIC = "to try everything without data: python -m preprocessing.synthetic --out DIR, then data.root=DIR"


class Entry(NamedTuple):
    load: Callable[..., DataSet]
    layout: str
    needs_root: bool = True


LOADERS = {
    "biovid_a": Entry(biovid.load_a, biovid.LAYOUT),
    "biovid_b": Entry(biovid.load_b, biovid.LAYOUT),
    "ai4pain": Entry(ai4pain.load, ai4pain.LAYOUT),
    "ai4pain_2025": Entry(ai4pain_2025.load, ai4pain_2025.LAYOUT),
    "manifest": Entry(manifest.load, manifest.LAYOUT),
    "watch": Entry(watch.load, watch.LAYOUT, needs_root=False),
}


def load(name: str, root: str | Path | None, **options: Any) -> DataSet:
    """The data set `name` below `root`, with the loader's own options.

    InputError for an unknown name (with the nearest ones), an absent root (with the layout it should have) and
    whatever the loader itself finds wrong.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(str(name), LOADERS, n=3, cutoff=0.4) or list(LOADERS)
        raise InputError(f"There is no data set {name!r}; did you mean {' or '.join(near)}?")
    entry = LOADERS[name]
    hint = f"{name} should look like\n{entry.layout}\n{TRY_SYNTHETIC}"
    if root is None or str(root) == "":
        if entry.needs_root:
            raise InputError(f"{name} needs data.root=FOLDER; {hint}")
        return entry.load(None, **options)
    try:
        path = Path(root).expanduser().absolute()
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"data.root={str(root)!r} is no usable path ({error}); {hint}") from None
    if not there:
        raise InputError(f"data.root={str(path)!r} does not exist; {hint}")
    return entry.load(path, **options)
