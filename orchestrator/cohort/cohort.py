"""Subjects and clips under pseudonyms: raw ids and clip numbers do not leave this module.

A subject is (cohort, raw id); its pseudonym is a keyed hash of that. Order and random choices use the index, which is the
rank of the raw name, so the folds do not depend on the key.
"""

import hashlib
import hmac
import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.cohort.lineage import subject_key
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import reads_video
from orchestrator.errors import UserError
from orchestrator.files import owners
from orchestrator.files.storage import key_of, read_json, write_bytes, write_json
from orchestrator.runtime import progress
from orchestrator.runtime.store_lock import writing
from preprocessing.allotment import usable_cores
from preprocessing.datasets import biovid_lists, registry
from preprocessing.face.weights import SHA256, weight_file
from preprocessing.inputs.spelling import spellings
from preprocessing.recordings import DataSet, Recording

OWN, CROSS = "own", "cross_dataset"  # tested by the data set's own split; in a data set that is only tested
OWN_TRAIN, OWN_VALIDATION = "own_train", "own_validation"  # the other parts of the data set's own split
PUBLIC_KEY = b"dualpain public cohorts"


@dataclass(frozen=True)
class Person:
    """A subject, identified by cohort and pseudonym. held_out: names of the published lists (config.Split.list) that test this
    subject, or its other part in the data set's own split (OWN_TRAIN, OWN_VALIDATION)."""

    index: int
    pseudonym: str
    sex: str | None = None
    age: int | None = None
    cohort: str = ""
    held_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Clip:
    """One clip. subject: the subject's index; index: the clip's rank within the subject; label: the data set's class."""

    subject: int
    index: int
    sample: str
    label: int
    recording: Recording


@dataclass(frozen=True, kw_only=True)
class Cohort:
    dataset: str
    name: str
    class_names: tuple[str, ...]
    people: tuple[Person, ...]
    clips: tuple[Clip, ...]
    key_fingerprint: str
    partial: bool
    notes: tuple[str, ...]
    synthetic: bool
    place: str = ""  # separates the stores of data sets with the same name: for a manifest, its location
    secret: str = field(default="", repr=False)  # derived from the pseudonym key, to mark recordings; never written

    def raw_names(self) -> dict[str, str]:
        """raw name -> pseudonym of every subject and sample, to keep raw names out of written files."""
        subjects = {clip.recording.subject: self.people[clip.subject].pseudonym for clip in self.clips}
        return subjects | {clip.recording.sample: clip.sample for clip in self.clips}

    @property
    def store_name(self) -> str:
        """Name for files, different for data sets that share a name."""
        return f"{self.dataset}-{self.place}" if self.place else self.dataset

    def of(self, subject: int) -> list[Clip]:
        return [clip for clip in self.clips if clip.subject == subject]

    def pseudonyms(self, subjects) -> list[str]:
        return [self.people[subject].pseudonym for subject in subjects]

    def keys(self, subjects) -> list[str]:
        """Their keys in a lineage: cohort and pseudonym."""
        return [subject_key(self.people[s].cohort or self.name, self.people[s].pseudonym) for s in subjects]

    def label_counts(self, classes: list[int]) -> dict[int, Counter]:
        """Clips of the task per subject and class index (0 .. K-1)."""
        counts: dict[int, Counter] = {person.index: Counter() for person in self.people}
        for clip in self.clips:
            if clip.label in classes:
                counts[clip.subject][classes.index(clip.label)] += 1
        return counts

    @property
    def has_video(self) -> bool:
        return any(clip.recording.video for clip in self.clips)

    @property
    def has_signals(self) -> bool:
        return any(clip.recording.signal for clip in self.clips)


def load(config: Config) -> Cohort:
    """Load the data set, check that it is complete, give each subject a pseudonym. Writes the synthetic cohort if needed.

    Raises InputError if the root does not exist, UserError for an incomplete cohort.
    """
    dataset = _read(config)
    lacking = _check(config, dataset)
    return _pseudonymised(config, dataset, _key(config, dataset.cohort), lacking)


def preview(config: Config) -> Cohort:
    """The cohort for a plan: nothing is written, no key is made, and the synthetic cohort is not generated."""
    _check_options(config)
    if config.dataset == "synthetic" and not (synthetic_root(config) / "SYNTHETIC.json").exists():
        people = tuple(Person(i, f"s{i}") for i in range(config.synthetic.subjects))
        return Cohort(dataset="synthetic", name="synthetic", class_names=(), people=people, clips=(), key_fingerprint="",
                      partial=False, notes=(), synthetic=True)
    dataset = _read(config, may_write=False)
    return _pseudonymised(config, dataset, _key_there(config, dataset.cohort), _check(config, dataset))


def _check(config: Config, dataset: DataSet) -> bool:
    """Whether the cohort is incomplete. Raises UserError before anything is written."""
    _check_cohort_name(config, dataset)
    if config.dataset == "manifest" and registry.is_public(dataset.cohort):
        raise UserError(f"The manifest names its data set {dataset.cohort}, which is the name of a built-in one: give it "
                        "another name.")
    source = registry.find(config.dataset)
    if not isinstance(source.load, str) and dataset.cohort not in (source.cohorts or (source.name,)):
        raise UserError(f"The loader of {source.name} returns the cohort {dataset.cohort!a}, which is not in its registration "
                        "(cohorts=): correct one of them.")
    lacking = _check_complete(dataset, config)
    _check_tasks(dataset, config)
    return lacking


def _check_cohort_name(config: Config, dataset: DataSet) -> None:
    """A subject is (cohort, raw id): another spelling of a built-in cohort would give its subjects a second identity."""
    if config.dataset == "manifest" and dataset.cohort not in registry.cohorts():
        for name in registry.cohorts():
            if spellings(name) & spellings(dataset.cohort):
                raise UserError(f"The manifest names its data set {dataset.cohort!a}, which is close to the built-in {name}: "
                                f"write {name} if it has the same subjects, else give it another name.")


def _pseudonymised(config: Config, dataset: DataSet, key: bytes, lacking: bool) -> Cohort:
    index_of = {subject.raw_id: i for i, subject in enumerate(dataset.subjects)}
    lists = _held_out(dataset)
    people = tuple(Person(i, _pseudonym(key, "s", dataset.cohort, s.raw_id), s.sex, s.age, dataset.cohort,
                          frozenset(name for name, held in lists.items() if s.raw_id in held))
                   for i, s in enumerate(dataset.subjects))
    clips: list[Clip] = []
    rank: Counter[str] = Counter()
    for recording in dataset.recordings:
        sample = _pseudonym(key, "c", dataset.cohort, dataset.name, recording.subject, recording.sample)
        clips.append(Clip(index_of[recording.subject], rank[recording.subject], sample, recording.label, recording))
        rank[recording.subject] += 1
    return Cohort(dataset=config.dataset, name=dataset.cohort, class_names=dataset.class_names, people=people,
                  clips=tuple(clips), key_fingerprint=hashlib.sha256(key).hexdigest()[:12], partial=lacking,
                  notes=(*dataset.notes, *_unused(config, dataset)), synthetic=dataset.synthetic,
                  place=_place(config, dataset), secret=hmac.new(key, b"recordings", hashlib.sha256).hexdigest())


def _place(config: Config, dataset: DataSet) -> str:
    """For a manifest, a hash of its location; for BioVid, whether the filtered signals are read."""
    if dataset.table is not None:
        return key_of(os.path.realpath(dataset.table), 8)
    return "filtered" if registry.find(config.dataset).lists and config.data.source == "filtered" else ""


def _unused(config: Config, dataset: DataSet) -> list[str]:
    """Notes on columns of the data set that this run does not use."""
    if config.dataset != "manifest":
        return []
    notes = []
    if any(r.session is not None for r in dataset.recordings):
        notes.append(f"The column session is not used by split={config.split.name}.")
    own = config.split.name == "fixed" and config.split.list in ("auto", "own")
    if any(r.split is not None for r in dataset.recordings) and not own:
        notes.append(f"The column split is not used by split={config.split.name}"
                     + (f" split.list={config.split.list}" if config.split.name == "fixed" else "") + ".")
    return notes


def _held_out(dataset: DataSet) -> dict[str, set[str]]:
    """List -> raw ids that it tests: published lists and the data set's own split (loaders check that each subject is in one
    part only).

    The test subjects of the own split are tested; if it has none (AI4Pain), its validation subjects.
    """
    parts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for recording in dataset.recordings:
        if recording.split is not None:
            parts[recording.split].add(recording.subject)
    tested = parts["test"] or parts["validation"]
    lists = {OWN: tested, OWN_TRAIN: parts["train"], OWN_VALIDATION: parts["validation"] - tested}
    if dataset.name.startswith("biovid"):
        lists["hold_out_26"] = {s.raw_id for s in dataset.subjects if not biovid_lists.keeps("hold_out_61", s.raw_id)}
    return lists


def write_private_map(config: Config, cohort: Cohort) -> None:
    """The raw ids of the pseudonyms, readable by the owner of the data only: <store>/private/, mode 0600."""
    names = {cohort.people[c.subject].pseudonym: c.recording.subject for c in cohort.clips}
    samples = {c.sample: [c.recording.subject, c.recording.sample] for c in cohort.clips}
    path = private_folder(config) / f"{cohort.store_name}-{cohort.key_fingerprint}.json"
    value = {"subjects": names, "samples": samples}
    if read_json(path) != value:
        write_json(path, value, mode=0o600)


def private_folder(config: Config) -> Path:
    folder = config.store_dir / "private"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder


def synthetic_root(config: Config) -> Path:
    from preprocessing.synthetic.cohort import VERSION

    return config.store_dir / "synthetic" / key_of({**_synthetic_arguments(config), "generator": VERSION})


def _synthetic_arguments(config: Config) -> dict:
    names = ("BL1", "PA1", "PA2", "PA3", "PA4")
    levels = config.synthetic.levels or [names[c] for c in config.task.classes if c < len(names)]
    return {**config.synthetic.model_dump(mode="json"), "levels": list(levels)}


def _read(config: Config, may_write: bool = True) -> DataSet:
    _check_options(config)
    if config.dataset != "synthetic":
        options = {}
        if registry.find(config.dataset).lists:
            options = {"source": config.data.source, "subjects": config.data.subjects}
        root = Path(config.data.root).expanduser() if config.data.root else None
        return registry.load(config.dataset, root, **options)
    root = synthetic_root(config)
    if may_write:  # otherwise existing files are used as they are; the stages repair a damaged tree
        with writing(config, "synthetic"):
            _generate(config, root)
    # From here on, the built-in cohort is read from files like any copy of BioVid.
    loaded = registry.load("biovid_a", root, source=config.data.source, subjects=config.data.subjects)
    return replace(loaded, name="synthetic", cohort="synthetic")


def _check_options(config: Config) -> None:
    """UserError for an option of the data that has no effect for this data set."""
    data, name = config.data, config.dataset
    if not registry.find(name).lists and data.source != "raw":
        raise UserError(f"data.source={data.source} selects a folder of BioVid and has no effect for {name}: leave it out.")
    if not registry.find(name).lists and data.subjects != "all":
        raise UserError(f"data.subjects={data.subjects} is a list of BioVid's subjects and has no effect for {name}: leave it "
                        "out.")
    if name == "synthetic" and data.root:
        raise UserError("data.root has no effect for synthetic, which is written into the store: leave it out, or give the "
                        "data set in that folder with --dataset.")
    if name == "synthetic" and (data.source != "raw" or data.subjects != "all"):
        raise UserError("data.source and data.subjects select files and subjects of BioVid and have no effect for synthetic: "
                        "leave them out.")


def _generate(config: Config, root: Path) -> None:
    """Write the synthetic cohort if it is missing, and repair it if it is damaged."""
    from preprocessing.synthetic.cohort import generate

    arguments = _synthetic_arguments(config)
    words = {"part": "A", "subjects": arguments["subjects"], "clips_per_level": arguments["clips_per_level"],
             "effect": arguments["effect"], "seed": arguments["seed"], "levels": tuple(arguments["levels"]),
             "size": tuple(arguments["size"]), "jobs": usable_cores(config.resources.cpus)}
    if (root / "SYNTHETIC.json").exists():
        generate(root, **words)
        return
    if reads_video(config) and config.face.get("provider") != "precomputed":
        for name in SHA256:  # fail early: without these weights, the generated videos cannot be processed
            weight_file(name, Path(folder).expanduser() if (folder := config.face.get("weights_dir")) else None)
    n_clips = arguments["subjects"] * arguments["clips_per_level"] * len(arguments["levels"])
    with progress.bar("synthetic", n_clips, "clips") as tick:
        generate(root, **words, on_progress=lambda done, total: tick(done - tick.done))


def _check_complete(dataset: DataSet, config: Config) -> bool:
    if dataset.complete:
        return False
    found = dataset.found or {"subjects": len(dataset.subjects), "clips": len(dataset.recordings)}
    if not config.data.allow_partial:
        raise UserError(f"{dataset.root} is incomplete: found {dict(found)}, expected {dict(dataset.expected)}; complete the "
                        "copy, or accept it with data.allow_partial=true (every result is then marked as partial).")
    return True


def _check_tasks(dataset: DataSet, config: Config) -> None:
    if not dataset.recordings:
        raise UserError(f"{dataset.root} holds no usable recording: run python -m orchestrator.doctor --dataset "
                        f"{config.dataset} to see what was excluded and why.")
    present = {recording.label for recording in dataset.recordings}
    absent = [c for c in config.task.classes if c not in present]
    if absent:
        names = [dataset.class_names[c] if c < len(dataset.class_names) else str(c) for c in absent]
        what = "class" if len(names) == 1 else "classes"
        raise UserError(f"task={config.task.name} needs the {what} {', '.join(names)}, which no subject in "
                        f"{dataset.root} has: choose another task or complete the data.")


def _key(config: Config, cohort: str) -> bytes:
    if registry.is_public(cohort):
        return PUBLIC_KEY
    path = Path(config.store.key).expanduser() if config.store.key else private_folder(config) / "pseudonym.key"
    if not path.exists():
        if config.store.key:
            raise UserError(f"The pseudonym key {path} does not exist: give an existing file with store.key=FILE, or "
                            "leave out store.key to create one in the store.")
        _make_key(path)
    key = path.read_bytes().strip()
    if len(key) < 16:
        raise UserError(f"The pseudonym key {path} is shorter than 16 bytes: give a longer one with store.key=FILE.")
    return key


def _key_there(config: Config, cohort: str) -> bytes:
    """The key of an existing store, so that a plan finds finished artefacts; makes no key and raises no error."""
    if registry.is_public(cohort):
        return PUBLIC_KEY
    own = config.store_dir / "private" / "pseudonym.key"
    try:
        key = (Path(config.store.key).expanduser() if config.store.key else own).read_bytes().strip()
    except (OSError, RuntimeError):  # RuntimeError: ~user without such an account
        return PUBLIC_KEY
    return key if len(key) >= 16 else PUBLIC_KEY


def _make_key(path: Path) -> None:
    """A new key at `path`, written atomically. If another command was faster, its key is kept.

    Only one of two commands can create the link; the other one reads the first one's key.
    """
    temporary = path.with_name(f".{path.name}.{owners.tag()}.{os.urandom(4).hex()}.tmp")
    try:
        write_bytes(temporary, os.urandom(32).hex().encode(), mode=0o600)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without links: one command creates the file, the other waits until it is complete
            _make_key_here(path, temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)


def _make_key_here(path: Path, key: bytes, patience_s: float = 10) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        end = time.monotonic() + patience_s
        while path.stat().st_size < len(key) and time.monotonic() < end:
            time.sleep(0.05)
        return
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(key)
        handle.flush()
        os.fsync(handle.fileno())


def _pseudonym(key: bytes, prefix: str, *names: str) -> str:
    return prefix + hmac.new(key, "\0".join(names).encode(), hashlib.sha256).hexdigest()[:16]
