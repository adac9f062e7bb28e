"""What the tests of the synthetic cohort measure with: statistics of signals, a forest, a ranking, landmarks."""

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier

from preprocessing.synthetic import face
from preprocessing.synthetic.acting import act
from preprocessing.synthetic.people import Clip, draw_people, session
from preprocessing.synthetic.signals import draw_stimulus, make_signals
from preprocessing.synthetic.tree import _SIGNALS, _STIMULUS, _VIDEO

TWO = ("BL1", "PA4")
CHANNELS = ("gsr", "ecg", "emg_trapezius")


def signals(clip: Clip) -> dict[str, np.ndarray]:
    stimulus = draw_stimulus(clip.intensity, clip.stream(_STIMULUS))
    return make_signals(clip.person, stimulus, False, clip.stream(_SIGNALS))[0]


def statistics(x: np.ndarray) -> list[float]:
    """(n,) -> 16 numbers that anybody would think of."""
    first, middle, last = np.array_split(x, 3)
    step = np.abs(np.diff(x))
    return [
        x.mean(), x.std(), x.min(), x.max(), step.mean(), step.max(), *np.percentile(x, [5, 25, 50, 75, 95]),
        last.mean() - first.mean(), first.std(), middle.std(), last.std(), np.argmax(x) / len(x),
    ]  # fmt: skip


def measure(effect: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """8 people x 2 levels x 8 clips -> statistics (128, 3, 16), labels (128,), people (128,)."""
    clips = [c for person in draw_people(8, seed) for c in session(person, 8, effect, TWO)]
    x = np.array([[statistics(made[name]) for name in CHANNELS] for made in map(signals, clips)])
    return x, np.array([c.level == "PA4" for c in clips]), np.array([c.person.index for c in clips])


def forest_accuracy(x: np.ndarray, y: np.ndarray, people: np.ndarray) -> float:
    """Leave-one-subject-out accuracy of a random forest, mean over people."""
    scores = []
    for person in np.unique(people):
        test = people == person
        forest = RandomForestClassifier(40, random_state=0).fit(x[~test].reshape((~test).sum(), -1), y[~test])
        scores.append((forest.predict(x[test].reshape(test.sum(), -1)) == y[test]).mean())
    return float(np.mean(scores))


def ranking(value: np.ndarray, y: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """How well one number ranks pain above baseline within a person: mean area under the curve, and its standard
    error if the number knew nothing. 0.5 = chance."""
    areas, variance = [], 0.0
    for person in np.unique(people):
        mine = people == person
        ranks, pain = rankdata(value[mine]), y[mine]
        n1, n0 = pain.sum(), (~pain).sum()
        areas.append((ranks[pain].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
        variance += (n1 + n0 + 1) / (12 * n1 * n0)
    return float(np.mean(areas)), float(np.sqrt(variance) / len(areas))


def performance(clip: Clip) -> dict[str, np.ndarray]:
    """What the face does in a clip, as make_clip draws it."""
    stimulus = draw_stimulus(clip.intensity, clip.stream(_STIMULUS))
    return act(clip.person, stimulus, clip.n_frames, clip.stream(_VIDEO))


def landmarks(tracks: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(F, P, 2) where eyes, brows and lips are, in pixels of the picture, with a detector's jitter; nothing drawn."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rings = [(cx + half * np.cos(angle), cy + np.where(np.sin(angle) < 0, above, below) * np.sin(angle))
             for cx, cy, _, half, above, below in face.EYES]  # fmt: skip
    rings += [(cx + 12 * np.cos(angle[:12]), 90 - 2 * np.sin(angle[:12])) for cx in (203, 248)]
    rings.append((224.5 + 21 * np.cos(angle), 145 + 4 * np.sin(angle)))
    x, y = np.concatenate(rings, axis=1)
    nose = np.exp(-0.5 * (((x - 225) / 30) ** 2 + ((y - 118) / 40) ** 2))
    zero, one = np.zeros_like(x), np.ones_like(x)
    moves = {name: -np.stack(face.action(name, x, y), -1) for name in face.ACTIONS}
    heads = {"x": (one, zero), "y": (zero, one), "roll": (178 - y, x - 225), "zoom": (x - 225, y - 118),
             "yaw": (nose, zero), "pitch": (zero, nose)}  # fmt: skip
    moves |= {name: np.stack(move, -1) for name, move in heads.items()}
    upper_lid = np.zeros_like(x)
    upper_lid[:48] = np.tile(np.clip(-np.sin(angle), 0, 1) * 6.5, 2)
    moves["close"] = np.stack([zero, upper_lid], -1)
    still = np.stack([x, y], -1)
    points = still + sum(tracks[name][:, None, None] * moves[name] for name in moves)
    return (points + rng.normal(0, 0.12, points.shape)).astype(np.float32)
