"""EMD denoising of surface EMG (de Oliveira Andrade): decompose, threshold every IMF, sum up. n samples.

PyEMD and scipy are imported where they are used: who only reads options or stored clips does without (2 s).
"""

from dataclasses import dataclass

import numpy as np

from preprocessing.checks import check_number
from preprocessing.signals.filters import half_window


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
        from PyEMD import CEEMDAN

        engine = CEEMDAN(trials=options.trials, parallel=False, seed=0)
        engine(unit)
    else:
        from preprocessing.signals.splines import QuickEMD

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


def denoise(x: np.ndarray, fs: float, options: EMDOptions = EMDOptions(), gap: np.ndarray | None = None,
            seconds: float = 0.1) -> np.ndarray:
    """x (n,) band-passed EMG at fs Hz, denoised; the residue is kept. Scaling x scales the result.

    gap (n,) bool: what was not recorded. It is 0 in the result, and neither decomposed nor taken for the clip's noise: the
    rest is denoised as if it were one recording. No window of `seconds` comes out louder than it went in (`no_louder`).
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
    """y (n,) turned down where a window of `seconds` (shorter at the edges) holds more energy than the same window of x.

    IMFs make sense only as a sum: they swing against each other, above all beside a silence, and cut down one by one they
    no longer cancel. A sample is turned down by the worst of the windows it is in, so that none is louder than before.
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
    """Sum of squares of x (n,) over the window of 2 half + 1 samples around each, window by window: a running sum would leave
    the rounding of a burst in the silence after it."""
    return np.convolve(np.pad(x**2, half), np.ones(2 * half + 1), "valid")
