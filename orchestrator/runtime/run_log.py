"""One log file per run, `<run.dir>/run.log`: the lines of the terminal, with UTC time, level and stage. A resumed run appends.

The file may be shared with the run: text that may name a recording is marked `private` and appears on the terminal only. As a
second protection, a path becomes "(path)", and a raw subject id of the cohort becomes its pseudonym. Ids of fewer than four
characters are not replaced, since "12" is a number in most sentences.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import UserError
from preprocessing.errors import InputError

NAME = "run.log"
WITHHELD = "a message that may name recordings was shown on the terminal only"
SHORTEST = 4  # characters of a raw subject id that is replaced
PATHS = re.compile(r"(?<![\w.])(?:[a-z][a-z0-9+]*://|[A-Za-z]:\\|~?/|\.\.?/)[^\s;,()'\"]+|\(path\)[^\s;,()'\"]+")

logger = logging.getLogger("dualpain")
logger.setLevel(logging.INFO)
logger.propagate = False  # the terminal has its own lines
_before: deque[logging.LogRecord] = deque(maxlen=1000)  # logged before there was a file


class _Held(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if not any(isinstance(handler, _File) for handler in logger.handlers):
            _before.append(record)


logger.addHandler(_Held())


class Line(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO    pretrain    2 encoders to train`. names: raw subject id -> pseudonym; places: paths."""

    converter = time.gmtime  # type: ignore[assignment]  # as logging's own documentation does

    def __init__(self, names: Mapping[str, str], places: Iterable[str]):
        super().__init__("%(asctime)s %(levelname)-7s %(stage)-11s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.names = {raw: name for raw, name in names.items() if len(raw) >= SHORTEST}
        self.places = sorted({place for place in places if len(place) > 1}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        return self.public(super().format(record).replace("\n", "; "))

    def public(self, text: str) -> str:
        for raw in sorted((raw for raw in self.names if raw in text), key=len, reverse=True):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(raw)}(?![A-Za-z0-9])", self.names[raw], text)
        for place in self.places:
            text = text.replace(place, "(path)")
        text = PATHS.sub("(path)", text)
        return text


class _File(logging.FileHandler):
    """A full disk ends the log but not the run."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        from orchestrator.runtime import progress

        logger.removeHandler(self)
        progress.say("log", f"{NAME} cannot be written any more; the run continues without it")


class Log:
    """The log of one run. open() once the folder is known to be this run's."""

    def __init__(self, folder: Path, line: Line):
        self.path, self._line = folder / NAME, line
        self._file: _File | None = None

    def open(self) -> None:
        if self._file is not None:
            return
        self._file = _File(self.path, mode="a", encoding="utf-8", errors="backslashreplace", delay=True)
        self._file.setFormatter(self._line)
        logger.addHandler(self._file)
        for record in tuple(_before):
            self._file.handle(record)

    def close(self) -> None:
        if self._file is not None:
            logger.removeHandler(self._file)
            self._file.close()
            self._file = None


def start() -> None:
    """A command starts: forget the lines of an earlier command in this process."""
    _before.clear()


@contextmanager
def kept(folder: Path, stage: str, names: Mapping[str, str], places: Iterable[str]) -> Iterator[Log]:
    """The log of the run in this folder, for the block.

    A new folder gets its log at once, one that holds lineage.json only with open(): a command that stops there with an error
    adds nothing to another run's log. Earlier lines are kept and written then.
    """
    log, began = Log(folder, Line(names, places)), time.monotonic()
    told = tuple(_before)  # of protocol=both the second run begins with the same lines
    if not (folder / "lineage.json").exists():
        log.open()
    tell(stage, "begins")
    try:
        yield log
        tell(stage, f"ends after {time.monotonic() - began:.1f} s")
    except BaseException as error:
        tell(stage, f"stopped after {time.monotonic() - began:.1f} s by {type(error).__name__}; its message was shown on the "
                    "terminal only", logging.ERROR)
        log.close()
        if isinstance(error, UserError | InputError) and [p.name for p in folder.glob("[!.]*")] == [NAME]:
            log.path.unlink()  # stopped before it was a run
        raise
    finally:
        log.close()
        _before.clear()
        _before.extend(told)


def tell(stage: str, text: str, level: int = logging.INFO) -> None:
    """Write to the log only."""
    logger.log(level, "%s", text, extra={"stage": stage})
