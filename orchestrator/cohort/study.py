"""Which study a run was made of: every person's recordings, marked by their content, so that two studies in which people and
clips happen to have the same names are not paired, and somebody is known again whose clips were chosen otherwise.

A mark is a hash of one file's own hash, keyed by a secret that comes from the pseudonym key: whoever holds the recordings
and not the key cannot tell from a published run which of them is whose.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.cohort.cohort import Cohort
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import SIGNALS, is_estimator, needs
from preprocessing.recordings import Recording

if TYPE_CHECKING:
    from orchestrator.plan.folds import Plan

Hashes = Mapping[int, Mapping[str, tuple[str, ...]]]  # person's index -> sample -> (video, signal), as the clip store has them
Marks = Mapping[str, Sequence[str]]  # modality -> marks of one person's recordings; a text in runs of older versions
MODALITIES = ("video", "signals")
NO_FILE = ("", "unreadable")
KEPT = 32  # marks of a person and modality


def marks(people: Cohort, hashes: Hashes) -> dict[str, dict[str, list[str]]]:
    """pseudonym -> modality -> marks. "" in hashes: the run reads no such file. Who is in two data sets has those of both.

    A file that several people share (one archive, one table of all) marks nobody by itself: there a mark is of the file and
    the part of it. hashes are therefore of the whole cohort. Kept are the KEPT smallest marks, whoever makes the list, so that
    lists that share half of their files share a mark; and one more, of all, by which lists differ where the files do.
    """
    recordings = {(clip.subject, clip.sample): clip.recording for clip in people.clips}
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # file -> person -> parts
    for person in people.people:
        for sample, digests in hashes.get(person.index, {}).items():
            for modality, digest in zip(MODALITIES, digests, strict=True):
                if digest not in NO_FILE:
                    part = _part(recordings.get((person.index, sample)), modality, sample)
                    found[modality, digest][person.pseudonym].add(part)
    own: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (modality, digest), owners in found.items():
        for name, parts in owners.items():
            files = [digest] if len(owners) == 1 else [f"{digest}\n{part}" for part in parts]
            own[name][modality].update(_mark(people.secret, file) for file in files)
    return {name: {modality: [*sorted(several)[:KEPT], _mark(people.secret, *sorted(several))]
                   for modality, several in sorted(by_modality.items())} for name, by_modality in sorted(own.items())}


def _part(recording: Recording | None, modality: str, sample: str) -> str:
    """Which part of its file a clip is."""
    reference = None if recording is None else recording.video if modality == "video" else recording.signal
    if reference is None:
        return sample
    columns = [channel.column for channel in getattr(reference, "channels", ())]
    window = [getattr(reference, name, None) for name in ("item", "start_s", "end_s", "start_row", "end_row")]
    return " ".join(map(str, window + columns))


def _mark(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def record(config: Config, plan: "Plan", people: Cohort, hashes: Hashes) -> dict:
    """What lineage.json holds for comparisons: the study, the scale, whether networks are refitted, who helped to choose the
    settings of the training."""
    network = not is_estimator(config.model.name)
    return {"recordings": marks(people, hashes), "scale": config.scale if SIGNALS <= needs(config) else None,
            "refit": plan.refit and network, "settings": config.train_from if network else None}


def same_recordings(ours: Marks, theirs: Marks) -> bool | None:
    """Whether one recording is in both; None where no modality is, or where an older version marked them otherwise.

    One modality is enough: the other's files may have been replaced, or read with landmarks from somewhere else.
    """
    found = [_shared(ours[name], theirs[name]) for name in MODALITIES if name in ours and name in theirs]
    known = [shared for shared in found if shared is not None]
    return any(known) if known else None


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> bool | None:
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours == theirs if isinstance(ours, str) and isinstance(theirs, str) else None
    return bool(set(ours) & set(theirs))


def some_apart(ours: Marks, theirs: Marks) -> bool:
    """Of two who have a recording in common: whether not all of them are."""
    return any(list(ours[name]) != list(theirs[name]) for name in MODALITIES if name in ours and name in theirs)


def in_one(people: Iterable[Marks]) -> dict[str, list[str]]:
    """The marks of several people's recordings together, by modality."""
    found: dict[str, set[str]] = defaultdict(set)
    for own in people:
        for modality, several in own.items():
            found[modality].update(several)
    return {modality: sorted(several) for modality, several in sorted(found.items())}
