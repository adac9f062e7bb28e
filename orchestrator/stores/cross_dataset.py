"""split=cross_dataset: two data sets as one cohort, the second of which is used for testing only.

The indices of its subjects follow those of the first data set. Its labels are read as the first's classes and only the signal
channels that both have are kept, so that the joined cohort is used like any other. Subjects are not merged: one who is in
both data sets has two indices and one identity (cohort and pseudonym), which the plan and the lineage check use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.cohort import cohort
from orchestrator.cohort.cohort import CROSS, Cohort
from orchestrator.config.configuration import Config, choices, compose, nearest
from orchestrator.config.model_inputs import SIGNALS, check_modalities, needs
from orchestrator.errors import UserError
from orchestrator.files.storage import hash_all
from orchestrator.stores.clip_store import ClipStore
from preprocessing.inputs.spelling import groups, shown, spellings
from preprocessing.moments import Moments
from preprocessing.shard import ShardSignals

OTHER_CLASS = -1  # a label of the second data set that the task does not name


def is_cross(config: Config) -> bool:
    return config.split.name == "cross_dataset"


def tested(config: Config) -> Config:
    """The configuration under which the second data set is read: its own name and root, everything else the first's.

    Raises UserError for a data set that does not exist or is the training one, or for classes that do not match the task's.
    """
    split = config.split
    if split.test is None or split.test not in choices("dataset"):
        known = choices("dataset")
        raise UserError(f"split=cross_dataset tests on another data set: name it with split.test=, one of {', '.join(known)}"
                        + (f" (did you mean {nearest(split.test, known)}?)" if split.test else "") + ".")
    if split.test == config.dataset:
        raise UserError(f"split.test={split.test} is the training data set: use split=loso or split=kfold.")
    if split.classes is not None and len(split.classes) != len(config.task.classes):
        raise UserError(f"split.classes={split.classes} names {len(split.classes)} classes, task={config.task.name} has "
                        f"{len(config.task.classes)}: give one label of {split.test} for each, in the task's order.")
    task = config.task.model_copy(update={"classes": split.classes or config.task.classes})
    data = compose(split.test, []).data.model_copy(update={
        "root": split.root, "allow_partial": config.data.allow_partial,
        "source": config.data.source if {split.test, config.dataset} == {"biovid_a", "biovid_b"} else "raw"})
    return config.model_copy(update={"dataset": split.test, "data": data, "task": task})


@dataclass(frozen=True, kw_only=True)
class Joined(Cohort):
    """Two cohorts as one; parts: each as it was loaded. synthetic: whether all subjects are."""

    parts: tuple[Cohort, ...] = ()


def load(config: Config, preview: bool = False) -> Cohort:
    """The cohort of this run: the data set's own, or both joined. preview: nothing is written (see cohort.preview)."""
    read = cohort.preview if preview else cohort.load
    people = join(config, read(config), read(tested(config))) if is_cross(config) else read(config)
    if not preview:  # a preview estimates the costs in any case
        check_modalities(config, people.dataset, people.has_video, people.has_signals)
    return people


def join(config: Config, first: Cohort, second: Cohort) -> Joined:
    """Raises UserError for subjects, cohorts or channels of the two that could be the same in two spellings."""
    _check_spellings(first, second)
    shift, label_of = len(first.people), _labels(config)
    people = tuple(replace(p, cohort=first.name, held_out=p.held_out - {CROSS}) for p in first.people) + tuple(
        replace(p, index=p.index + shift, cohort=second.name, held_out=p.held_out | {CROSS}) for p in second.people)
    clips = first.clips + tuple(replace(c, subject=c.subject + shift, label=label_of.get(c.label, OTHER_CLASS))
                                for c in second.clips)
    key = first.key_fingerprint
    if second.key_fingerprint != key:
        key = f"{key}+{second.key_fingerprint}"
    notes = (*first.notes, f"Trained on {first.dataset}, tested on {second.dataset}.", *second.notes)
    if first.synthetic != second.synthetic:
        notes = (f"The subjects of {(first if first.synthetic else second).dataset} are synthetic.", *notes)
    return Joined(dataset=first.dataset, name=first.name, class_names=first.class_names, people=people, clips=clips,
                  key_fingerprint=key, partial=first.partial or second.partial, notes=notes,
                  synthetic=first.synthetic and second.synthetic, secret="".join(dict.fromkeys((first.secret, second.secret))),
                  parts=(first, second))


def _check_spellings(first: Cohort, second: Cohort) -> None:
    if first.name != second.name:
        if spellings(first.name) & spellings(second.name):
            raise UserError(f"The data sets call their cohorts {first.name!a} and {second.name!a}: use one name if their "
                            "subjects are the same, else two that differ.")
        return
    declared: dict[str, bool] = {}
    for clip in (*first.clips, *second.clips):
        name = clip.recording.subject
        declared[name] = declared.get(name, True) and bool(clip.recording.attributes.get("distinct"))
    for group in groups(declared):
        if not all(declared[name] for name in group):
            raise UserError(f"{first.dataset} and {second.dataset} are of one cohort, {first.name}, and may spell one subject "
                            f"in two ways ({shown(group)}): write each subject in one way, or, if they are different subjects, "
                            "set the column distinct to yes in all their rows.")


def _labels(config: Config) -> dict[int, int]:
    """The second data set's label -> the first's."""
    return dict(zip(config.split.classes or config.task.classes, config.task.classes, strict=True))


@dataclass(frozen=True)
class _Part:
    """One data set's store inside the joined one: index of its first subject, label map, columns of its channels."""

    store: ClipStore
    first: int
    labels: dict[int, int] | None
    columns: list[int] | None


class JoinedStore(ClipStore):
    """Two clip stores by the joined indices; `folder` is the first's."""

    def __init__(self, config: Config, stores: Sequence[ClipStore]):
        self.folder, second = stores[0].folder, len(stores[0].paths)
        self.paths = {**stores[0].paths, **{s + second: path for s, path in stores[1].paths.items()}}
        self.hashes = {**stores[0].hashes, **{s + second: own for s, own in stores[1].hashes.items()}}
        self.sides = {**stores[0].sides, **{s + second: side for s, side in stores[1].sides.items()}}
        columns = _common(stores) if SIGNALS <= needs(config) else (None, None)
        self.parts = (_Part(stores[0], 0, None, columns[0]), _Part(stores[1], second, _labels(config), columns[1]))

    def _part(self, subject: int) -> tuple[_Part, int]:
        part = self.parts[subject >= self.parts[1].first]
        return part, subject - part.first

    def sha256(self, subject: int) -> str:
        """The shard's hash, and which of its channels are read where that is not all."""
        part, own = self._part(subject)
        digest = part.store.sha256(own)
        return digest if part.columns is None else hash_all([digest, *map(str, part.columns)])

    def signals(self, subject: int) -> ShardSignals:
        part, own = self._part(subject)
        found = part.store.signals(own)
        if part.labels is not None:
            label = np.array([part.labels.get(int(x), OTHER_CLASS) for x in found.label], np.int32)
            found = replace(found, label=label)
        if part.columns is not None and found.signals.size:
            found = replace(found, signals=found.signals[:, :, part.columns],
                            channels=tuple(found.channels[i] for i in part.columns))
        return found

    def quarantine(self) -> list[dict]:
        rows = []
        for part in self.parts:
            rows += [row if part.labels is None else {**row, "label": part.labels.get(row["label"], OTHER_CLASS)}
                     for row in part.store.quarantine()]
        return rows

    def moments(self, subject: int, labels: Sequence[int]) -> Moments | None:
        part, own = self._part(subject)
        if part.labels is not None:
            theirs = {ours: label for label, ours in part.labels.items()}
            labels = [theirs[label] for label in labels if label in theirs]
        found = part.store.moments(own, labels)
        if found is None or part.columns is None:
            return found
        arrays = (found.count, found.mean, found.m2, found.low, found.high)
        return Moments(*(None if a is None else a[part.columns] for a in arrays))  # type: ignore[arg-type]


def _common(stores: Sequence[ClipStore]) -> tuple[list[int] | None, list[int] | None]:
    """Columns of the channels both have, in the first's order; None where that is every channel as it stands."""
    names = [_channels(store) for store in stores]
    for group in groups([*names[0], *names[1]], signs=True):
        raise UserError(f"The data sets spell a signal channel in two ways ({shown(group)}): give it one name in both.")
    common = [name for name in names[0] if name in names[1]]
    if not common:
        theirs = "; ".join(", ".join(own) or "none" for own in names)
        raise UserError(f"The data sets share no signal channel ({theirs}): "
                        "use model=video, or data sets with a channel of the same name.")
    found = [[own.index(name) for name in common] for own in names]
    return tuple(None if columns == list(range(len(own))) else columns  # type: ignore[return-value]
                 for columns, own in zip(found, names, strict=True))


def _channels(store: ClipStore) -> tuple[str, ...]:
    for subject in sorted(store.paths):
        if channels := store.signals(subject).channels:
            return channels
    return ()
