"""EMD denoising of surface EMG (de Oliveira Andrade): decompose, threshold every IMF, sum up. n samples."""

from dataclasses import dataclass

import numpy as np
from PyEMD import CEEMDAN

from preprocessing.checks import check_number
from preprocessing.splines import QuickEMD


@dataclass(frozen=True)
class EMDOptions:
    """threshold of IMF k = lam * sigma_k, sigma_k = MAD/0.6745 of the IMF over the quietest window of the clip.

    lam: a factor, or "universal" = sqrt(2 ln n). mode "soft" | "hard". method "emd" | "ceemdan" (seeded).
    """

    lam: float | str = 1.0
    mode: str = "soft"
    method: str = "emd"
    noise_seconds: float = 0.5
    trials: int = 20  # of CEEMDAN

    def __post_init__(self) -> None:
        if self.mode not in ("soft", "hard") or self.method not in ("emd", "ceemdan"):
            raise ValueError(f"unknown EMD options {self}")
        if self.lam != "universal":
            check_number("lam", self.lam, least=0)
        check_number("noise_seconds", self.noise_seconds, above=0)
        check_number("trials", self.trials, least=1, whole=True)


def decompose(x: np.ndarray, options: EMDOptions) -> tuple[np.ndarray, np.ndarray, float]:
    """(imfs (k,n), residue (n,), scale): x = scale * (imfs.sum(0) + residue).

    PyEMD's stopping thresholds are absolute, so x is brought to unit variance first.
    """
    scale = float(x.std())
    if scale == 0.0:
        return np.empty((0, len(x))), x.astype(np.float64), 1.0
    unit = x / scale
    if options.method == "ceemdan":
        engine = CEEMDAN(trials=options.trials, parallel=False, seed=0)
        engine(unit)
    else:
        engine = QuickEMD()
        engine.emd(unit)
    imfs, _ = engine.get_imfs_and_residue()
    return imfs, unit - imfs.sum(axis=0), scale


def quietest(x: np.ndarray, width: int) -> slice:
    """The window of `width` samples of x (n,) with the lowest RMS, the first of several."""
    width = min(max(width, 1), len(x))
    power = np.concatenate(([0.0], np.cumsum(x**2)))
    start = int(np.argmin(power[width:] - power[:-width]))
    return slice(start, start + width)


def denoise(x: np.ndarray, fs: float, options: EMDOptions = EMDOptions()) -> np.ndarray:
    """x (n,) band-passed EMG at fs Hz, denoised; the residue is kept. Scaling x scales the result."""
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
    return scale * (kept.sum(axis=0) + residue)
