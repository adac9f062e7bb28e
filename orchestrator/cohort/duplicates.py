"""Duplicates: an identical recording of two subjects, which leaks into training when one of them is tested.

They are found in the files before decoding (the same bytes in overlapping windows), and by fingerprints of the decoded
recordings, which do not change with container, lossless coding or unit (preprocessing/duplicates/fingerprints.py). Recordings
that are constant or hold so little information that two may be equal by chance (preprocessing/duplicates/information.py) are
skipped and counted.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from orchestrator.cohort.cohort import Clip, Cohort
from orchestrator.errors import UserError
from preprocessing.duplicates.fingerprints import is_distinctive, same_signals, same_videos, signal_fingerprint
from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits
from preprocessing.notes import gathered
from preprocessing.recordings import SignalRef, VideoRef

FRAMES, LONGEST = 5, 4000  # frames of a video, and values of a channel, that the doctor compares
MOST_OPENED = 200  # videos, and signals, that are opened to see whether they hold information


def duplicate_error(cohort: Cohort, one: int, other: int, how: str) -> UserError:
    return UserError(f"Subjects {cohort.keys([one])[0]} and {cohort.keys([other])[0]} contain an identical recording ({how}), "
                     "which leaks into training when one of them is tested. Remove one (python -m orchestrator.doctor names "
                     "the files).")


def check_files(cohort: Cohort, digests: Callable[[Clip], Sequence[str]], limits: Limits | None = None) -> None:
    """Raises UserError if clips of two subjects are overlapping windows of identical files.

    digests: hashes of a clip's files (video, signal), "" for none.
    """
    found = shared_files(cohort, digests, limits)
    if found is not None:
        clip, other, what = found
        how = "byte for byte" if _window(clip, what) == _window(other, what) else "overlapping windows of one file"
        raise duplicate_error(cohort, clip.subject, other.subject, how)


def shared_files(cohort: Cohort, digests: Callable[[Clip], Sequence[str]], limits: Limits | None = None,
                 ) -> tuple[Clip, Clip, str] | None:
    """The first two clips of two subjects with identical file content, and which ("video" | "signal"); None without any."""
    known: dict[tuple, bool] = {}
    opened: Counter = Counter()
    for clip, other, what in _overlaps(cohort, digests):
        ref = getattr(clip.recording, what)
        one_file = ref.path == getattr(other.recording, what).path
        if not one_file:  # short windows of two files may be equal by chance, so the information of the whole files counts
            ref = replace(ref, start_s=None, end_s=None, **({} if what == "video" else {"start_row": None, "end_row": None}))
        if (ref, one_file) not in known:
            if opened[what] == MOST_OPENED:
                continue
            opened[what] += 1
            known[ref, one_file] = _is_informative(ref, limits, one_file)
        if known[ref, one_file]:
            return clip, other, what
    return None


def _overlaps(cohort: Cohort, digests: Callable[[Clip], Sequence[str]]) -> Iterable[tuple[Clip, Clip, str]]:
    """(clip, clip of another subject, "video" | "signal") that read the same part of identical files."""
    found: dict[tuple, list[tuple[float, float, Clip]]] = defaultdict(list)
    for clip in cohort.clips:
        for what, digest in zip(("video", "signal"), digests(clip), strict=True):
            reference = getattr(clip.recording, what)
            if reference is None or digest in ("", "unreadable"):
                continue
            for part, start, end in _parts(reference):
                found[what, digest, part].append((start, end, clip))
    identity = {p.index: cohort.keys([p.index])[0] for p in cohort.people}
    for (what, *_), windows in found.items():
        latest: dict[str, tuple[float, Clip]] = {}
        for start, end, clip in sorted(windows, key=lambda window: window[:2]):
            own = identity[clip.subject]
            for subject, (until, other) in latest.items():
                if subject != own and until > start:
                    yield other, clip, what
                    break
            if own not in latest or latest[own][0] < end:
                latest[own] = (end, clip)


def _parts(reference: VideoRef | SignalRef) -> Iterable[tuple[tuple, float, float]]:
    """(part of the file, start, end): for a signal each column, as one file may hold several subjects in columns."""
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


def _is_informative(ref: VideoRef | SignalRef, limits: Limits | None, one_file: bool) -> bool:
    """Whether the file can be read and is not constant. An unreadable file is excluded for both subjects anyway.

    one_file: two subjects use the same file; this is no coincidence, even with little information.
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


def shared_decoded(cohort: Cohort, most_signals: int = 3000, most_videos: int = 200, with_videos: bool = True,
                   ) -> tuple[list[tuple[Clip, Clip, str]], bool, int]:
    """(clips of two subjects that decode to an identical recording and which ("video" | "signal"), whether all were
    compared, how many signals hold too little information for that), without a store.

    with_videos: whether videos are compared. Signals are compared by fingerprints, videos by bit-identical first frames.
    """
    signals = [clip for clip in cohort.clips if clip.recording.signal is not None]
    videos = [clip for clip in cohort.clips if with_videos and clip.recording.video is not None]
    pairs: list[tuple[Clip, Clip, str]] = []
    n_little = 0
    if len(signals) <= most_signals:
        readable = [(clip, found) for clip in signals if (found := _signal_of(clip)) is not None]
        read = [(clip, found) for clip, found in readable if found]
        n_little = len(readable) - len(read)
        pairs += [(read[i][0], read[j][0], "signal") for i, j in same_signals([found for _, found in read])]
    if len(videos) <= most_videos:
        first: dict[str, Clip] = {}
        for clip in videos:
            if (digest := _first_frames(clip)) is not None:
                pairs += [(first[digest], clip, "video")] if digest in first else []
                first.setdefault(digest, clip)
    between = [(a, b, what) for a, b, what in pairs if cohort.keys([a.subject]) != cohort.keys([b.subject])]
    return between, len(signals) <= most_signals and len(videos) <= most_videos, n_little


def _signal_of(clip: Clip) -> list[float] | None:
    """The fingerprint of the raw channels, subsampled to a common length. Empty if they hold too little information, None if
    they cannot be read."""
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


def _first_frames(clip: Clip) -> str | None:
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


def check_prints(cohort: Cohort, sides: Mapping[int, Mapping]) -> None:
    """Raises UserError if decoded recordings of two subjects are identical. sides: a clip store's sidecars by subject."""
    for what, same in (("signal", same_signals), ("video", same_videos)):
        owners, prints = [], []
        for subject in sorted(sides):
            for _, found in sorted(sides[subject].get("prints", {}).items()):
                if found.get(what) is not None:
                    owners.append(subject)
                    prints.append(found[what])
        refuse(cohort, owners, same(prints), "equal after decoding")


def refuse(cohort: Cohort, owners: Sequence[int], pairs: Iterable[tuple[int, int]], how: str) -> None:
    """UserError for the first pair of rows with different subjects. owners: subject index by row."""
    for i, j in pairs:
        one, other = owners[i], owners[j]
        if one != other and cohort.keys([one]) != cohort.keys([other]):
            raise duplicate_error(cohort, one, other, how)
