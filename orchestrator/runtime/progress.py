"""Progress messages: a bar with the time left on a terminal, one line per stage elsewhere; both also go to the run's log."""

import logging
import time
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orchestrator.runtime import run_log

console = Console(highlight=False)
live = True  # whether bars are drawn again and again, as long as they are on a terminal


@contextmanager
def bar(stage: str, total: int, unit: str):
    """Yield tick(n=1, note=""). At the end it prints what was done and how long it took."""
    began = time.monotonic()
    run_log.tell(stage, f"begins: {total} {unit}")
    if console.is_terminal and live:
        columns = (TextColumn("{task.description:<11}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
                   TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(stage, total=total, note="")

            tick = _Tick(lambda n, note: progress.update(task, advance=n, note=note))
            yield tick
    else:
        tick = _Tick(lambda n, note: None)
        yield tick
    done = f"{tick.done} {unit} in {time.monotonic() - began:.1f} s"
    console.print(f"{stage:<11} {done}")
    run_log.tell(stage, done)


@contextmanager
def inline():
    """Report that the stages run in this process, and draw no live bars, which would overwrite a debugger's prompt."""
    global live
    live, before = False, live
    say("executor", "inline: every stage in this process, without Ray, one clip, encoder or fold after the other")
    try:
        yield
    finally:
        live = before


class _Tick:
    """Counts what is done; `done` can be read by callers that get totals."""

    def __init__(self, show):
        self.done, self._show = 0, show

    def __call__(self, n: int = 1, note: str = "") -> None:
        self.done += n
        self._show(n, note)


def say(stage: str, text: str, level: int = logging.INFO, private: bool = False) -> None:
    """private: the text may name recordings, so it is not written to the run's log."""
    run_log.tell(stage, run_log.WITHHELD if private else text, level)
    console.print(f"{stage:<11} {text}", markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
