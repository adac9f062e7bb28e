"""The detector finds the astronaut's face on both runtimes, and nothing where there is no face."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from skimage import data

from preprocessing.errors import InputError
from preprocessing.face import weights
from preprocessing.face.detector import FULL_RANGE, SHORT_RANGE, BlazeFace, anchors, merge_overlapping
from preprocessing.face.litert import load_model
from preprocessing.face.weights import SHA256, weight_file
from tests.helpers import films

EYES = np.array([[199.5, 99.5], [250.0, 103.0]])  # pupils in the 512 x 512 portrait, read off by eye


@pytest.fixture(scope="module", params=[FULL_RANGE, SHORT_RANGE])
def detector(request) -> BlazeFace:
    return BlazeFace(load_model(weight_file(request.param)), request.param)


def test_finds_the_eyes(detector):
    (found,) = detector.detect(films.portrait())
    eye_distance = np.linalg.norm(EYES[1] - EYES[0])
    assert np.linalg.norm(found.keypoints[:2] - EYES, axis=1).max() < 0.15 * eye_distance
    left, top, right, bottom = found.box
    assert left < EYES[:, 0].min() and right > EYES[:, 0].max() and top < 95 and 150 < bottom < 200


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (321, 200)])
def test_boxes_are_in_pixels_of_the_image_whatever_its_shape(detector, width, height):
    """The image is padded to a square first; the nose is in the middle of the frame."""
    (found,) = detector.detect(films.face(width, height, dx=30, dy=-20, zoom=0.8))
    nose = found.keypoints[2]
    assert np.abs(nose - [width / 2 + 30, height / 2 - 20]).max() < 8


def test_two_faces_largest_first(detector):
    faces = detector.detect(films.two_faces())
    if detector.side == 192:  # the short range does not see the small one
        assert len(faces) == 2
    assert faces[0].box[0] < 300 and faces[0].area == max(face.area for face in faces)


def test_nothing_where_there_is_no_face(detector):
    rng = np.random.default_rng(0)
    for image in (np.zeros((240, 320, 3), np.uint8), rng.integers(0, 255, (240, 320, 3), np.uint8), data.coffee()):
        assert detector.detect(image) == []


def test_both_runtimes_agree():
    litert, opencv = (BlazeFace(load_model(weight_file(FULL_RANGE), runtime)) for runtime in ("litert", "opencv"))
    (a,), (b,) = litert.detect(films.face()), opencv.detect(films.face())
    np.testing.assert_allclose(a.box, b.box, atol=1e-3)
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-3)
    assert a.score == pytest.approx(b.score, abs=1e-5)


def test_anchors():
    full, short = anchors(192, ((4, 1),)), anchors(128, ((8, 2), (16, 6)))
    assert full.shape == (2304, 2) and short.shape == (896, 2)
    assert full[0].tolist() == [2, 2] and full[1].tolist() == [6, 2] and full[48].tolist() == [2, 6]
    assert short[:3].tolist() == [[4, 4], [4, 4], [12, 4]] and short[512].tolist() == [8, 8]


def test_overlapping_boxes_are_one_face_and_weighted_by_their_scores():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [100, 100, 110, 110]], float)
    scores = np.array([0.9, 0.6, 0.8])
    faces = merge_overlapping(boxes, np.zeros((3, 6, 2)), scores)
    assert [face.score for face in faces] == [0.9, 0.8]
    np.testing.assert_allclose(faces[0].box, [0.8, 0, 10.8, 10])


def test_weights_come_from_another_folder_and_are_checked(tmp_path):
    for name in SHA256:
        shutil.copy(weight_file(name), tmp_path)
    assert weight_file(FULL_RANGE, tmp_path) == tmp_path / FULL_RANGE
    (tmp_path / SHORT_RANGE).write_bytes((tmp_path / SHORT_RANGE).read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="sha256"):
        weight_file(SHORT_RANGE, tmp_path)
    with pytest.raises(InputError, match="copy it there"):
        weight_file(FULL_RANGE, tmp_path / "elsewhere")
    with pytest.raises(ValueError):
        weight_file("iris_landmark.tflite")


def test_a_missing_package_is_an_error_of_the_user(monkeypatch):
    weight_file.cache_clear()
    monkeypatch.setattr(weights, "FACES", replace(weights.FACES, name="a-package-that-is-not-there"))
    with pytest.raises(InputError, match="orchestrator.doctor --fetch"):
        weight_file(FULL_RANGE)
    weight_file.cache_clear()
