"""The order of clips within their recording, for a control model that uses nothing else.

It is known only if clips are windows of the same file. If each clip is its own file, names and their order are not used,
because they may reveal the class (as in BioVid).
"""

from collections import defaultdict
from collections.abc import Mapping
from math import nan

from orchestrator.cohort.cohort import Clip, Cohort
from preprocessing.recordings import SignalRef, VideoRef


def trial_order(cohort: Cohort) -> Mapping[tuple[int, str], float]:
    """(subject, sample) -> position from 0 (first) to 1 (last) among the subject's clips of the same file; NaN if unknown."""
    files: dict[tuple, list[tuple[float, Clip]]] = defaultdict(list)
    for clip in cohort.clips:
        if (found := _begin(clip)) is not None:
            files[clip.subject, found[0]].append((found[1], clip))
    order = {(clip.subject, clip.sample): nan for clip in cohort.clips}
    for clips in files.values():
        begins = sorted({begin for begin, _ in clips})
        if len(begins) > 1:
            order |= {(clip.subject, clip.sample): begins.index(begin) / (len(begins) - 1) for begin, clip in clips}
    return order


def _begin(clip: Clip) -> tuple[tuple, float] | None:
    """(file, start of the clip in it: rows or seconds)."""
    for reference in (clip.recording.signal, clip.recording.video):
        if isinstance(reference, SignalRef):
            begin = reference.start_row if reference.start_row is not None else reference.start_s
            item: str | int | None = reference.item
        elif isinstance(reference, VideoRef):
            begin, item = reference.start_s, None
        else:
            continue
        if begin is not None:
            return (reference.path, item), float(begin)
    return None
