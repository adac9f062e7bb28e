"""When in its recording a clip was cut: for the control that knows nothing else.

Only from where windows begin in one and the same file. Clips that are files of their own have a name and a rank in the
order of names, which tell the class (BioVid's), so that neither is taken for an order.
"""

from collections import defaultdict
from collections.abc import Mapping
from math import nan

from orchestrator.cohort.cohort import Clip, Cohort
from preprocessing.recordings import SignalRef, VideoRef


def trial_order(people: Cohort) -> Mapping[tuple[int, str], float]:
    """(subject, sample) -> place from 0 (first) to 1 (last) among the person's clips of the same file; NaN where not known."""
    files: dict[tuple, list[tuple[float, Clip]]] = defaultdict(list)
    for clip in people.clips:
        if (found := _begin(clip)) is not None:
            files[clip.subject, found[0]].append((found[1], clip))
    order = {(clip.subject, clip.sample): nan for clip in people.clips}
    for clips in files.values():
        begins = sorted({begin for begin, _ in clips})
        if len(begins) > 1:
            order |= {(clip.subject, clip.sample): begins.index(begin) / (len(begins) - 1) for begin, clip in clips}
    return order


def _begin(clip: Clip) -> tuple[tuple, float] | None:
    """(the file, where in it the clip begins: rows or seconds)."""
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
