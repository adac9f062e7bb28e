"""Published results for comparison with a run; each says how its epoch was chosen.

Accuracies in per cent, with the standard deviation over subjects if published. A result is shown only for a run with the same
data, classes, split and protocol; otherwise the report says why not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from orchestrator.config.configuration import EXPERIMENTS

HELD_OUT = "epoch with the best accuracy on the held-out subject (by the authors' public code)"
REPORTED = "checkpoint with the best accuracy on the set that is reported (by the authors' public code)"
UNKNOWN = "as published; how the epoch was chosen is not known"
NO_EPOCHS = "as published; no epoch to choose"


@dataclass(frozen=True)
class Published:
    """split: a name of experiments/split, None if not known to us; own: whether the test set is the data set's own list."""

    name: str
    inputs: str
    accuracy: float
    std: float | None
    chosen: str
    split: str | None = "loso"
    own: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """Our protocols that correspond to it: as_paper if the epoch was chosen on the test subjects, clean for a model without
        epochs, none if it is not known how the epoch was chosen."""
        if self.chosen.startswith((HELD_OUT, REPORTED)):
            return ("as_paper",)
        return ("clean",) if self.chosen.startswith(NO_EPOCHS) else ()


def _loso(rows: list[tuple]) -> list[Published]:
    return [Published(name, inputs, mean, std, chosen) for name, inputs, mean, std, chosen in rows]


def _fixed(rows: list[tuple], own: bool) -> list[Published]:
    return [replace(row, split="fixed", own=own) for row in _loso(rows)]


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
BIOVID_A_BL_PA4.append(Published("Position of the EDA maximum alone", "GSR", 82.61, None, NO_EPOCHS + "; a thesis", split=None))

BIOVID_A_FIVE = _loso([
    ("Gkikas 2024", "several", 39.77, None, UNKNOWN),
    (PAPER, "video, GSR, ECG, EMG", 38.15, 6.46, HELD_OUT + "; 86 of 87 subjects"),
    ("Thiam, CNN", "ECG, EMG, GSR", 36.54, 8.55, UNKNOWN),
    ("Thiam, CNN", "GSR", 36.25, 9.01, UNKNOWN),
    ("Att-DDCAE", "signals", 35.40, 8.60, UNKNOWN),
    ("Transformer", "video", 31.52, None, UNKNOWN),
    ("FCN", "ECG", 30.24, None, UNKNOWN)])

BIOVID_B_BL_PA2_PA4 = _fixed([
    (PAPER, "video, signals", 54.37, None, REPORTED + "; fixed split 69/17, whose subjects are not published"),
    ("MTE-MER, as run there", "video, signals", 53.09, None, REPORTED),
    (PAPER, "video", 50.64, None, REPORTED),
    ("E2E-MER, as run there", "video, signals", 49.26, None, REPORTED),
    (PAPER, "signals", 46.22, None, REPORTED)], own=False)

AI4PAIN = _fixed([
    (PAPER, "video, fNIRS", 83.85, None, REPORTED + "; there, clip length alone separates pain from no pain"),
    (PAPER, "video", 78.99, None, REPORTED),
    (PAPER, "fNIRS", 77.08, None, REPORTED)], own=True)

# The number of subjects left out at a time is not known to us.
WATCH = [replace(row, split=None) for row in _loso([
    ("Burns 2018, random forest", "inertial, 10 subjects", 87.3, None, NO_EPOCHS + "; subjects held out"),
    ("Burns 2018, CRNN", "inertial, 20 subjects (not these 10)", 88.9, None, UNKNOWN + "; subjects held out")])]

PUBLISHED = {("biovid_a", "bl_pa4"): BIOVID_A_BL_PA4, ("biovid_a", "five"): BIOVID_A_FIVE,
           ("biovid_b", "bl_pa2_pa4"): BIOVID_B_BL_PA2_PA4, ("ai4pain", "no_low_high"): AI4PAIN,
           ("watch", "exercise"): WATCH}

NOTES = {
    "biovid_a": "In a simulation of 87 folds, choosing the epoch by the accuracy of the held-out subject adds "
                "about 4 to 10 points with two classes and 3 to 8 with five, and reduces the spread over subjects. With "
                "40 clips per subject, random variation alone gives a standard deviation of up to 8 points (6.3 at "
                "80 %); the standard error of such a mean is about 1.25 points.",
    "biovid_b": "The rows of the published table come from test sets of different sizes. With about 1,000 clips of 17 "
                "subjects the standard error is at least 1.6 points.",
    "ai4pain": "With 576 clips of 12 subjects the standard error is at least 1.5 points; the organisers' own baselines "
               "are at 40 to 43 %.",
}


def published(dataset: str, task: str) -> list[Published]:
    """Published results for this data set and task; empty if none is known (synthetic data have none)."""
    return PUBLISHED.get((dataset, task), [])


def beside_run(run: Mapping[str, Any]) -> tuple[list[Published], list[str]]:
    """(results shown for this run, sentences on those not shown)."""
    known = published(run["dataset"], run["task"])
    if not known:
        return [], []
    if other := _other_question(run):
        return [], [f"No published result is comparable with this run: {other}."]
    same = [row for row in known if row.split is not None and _same_split(run, row)]
    shown = [row for row in same if run["protocol"] in row.protocols]
    said = []
    if elsewhere := [row for row in known if row.split is not None and row not in same]:
        said.append(f"{_named(elsewhere)}: made with another split ({', '.join(sorted({_split(a) for a in elsewhere}))}).")
    if unknown := [row for row in known if row.split is None]:
        said.append(f"{_named(unknown)}: the number of subjects left out at a time is not known.")
    for protocol, why in (("as_paper", "the epoch was chosen on the test subjects"), ("clean", "there was no epoch to choose")):
        if chosen := [row for row in same if row not in shown and protocol in row.protocols]:
            said.append(f"{_named(chosen)}: {why}, so compare it with protocol={protocol} only.")
    if silent := [row for row in same if not row.protocols]:
        said.append(f"{_named(silent)}: how the epoch was chosen is not known.")
    return shown, [f"Published for this task and not shown here: {text}" for text in said]


def _other_question(run: Mapping[str, Any]) -> str:
    """Why no published result for the task is comparable; "" if some may be."""
    config = run.get("config") or {}
    task = EXPERIMENTS / "task" / f"{run['task']}.yaml"
    published = (yaml.safe_load(task.read_text()) or {}).get("classes") if task.exists() else None
    classes = (config.get("task") or {}).get("classes", published)
    if classes != published:
        return f"its classes are {classes}, those of task={run['task']} {published}"
    if run.get("partial"):
        return "recordings of the cohort are missing"
    if (subjects := str((config.get("data") or {}).get("subjects", "all"))) != "all":
        return f"its subjects are data.subjects={subjects}"
    if run.get("n_not_asked"):
        return "max_folds left test folds out"
    if config.get("scale") == "subject_z":
        return "its scaling is transductive, and no published result states that"
    return ""


def _same_split(run: Mapping[str, Any], row: Published) -> bool:
    split = (run.get("config") or {}).get("split") or {}
    if run.get("split", "unknown") != row.split:
        return False
    named = split.get("list", "auto")
    return row.split != "fixed" or named == "auto" or (named == "own") == row.own


def _split(row: Published) -> str:
    if row.split == "loso":
        return "split=loso"
    return "split=fixed, the data set's own list" if row.own else "split=fixed, a draw"


def _named(found: list[Published]) -> str:
    return "; ".join(f"{row.name} ({row.inputs})" for row in found)
