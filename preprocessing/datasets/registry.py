"""The registry of data sets: for each name its loader, its folder layout and the default options of a run.

The built-in data sets are listed below; a plugin adds one with the decorator `register` on its loader function
(docs/how-to/extend.md).
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from preprocessing.errors import InputError
from preprocessing.named import itself
from preprocessing.recordings import DataSet

TRY_SYNTHETIC = "to try everything without data: python -m preprocessing.synthetic --out DIR, then data.root=DIR"
Load = TypeVar("Load", bound=Callable[..., DataSet])


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set. load: the loader function, or "module:name", which is imported when it is used. It is called with the
    folder (None if none is given and needs_root is false) and, with `lists`, the arguments data.source and data.subjects.

    layout: how its folder should look; "" for LAYOUT of its module. cohorts: the cohorts its subjects may belong to, () for
    its own only; data sets of one cohort share subjects. public: no privacy needed, so that pseudonyms are the same on every
    machine. films: whether there can be videos. lists: has published lists of subjects and two folders of signals, as
    BioVid. task, model: the defaults; settings: default values of further options (those of built-in data sets are in
    experiments/dataset/).
    """

    name: str
    load: str | Callable[..., DataSet]
    about: str
    layout: str = ""
    paper: str = ""
    cohorts: tuple[str, ...] = ()
    public: bool = False
    films: bool = True
    lists: bool = False
    needs_root: bool = True
    task: str = "labels"
    model: str = "dual"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def loader(self) -> Callable[..., DataSet]:
        """The loader function. Imports its module."""
        return itself(self.load)

    def form(self) -> str:
        """How its folder should look."""
        return self.layout or getattr(import_module(self.loader().__module__), "LAYOUT", "")


SOURCES: dict[str, Source] = {source.name: source for source in (
    Source(name="biovid_a", load="preprocessing.datasets.biovid:load_a", cohorts=("biovid",), lists=True,
           about="BioVid Heat Pain Database, Part A: 87 subjects, video, GSR, ECG, EMG", paper="Table 9"),
    Source(name="biovid_b", load="preprocessing.datasets.biovid:load_b", cohorts=("biovid",), lists=True,
           about="BioVid Part B: 86 of the same subjects, with facial EMG", paper="Tables 6 and 8"),
    Source(name="ai4pain", load="preprocessing.datasets.ai4pain:load", about="AI4Pain 2024: video and fNIRS",
           paper="Tables 5 and 7"),
    Source(name="ai4pain_2025", load="preprocessing.datasets.ai4pain_2025:load", films=False,
           cohorts=("ai4pain_2025", "ai4pain_2026"),
           about="AI4Pain 2025 and 2026: four biosignals, no video"),
    Source(name="manifest", load="preprocessing.datasets.manifest:load",
           about="any other data set, described by a table of one row per sample"),
    Source(name="watch", load="preprocessing.datasets.watch:load", public=True, films=False, needs_root=False,
           about="smartwatch recordings of shoulder exercises: 10 subjects (Burns et al. 2018)"),
    Source(name="synthetic", load="preprocessing.datasets.biovid:load_a", public=True, lists=True,
           about="the built-in synthetic cohort: an animated public-domain face, and simulated signals"),
)}


def add(source: Source) -> None:
    """Add a data set to the registry. InputError for a name that is taken."""
    if source.name in SOURCES:
        raise InputError(f"There is a data set called {source.name!r} already: give the new one another name.")
    if source.public and (taken := set(source.cohorts) & set(cohorts())):
        raise InputError(f"The data set {source.name!r} is public, but its cohort {sorted(taken)[0]!r} belongs to another "
                         "data set: leave out `public` or this cohort.")
    SOURCES[source.name] = source


def register(*, name: str, layout: str, about: str, **more: Any) -> Callable[[Load], Load]:
    """A decorator that adds the function below it, load(root) -> DataSet; `more`: further fields of Source."""
    def keep(load: Load) -> Load:
        add(Source(name=name, load=load, layout=layout, about=about, **more))
        return load

    return keep


def cohorts() -> tuple[str, ...]:
    """Names of the cohorts in use: a manifest may use one of them only if its subjects belong to that cohort."""
    return tuple(dict.fromkeys(c for s in SOURCES.values() if s.name != "manifest" for c in s.cohorts or (s.name,)))


def is_public(cohort: str) -> bool:
    """Whether its subjects need no privacy: then results can be compared between machines."""
    return any(source.public and cohort in (source.cohorts or (source.name,)) for source in SOURCES.values())


def find(name: str) -> Source:
    """The data set called `name`. InputError for an unknown one, with the nearest names."""
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, n=3, cutoff=0.4) or list(SOURCES)
        raise InputError(f"There is no data set {name!r}; did you mean {' or '.join(near)}?")
    return SOURCES[name]


def load(name: str, root: str | Path | None, **options: Any) -> DataSet:
    """The data set `name` below `root`, with the loader's own options.

    InputError for an unknown name (with the nearest ones), an absent root (with the layout it should have) and
    whatever the loader itself finds wrong.
    """
    source = find(name)
    hint = f"{name} should look like\n{source.form()}\n{TRY_SYNTHETIC}"
    if root is None or str(root) == "":
        if source.needs_root:
            raise InputError(f"{name} needs data.root=FOLDER; {hint}")
        return source.loader()(None, **options)
    try:
        path = Path(root).expanduser().absolute()
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"data.root={str(root)!r} is no usable path ({error}); {hint}") from None
    if not there:
        raise InputError(f"data.root={str(path)!r} does not exist; {hint}")
    return source.loader()(path, **options)
