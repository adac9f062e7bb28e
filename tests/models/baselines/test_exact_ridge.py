"""Ridge from merged sums: equal to refits, and bitwise independent of the held-out subject."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from models import build
from models.baselines.exact_ridge import Sums, leave_one_out, leave_one_out_sums, merge_all, solve

P, CLIPS, F, K = 11, 9, 24, 3


@pytest.fixture(scope="module")
def data():
    """Features of very different size, one constant, one a copy of another; subjects with unequal numbers of samples."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(P), CLIPS + np.arange(P) % 4)
    x = rng.normal(size=(len(subjects), F)) * 10.0 ** rng.integers(-3, 4, F) + rng.normal(size=F) * 5
    x[:, 3], x[:, 5] = 7.3, x[:, 4]
    y = np.eye(K)[rng.integers(0, K, len(subjects))]
    return x, y, subjects


@pytest.mark.parametrize("alpha", [0.1, 1.0, 100.0])
def test_every_fold_equals_a_refit(data, alpha):
    x, y, subjects = data
    found = dict(leave_one_out(x, y, subjects, alpha))
    assert list(found) == list(range(P))
    for subject, linear in found.items():
        rows = subjects != subject
        scaler = StandardScaler().fit(x[rows])
        refit = Ridge(alpha=alpha).fit(scaler.transform(x[rows]), y[rows])
        assert np.abs(linear.coef - refit.coef_).max() < 1e-10
        assert np.abs(linear.predict(x[~rows]) - refit.predict(scaler.transform(x[~rows]))).max() < 1e-10


def test_the_held_out_subject_changes_no_bit(data):
    x, y, subjects = data
    spoilt = np.where((subjects == 4)[:, None], 1e9 * np.random.default_rng(1).normal(size=x.shape), x)
    turned = np.where((subjects == 4)[:, None], y[:, ::-1], y)
    plain, other = dict(leave_one_out(x, y, subjects)), dict(leave_one_out(spoilt, turned, subjects))
    for name in ("mean", "scale", "coef", "intercept"):
        assert getattr(plain[4], name).tobytes() == getattr(other[4], name).tobytes()
        assert getattr(plain[5], name).tobytes() != getattr(other[5], name).tobytes()


def test_subtracting_from_a_total_would_depend_on_the_held_out_subject(data):
    """Why the sums are merged: subtracting a subject with large values from a total loses digits of all others."""
    x, y, subjects = data
    spoilt = np.where((subjects == 4)[:, None], 1e9 * np.random.default_rng(1).normal(size=x.shape), x)
    total, own = spoilt.T @ spoilt, spoilt[subjects == 4].T @ spoilt[subjects == 4]
    others = x[subjects != 4].T @ x[subjects != 4]
    assert not np.allclose(total - own, others)


def test_sums_of_all_others_are_merges_before_and_after(data):
    x, y, subjects = data
    parts = [Sums.of(x[subjects == p], y[subjects == p]) for p in range(P)]
    for subject, sums in enumerate(leave_one_out_sums(parts)):
        whole = Sums.of(x[subjects != subject], y[subjects != subject])
        assert sums.n == whole.n
        np.testing.assert_allclose(sums.xx, whole.xx, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(sums.xy, whole.xy, rtol=1e-9, atol=1e-9)
    assert [s.n for s in leave_one_out_sums(parts[:2])] == [parts[1].n, parts[0].n]
    with pytest.raises(ValueError, match="two"):
        next(leave_one_out_sums(parts[:1]))
    with pytest.raises(ValueError, match="at least one sample"):
        Sums.of(x[:0], y[:0])


def test_the_model_of_the_folds_is_the_same_ridge():
    """model=ridge on window statistics: merged sums of the subjects, equal to a fit of all at once and to leave_one_out."""
    rng = np.random.default_rng(2)
    signals, labels = rng.normal(size=(60, 20, 2)), np.tile([0, 1], 30)
    subjects, arrays = np.repeat(np.arange(6), 10), {"signals": signals}
    rows = np.flatnonzero(subjects != 2)
    merged = build("ridge", n_classes=2).fit(arrays, labels, rows, subjects)
    at_once = build("ridge", n_classes=2).fit(arrays, labels, rows)
    np.testing.assert_allclose(merged.linear.coef, at_once.linear.coef, atol=1e-10)
    everywhere = dict(leave_one_out(merged.features(arrays, np.arange(60)), np.eye(2)[labels], subjects))
    np.testing.assert_allclose(merged.linear.coef, everywhere[2].coef, atol=1e-10)
    assert solve(merge_all([Sums.of(signals[:, 0], np.eye(2)[labels])]), 1.0).coef.shape == (2, 2)
