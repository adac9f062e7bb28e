"""PyEMD's sifting with a faster spline: the same IMFs (within 1e-9) in less than half the time.

PyEMD builds about 150 scipy `CubicSpline` objects per signal, whose checks take longer than their arithmetic, and searches
the same extrema three times per sifting step. Measured: of 6 real signals none was bit-equal to PyEMD's own spline (largest
difference 4.6e-15); for one clip's signals 0.043 CPU s against 0.101 CPU s with PyEMD's. So this spline stays: it is faster,
and changing it would change stored results.
"""

import numpy as np
from PyEMD import EMD
from scipy.linalg.lapack import dgtsv


def not_a_knot(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The cubic spline through (x, y), k >= 4 ascending knots, at start, ..., stop-1; x[0] <= start, stop-1 <= x[-1].

    Slopes at the knots solve a tridiagonal system (de Boor, A Practical Guide to Splines, ch. IV); its first and last
    row make the third derivative continuous at the second and the second-to-last knot.
    """
    step = np.diff(x)
    secant = np.diff(y) / step
    first, last = x[2] - x[0], x[-1] - x[-3]
    right = np.empty_like(y)
    right[1:-1] = 3.0 * (step[1:] * secant[:-1] + step[:-1] * secant[1:])
    right[0] = ((step[0] + 2.0 * first) * step[1] * secant[0] + step[0] ** 2 * secant[1]) / first
    right[-1] = (step[-1] ** 2 * secant[-2] + (2.0 * last + step[-1]) * step[-2] * secant[-1]) / last
    lower = np.append(step[1:], last)
    middle = np.concatenate(([step[1]], 2.0 * (step[:-1] + step[1:]), [step[-2]]))
    upper = np.append(first, step[:-1])
    slope, info = dgtsv(lower, middle, upper, right, True, True, True, True)[3:]
    assert info == 0, "the system is regular for ascending knots"
    bend = (slope[:-1] + slope[1:] - 2.0 * secant) / step
    # The coefficients of each polynomial are repeated for its grid points: from its knot up to the next one, exclusive.
    edges = np.clip(np.ceil(x), start, stop).astype(np.intp)
    edges[0], edges[-1] = start, stop
    pieces = np.stack([bend / step, (secant - slope[:-1]) / step - bend, slope[:-1], y[:-1], x[:-1]])
    cubic, square, linear, constant, origin = np.repeat(pieces, np.diff(edges), axis=1)
    u = np.arange(start, stop) - origin
    return ((cubic * u + square) * u + linear) * u + constant


class FastEMD(EMD):
    """PyEMD's EMD with its default settings; only the computation of the steps differs."""

    _cached: tuple[np.ndarray, tuple] | None = None

    def find_extrema(self, T: np.ndarray, S: np.ndarray) -> tuple:
        """PyEMD's extrema, cached for the last S."""
        if self._cached is None or not np.array_equal(self._cached[0], S):
            self._cached = S.copy(), super().find_extrema(T, S)
        return self._cached[1]

    def spline_points(self, T: np.ndarray, extrema: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(t, envelope on t); three points or fewer are left to PyEMD. T is 0, 1, ..., n-1."""
        if self.spline_kind != "cubic" or extrema.shape[1] <= 3:
            return super().spline_points(T, extrema)
        start = max(0, int(np.ceil(extrema[0, 0])))
        stop = min(len(T), int(np.floor(extrema[0, -1])) + 1)
        return T[start:stop], not_a_knot(extrema[0], extrema[1], start, stop)

    def check_imf(self, imf_new: np.ndarray, imf_old: np.ndarray, eMax: np.ndarray, eMin: np.ndarray) -> bool:
        """Huang's stopping criteria as in PyEMD (scaled variance, standard deviation, energy ratio)."""
        if (eMax[1] < 0).any() or (eMin[1] > 0).any() or np.dot(imf_new, imf_new) < 1e-10:
            return False
        change = imf_new - imf_old
        power = float(np.dot(change, change))
        if power / (imf_old.max() - imf_old.min()) < self.svar_thr:
            return True
        with np.errstate(all="ignore"):  # a sample of exactly 0 makes it infinite: the criterion is not met
            spread = float(((change / imf_new) ** 2).sum())
        if spread < self.std_thr:
            return True
        return power / float(np.dot(imf_old, imf_old)) < self.energy_ratio_thr
