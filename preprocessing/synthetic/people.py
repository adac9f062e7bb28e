"""The subjects of the synthetic cohort and the stimulus of each of their clips.

Everything about a subject is drawn from (seed, position in the cohort). Traits that decide how hard the task is
are stratified over the cohort (a Latin hypercube), so that eight subjects always include some who hardly respond.
The label of a clip is used only once, as the intensity of its stimulus: at effect 0 every intensity is 0, and faces and
signals cannot depend on the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence
from scipy.stats import norm

LEVELS = ("BL1", "PA1", "PA2", "PA3", "PA4")
GAIN = {"BL1": 0.0, "PA1": 0.15, "PA2": 0.35, "PA3": 0.65, "PA4": 1.0}
FIRST_BASELINE = 81  # BioVid numbers its baseline clips 081-100, all pain levels together 001-080

_PEOPLE, _ORDER, _CLIP = 1, 2, 3  # purposes of the random streams, which never overlap


@dataclass(frozen=True)
class Person:
    """One synthetic subject. The response_* values multiply the stimulus: 1 is typical, 0.1 is almost no response."""

    raw_id: str
    index: int
    seed: int
    sex: str  # "m" | "w", as in BioVid
    age: int
    response_face: float
    response_gsr: float
    response_ecg: float
    response_emg: float
    delay_s: float  # additional delay of the facial reaction of this subject
    tonic_us: float  # skin conductance level, microsiemens
    heart_rate: float  # beats per minute
    ecg_uv: float  # height of the R wave
    emg_rest_uv: float
    breath_hz: float
    restless: float  # how much the head moves


@dataclass(frozen=True)
class Clip:
    """One recording to simulate. Its content depends on its level only through `intensity`."""

    person: Person
    level: str
    number: int  # the number in the file name
    order: int  # position in the session of the subject, over all levels
    repeat: int  # index among the clips of this level
    intensity: float

    @property
    def name(self) -> str:
        return f"{self.person.raw_id}-{self.level}-{self.number:03d}"

    @property
    def n_frames(self) -> int:
        """BioVid's videos have 137 or 138 frames; here each level of a subject has the same number of both."""
        return 137 + (self.repeat + self.person.index) % 2

    def stream(self, purpose: int) -> Generator:
        """Random numbers of this clip; different purposes (signals, video) never share any."""
        key = (_CLIP, self.person.index, LEVELS.index(self.level), self.repeat, purpose)
        return np.random.default_rng(SeedSequence(self.person.seed, spawn_key=key))


def draw_people(n: int, seed: int) -> tuple[Person, ...]:
    """n subjects, sorted by raw id. Ids have the form of BioVid's, but start with 99, so that they equal no real id."""
    rng = np.random.default_rng(SeedSequence(seed, spawn_key=(_PEOPLE,)))

    def spread() -> np.ndarray:  # (n,) in (0, 1), one value in each n-th of the interval
        return (rng.permutation(n) + rng.uniform(0.2, 0.8, n)) / n

    def log_normal(median: float, sigma: float) -> np.ndarray:
        return median * np.exp(sigma * norm.ppf(spread()))

    respond = {kind: _responsiveness(spread()) for kind in ("face", "gsr", "ecg", "emg")}
    woman, age = spread() < 0.5, 20 + np.floor(45 * spread()).astype(int)
    delay = 0.5 * spread()
    tonic, rest, height = log_normal(4.0, 0.45), log_normal(4.0, 0.30), log_normal(1400.0, 0.20)
    rate, breath, restless = 72 + 8 * norm.ppf(spread()), 0.2 + 0.12 * spread(), log_normal(1.0, 0.25)
    people = []
    for i in range(n):
        sex = "w" if woman[i] else "m"
        people.append(
            Person(
                raw_id=f"{990001 + i:06d}_{sex}_{age[i]:02d}",
                index=i,
                seed=seed,
                sex=sex,
                age=int(age[i]),
                response_face=float(respond["face"][i]),
                response_gsr=float(respond["gsr"][i]),
                response_ecg=float(respond["ecg"][i]),
                response_emg=float(respond["emg"][i]),
                delay_s=float(delay[i]),
                tonic_us=float(tonic[i]),
                heart_rate=float(rate[i]),
                ecg_uv=float(height[i]),
                emg_rest_uv=float(rest[i]),
                breath_hz=float(breath[i]),
                restless=float(restless[i]),
            )
        )
    return tuple(people)


def _responsiveness(u: np.ndarray) -> np.ndarray:
    """(n,) in (0, 1) -> (n,): about one subject in six hardly responds, the others are around 1."""
    return np.where(u < 0.16, 0.15 + 0.6 * u, 0.75 + 0.5 * (u - 0.16) / 0.84)


def session(person: Person, clips_per_level: int, effect: float, levels: Sequence[str]) -> list[Clip]:
    """The clips of a subject in the order of the session.

    The session always has all five levels in random order; with fewer `levels`, clips are left out and the others do not
    change. Pain clips are numbered in that order, baseline clips from 081 on.
    """
    rng = np.random.default_rng(SeedSequence(person.seed, spawn_key=(_ORDER, person.index)))
    sequence = rng.permutation(np.repeat(np.arange(len(LEVELS)), clips_per_level))
    first_baseline = max(FIRST_BASELINE, 4 * clips_per_level + 1)
    seen = dict.fromkeys(LEVELS, 0)
    n_pain, clips = 0, []
    for order, level in enumerate(LEVELS[i] for i in sequence):
        repeat = seen[level]
        seen[level] += 1
        if level == "BL1":
            number = first_baseline + repeat
        else:
            n_pain += 1
            number = n_pain
        if level in levels:
            clips.append(Clip(person, level, number, order, repeat, effect * GAIN[level]))
    return clips
