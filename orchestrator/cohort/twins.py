"""One recording under two people: whichever of them is tested, training has seen it.

Told by the files before anything is decoded (the same bytes, in windows that overlap), and by prints of what was decoded,
which another container, coding or unit does not change (preprocessing/fingerprints.py). Constant recordings say nothing, nor do
those that hold so little that two may be equal by chance (preprocessing/information.py); these are counted and told.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from orchestrator.cohort.cohort import Clip, Cohort
from orchestrator.errors import UserError
from preprocessing.errors import ClipError
from preprocessing.fingerprints import is_distinctive, same_signals, same_videos, signal_fingerprint
from preprocessing.limits import Limits
from preprocessing.notes import gathered
from preprocessing.recordings import SignalRef, VideoRef

FRAMES, LONGEST = 5, 4000  # of a film, and values of a channel, that the doctor compares
MOST_OPENED = 200  # films, and signals, that are opened to see whether they say anything


def refusal(people: Cohort, one: int, other: int, how: str) -> UserError:
    return UserError(f"People {people.keys([one])[0]} and {people.keys([other])[0]} have a recording in common, {how}: "
                     "whichever is tested, training has seen it. Remove one (python -m orchestrator.doctor names the files).")


def check_files(people: Cohort, digests: Callable[[Clip], Sequence[str]], limits: Limits | None = None) -> None:
    """Refuse overlapping windows of one content under two people. digests: (video, signal) of a clip's files, "" for none.

    Raises UserError.
    """
    found = shared_files(people, digests, limits)
    if found is not None:
        clip, other, what = found
        how = "byte for byte" if _window(clip, what) == _window(other, what) else "in windows of one file that overlap"
        raise refusal(people, clip.subject, other.subject, how)


def shared_files(people: Cohort, digests: Callable[[Clip], Sequence[str]], limits: Limits | None = None,
                 ) -> tuple[Clip, Clip, str] | None:
    """The first two clips of two people that read one content, and which of them ("video" | "signal"); None without any."""
    known: dict[tuple, bool] = {}
    opened: Counter = Counter()
    for clip, other, what in _overlaps(people, digests):
        ref = getattr(clip.recording, what)
        one_file = ref.path == getattr(other.recording, what).path
        if not one_file:  # two files' signals may be equal by chance; all of them counts, as their bytes are equal to the end
            ref = replace(ref, start_s=None, end_s=None, **({} if what == "video" else {"start_row": None, "end_row": None}))
        if (ref, one_file) not in known:
            if opened[what] == MOST_OPENED:
                continue
            opened[what] += 1
            known[ref, one_file] = _says_something(ref, limits, one_file)
        if known[ref, one_file]:
            return clip, other, what
    return None


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


def _says_something(ref: VideoRef | SignalRef, limits: Limits | None, one_file: bool) -> bool:
    """Whether the file can be read and is not constant: what cannot becomes a quarantine row in either person.

    one_file: two people name the same file, which is no chance however little it holds.
    """
    from preprocessing.signals.signals import read_signal
    from preprocessing.video.video import Video

    try:
        if isinstance(ref, SignalRef):
            with gathered():
                values = [c.values for c in read_signal(ref, limits or Limits()).channels]
            return any((v != v[:1]).any() for v in values) and (one_file or is_distinctive(values, exactly=True))
        with gathered(), Video(ref, limits=limits) as video:
            return next(iter(video), None) is not None
    except ClipError:
        return False


def shared_decoded(people: Cohort, most_signals: int = 3000, most_films: int = 200, watched: bool = True,
                   ) -> tuple[list[tuple[Clip, Clip, str]], bool, int]:
    """(clips of two people that decode to one recording and which of it ("video" | "signal"), whether all were
    compared, how many signals hold too little for that), without a store.

    watched: whether films count. Signals go by their prints; of films the first frames, which must be equal to the last bit.
    """
    signals = [clip for clip in people.clips if clip.recording.signal is not None]
    films = [clip for clip in people.clips if watched and clip.recording.video is not None]
    pairs: list[tuple[Clip, Clip, str]] = []
    n_little = 0
    if len(signals) <= most_signals:
        readable = [(clip, found) for clip in signals if (found := _signal_of(clip)) is not None]
        read = [(clip, found) for clip, found in readable if found]
        n_little = len(readable) - len(read)
        pairs += [(read[i][0], read[j][0], "signal") for i, j in same_signals([found for _, found in read])]
    if len(films) <= most_films:
        first: dict[str, Clip] = {}
        for clip in films:
            if (digest := _begin_of(clip)) is not None:
                pairs += [(first[digest], clip, "video")] if digest in first else []
                first.setdefault(digest, clip)
    between = [(a, b, what) for a, b, what in pairs if people.keys([a.subject]) != people.keys([b.subject])]
    return between, len(signals) <= most_signals and len(films) <= most_films, n_little


def _signal_of(clip: Clip) -> list[float] | None:
    """The print of the raw channels; each of its own length, so that they are brought to one by leaving values out. Empty where
    they hold too little, None where they cannot be read."""
    from preprocessing.signals.signals import read_signal

    assert clip.recording.signal is not None
    try:
        with gathered():
            values = [c.values for c in read_signal(clip.recording.signal).channels]
    except ClipError:
        return None
    if not values or not min(map(len, values)):
        return None
    if not is_distinctive(values):
        return []
    length = min(max(map(len, values)), LONGEST)
    resampled = [v[np.linspace(0, len(v) - 1, length).round().astype(int)] for v in values]
    return signal_fingerprint(np.stack(resampled, axis=1)) or []


def _begin_of(clip: Clip) -> str | None:
    from preprocessing.video.video import Video

    assert clip.recording.video is not None
    digest, n, varies = hashlib.sha256(), 0, False
    try:
        with gathered(), Video(clip.recording.video) as video:
            for frame in islice(video, FRAMES):
                picture = frame.rgb()
                varies = varies or bool((picture != picture[:1, :1]).any())
                digest.update(np.ascontiguousarray(picture).tobytes())
                n += 1
    except ClipError:
        return None
    return digest.hexdigest() if n and varies else None


def check_prints(people: Cohort, sides: Mapping[int, Mapping]) -> None:
    """Refuse what is equal after decoding under two people. sides: a clip store's side files by person. Raises UserError."""
    for what, same in (("signal", same_signals), ("video", same_videos)):
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
