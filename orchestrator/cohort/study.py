"""Which study a run used: marks identify each subject's recordings by content. So two studies whose subjects and clips have
the same names are not paired, and a subject is recognised if other clips of it were selected.

A mark is a hash of a file's hash, keyed by a secret derived from the pseudonym key: without the key, a published run does
not reveal which recording belongs to which subject.
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

Hashes = Mapping[int, Mapping[str, tuple[str, ...]]]  # subject's index -> sample -> (video, signal), as the clip store has them
Marks = Mapping[str, Sequence[str]]  # modality -> marks of one subject's recordings; a string in runs of older versions
MODALITIES = ("video", "signals")
NO_FILE = ("", "unreadable")
KEPT = 32  # marks stored per subject and modality


def marks(cohort: Cohort, hashes: Hashes) -> dict[str, dict[str, list[str]]]:
    """pseudonym -> modality -> marks. "" in hashes: the run reads no such file. A subject in two data sets has marks of both.

    A file that several subjects share (one archive, one table) does not identify a subject: there, a mark is of the file and
    the clip's part of it. Therefore hashes must be of the whole cohort. The KEPT smallest marks are stored, so that lists of
    files that overlap by half share a mark with high probability; and one mark of all files, which differs if any file does.
    """
    recordings = {(clip.subject, clip.sample): clip.recording for clip in cohort.clips}
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # file -> subject -> parts
    for person in cohort.people:
        for sample, digests in hashes.get(person.index, {}).items():
            for modality, digest in zip(MODALITIES, digests, strict=True):
                if digest not in NO_FILE:
                    part = _part(recordings.get((person.index, sample)), modality, sample)
                    found[modality, digest][person.pseudonym].add(part)
    own: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (modality, digest), owners in found.items():
        for name, parts in owners.items():
            files = [digest] if len(owners) == 1 else [f"{digest}\n{part}" for part in parts]
            own[name][modality].update(_mark(cohort.secret, file) for file in files)
    return {name: {modality: [*sorted(several)[:KEPT], _mark(cohort.secret, *sorted(several))]
                   for modality, several in sorted(by_modality.items())} for name, by_modality in sorted(own.items())}


def _part(recording: Recording | None, modality: str, sample: str) -> str:
    """The part of its file that a clip uses."""
    reference = None if recording is None else recording.video if modality == "video" else recording.signal
    if reference is None:
        return sample
    columns = [channel.column for channel in getattr(reference, "channels", ())]
    window = [getattr(reference, name, None) for name in ("item", "start_s", "end_s", "start_row", "end_row")]
    return " ".join(map(str, window + columns))


def _mark(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def record(config: Config, plan: "Plan", cohort: Cohort, hashes: Hashes) -> dict:
    """The part of lineage.json for comparisons: the study, the scale, whether networks are refitted, and on which data the
    training settings were chosen."""
    network = not is_estimator(config.model.name)
    return {"recordings": marks(cohort, hashes), "scale": config.scale if SIGNALS <= needs(config) else None,
            "refit": plan.refit and network, "settings": config.train_from if network else None}


def same_recordings(ours: Marks, theirs: Marks) -> bool | None:
    """Whether they share a recording; None if they share no modality, or if an older version used other marks.

    One modality is enough: files of the other may have been replaced, or read with other landmarks.
    """
    found = [_shared(ours[name], theirs[name]) for name in MODALITIES if name in ours and name in theirs]
    known = [shared for shared in found if shared is not None]
    return any(known) if known else None


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> bool | None:
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours == theirs if isinstance(ours, str) and isinstance(theirs, str) else None
    return bool(set(ours) & set(theirs))


def some_differ(ours: Marks, theirs: Marks) -> bool:
    """Whether some recordings differ between two lists of marks that share a recording."""
    return any(list(ours[name]) != list(theirs[name]) for name in MODALITIES if name in ours and name in theirs)


def in_one(subjects: Iterable[Marks]) -> dict[str, list[str]]:
    """The union of several subjects' marks, by modality."""
    found: dict[str, set[str]] = defaultdict(set)
    for own in subjects:
        for modality, several in own.items():
            found[modality].update(several)
    return {modality: sorted(several) for modality, several in sorted(found.items())}
