"""The mesh follows known movements of the face, and its region adds no movement."""

import numpy as np
import pytest

from preprocessing.face.detector import FULL_RANGE, BlazeFace
from preprocessing.face.landmarks import POINTS, interocular
from preprocessing.face.litert import load_model
from preprocessing.face.mesh import FACE_MESH, FaceMesh
from preprocessing.face.roi import Hysteresis, Roi, roi_of_mesh, square_around
from preprocessing.face.tracking import FaceTracker
from preprocessing.face.weights import weight_file
from preprocessing.video.frames import ImageFrame
from tests.helpers import films

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def detector() -> BlazeFace:
    return BlazeFace(load_model(weight_file(FULL_RANGE)))


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh(load_model(weight_file(FACE_MESH)))


def follow(frames, detector, mesh, hysteresis=None) -> np.ndarray:
    """The 92 points of every frame (F, 92, 2)."""
    tracker = FaceTracker([detector], mesh, hysteresis=hysteresis)
    found = [tracker.step(ImageFrame(i, i / 25, frame))[0] for i, frame in enumerate(frames)]
    return np.stack([points[POINTS] for points in found if points is not None])


def motion(landmarks: np.ndarray) -> np.ndarray:
    """Frame-to-frame L2 distance of the 184-vector in interocular units."""
    return np.linalg.norm(np.diff(landmarks, axis=0).reshape(len(landmarks) - 1, -1), axis=1) / interocular(landmarks)


@pytest.mark.parametrize("tilt", [0.0, 0.15, 0.35, 0.5])
def test_a_still_face_does_not_move(detector, mesh, tilt):
    still = [films.face(640, 480, tilt=tilt, zoom=0.9)] * 15
    assert (motion(follow(still, detector, mesh)) == 0).all()
    naive = Hysteresis(shift=0, zoom=0, turn=0)  # every frame's landmarks fed straight back
    assert motion(follow(still, detector, mesh, naive)).max() > 0.005


def test_noise_alone_stays_below_the_keyframe_floor(detector, mesh):
    rng = np.random.default_rng(0)
    still = films.face(640, 480, tilt=0.2, zoom=2.0)
    noisy = [np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(12)]
    moved = motion(follow(noisy, detector, mesh))
    assert 0 < moved.max() < 0.05


def test_landmarks_follow_a_known_movement(detector, mesh):
    """After reversing the movement, the landmarks agree within a few percent of the interocular distance."""
    moves = [(0, 0, 0.0), (20, 5, 0.1), (-25, 0, -0.2), (10, -10, 0.3)]
    back = []
    for dx, dy, tilt in moves:
        points = follow([films.face(640, 480, dx=dx, dy=dy, tilt=tilt, zoom=0.9)], detector, mesh)[0]
        c, s = np.cos(tilt), np.sin(tilt)
        back.append((points - [320 + dx, 240 + dy]) @ np.array([[c, -s], [s, c]]))
    eyes = interocular(back[0][None])
    for points in back[1:]:
        assert np.linalg.norm(points - back[0], axis=1).mean() < 0.03 * eyes


def test_both_runtimes_agree(mesh):
    opencv = FaceMesh(load_model(weight_file(FACE_MESH), "opencv"))
    frame = ImageFrame(0, 0.0, films.portrait())
    roi = Roi(223, 125, 200, 0.06)
    (a, score_a), (b, score_b) = mesh.find(frame, roi), opencv.find(frame, roi)
    assert score_a > 0.99 and score_a == pytest.approx(score_b, abs=1e-4)
    np.testing.assert_allclose(a, b, atol=0.01)


def test_no_face_no_score(mesh):
    rng = np.random.default_rng(0)
    frame = ImageFrame(0, 0.0, rng.integers(0, 255, (240, 320, 3), np.uint8))
    assert mesh.find(frame, Roi(160, 120, 150))[1] < 0.1
    assert mesh.find(frame, Roi(1000, 1000, 100))[1] == 0.0  # outside of the frame


def test_a_frame_that_is_nearly_a_line_has_no_face(detector, mesh):
    frame = ImageFrame(0, 0.0, np.full((2, 1600, 3), 90, np.uint8))
    tracker = FaceTracker([detector], mesh)
    assert tracker.step(frame)[0] is None and tracker.brightest == 90


def test_a_region_is_its_own_inverse():
    """A region of points: horizontal, centred, 1.5 times as wide; rotating the points changes only the angle."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (468, 2))
    points[33], points[263] = (-30, 5), (30, 5)
    level = roi_of_mesh(points)
    assert level.angle == 0
    assert level.side == pytest.approx(1.5 * np.ptp(points, axis=0).max())
    turn = 0.4
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = roi_of_mesh(points @ rotation.T)
    assert turned.angle == pytest.approx(turn) and turned.side == pytest.approx(level.side)
    np.testing.assert_allclose([turned.x, turned.y], rotation @ [level.x, level.y])
    corner = turned.to_image(192) @ [95.5, 95.5, 1]
    np.testing.assert_allclose(corner, [turned.x, turned.y])


def test_a_region_stays_within_the_hysteresis_and_follows_beyond():
    h, old = Hysteresis(), Roi(100, 100, 200, 0.0)
    for near in (Roi(109, 100, 200), Roi(100, 100, 209), Roi(100, 100, 200, 0.09), Roi(100, 100, 200, 2 * np.pi)):
        assert h.keep_or_follow(old, near) is old
    for far in (Roi(111, 100, 200), Roi(100, 100, 211), Roi(100, 100, 189), Roi(100, 100, 200, -0.11)):
        assert h.keep_or_follow(old, far) is far


def test_the_crop_moves_smoothly():
    h, square = Hysteresis(), Roi(100, 100, 200)
    for step in range(60):  # a face that glides by one pixel a frame pulls the square by one pixel a frame
        new = h.drag(square, Roi(100 + step, 100, 200))
        assert abs(new.x - square.x) <= 1 + 1e-9 and new.y == 100 and new.side == 200
        assert abs(new.x - (100 + step)) <= 10 + 1e-9
        square = new
    assert square.x == pytest.approx(149)
    assert h.drag(square, Roi(square.x + 3, 103, 205)) == square


def test_square_around_points():
    assert square_around(np.array([[0.0, 0.0], [10.0, 40.0]]), margin=0.25) == Roi(5, 20, 50)
