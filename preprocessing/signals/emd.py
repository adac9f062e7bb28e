"""EMD denoising of surface EMG (de Oliveira Andrade): decompose, threshold every IMF, sum. n samples.

PyEMD and scipy are imported where they are used: that saves 2 s where only options or stored clips are read.
"""

from dataclasses import dataclass

import numpy as np

from preprocessing.inputs.checks import check_number
from preprocessing.signals.filters import half_window


@dataclass(frozen=True)
class EMDOptions:
    """threshold of IMF k = lam * sigma_k, sigma_k = MAD/0.6745 of the IMF over the quietest window of the clip.

    lam: the factor of the threshold, or "universal" = sqrt(2 ln n). mode: thresholding, "soft" | "hard". method: "emd" |
    "ceemdan" (seeded). noise_seconds: length of the quietest window. trials: decompositions of CEEMDAN.
    """

    lam: float | str = 1.0
    mode: str = "soft"
    method: str = "emd"
    noise_seconds: float = 0.5
    trials: int = 20

    def __post_init__(self) -> None:
        if self.mode not in ("soft", "hard") or self.method not in ("emd", "ceemdan"):
            raise ValueError(f"EMD needs mode soft or hard and method emd or ceemdan, not {self}")
        if self.lam != "universal":
            check_number("lam", self.lam, least=0)
        check_number("noise_seconds", self.noise_seconds, above=0)
        check_number("trials", self.trials, least=1, whole=True)


def decompose(x: np.ndarray, options: EMDOptions) -> tuple[np.ndarray, np.ndarray, float]:
    """(imfs (k,n), residue (n,), scale): x = scale * (imfs.sum(0) + residue).

    PyEMD's stopping thresholds are absolute, so x is scaled to unit variance first.
    """
    scale = float(x.std())
    if scale == 0.0:
        return np.empty((0, len(x))), x.astype(np.float64), 1.0
    unit = x / scale
    if options.method == "ceemdan":
        from PyEMD import CEEMDAN

        engine = CEEMDAN(trials=options.trials, parallel=False, seed=0)
        engine(unit)
    else:
        from preprocessing.signals.splines import FastEMD

        engine = FastEMD()
        engine.emd(unit)
    imfs, _ = engine.get_imfs_and_residue()
    return imfs, unit - imfs.sum(axis=0), scale


def quietest(x: np.ndarray, width: int) -> slice:
    """The window of `width` samples of x (n,) with the lowest RMS (the first one if several are equal)."""
    width = min(max(width, 1), len(x))
    power = np.concatenate(([0.0], np.cumsum(x**2)))
    start = int(np.argmin(power[width:] - power[:-width]))
    return slice(start, start + width)


def denoise(x: np.ndarray, fs: float, options: EMDOptions = EMDOptions(), gap: np.ndarray | None = None,
            seconds: float = 0.1) -> np.ndarray:
    """x (n,) band-passed EMG at fs Hz, denoised; the residue is kept. Scaling x scales the result.

    gap (n,) bool: samples that were not recorded. They are 0 in the result, and used neither for the decomposition nor for the
    noise estimate: the rest is denoised as one recording. No window of `seconds` gains energy (`no_louder`).
    """
    if gap is not None:
        out = np.zeros(len(x))
        if (~gap).any():
            out[~gap] = denoise(x[~gap], fs, options, None, seconds)
        return no_louder(out, np.where(gap, 0.0, x), fs, seconds)
    imfs, residue, scale = decompose(x, options)
    if not len(imfs):
        return x
    window = imfs[:, quietest(x, round(options.noise_seconds * fs))]
    centre = np.median(window, axis=1, keepdims=True)
    sigma = np.median(np.abs(window - centre), axis=1, keepdims=True) / 0.6745
    lam = np.sqrt(2 * np.log(len(x))) if options.lam == "universal" else float(options.lam)
    threshold = lam * sigma
    if options.mode == "soft":
        kept = np.sign(imfs) * np.maximum(np.abs(imfs) - threshold, 0.0)
    else:
        kept = np.where(np.abs(imfs) > threshold, imfs, 0.0)
    return no_louder(scale * (kept.sum(axis=0) + residue), x, fs, seconds)


def no_louder(y: np.ndarray, x: np.ndarray, fs: float, seconds: float = 0.1) -> np.ndarray:
    """y (n,) attenuated where a window of `seconds` (shorter at the edges) holds more energy than the same window of x.

    IMFs are meaningful only as a sum: they cancel each other, above all next to a silent part, and after thresholding each of
    them they no longer do. A sample is attenuated as its worst window requires, so that no window has more energy than before.
    """
    from scipy.ndimage import minimum_filter1d

    half = half_window(fs, seconds)
    after, before = _energy(y, half), _energy(x, half)
    louder = after > before * (1 + 1e-9)
    if not louder.any():
        return y
    share = np.ones(len(y))
    share[louder] = np.sqrt(before[louder] / after[louder])
    return y * minimum_filter1d(share, 2 * half + 1, mode="nearest")


def _energy(x: np.ndarray, half: int) -> np.ndarray:
    """Sum of squares of x (n,) over the window of 2 half + 1 samples around each sample, one by one: a running sum
    would leave rounding errors of a burst in the silent part after it."""
    return np.convolve(np.pad(x**2, half), np.ones(2 * half + 1), "valid")
