"""Encoders of ours in another data set: what pretrain.from names, whether it fits here, and whom it has seen.

The paper's encoder was trained on a fifth of BioVid-A and used for Part B and AI4Pain. Parts A and B are the same people:
whom an encoder has seen is known by cohort and pseudonym, so it is refused for them here. Pseudonyms are keyed, and mean
nothing under another key.
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
# Of VideoMAE, what the encoder's half is built by; null stands for the scale's own.
SHAPE = ("scale", "image_size", "frames", "tubelet", "patch", "depth", "dim", "heads")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A trained encoder of ours. subjects: indices of these people whom it has seen, n_people: all whom it has seen.

    weights: hash by half ("video", "signal"); video, signal: options of the halves that are taken over, else None;
    why_not_signal: why a signal MAE that is needed is not; recordings: marks of what it learnt from (study.py).
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
    recordings: Marks = field(default_factory=dict)  # of all whom it has seen; nothing where an older version trained it

    @property
    def trains_signal(self) -> bool:
        """Whether a signal MAE is pretrained here beside it."""
        return bool(self.why_not_signal)

    def sha256(self) -> str:
        """Of the weights that are taken over, and of whom they have seen."""
        halves = [self.weights[half] for half, taken in (("video", self.video), ("signal", self.signal)) if taken]
        return hash_all([*halves, self.lineage.sha256()])

    def check_recordings(self, people: Cohort, hashes: Hashes) -> None:
        """Raises UserError where it learnt from recordings of people whom it knows by other names: nobody would be kept from
        testing them. hashes: of the recordings, as the clip store has them."""
        known = self.lineage.everyone()
        own = marks(people, hashes)
        again = sorted({key for p, key in zip(people.people, people.keys([p.index for p in people.people]), strict=True)
                        if key not in known and same_recordings(own.get(p.pseudonym, {}), self.recordings)})
        if again:
            more = f" and {len(again) - 5} more" if len(again) > 5 else ""
            raise UserError(f"pretrain.from: {self.name} was trained on recordings of {', '.join(again[:5])}{more} and knows "
                            "them by other names: give people one name in both data sets, so that nobody is tested by an "
                            "encoder that has seen them.")

    def state(self, half: str) -> "dict[str, Tensor]":
        """Weights of "video" or "signal". Raises UserError where they are not (or no longer) those that were found."""
        from models import checkpoint

        try:
            state, side = checkpoint.read_weights(self.folder / half)
        except checkpoint.ModelError as error:
            raise UserError(f"pretrain.from: the encoder {self.folder} is damaged ({_words(error)}): train it again, or give "
                            "another.") from error
        if side["weights_sha256"] != self.weights[half] or Lineage.from_json(side["lineage"]) != self.lineage:
            raise UserError(f"pretrain.from: the encoder {self.folder} is damaged (its files disagree about its {half} weights "
                            "or whom they have seen): train it again, or give another.")
        return state


def read(config: Config, people: Cohort) -> tuple[Origin, ...]:
    """The encoders that pretrain.from names; () without it. Raises UserError for what cannot be taken over here."""
    given = config.pretrain.given
    if given is None or not any(reads(config)):
        return ()
    if config.pretrain.name == "none" or config.pretrain.checkpoint:
        other = "pretrain=none" if config.pretrain.name == "none" else "pretrain.checkpoint"
        raise UserError(f"pretrain.from takes encoders that are trained already, and {other} says otherwise: leave one out.")
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
    """Raises UserError for what is no encoder of ours, damaged, or does not say whom it has seen."""
    side = read_json(folder / SIDE)
    if not (folder / SIDE).exists():
        if any((folder / f"{half}.safetensors").exists() for half in ("video", "signal")):
            raise UserError(f"pretrain.from={folder} has weights and no lineage ({SIDE}, which says whom they have seen, is "
                            "missing): give an encoder as orchestrator.pretrain left it.")
        raise UserError(f"pretrain.from={folder} is not an encoder's folder, for {SIDE} is missing: give <store>/encoders/KEY "
                        "as orchestrator.pretrain leaves it.")
    if isinstance(side, dict) and "weights" in side and not isinstance(side.get("lineage"), dict):
        raise UserError(f"pretrain.from={folder} has no lineage, so that nobody knows whom it has seen: give an encoder as "
                        "orchestrator.pretrain left it.")
    try:
        if not isinstance(side, dict) or not intact(side) or not isinstance(side["weights"], dict):
            raise ValueError
        lineage = Lineage.from_json(side["lineage"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"pretrain.from={folder} is damaged ({SIDE} was cut, or changed since it was written): train it again, "
                        "or give another.") from None
    if not isinstance(side.get("about"), dict):
        raise UserError(f"pretrain.from={folder} was made by an older version, which did not say under which pseudonym key it "
                        "knows its people: train it again.")
    return _Found(folder, side, lineage)


def _checked(config: Config, people: Cohort, found: _Found) -> Origin:
    """What of it this run takes over. Raises UserError where the people or the shape cannot be held against this run's."""
    _check_people(people, found)
    wants_video, wants_signal = reads(config)
    here = f"pretrain.from={found.folder}"
    video, signal, why = found.about["video"], None, ""
    if wants_video:
        if video is None or found.about["random"]:
            raise UserError(f"{here} holds no trained video encoder, which model={config.model.name} reads: give another, or "
                            "train one with model=dual or model=video.")
        if differ := _differing(config, video):
            raise UserError(f"{here} is of another shape than encoder={config.encoder.name} here ({differ}): use encoder="
                            f"{found.about['name']} with the same sizes, or another encoder's folder.")
    if wants_signal:
        why = _signal_misfit(config, people, found)
        signal = None if why else found.about["signal"]
        if why and not wants_video:
            raise UserError(f"{here} holds no signal encoder that fits here ({why}), and model={config.model.name} reads "
                            "nothing else of it: set these options as they were there, or leave pretrain.from out.")
    keys = people.keys([p.index for p in people.people])
    seen = found.lineage.everyone()
    subjects = tuple(p.index for p, key in zip(people.people, keys, strict=True) if key in seen)
    taken = Origin(folder=found.folder,
                   name=f"encoder {found.about['group'] + 1} of {found.about['dataset']} ({found.folder.name})",
                   weights=found.side["weights"], lineage=found.lineage, subjects=subjects, n_people=len(seen),
                   video=dict(video) if wants_video else None, signal=None if signal is None else dict(signal),
                   why_not_signal=why, recordings=found.about.get("recordings") or {})
    for half, wanted in (("video", taken.video), ("signal", taken.signal)):
        if wanted is not None:
            taken.state(half)
    return taken


def _check_people(people: Cohort, found: _Found) -> None:
    """Pseudonyms say who is who under one key alone."""
    theirs, ours = set(found.about["key_fingerprint"].split("+")), set(people.key_fingerprint.split("+"))
    if not (theirs <= ours or ours <= theirs):
        raise UserError(f"pretrain.from={found.folder} knows the people of cohort {found.about['cohort']} under another "
                        f"pseudonym key ({found.about['key_fingerprint']}) than this run those of {people.name} "
                        f"({people.key_fingerprint}), so that nobody can say whom of them it has seen: use "
                        "the store it was trained in, or the same store.key=FILE for both.")


def _differing(config: Config, stored: Mapping[str, Any]) -> str:
    """"dim 192 there, 384 here": in what the encoder's shape is another; "" where it is this run's."""
    theirs, ours = _shape(stored), _shape(video_options(config))
    return "; ".join(f"{name} {theirs[name]} there, {ours[name]} here" for name in SHAPE
                     if name != "scale" and theirs[name] != ours[name])


def _shape(options: Mapping[str, Any]) -> dict[str, Any]:
    from models.mae.video_mae import SCALES

    preset = SCALES[options["scale"]]
    own = {"tubelet": 2, "patch": 16, "depth": preset.depth, "dim": preset.dim, "heads": preset.heads}
    return {name: own.get(name) if options.get(name) is None else options[name] for name in SHAPE}


def _signal_misfit(config: Config, people: Cohort, found: _Found) -> str:
    """Why its signal MAE cannot begin the signal encoder here; "" where it can."""
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
        one = _opened(folder)  # a damaged one may be half of what is needed: it is told, not passed over
        if one.trained()[0 if wants_video else 1]:
            found.append(one)
    if not found:
        doubt = ", and a training that has not ended yet" if half_done else ""
        what = "video" if wants_video else "signal"
        raise UserError(f"pretrain.from={name}: the store {config.store_dir} has no {what} encoder that was trained for {name}"
                        f"{doubt}: run python -m orchestrator.pretrain --dataset {name} with the same store first.")
    if wants_video:
        fitting = [one for one in found if not _differing(config, one.about["video"])]
        if not fitting:
            there = sorted({one.about["name"] for one in found})
            raise UserError(f"pretrain.from={name}: the encoders trained for {name} are of another shape than encoder="
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
    """Without those of the same weights. Raises UserError where the settings of what this run reads are several."""
    settings = [_settings(config, one) for one in found]
    varied = sorted({key for one in settings for key in one if len({str(other.get(key)) for other in settings}) > 1})
    if varied:
        shown = "; ".join(f"{key}: {' or '.join(dict.fromkeys(str(one.get(key)) for one in settings))}" for key in varied[:4])
        folders = ",".join(str(one.folder) for one, its in zip(found, settings, strict=True) if its == settings[0])
        raise UserError(f"pretrain.from={name}: encoders of several configurations were trained for {name}, which differ in "
                        f"{shown[:300]}: name those you mean by their folders, such as pretrain.from=[{folders}].")
    half = "video" if reads(config)[0] else "signal"
    return list({(one.side["weights"].get(half), one.lineage.people): one for one in found}.values())


def _settings(config: Config, one: _Found) -> dict[str, Any]:
    """What the halves that this run reads were trained with, one level flat."""
    halves = [half for half, wanted in zip(("video", "signal"), reads(config), strict=True) if wanted]
    own = {f"pretrain.{key}": value for key, value in one.about["pretrain"].items() if key not in ("video", "signal")}
    for half in halves:
        own |= {f"{'encoder' if half == 'video' else 'smae'}.{key}": value for key, value in (one.about[half] or {}).items()}
        own |= {f"pretrain.{half}.{key}": value for key, value in one.about["pretrain"].get(half, {}).items()}
    return own | {key: one.about[key] for key in ("data", "clip", "drawn", "preprocessing", "code")}


def notes(origins: Sequence[Origin]) -> list[str]:
    """For the report: whose encoders these folds were given."""
    said = []
    for origin in origins:
        text = (f"Pretrained already: {origin.name}, on {origin.n_people} people, {len(origin.subjects)} of whom are among "
                "these; no fold that tests one of them is served by it unless the run is leaky.")
        said.append(text + (f" Its signal encoder was not taken over ({origin.why_not_signal}); one was pretrained here."
                            if origin.trains_signal else ""))
    return said


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".").replace(";", ",")
