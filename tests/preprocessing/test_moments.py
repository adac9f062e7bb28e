import itertools
import json

import numpy as np
import pytest

from preprocessing.moments import KINDS, Moments, Scaler, clip_minmax, fit_scaler, leave_one_out, merge, merge_all


@pytest.fixture
def data() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    # Offsets far larger than the spread: what a naive sum of squares would lose.
    return {s: (1e4 + rng.normal(s, 1 + s, (3 + s, 20, 4))).astype(np.float32) for s in range(6)}


def test_merge_equals_a_direct_fit(data):
    parts = {s: Moments.of(x) for s, x in data.items()}
    for size in (1, 2, 5, 6):
        for chosen in itertools.islice(itertools.combinations(data, size), 10):
            direct = np.concatenate([data[s].reshape(-1, 4) for s in chosen]).astype(np.float64)
            scaler = fit_scaler(parts, list(chosen))
            np.testing.assert_allclose(scaler.mean, direct.mean(0), rtol=1e-10)
            np.testing.assert_allclose(scaler.std, direct.std(0), rtol=1e-10)
            assert scaler.subjects == chosen


def test_scaler_does_not_depend_on_the_order_of_ids_nor_on_others(data):
    parts = {s: Moments.of(x) for s, x in data.items()}
    one = fit_scaler(parts, [4, 0, 2])
    parts[5] = Moments.of(data[5] * 3)  # a subject outside
    two = fit_scaler(dict(reversed(parts.items())), [0, 2, 4])
    assert one.sha256() == two.sha256()
    parts[2] = Moments.of(data[2] + 1)  # a subject inside
    assert fit_scaler(parts, [0, 2, 4]).sha256() != one.sha256()


def test_leave_one_out_is_bitwise_free_of_the_left_out_subject(data):
    parts = {s: Moments.of(x) for s, x in data.items()}
    others = leave_one_out(parts)
    for s in data:
        changed = dict(parts) | {s: Moments.of(data[s] * 1e3 + 7)}
        again = leave_one_out(changed)[s]
        assert again.mean.tobytes() == others[s].mean.tobytes() and again.m2.tobytes() == others[s].m2.tobytes()
        direct = np.concatenate([data[o].reshape(-1, 4) for o in data if o != s]).astype(np.float64)
        np.testing.assert_allclose(others[s].std, direct.std(0), rtol=1e-10)
        np.testing.assert_array_equal(others[s].count, len(direct))
        np.testing.assert_array_equal(others[s].high, direct.max(0))


def test_apply_by_hand():
    x = np.array([[[0.0, 5.0], [2.0, 5.0]]], dtype=np.float32)  # channel 1 has no spread
    scaler = fit_scaler({3: Moments.of(x)}, [3])
    np.testing.assert_array_equal(scaler.mean, [1, 5])
    np.testing.assert_array_equal(scaler.std, [1, 0])
    out = scaler.apply(np.array([[[2.0, 9.0], [100.0, 5.0], [-100.0, 5.0], [1.0, 5.0]]], dtype=np.float32))
    np.testing.assert_allclose(out, [[[0.2, 0], [1, 0], [-1, 0], [0, 0]]], atol=1e-7)
    assert out.dtype == np.float32


def test_numerical_noise_becomes_zero():
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1e-22, (5, 30, 1))).astype(np.float32)
    assert np.abs(x).max() > 0
    assert not fit_scaler({0: Moments.of(x)}, [0]).apply(x).any()
    assert not clip_minmax(x).any()


def test_clip_minmax_by_hand():
    x = np.array([[[0.0, 1.0], [4.0, 1.0], [1.0, 1.0]]])
    np.testing.assert_allclose(clip_minmax(x)[0], [[-1, 0], [1, 0], [-0.5, 0]])
    assert not clip_minmax(x, train_std=np.array([5e6, 1.0])).any()  # 1e-6 of the training spread is more than 4


def test_scaling_by_the_clips_range_and_the_subjects_deviation():
    x = np.random.default_rng(0).normal(size=(3, 50, 2)) * [1, 5] + 3
    moments = {0: Moments.of(x), 1: Moments.of(10 * x)}
    clip = fit_scaler(moments, [0], kind="clip_minmax")
    np.testing.assert_array_equal(clip.apply(7 * x), clip_minmax(7 * x, moments[0].std))
    own = fit_scaler(moments, [0], kind="subject_z")
    np.testing.assert_array_equal(own.apply(10 * x, moments[1]), fit_scaler(moments, [1]).apply(10 * x))
    assert not np.array_equal(own.apply(x, moments[0]), own.apply(x, moments[1]))
    with pytest.raises(ValueError, match="moments of the subject"):
        own.apply(x)
    with pytest.raises(ValueError, match="kind 'z'"):
        fit_scaler(moments, [0], kind="z")
    assert len({fit_scaler(moments, [0], kind=kind).sha256() for kind in KINDS}) == len(KINDS)
    assert all(Scaler.from_json(s.to_json()).sha256() == s.sha256() for s in (clip, own))


def test_train_minmax_maps_the_extrema_to_one():
    x = np.array([[[0.0], [10.0]]])
    scaler = fit_scaler({0: Moments.of(x), 1: Moments.of(x + 2)}, [0, 1], kind="train_minmax")
    np.testing.assert_allclose(scaler.apply(np.array([[[0.0], [12.0], [6.0], [99.0]]]))[0, :, 0], [-1, 1, 0, 1])


def test_json_is_exact(data):
    moments = Moments.of(data[3])
    back = Moments.from_json(json.loads(json.dumps(moments.to_json())))
    for name in ("count", "mean", "m2", "low", "high"):
        assert getattr(back, name).tobytes() == getattr(moments, name).tobytes()
    scaler = fit_scaler({3: moments}, [3])
    assert Scaler.from_json(json.loads(json.dumps(scaler.to_json()))).sha256() == scaler.sha256()
    assert Scaler.from_json(scaler.to_json() | {"subjects": [4]}).sha256() != scaler.sha256()


def test_programmer_errors(data):
    parts = {s: Moments.of(x) for s, x in data.items()}
    for subjects in ([], [1, 1], [1, 99]):
        with pytest.raises(ValueError):
            fit_scaler(parts, subjects)
    with pytest.raises(ValueError):
        Moments.of(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError):
        Moments.of(np.empty((0, 5, 3)))
    with pytest.raises(ValueError):
        merge(parts[0], Moments.of(np.ones((2, 3, 5))))
    with pytest.raises(ValueError):
        fit_scaler(parts, [0]).apply(np.zeros((2, 3)))
    with pytest.raises(ValueError):
        merge_all([])
    with pytest.raises(ValueError):
        leave_one_out({0: parts[0]})
    with pytest.raises(ValueError):
        fit_scaler(parts, [0], kind="subject")


@pytest.mark.parametrize("scale", [1e-15, 1e-12, 1e-6, 1.0, 1e9])
def test_the_unit_of_a_channel_does_not_matter(scale):
    """Volts and microvolts scale to the same numbers, and noise next to a signal stays noise in both."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 50, 2)) + [0.0, 3.0]
    dust = 1e-12 * rng.normal(size=(4, 50, 2)) + [0.0, 3.0]
    for kind in KINDS:
        moments = [{0: Moments.of(k * x), 1: Moments.of(k * dust)} for k in (1.0, scale)]
        one, other = (fit_scaler(m, [0], kind=kind) for m in moments)
        np.testing.assert_allclose(other.apply(scale * x, moments[1][0]), one.apply(x, moments[0][0]), atol=1e-6)
        assert np.abs(one.apply(x, moments[0][0])).max() > 0.1
        spread = np.ptp(other.apply(scale * dust, moments[1][1]), axis=1)
        assert spread.max() < 1e-6, kind
