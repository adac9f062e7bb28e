import numpy as np
import pytest
from PyEMD import EMD
from scipy.interpolate import CubicSpline

from preprocessing.signals.filters import butterworth
from preprocessing.signals.splines import FastEMD, not_a_knot


def test_the_spline_is_scipys():
    rng = np.random.default_rng(0)
    for k in [4, 5, 6, 30] * 20:
        x = np.cumsum(rng.uniform(0.3, 9.0, k)) - 20
        if k != 30:
            x = np.round(np.cumsum(1 + rng.integers(1, 9, k))).astype(float)  # knots on the grid itself
        y = rng.normal(size=k)
        start, stop = int(np.ceil(x[0])), int(np.floor(x[-1])) + 1
        if rng.random() < 0.3:
            start, stop = start + 1, max(start + 2, stop - 3)
        np.testing.assert_allclose(not_a_knot(x, y, start, stop), CubicSpline(x, y)(np.arange(start, stop)), atol=1e-10)


def signals():
    rng = np.random.default_rng(1)
    t = np.arange(2816) / 512
    for _ in range(4):
        x = rng.normal(size=2816)
        x[800:1600] *= rng.uniform(1, 30)
        yield butterworth(x, 20, 250, 4, 512.0)
    yield np.where((t > 2) & (t < 3), rng.normal(size=2816), 0.0)  # long plateaus, as in gated files
    yield np.round(rng.normal(size=600), 1)  # equal neighbours and exact zeros
    yield np.sin(2 * np.pi * 3 * t) + 0.3 * np.sin(2 * np.pi * 17 * t) + t
    yield rng.normal(size=64)
    yield rng.normal(size=12)
    yield np.linspace(0, 1, 100)
    yield np.array([0.0, 1.0, 0.0, 1.0, 0.0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # 0/0 on plateaus, in PyEMD as here
def test_the_imfs_are_pyemds():
    counts = []
    for x in signals():
        x = x / x.std()
        slow, quick = EMD(), FastEMD()
        slow.emd(x)
        quick.emd(x)
        want, got = slow.get_imfs_and_residue(), quick.get_imfs_and_residue()
        assert got[0].shape == want[0].shape
        np.testing.assert_allclose(got[0], want[0], atol=1e-9)
        np.testing.assert_allclose(got[1], want[1], atol=1e-9)
        counts.append(len(got[0]))
    assert max(counts) >= 8 and min(counts) <= 1
