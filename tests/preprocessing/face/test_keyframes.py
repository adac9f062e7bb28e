"""Keyframes against an example by hand, a brute-force version of the paper's Fig. 1, and their own rules."""

import dataclasses

import numpy as np
import pytest

from preprocessing.face.keyframes import KeyframeOptions, select_keyframes, spread, window
from preprocessing.face.landmarks import LEFT_EYE, N_POINTS, POINTS, RIGHT_EYE, eye_corners, interocular


def line(*positions: float) -> np.ndarray:
    """Landmarks (F, 1, 2) of one point that moves along x; NaN: no face."""
    return np.array([[[x, 0.0 * x]] for x in positions])


def brute_force(landmarks: np.ndarray, o: KeyframeOptions) -> tuple[list[int], float]:
    """Fig. 1 literally, frame by frame, without any shortcut; before filling and reducing."""
    n_steps = 0
    while True:
        threshold = max(round(o.t_init - n_steps * o.step, 9), o.t_min)
        chosen, reference = [], None
        for f, points in enumerate(landmarks):
            if np.isnan(points).any():
                continue
            if reference is None:
                chosen, reference = [f], points
                continue
            if np.sqrt(((points - reference) ** 2).sum()) > threshold:
                chosen.append(f)
                reference = points
            elif o.ref == "previous_frame":
                reference = points
            if o.ref == "previous_frame":
                reference = points
        if len(chosen) >= o.k_min or threshold <= o.t_min:
            return chosen, threshold
        n_steps += 1


def pixels(**changes) -> KeyframeOptions:
    return dataclasses.replace(KeyframeOptions(norm="none"), **changes)


def test_example_by_hand():
    """T = 3: 0 -> 4 (d 4) -> 8 (d 4): three keyframes. T = 2: 0, 3 (d 3), 6 (d 3): 8 is only 2 away. Still three.
    T = 1: 0, 3, 5 (d 2), 8 (d 3): four."""
    x = line(0, 1, np.nan, 3, 4, 5, 6, 8, 8)
    found = select_keyframes(x, pixels(t_init=3, step=1, t_min=0, k_min=3))
    assert (found.index.tolist(), found.threshold, found.padded) == ([0, 4, 7], 3.0, False)
    found = select_keyframes(x, pixels(t_init=3, step=1, t_min=0, k_min=4))
    assert (found.index.tolist(), found.threshold, found.padded) == ([0, 3, 5, 7], 1.0, False)
    np.testing.assert_array_equal(found.distance, [0, 1, np.nan, 3, 1, 2, 1, 3, 0])
    assert found.index.dtype == np.int32 and found.distance.dtype == np.float32


def test_a_distance_equal_to_the_threshold_does_not_exceed_it():
    assert select_keyframes(line(0, 3), pixels(t_init=3, t_min=3, k_min=1)).index.tolist() == [0]


def test_previous_frame_reference_sees_single_steps_only():
    """A slow drift never moves 3 at once, but drifts 3 away from a keyframe."""
    drift = line(*range(10))
    options = pixels(t_init=2.5, step=1, t_min=2.5, k_min=1)
    assert select_keyframes(drift, options).index.tolist() == [0, 3, 6, 9]
    assert select_keyframes(drift, dataclasses.replace(options, ref="previous_frame")).index.tolist() == [0]


@pytest.mark.parametrize("ref", ["last_keyframe", "previous_frame"])
@pytest.mark.parametrize("seed", range(20))
def test_equals_brute_force(ref, seed):
    rng = np.random.default_rng(seed)
    landmarks = np.cumsum(rng.normal(0, rng.uniform(0.2, 3), (60, 5, 2)), axis=0)
    landmarks[rng.random(60) < 0.1] = np.nan
    options = pixels(t_init=15, step=4, t_min=0, k_min=int(rng.integers(2, 40)), ref=ref)
    chosen, threshold = brute_force(landmarks, options)
    found = select_keyframes(landmarks, options)
    assert found.threshold == threshold
    assert found.padded == (len(chosen) < options.k_min)
    if not found.padded:
        assert found.index.tolist() == chosen
    else:
        assert set(chosen) <= set(found.index.tolist())


def test_default_preset_equals_brute_force_in_interocular_units():
    """20 thresholds from 1.0 to 0.05, none left out or tried twice."""
    rng = np.random.default_rng(3)
    landmarks = np.cumsum(rng.normal(0, 0.6, (80, N_POINTS, 2)), axis=0) + rng.normal(0, 50, (N_POINTS, 2))
    right, left = eye_corners(N_POINTS)
    unit = np.median(np.linalg.norm(landmarks[:, right] - landmarks[:, left], axis=1))
    thresholds = set()
    for k_min in range(2, 60, 3):
        options = KeyframeOptions(k_min=k_min)
        chosen, threshold = brute_force(landmarks / unit, options)
        found = select_keyframes(landmarks, options)
        assert found.index.tolist() == chosen or found.padded
        assert found.threshold == pytest.approx(threshold, abs=1e-12)
        thresholds.add(round(found.threshold, 6))
    assert len(thresholds) > 4  # the loop above did walk down


def test_rms_is_the_mean_movement_of_a_point():
    rng = np.random.default_rng(0)
    still = rng.normal(0, 40, (N_POINTS, 2))
    eyes = interocular(still[None])
    moved = np.stack([still, still + [0.5 * eyes, 0]])  # every point by half an interocular distance
    assert select_keyframes(moved, KeyframeOptions(norm="rms")).distance[1] == pytest.approx(0.5)
    assert select_keyframes(moved, KeyframeOptions()).distance[1] == pytest.approx(0.5 * np.sqrt(N_POINTS), rel=1e-6)
    assert select_keyframes(moved, pixels()).distance[1] == pytest.approx(0.5 * eyes * np.sqrt(N_POINTS), rel=1e-6)


def test_too_little_motion_is_filled_uniformly_and_flagged():
    found = select_keyframes(line(*[0.0] * 138), pixels())
    assert found.padded and found.threshold == 0.05
    assert len(found.index) == 16 and len(set(found.index.tolist())) == 16
    gaps = np.diff(found.index)
    assert found.index[0] == 0 and found.index[-1] == 137 and gaps[1:].max() <= gaps[1:].min() + 1


def test_motion_at_the_end_is_never_cut_off():
    """The authors' code keeps the first k_max; pain peaks at the end."""
    x = line(*np.linspace(0, 5, 100), *np.linspace(8, 2000, 200))
    found = select_keyframes(x, pixels(t_init=2, step=1, t_min=1, k_max=50))
    assert len(found.index) == 50 and found.index[0] == 0 and found.index[-1] == 299


def test_fewer_frames_than_k_min_gives_all_of_them():
    found = select_keyframes(line(*range(7)), pixels())
    assert found.index.tolist() == list(range(7)) and found.padded


def test_frames_without_a_face_are_never_chosen():
    landmarks = line(*range(100))
    landmarks[::2] = np.nan
    assert (select_keyframes(landmarks, pixels(t_init=200, t_min=200)).index % 2 == 1).all()
    nothing = select_keyframes(np.full((9, 92, 2), np.nan))
    assert len(nothing.index) == 0 and nothing.padded and np.isnan(nothing.distance).all()


def test_window_strides_and_starts():
    assert window(16).tolist() == list(range(16))
    assert window(138).tolist() == [8 + 8 * i for i in range(16)]  # stride 138 // 16 = 8, centred
    assert window(300, rate=4).tolist() == [119 + 4 * i for i in range(16)]  # the rate is a cap
    assert window(138, start=3).tolist() == [3 + 8 * i for i in range(16)]
    assert window(5).tolist() == [0, 1, 2, 3, 4] + [4] * 11
    assert window(1).tolist() == [0] * 16
    with pytest.raises(ValueError):
        window(0)
    with pytest.raises(ValueError):
        window(16, start=1)


def test_window_random_start_covers_the_clip_and_repeats_with_its_seed():
    starts = {int(window(138, start=np.random.default_rng(s))[0]) for s in range(400)}
    assert starts == set(range(18))  # 138 - (15 * 8 + 1) = 17
    assert window(138, start=np.random.default_rng(7)).tolist() == window(138, start=np.random.default_rng(7)).tolist()
    assert all(window(n, start=np.random.default_rng(n)).max() < n for n in range(1, 400))


def test_centred_window_leaves_as_much_on_both_sides():
    for n in range(16, 500):
        w = window(n)
        assert w.dtype == np.int64 and abs((n - 1 - w[-1]) - w[0]) <= 1


def test_spread_is_even_and_keeps_the_ends():
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    for n in range(2, 60):
        for k in range(2, n + 1):
            positions = spread(n, k)
            assert positions[0] == 0 and positions[-1] == n - 1
            assert len(positions) == k and np.diff(positions).min() >= 1
            assert np.abs(positions - np.linspace(0, n - 1, k)).max() <= 0.5 + 1e-9


def test_points_are_92_and_mirror_each_other():
    assert len(POINTS) == len(set(POINTS.tolist())) == N_POINTS == 92
    assert POINTS[list(eye_corners(92))].tolist() == [33, 263] == list(eye_corners(468))
    assert len(RIGHT_EYE) == len(LEFT_EYE)


@pytest.mark.parametrize("bad", [{"norm": "l1"}, {"ref": "first"}, {"step": 0.0}, {"t_min": 2.0}, {"k_max": 3},
                                 {"k_min": 16.5}, {"k_min": 0}, {"k_max": 20.5}, {"t_init": "x"}, {"step": None}])
def test_invalid_options(bad):
    with pytest.raises(ValueError):
        KeyframeOptions(**bad)


def test_presets():
    assert KeyframeOptions.preset("default") == KeyframeOptions() == KeyframeOptions(
        t_init=1.0, step=0.05, k_min=16, t_min=0.05, norm="interocular", ref="last_keyframe", k_max=None)
    paper = KeyframeOptions.preset("paper")
    assert paper == KeyframeOptions(t_init=15.0, step=4.0, k_min=16, t_min=0.0, norm="none", ref="last_keyframe", k_max=None)
    with pytest.raises(ValueError, match="default or paper"):
        KeyframeOptions.preset("authors")


def test_paper_preset_tries_zero_as_well():
    """15, 11, 7, 3 and then 0: steps of 0.5 px are found there, which the authors' loop stops short of."""
    found = select_keyframes(line(*np.arange(0, 10, 0.15)), KeyframeOptions.preset("paper"))
    assert found.threshold == 0.0 and not found.padded and len(found.index) == 67
