"""Skin conductance, ECG and EMG of one synthetic clip: plausible waveforms that depend on a stimulus, not on the label.

Units as in BioVid: microsiemens for skin conductance, microvolts for the rest. n = 2816 samples at 512 Hz.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.signal import butter, sosfilt, sosfiltfilt

from preprocessing.synthetic.people import Person

FS = 512.0
N_ROWS = 2816
COLUMNS = ("time", "gsr", "ecg", "emg_trapezius", "emg_corrugator", "emg_zygomaticus")

# sum-of-Gaussians heart beat: phase of the wave's centre (0 = R), height relative to R, width, all in cycles
_WAVES = {"P": (-0.19, 0.12, 0.025), "Q": (-0.035, -0.13, 0.010), "R": (0.0, 1.0, 0.011),
          "S": (0.032, -0.22, 0.012), "T": (0.30, 0.28, 0.050)}  # fmt: skip
# microvolts of a burst: evoked at intensity 1, and spontaneous
_MUSCLES = {"trapezius": (24.0, 24.0), "corrugator": (45.0, 20.0), "zygomaticus": (22.0, 26.0)}


@dataclass(frozen=True)
class Stimulus:
    """The pain stimulus of one clip. intensity 0 = no pain; onset in seconds after the start of the clip."""

    intensity: float
    onset_s: float


def draw_stimulus(intensity: float, rng: Generator) -> Stimulus:
    """The perceived intensity varies between clips (log-normal); reactions start 1 to 2.4 s after the start of the clip."""
    return Stimulus(intensity * float(np.exp(0.25 * rng.standard_normal())), float(rng.uniform(1.0, 2.4)))


def make_signals(
    person: Person, stimulus: Stimulus, facial: bool, rng: Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """-> (raw, filtered), each COLUMNS -> (2816,). Facial EMG is exactly 0.0 unless `facial` (Part B)."""
    t = np.arange(N_ROWS) / FS
    jitter = rng.uniform(-150, 150, N_ROWS)
    time = np.maximum.accumulate(np.maximum(np.round(t * 1e6 + jitter), 0)).astype(np.int64)
    gsr = _skin_conductance(t, person, stimulus, rng)
    ecg = _ecg(t, person, stimulus, rng)
    raw: dict[str, np.ndarray] = {"time": time, "gsr": gsr, "ecg": ecg}
    filtered: dict[str, np.ndarray] = {"time": time, "gsr": gsr, "ecg": sosfiltfilt(_band(0.1, 250, 2), ecg)}
    for name, (evoked, spontaneous) in _MUSCLES.items():
        if name != "trapezius" and not facial:
            raw[f"emg_{name}"] = filtered[f"emg_{name}"] = np.zeros(N_ROWS)
            continue
        muscle, sensor = _emg(t, person, stimulus, evoked, spontaneous, rng)
        raw[f"emg_{name}"] = muscle + sensor
        filtered[f"emg_{name}"] = _gate_bursts(sosfiltfilt(_band(20, 250, 4), muscle + sensor), rng)
    return raw, filtered


def _rise(t: np.ndarray, onset: float, seconds: float) -> np.ndarray:
    """0 before the onset, 1 after `seconds`, smooth between."""
    x = np.clip((t - onset) / seconds, 0, 1)
    return x * x * (3 - 2 * x)


def _skin_conductance(t: np.ndarray, person: Person, stimulus: Stimulus, rng: Generator) -> np.ndarray:
    """Tonic level of the subject, drift, spontaneous responses and the evoked one: biexponential, peak about 1.5 s."""
    scale = 0.10 * person.tonic_us**0.6
    out = person.tonic_us * np.exp(0.10 * rng.standard_normal()) + 0.10 * scale * rng.standard_normal() * t
    onsets = [(rng.uniform(-5, 5.5), scale * rng.exponential(0.7)) for _ in range(rng.poisson(1.3))]
    evoked = scale * 1.7 * person.response_gsr * stimulus.intensity * np.exp(0.45 * rng.standard_normal())
    onsets.append((stimulus.onset_s + rng.uniform(0, 0.6), evoked))
    for onset, height in onsets:
        dt = np.maximum(t - onset, 0)
        out += height * 1.75 * (np.exp(-dt / 4.0) - np.exp(-dt / 0.75))
    return np.maximum(out + 0.004 * rng.standard_normal(len(t)), 0.05)


def _ecg(t: np.ndarray, person: Person, stimulus: Stimulus, rng: Generator) -> np.ndarray:
    """Sum-of-Gaussians beats whose rate rises slightly with pain, with breathing, mains hum and muscle noise."""
    felt = stimulus.intensity * person.response_ecg * np.exp(0.35 * rng.standard_normal())
    strain = felt * _rise(t, stimulus.onset_s + rng.uniform(0, 0.5), 1.2)
    breath = np.sin(2 * np.pi * (person.breath_hz * np.exp(0.1 * rng.standard_normal()) * t + rng.uniform()))
    rate = (person.heart_rate + 2.5 * rng.standard_normal()) / 60
    rate = rate * (1 + 0.03 * breath + 0.13 * strain + 0.02 * rng.standard_normal() * (t / 5.5 - 0.5))
    phase = rng.uniform() + np.cumsum(rate) / FS
    u = phase - np.floor(phase + 0.5)  # (n,) in [-0.5, 0.5), 0 at the R wave
    beat = np.zeros_like(t)
    for name, (centre, height, width) in _WAVES.items():
        gain: Any = 1 - 0.25 * np.minimum(strain, 2) if name == "T" else 1.0
        beat += gain * height * np.exp(-0.5 * ((u - centre) / width) ** 2)
    wander = (0.06 * np.exp(0.35 * rng.standard_normal()) + 0.07 * strain) * breath
    slow = np.sin(2 * np.pi * (rng.uniform(0.05, 0.2) * t + rng.uniform()))
    wander += 0.05 * np.exp(0.35 * rng.standard_normal()) * slow
    tremor = 0.012 * np.exp(0.35 * rng.standard_normal()) + 0.013 * strain
    noise = tremor * _coloured(len(t), 20, 150, rng)
    hum = 0.01 * np.sin(2 * np.pi * (50 * t + rng.uniform()))
    return person.ecg_uv * np.exp(0.04 * rng.standard_normal()) * (beat + wander + noise + hum)


def _emg(
    t: np.ndarray, person: Person, stimulus: Stimulus, evoked: float, spontaneous: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """-> (muscle, sensor): bursts of coloured noise above the resting tone of the subject; hum and electrode drift."""
    felt = stimulus.intensity * person.response_emg * np.exp(0.45 * rng.standard_normal())
    tone = np.full(len(t), person.emg_rest_uv)
    bursts = [
        (rng.uniform(-0.5, 5.5), rng.uniform(0.2, 0.8), spontaneous * np.exp(0.6 * rng.standard_normal()))
        for _ in range(rng.poisson(1.4))
    ]
    bursts.append((stimulus.onset_s + rng.uniform(0, 0.5), rng.uniform(0.8, 2.2), evoked * felt))
    for start, seconds, height in bursts:
        tone = np.hypot(tone, height * _rise(t, start, 0.08) * (1 - _rise(t, start + seconds, 0.25)))
    muscle = tone * _coloured(len(t), 20, 250, rng)
    hum = 1.5 * np.sin(2 * np.pi * (50 * t + rng.uniform()))
    drift = 8 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.6) * t + rng.uniform())) + 5 * rng.standard_normal()
    return muscle, hum + drift + 0.8 * rng.standard_normal(len(t))


def _gate_bursts(emg: np.ndarray, rng: Generator) -> np.ndarray:
    """Like BioVid's filtered EMG: bursts are kept, and values between them are about 1e-22. Depends on the signal only."""
    power = np.convolve(emg**2, np.full(41, 1 / 41), mode="same")
    quiet = np.sqrt(np.quantile(power, 0.2))
    closed = 10.0 ** -rng.uniform(22, 30)
    gate = np.where(np.sqrt(power) > 1.8 * quiet, 1.0, closed)
    return emg * np.convolve(gate, np.full(21, 1 / 21), mode="same").clip(closed, 1.0)


@cache
def _band(low: float, high: float, order: int) -> np.ndarray:
    return butter(order, (low, high), btype="bandpass", fs=FS, output="sos")


def _coloured(n: int, low: float, high: float, rng: Generator) -> np.ndarray:
    """(n,) noise of unit variance between low and high Hz."""
    noise = sosfilt(_band(low, high, 2), rng.standard_normal(n + 256))[256:]
    return noise / noise.std()


def write_table(path: Any, columns: dict[str, np.ndarray]) -> None:
    """One _bio.csv: TAB, header, integer time. One format operation for the whole file: 20x faster than savetxt."""
    cells, values = ["%d", "%.5f", "%.3f"], [columns["time"].tolist(), columns["gsr"].tolist(), columns["ecg"].tolist()]
    for name in COLUMNS[3:]:
        if columns[name].any():
            cells.append("%.6g")
            values.append(columns[name].tolist())
        else:
            cells.append("0.0")
    row = "\t".join(cells) + "\n"
    flat = tuple(value for line in zip(*values, strict=True) for value in line)
    with open(path, "w", encoding="ascii", newline="") as file:
        file.write("\t".join(COLUMNS) + "\n" + row * N_ROWS % flat)
