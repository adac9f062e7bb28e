"""Published numbers a run may be held beside, never as if they were the same thing: each says how it was chosen.

Accuracies in per cent with the standard deviation over people where one was published. A number stands beside a run of the
same data, classes, split and protocol, and nowhere else; where none stands, the report says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from orchestrator.config.configuration import EXPERIMENTS

HELD_OUT = "epoch with the best accuracy on the held-out person (by the authors' public code)"
REPORTED = "checkpoint with the best accuracy on the set that is reported (by the authors' public code)"
UNKNOWN = "as published; how the epoch was chosen is not known to us"
NO_EPOCHS = "as published; no epoch to choose"


@dataclass(frozen=True)
class Anchor:
    """split: a name of experiments/split, None where it is not known to us; own: whether the data set's own list is tested."""

    name: str
    inputs: str
    accuracy: float
    std: float | None
    chosen: str
    split: str | None = "loso"
    own: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """Under which of ours it was made: as_paper where the tested people chose the epoch; a model without epochs has none to
        choose; none where nobody says how it was chosen."""
        if self.chosen.startswith((HELD_OUT, REPORTED)):
            return ("as_paper",)
        return ("clean",) if self.chosen.startswith(NO_EPOCHS) else ()


def _loso(rows: list[tuple]) -> list[Anchor]:
    return [Anchor(name, inputs, mean, std, chosen) for name, inputs, mean, std, chosen in rows]


def _fixed(rows: list[tuple], own: bool) -> list[Anchor]:
    return [replace(anchor, split="fixed", own=own) for anchor in _loso(rows)]


PAPER = "Dual-stream transformer (PeerJ CS e3158)"

BIOVID_A_BL_PA4 = _loso([
    (PAPER, "video, GSR, ECG, EMG", 86.73, 11.67, HELD_OUT),
    ("PainFormer", "several", 89.1, None, UNKNOWN),
    ("CrossMod-Transformer", "several", 87.5, None, UNKNOWN),
    ("ST-CNN", "video", 86.02, None, UNKNOWN),
    ("Thiam, CNN", "GSR", 84.57, 14.30, UNKNOWN),
    ("Thiam, CNN", "ECG, EMG, GSR", 84.40, 14.43, UNKNOWN),
    ("Att-DDCAE", "signals", 84.20, 13.70, UNKNOWN),
    ("DDCAE", "signals", 83.99, 15.58, UNKNOWN),
    ("Support vector machine", "GSR", 83.30, None, NO_EPOCHS),
    ("Kächele, random forest", "signals", 82.73, None, NO_EPOCHS),
    ("Werner 2014, random forest", "video, signals", 77.80, None, NO_EPOCHS),
    ("LSTM-NN", "signals", 74.21, 17.54, UNKNOWN),
    ("Transformer", "video", 73.28, None, UNKNOWN),
    ("FCN", "ECG", 69.40, None, UNKNOWN)])
BIOVID_A_BL_PA4.append(Anchor("Position of the EDA maximum alone", "GSR", 82.61, None, NO_EPOCHS + "; a thesis", split=None))

BIOVID_A_FIVE = _loso([
    ("Gkikas 2024", "several", 39.77, None, UNKNOWN),
    (PAPER, "video, GSR, ECG, EMG", 38.15, 6.46, HELD_OUT + "; 86 of 87 people"),
    ("Thiam, CNN", "ECG, EMG, GSR", 36.54, 8.55, UNKNOWN),
    ("Thiam, CNN", "GSR", 36.25, 9.01, UNKNOWN),
    ("Att-DDCAE", "signals", 35.40, 8.60, UNKNOWN),
    ("Transformer", "video", 31.52, None, UNKNOWN),
    ("FCN", "ECG", 30.24, None, UNKNOWN)])

BIOVID_B_BL_PA2_PA4 = _fixed([
    (PAPER, "video, signals", 54.37, None, REPORTED + "; fixed split 69/17, whose people are not published"),
    ("MTE-MER, as run there", "video, signals", 53.09, None, REPORTED),
    (PAPER, "video", 50.64, None, REPORTED),
    ("E2E-MER, as run there", "video, signals", 49.26, None, REPORTED),
    (PAPER, "signals", 46.22, None, REPORTED)], own=False)

AI4PAIN = _fixed([
    (PAPER, "video, fNIRS", 83.85, None, REPORTED + "; clip length alone tells no pain from pain there"),
    (PAPER, "video", 78.99, None, REPORTED),
    (PAPER, "fNIRS", 77.08, None, REPORTED)], own=True)

# How many people were left out at a time is not known to us.
WATCH = [replace(anchor, split=None) for anchor in _loso([
    ("Burns 2018, random forest", "inertial, 10 people", 87.3, None, NO_EPOCHS + "; people held out"),
    ("Burns 2018, CRNN", "inertial, 20 people (not these 10)", 88.9, None, UNKNOWN + "; people held out")])]

ANCHORS = {("biovid_a", "bl_pa4"): BIOVID_A_BL_PA4, ("biovid_a", "five"): BIOVID_A_FIVE,
           ("biovid_b", "bl_pa2_pa4"): BIOVID_B_BL_PA2_PA4, ("ai4pain", "no_low_high"): AI4PAIN,
           ("watch", "exercise"): WATCH}

NOTES = {
    "biovid_a": "Choosing the epoch by the held-out person's own accuracy alone adds, in a simulation of 87 folds, "
                "about 4 to 10 points with two classes and 3 to 8 with five, and shrinks the spread over people. With "
                "40 clips a person, chance alone spreads accuracies by up to 8 points (6.3 at 80 %); the "
                "standard error of such a mean is about 1.25 points.",
    "biovid_b": "Rows of the published table come from test sets of different sizes; with about 1,000 clips of 17 "
                "people the standard error is at least 1.6 points.",
    "ai4pain": "With 576 clips of 12 people the standard error is at least 1.5 points; the organisers' own baselines "
               "are at 40 to 43 %.",
}


def anchors(dataset: str, task: str) -> list[Anchor]:
    """Published numbers for this question; empty where none is known (synthetic data has none)."""
    return ANCHORS.get((dataset, task), [])


def beside_run(run: Mapping[str, Any]) -> tuple[list[Anchor], list[str]]:
    """(those that stand beside this run, sentences on those that do not)."""
    known = anchors(run["dataset"], run["task"])
    if not known:
        return [], []
    if other := _other_question(run):
        return [], [f"No published number stands beside this run: {other}."]
    same = [anchor for anchor in known if anchor.split is not None and _same_split(run, anchor)]
    shown = [anchor for anchor in same if run["protocol"] in anchor.protocols]
    said = []
    if elsewhere := [anchor for anchor in known if anchor.split is not None and anchor not in same]:
        said.append(f"{_named(elsewhere)}: made with another split ({', '.join(sorted({_split(a) for a in elsewhere}))}).")
    if unknown := [anchor for anchor in known if anchor.split is None]:
        said.append(f"{_named(unknown)}: how many people were left out at a time is not known to us.")
    for protocol, why in (("as_paper", "the tested people chose the epoch"), ("clean", "there was no epoch to choose")):
        if chosen := [anchor for anchor in same if anchor not in shown and protocol in anchor.protocols]:
            said.append(f"{_named(chosen)}: {why}, so that this stands beside protocol={protocol} alone.")
    if silent := [anchor for anchor in same if not anchor.protocols]:
        said.append(f"{_named(silent)}: how the epoch was chosen is not known to us.")
    return shown, [f"Published for this question and not beside this run: {text}" for text in said]


def _other_question(run: Mapping[str, Any]) -> str:
    """Why the run asks another question than everything published for its task; "" where it does not."""
    config = run.get("config") or {}
    task = EXPERIMENTS / "task" / f"{run['task']}.yaml"
    published = (yaml.safe_load(task.read_text()) or {}).get("classes") if task.exists() else None
    classes = (config.get("task") or {}).get("classes", published)
    if classes != published:
        return f"its classes are {classes}, those of task={run['task']} {published}"
    if run.get("partial"):
        return "recordings of the cohort are missing"
    if (people := str((config.get("data") or {}).get("subjects", "all"))) != "all":
        return f"its people are data.subjects={people}"
    if run.get("n_not_asked"):
        return "max_folds left test folds out"
    if config.get("scale") == "subject_z":
        return "its scale is transductive, which none of them says of itself"
    return ""


def _same_split(run: Mapping[str, Any], anchor: Anchor) -> bool:
    split = (run.get("config") or {}).get("split") or {}
    if run.get("split", "unknown") != anchor.split:
        return False
    named = split.get("list", "auto")
    return anchor.split != "fixed" or named == "auto" or (named == "own") == anchor.own


def _split(anchor: Anchor) -> str:
    if anchor.split == "loso":
        return "split=loso"
    return "split=fixed, the data set's own list" if anchor.own else "split=fixed, a draw"


def _named(found: list[Anchor]) -> str:
    return "; ".join(f"{anchor.name} ({anchor.inputs})" for anchor in found)
