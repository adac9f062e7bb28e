"""Which study a run was made of: every person's recordings, marked by their content, so that two studies in which people and
clips happen to have the same names are not paired.

A mark is a hash over the files' own hashes, keyed by a secret that comes from the pseudonym key: whoever holds the recordings
and not the key cannot tell from a published run which of them is whose.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from orchestrator.cohort import Cohort
from orchestrator.config import Config
from orchestrator.folds import Plan
from orchestrator.models_needed import ESTIMATORS, SIGNALS, needs

Marks = Mapping[str, Mapping[str, str]]
MODALITIES = ("video", "signals")
NO_FILE = ("", "unreadable")


def marks(people: Cohort, hashes: Mapping[int, Mapping[str, tuple[str, ...]]]) -> dict[str, dict[str, str]]:
    """pseudonym -> modality -> mark. hashes: person's index -> sample -> (video, signal), as the clip store's plan has them;
    "" where the run reads no such file. Somebody who is in two data sets has one mark over both."""
    files: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for person in people.people:
        for sample, digests in hashes.get(person.index, {}).items():
            for modality, digest in zip(MODALITIES, digests, strict=True):
                if digest not in NO_FILE:
                    files[person.pseudonym][modality].append(f"{sample} {digest}")
    return {name: {modality: hashlib.sha256("\n".join([people.secret, *sorted(found)]).encode()).hexdigest()[:16]
                   for modality, found in sorted(own.items())} for name, own in sorted(files.items())}


def record(config: Config, plan: Plan, people: Cohort, hashes: Mapping[int, Mapping[str, tuple[str, ...]]]) -> dict:
    """What lineage.json holds for comparisons: the study, the scale, whether networks are refitted, who helped to choose the
    settings of the training."""
    network = config.model.name not in ESTIMATORS
    return {"recordings": marks(people, hashes), "scale": config.scale if SIGNALS <= needs(config) else None,
            "refit": plan.refit and network, "settings": config.train_from if network else None}


def same_recordings(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool | None:
    """Whether two marks of one person are of the same files; None where no modality is in both. One that agrees is enough: the
    other may have been replaced, or read with landmarks from somewhere else."""
    common = [name for name in MODALITIES if name in ours and name in theirs]
    return any(ours[name] == theirs[name] for name in common) if common else None
