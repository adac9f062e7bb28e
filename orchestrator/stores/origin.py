"""Encoders that were trained on another data set: what pretrain.from names, whether it fits here, its training subjects.

The paper's encoder was trained on a fifth of BioVid-A and used for Part B and AI4Pain. Parts A and B have the same subjects:
an encoder's training subjects are known by cohort and pseudonym, so it cannot be used to test them here. Pseudonyms depend on
a key, and cannot be compared with those of another key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lineage import Lineage
from orchestrator.cohort.study import Hashes, Marks, marks, same_recordings
from orchestrator.config.configuration import Config, choices, nearest
from orchestrator.errors import UserError
from orchestrator.files.storage import hash_all, intact, read_json
from orchestrator.stores.encoder_store import about_signals, reads, signal_options, video_options

if TYPE_CHECKING:
    from torch import Tensor

SIDE = "encoder.json"
# Options of VideoMAE that shape its encoder; null stands for the value of the scale.
SHAPE = ("scale", "image_size", "frames", "tubelet", "patch", "depth", "dim", "heads")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A trained encoder of ours. subjects: indices of its training subjects in this cohort, n_people: number of all of them.

    weights: hash by modality ("video", "signal"); video, signal: options of the parts that are taken over, else None;
    why_not_signal: why a signal MAE that is needed is not; recordings: marks of its training recordings (study.py).
    """

    folder: Path
    name: str
    weights: Mapping[str, str]
    lineage: Lineage
    subjects: tuple[int, ...]
    n_people: int
    video: dict | None
    signal: dict | None
    why_not_signal: str = ""
    recordings: Marks = field(default_factory=dict)  # of all training subjects; empty if an older version made it

    @property
    def trains_signal(self) -> bool:
        """Whether a signal MAE is pretrained here in addition."""
        return bool(self.why_not_signal)

    def sha256(self) -> str:
        """Of the weights that are taken over, and of their training subjects."""
        parts = [self.weights[modality] for modality, taken in (("video", self.video), ("signal", self.signal)) if taken]
        return hash_all([*parts, self.lineage.sha256()])

    def check_recordings(self, people: Cohort, hashes: Hashes) -> None:
        """Raises UserError if it was trained on recordings of these subjects under other names: nothing would keep it from
        being used to test them. hashes: of the recordings, as the clip store has them."""
        known = self.lineage.everyone()
        own = marks(people, hashes)
        again = sorted({key for p, key in zip(people.people, people.keys([p.index for p in people.people]), strict=True)
                        if key not in known and same_recordings(own.get(p.pseudonym, {}), self.recordings)})
        if again:
            more = f" and {len(again) - 5} more" if len(again) > 5 else ""
            raise UserError(f"pretrain.from: {self.name} was trained on recordings of {', '.join(again[:5])}{more} under "
                            "other names: give each subject the same name in both data sets, so that no subject is tested with "
                            "an encoder that was trained on it.")

    def state(self, modality: str) -> "dict[str, Tensor]":
        """Weights of "video" or "signal". Raises UserError if they are damaged, or are not those that were found before."""
        from models import checkpoint

        try:
            state, side = checkpoint.read_weights(self.folder / modality)
        except checkpoint.ModelError as error:
            raise UserError(f"pretrain.from: the encoder {self.folder} is damaged ({_words(error)}): train it again, or give "
                            "another.") from error
        if side["weights_sha256"] != self.weights[modality] or Lineage.from_json(side["lineage"]) != self.lineage:
            raise UserError(f"pretrain.from: the encoder {self.folder} is damaged (its files disagree about its {modality} "
                            "weights or their training subjects): train it again, or give another.")
        return state


def read(config: Config, people: Cohort) -> tuple[Origin, ...]:
    """The encoders that pretrain.from names; () without it. Raises UserError for what cannot be taken over here."""
    given = config.pretrain.given
    if given is None or not any(reads(config)):
        return ()
    if config.pretrain.name == "none" or config.pretrain.checkpoint:
        other = "pretrain=none" if config.pretrain.name == "none" else "pretrain.checkpoint"
        raise UserError(f"pretrain.from uses encoders that are already trained, which contradicts {other}: leave one out.")
    if given in choices("dataset"):
        return _of_data_set(config, people, given)
    return tuple(_checked(config, people, _opened(folder)) for folder in _folders(given))


def _folders(given: str) -> list[Path]:
    """One folder, or several as [DIR,DIR]."""
    several = given.startswith("[") and given.endswith("]") and not Path(given).exists()
    folders = [Path(word.strip()).expanduser().resolve() for word in (given[1:-1].split(",") if several else [given])]
    if len(set(folders)) < len(folders):
        raise UserError(f"pretrain.from={given} names a folder twice: name each encoder once.")
    for folder in folders:
        if not folder.is_dir():
            near = f" (did you mean {nearest(given, choices('dataset'))}?)" if "/" not in given else ""
            raise UserError(f"pretrain.from={given} is neither a data set nor an encoder's folder{near}: give the data set it "
                            "was trained for, or <store>/encoders/KEY.")
    return folders


@dataclass(frozen=True)
class _Found:
    """A folder with what its encoder.json says; about: of the data and settings it was trained with."""

    folder: Path
    side: Mapping[str, Any]
    lineage: Lineage

    @property
    def about(self) -> Mapping[str, Any]:
        return self.side["about"]

    def trained(self) -> tuple[bool, bool]:
        """Whether video and signal weights were trained there, not taken from elsewhere or left at random."""
        video, signal = self.about["trained"]
        return bool(video), bool(signal)


def _opened(folder: Path) -> _Found:
    """Raises UserError for a folder that is not an encoder of ours, is damaged, or does not record its training subjects."""
    side = read_json(folder / SIDE)
    if not (folder / SIDE).exists():
        if any((folder / f"{modality}.safetensors").exists() for modality in ("video", "signal")):
            raise UserError(f"pretrain.from={folder} has weights but its lineage file is missing ({SIDE}, which lists the "
                            "training subjects): give an encoder as orchestrator.pretrain wrote it.")
        raise UserError(f"pretrain.from={folder} is not an encoder's folder, as {SIDE} is missing: give <store>/encoders/KEY "
                        "as orchestrator.pretrain wrote it.")
    if isinstance(side, dict) and "weights" in side and not isinstance(side.get("lineage"), dict):
        raise UserError(f"pretrain.from={folder} has no lineage, so that its training subjects are unknown: give an encoder as "
                        "orchestrator.pretrain wrote it.")
    try:
        if not isinstance(side, dict) or not intact(side) or not isinstance(side["weights"], dict):
            raise ValueError
        lineage = Lineage.from_json(side["lineage"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"pretrain.from={folder} is damaged ({SIDE} was truncated, or changed after it was written): train it "
                        "again, or give another.") from None
    if not isinstance(side.get("about"), dict):
        raise UserError(f"pretrain.from={folder} was made by an older version, which did not record the pseudonym key of its "
                        "training subjects: train it again.")
    return _Found(folder, side, lineage)


def _checked(config: Config, people: Cohort, found: _Found) -> Origin:
    """The parts of it that this run takes over. Raises UserError if its subjects or its shape do not fit this run."""
    _check_people(people, found)
    wants_video, wants_signal = reads(config)
    here = f"pretrain.from={found.folder}"
    video, signal, why = found.about["video"], None, ""
    if wants_video:
        if video is None or found.about["random"]:
            raise UserError(f"{here} holds no trained video encoder, which model={config.model.name} needs: give another, or "
                            "train one with model=dual or model=video.")
        if differ := _differing(config, video):
            raise UserError(f"{here} has another shape than encoder={config.encoder.name} here ({differ}): use encoder="
                            f"{found.about['name']} with the same sizes, or another encoder's folder.")
    if wants_signal:
        why = _signal_misfit(config, people, found)
        signal = None if why else found.about["signal"]
        if why and not wants_video:
            raise UserError(f"{here} holds no signal encoder that fits here ({why}), and model={config.model.name} uses "
                            "nothing else of it: set these options as in its training, or leave pretrain.from out.")
    keys = people.keys([p.index for p in people.people])
    seen = found.lineage.everyone()
    subjects = tuple(p.index for p, key in zip(people.people, keys, strict=True) if key in seen)
    taken = Origin(folder=found.folder,
                   name=f"encoder {found.about['group'] + 1} of {found.about['dataset']} ({found.folder.name})",
                   weights=found.side["weights"], lineage=found.lineage, subjects=subjects, n_people=len(seen),
                   video=dict(video) if wants_video else None, signal=None if signal is None else dict(signal),
                   why_not_signal=why, recordings=found.about.get("recordings") or {})
    for modality, wanted in (("video", taken.video), ("signal", taken.signal)):
        if wanted is not None:
            taken.state(modality)
    return taken


def _check_people(people: Cohort, found: _Found) -> None:
    """Pseudonyms identify subjects only under the same key."""
    theirs, ours = set(found.about["key_fingerprint"].split("+")), set(people.key_fingerprint.split("+"))
    if not (theirs <= ours or ours <= theirs):
        raise UserError(f"pretrain.from={found.folder} has another pseudonym key for the subjects of cohort "
                        f"{found.about['cohort']} ({found.about['key_fingerprint']}) than this run for those of {people.name} "
                        f"({people.key_fingerprint}), so that it is unknown which of them it was trained on: use "
                        "the store it was trained in, or the same store.key=FILE for both.")


def _differing(config: Config, stored: Mapping[str, Any]) -> str:
    """"dim 192 there, 384 here": the differences of the encoder's shape from this run's, "" without any."""
    theirs, ours = _shape(stored), _shape(video_options(config))
    return "; ".join(f"{name} {theirs[name]} there, {ours[name]} here" for name in SHAPE
                     if name != "scale" and theirs[name] != ours[name])


def _shape(options: Mapping[str, Any]) -> dict[str, Any]:
    from models.mae.video_mae import SCALES

    preset = SCALES[options["scale"]]
    own = {"tubelet": 2, "patch": 16, "depth": preset.depth, "dim": preset.dim, "heads": preset.heads}
    return {name: own.get(name) if options.get(name) is None else options[name] for name in SHAPE}


def _signal_misfit(config: Config, people: Cohort, found: _Found) -> str:
    """Why its signal MAE cannot initialise the signal encoder here; "" where it can."""
    if found.about["signal"] is None or not found.trained()[1]:
        return "it has none"
    theirs, ours = found.about["signals"], about_signals(config, people)
    for name, what in (("channels", "channels"), ("rates", "rates"), ("seconds", "length of a clip"),
                       ("signal", "preprocessing of signals"), ("scale", "scale")):
        if theirs[name] != ours[name]:
            if name == "signal":
                return f"other {what}: {_apart(theirs[name], ours[name], 'signal.')}"
            there, here = (_list(one[name]) if name in ("channels", "rates") else one[name] for one in (theirs, ours))
            return f"other {what}: {there} there, {here} here"
    wanted = signal_options(config, len(ours["channels"]), found.about["signal"]["length"])
    if wanted != found.about["signal"]:
        return "other sizes: " + _apart(found.about["signal"], wanted, "smae.")
    return ""


def _apart(theirs: Mapping[str, Any], ours: Mapping[str, Any], node: str) -> str:
    """The options that differ, with both values; None: left to the default."""
    shown = {name: (theirs.get(name, "its default"), ours.get(name, "its default")) for name in sorted({*theirs, *ours})}
    return ", ".join(f"{node}{name} {there} there, {here} here" for name, (there, here) in shown.items() if there != here)


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values)) or "none"


def _of_data_set(config: Config, people: Cohort, name: str) -> tuple[Origin, ...]:
    """The encoders that were trained for this data set in this store, all of one configuration.

    Raises UserError where there are none, several configurations, or not all that were planned together.
    """
    place, wants_video = config.store_dir / "encoders", reads(config)[0]
    found, half_done = [], list(place.glob("*.partial"))
    for folder in sorted(path.parent for path in place.glob(f"*/{SIDE}")):
        side = read_json(folder / SIDE)
        about = side.get("about") if isinstance(side, dict) else None
        if folder.name.startswith(".") or not isinstance(about, dict) or about.get("dataset") != name:
            continue
        one = _opened(folder)  # a damaged one may be needed: it is an error, not ignored
        if one.trained()[0 if wants_video else 1]:
            found.append(one)
    if not found:
        doubt = " (only a training that is not finished)" if half_done else ""
        what = "video" if wants_video else "signal"
        raise UserError(f"pretrain.from={name}: the store {config.store_dir} has no {what} encoder that was trained for {name}"
                        f"{doubt}: run python -m orchestrator.pretrain --dataset {name} with the same store first.")
    if wants_video:
        fitting = [one for one in found if not _differing(config, one.about["video"])]
        if not fitting:
            there = sorted({one.about["name"] for one in found})
            raise UserError(f"pretrain.from={name}: the encoders trained for {name} have another shape than encoder="
                            f"{config.encoder.name} here ({_differing(config, found[0].about['video'])}): use encoder="
                            f"{' or '.join(there)} with the same sizes, or train one of this shape there.")
        found = fitting
    if reads(config)[1]:
        found = [one for one in found if not _signal_misfit(config, people, one)] or found
    found = _one_configuration(config, name, found)
    planned = max(one.about["groups"] for one in found)
    if len(found) < planned:
        raise UserError(f"pretrain.from={name}: {len(found)} of the {planned} encoders that were planned for {name} are in "
                        f"{place}: run orchestrator.pretrain there again, or give one with pretrain.from={found[0].folder}.")
    return tuple(_checked(config, people, one) for one in sorted(found, key=lambda one: (one.about["group"], one.folder.name)))


def _one_configuration(config: Config, name: str, found: Sequence[_Found]) -> list[_Found]:
    """Without duplicates of the same weights. Raises UserError if the settings of what this run uses differ among them."""
    settings = [_settings(config, one) for one in found]
    varied = sorted({key for one in settings for key in one if len({str(other.get(key)) for other in settings}) > 1})
    if varied:
        shown = "; ".join(f"{key}: {' or '.join(dict.fromkeys(str(one.get(key)) for one in settings))}" for key in varied[:4])
        folders = ",".join(str(one.folder) for one, its in zip(found, settings, strict=True) if its == settings[0])
        raise UserError(f"pretrain.from={name}: encoders of several configurations were trained for {name}, which differ in "
                        f"{shown[:300]}: name those you mean by their folders, such as pretrain.from=[{folders}].")
    modality = "video" if reads(config)[0] else "signal"
    return list({(one.side["weights"].get(modality), one.lineage.people): one for one in found}.values())


def _settings(config: Config, one: _Found) -> dict[str, Any]:
    """The settings with which the modalities that this run uses were trained, one level flat."""
    modalities = [name for name, wanted in zip(("video", "signal"), reads(config), strict=True) if wanted]
    own = {f"pretrain.{key}": value for key, value in one.about["pretrain"].items() if key not in ("video", "signal")}
    for name in modalities:
        own |= {f"{'encoder' if name == 'video' else 'smae'}.{key}": value for key, value in (one.about[name] or {}).items()}
        own |= {f"pretrain.{name}.{key}": value for key, value in one.about["pretrain"].get(name, {}).items()}
    return own | {key: one.about[key] for key in ("data", "clip", "drawn", "preprocessing", "code")}


def notes(origins: Sequence[Origin]) -> list[str]:
    """For the report: the encoders that these folds were given, and their training subjects."""
    said = []
    for origin in origins:
        text = (f"Pretrained already: {origin.name}, on {origin.n_people} subjects, {len(origin.subjects)} of whom are in this "
                "cohort; no fold that tests one of them uses it, unless the run is leaky.")
        said.append(text + (f" Its signal encoder was not taken over ({origin.why_not_signal}); one was pretrained here."
                            if origin.trains_signal else ""))
    return said


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".").replace(";", ",")
