"""Warnings of the workers that make an artefact: kept in its sidecar file under "notes", counted over artefacts, reported.

So a run reports them whether this command made the artefact or an earlier one.
"""

import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from preprocessing.notes import SILENT, gathered, words


@contextmanager
def every_time() -> Iterator[None]:
    """Torch gives some warnings once per process: in the block it gives them every time, so that a resumed run is the same."""
    torch = sys.modules.get("torch")  # an estimator's fold does not import it
    if torch is None:
        yield
        return
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list that holds the warnings of the block when it has ended: every text once, in alphabetical order."""
    with every_time(), gathered() as said:
        yield said
    said.sort()


@contextmanager
def kept(file: Path) -> Iterator[None]:
    """Add the warnings of the block to `file` as they occur, so that a training that is killed and resumed has all of them.

    On a full disk a warning is lost, but nothing stops.
    """
    known = set(read(file))

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
        text = "" if issubclass(category, SILENT) else words(warnings.WarningMessage(message, category, filename, lineno))
        if text and text not in known:
            known.add(text)
            with suppress(OSError), open(file, "a", encoding="utf-8") as handle:
                handle.write("\n" + json.dumps(text))  # an incomplete line of a killed writer stays separate

    with every_time(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show  # type: ignore[assignment]  # restored by catch_warnings
        yield


def read(*files: Path) -> list[str]:
    """What `kept` has written, every text once, in alphabetical order."""
    said: set[str] = set()
    for file in files:
        with suppress(OSError):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    text = json.loads(line)
                    said |= {text} if isinstance(text, str) else set()
    return sorted(said)


def counted(notes: Iterable[Sequence[str]], what: str) -> list[str]:
    """notes: of each artefact. "N of M {what}: text", most frequent first."""
    everything = list(notes)
    said = Counter(text for one in everything for text in dict.fromkeys(one))
    ordered = sorted(said.items(), key=lambda pair: (-pair[1], pair[0]))
    return [f"{n} of {len(everything)} {what}: {text}" for text, n in ordered]
