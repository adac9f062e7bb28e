"""One recording under two people: whichever of them is tested, training has seen it.

Told by the files before anything is decoded (the same bytes, in windows that overlap), and by prints of what was decoded,
which another container, coding or unit does not change (preprocessing/prints.py). Constant recordings say nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.cohort import Clip, Cohort
from orchestrator.errors import UserError
from preprocessing.errors import ClipError
from preprocessing.prints import same_films, same_signals
from preprocessing.recordings import SignalRef, VideoRef

MOST_OPENED = 200  # files that are opened to see whether they say anything


def refusal(people: Cohort, one: int, other: int, how: str) -> UserError:
    return UserError(f"People {people.keys([one])[0]} and {people.keys([other])[0]} have a recording in common, {how}: "
                     "whichever is tested, training has seen it. Remove one (python -m orchestrator.doctor names the files).")


def check_files(people: Cohort, digests: Callable[[Clip], Sequence[str]]) -> None:
    """Refuse overlapping windows of one content under two people. digests: (video, signal) of a clip's files, "" for none.

    Raises UserError.
    """
    opened = 0
    for clip, other, what in _overlaps(people, digests):
        if opened == MOST_OPENED:
            return
        opened += 1
        if _says_something(clip, what):
            how = "byte for byte" if _window(clip, what) == _window(other, what) else "in windows of one file that overlap"
            raise refusal(people, clip.subject, other.subject, how)


def _overlaps(people: Cohort, digests: Callable[[Clip], Sequence[str]]) -> Iterable[tuple[Clip, Clip, str]]:
    """(clip, clip of somebody else, "video" | "signal") that read the same part of the same content."""
    found: dict[tuple, list[tuple[float, float, Clip]]] = defaultdict(list)
    for clip in people.clips:
        for what, digest in zip(("video", "signal"), digests(clip), strict=True):
            reference = getattr(clip.recording, what)
            if reference is None or digest in ("", "unreadable"):
                continue
            for part, start, end in _parts(reference):
                found[what, digest, part].append((start, end, clip))
    identity = {p.index: people.keys([p.index])[0] for p in people.people}
    for (what, *_), windows in found.items():
        latest: dict[str, tuple[float, Clip]] = {}
        for start, end, clip in sorted(windows, key=lambda window: window[:2]):
            own = identity[clip.subject]
            for person, (until, other) in latest.items():
                if person != own and until > start:
                    yield other, clip, what
                    break
            if own not in latest or latest[own][0] < end:
                latest[own] = (end, clip)


def _parts(reference: VideoRef | SignalRef) -> Iterable[tuple[tuple, float, float]]:
    """(what of the file, start, end): of a signal every column, as one file may hold several people side by side."""
    start, end = reference.start_s, reference.end_s
    if isinstance(reference, VideoRef):
        yield (), start or 0.0, float("inf") if end is None else end
        return
    by_row = reference.start_row is not None or reference.end_row is not None
    if by_row:
        start, end = reference.start_row, reference.end_row
    for channel in reference.channels:
        yield (reference.item, channel.column, by_row), start or 0.0, float("inf") if end is None else end


def _window(clip: Clip, what: str) -> list[tuple]:
    return sorted(_parts(getattr(clip.recording, what)), key=repr)


def _says_something(clip: Clip, what: str) -> bool:
    """Whether the file can be read and is not constant: what cannot becomes a quarantine row in either person."""
    from preprocessing.signals import read_signal
    from preprocessing.video import Video

    try:
        if what == "signal":
            return any((c.values != c.values[:1]).any() for c in read_signal(clip.recording.signal).channels)
        with Video(clip.recording.video) as video:
            return next(iter(video), None) is not None
    except ClipError:
        return False


def check_prints(people: Cohort, sides: Mapping[int, Mapping]) -> None:
    """Refuse what is equal after decoding under two people. sides: a clip store's side files by person. Raises UserError."""
    for what, same in (("signal", same_signals), ("video", same_films)):
        owners, prints = [], []
        for subject in sorted(sides):
            for _, found in sorted(sides[subject].get("prints", {}).items()):
                if found.get(what) is not None:
                    owners.append(subject)
                    prints.append(found[what])
        refuse(people, owners, same(prints), "equal after decoding")


def refuse(people: Cohort, owners: Sequence[int], pairs: Iterable[tuple[int, int]], how: str) -> None:
    """UserError for the first pair whose owners are two people. owners: a person's index by row."""
    for i, j in pairs:
        one, other = owners[i], owners[j]
        if one != other and people.keys([one]) != people.keys([other]):
            raise refusal(people, one, other, how)
