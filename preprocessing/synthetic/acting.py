"""The movements of a synthetic face in one clip: a weight for every facial action and head movement, frame by frame.

In every clip the face reacts once, 1 to 3 s after the start of the clip. Pain changes the kind of the reaction, not the
amount of movement: its share of the movement goes to the actions of PSPI (Prkachin and Solomon 2008: brow lowering,
orbit tightening, levator contraction, eye closure), the rest to movements without meaning. So the amount of motion, the
number of keyframes and the file size do not reveal the label. Blinks, head movement and random muscle activity occur in
all subjects.
"""

import numpy as np
from numpy.random import Generator

from preprocessing.synthetic.people import Person
from preprocessing.synthetic.signals import Stimulus

FPS = 25
TRACKS = ("brow_lower", "orbit", "levator", "brow_raise", "smile", "pucker", "jaw",
          "x", "y", "roll", "zoom", "yaw", "pitch", "close")  # fmt: skip
PAIN = ("brow_lower", "orbit", "levator")
NEUTRAL = ("brow_raise", "smile", "pucker", "jaw")
HEAD = {"x": 2.2, "y": 1.6, "roll": 0.016, "zoom": 0.008, "yaw": 1.0, "pitch": 0.8}  # head movement, pixels or radians


def act(person: Person, stimulus: Stimulus, n_frames: int, rng: Generator) -> dict[str, np.ndarray]:
    """-> track -> (n_frames,). Facial actions and "close" are strengths (1 = full), head tracks are displacements."""
    t = np.arange(n_frames) / FPS
    start = stimulus.onset_s + person.delay_s * rng.uniform(0.6, 1.2)
    reaction = _swell(t, start, rng.uniform(0.4, 0.7), rng.uniform(2.5, 3.6))
    size = rng.uniform(0.85, 1.2)
    felt = stimulus.intensity * person.response_face * np.exp(0.25 * rng.standard_normal())
    share = felt / (felt + 0.22)  # of pain in the reaction: 0 without a stimulus, always below 1

    tracks = {name: 0.12 * _wander(t, 0.6, rng) for name in (*PAIN, *NEUTRAL)}
    pain_mix = rng.uniform(0.75, 1.15, len(PAIN))
    neutral_mix = rng.dirichlet(np.full(len(NEUTRAL), 0.8)) * 2.2
    for name, weight in zip(PAIN, pain_mix, strict=True):
        tracks[name] += share * size * weight * reaction
    for name, weight in zip(NEUTRAL, neutral_mix, strict=True):
        tracks[name] += (1 - share) * size * min(weight, 1.3) * reaction

    # the head moves with the reaction in every clip, in no particular direction
    for name, amount in HEAD.items():
        sway = person.restless * amount * _wander(t, 0.35, rng)
        tracks[name] = sway + 0.9 * amount * rng.standard_normal() * size * reaction
    tracks["y"] += 0.35 * np.sin(2 * np.pi * (person.breath_hz * t + rng.uniform()))

    lids = share * rng.uniform(0.65, 1.0) * reaction + 0.06 * np.abs(_wander(t, 0.5, rng))
    lids = 1 - (1 - np.clip(lids, 0, 1)) * (1 - _blinks(t, rng))
    tracks["close"] = np.clip(lids, 0, 1)
    return tracks


def _swell(t: np.ndarray, start: float, rise: float, hold: float) -> np.ndarray:
    up = np.clip((t - start) / rise, 0, 1)
    down = np.clip((t - start - rise - hold) / 1.2, 0, 1)
    return up * up * (3 - 2 * up) * (1 - 0.8 * down * down * (3 - 2 * down))


def _wander(t: np.ndarray, hertz: float, rng: Generator) -> np.ndarray:
    """Smooth random movement of about unit size: five sines below 2 x hertz."""
    f = hertz * rng.uniform(0.2, 2.0, 5)
    a, p = rng.standard_normal(5) / np.sqrt(2.5), rng.uniform(0, 2 * np.pi, 5)
    return (a[:, None] * np.sin(2 * np.pi * f[:, None] * t + p[:, None])).sum(0)


def _blinks(t: np.ndarray, rng: Generator) -> np.ndarray:
    """Closure in [0, 1]: about 20 blinks a minute, down in 0.1 s and up in 0.2 s."""
    closed = np.zeros_like(t)
    for _ in range(rng.poisson(20 / 60 * (t[-1] + 1))):
        dt = t - rng.uniform(-0.3, t[-1])
        closed = np.maximum(closed, np.clip(np.minimum(1 + dt / 0.10, 1 - (dt - 0.06) / 0.18), 0, 1))
    return closed
