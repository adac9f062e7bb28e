"""The synthetic faces: real files, a face in every frame, pain visible in the face only."""

import av
import cv2
import numpy as np
import pytest

from preprocessing.face.engine import FaceEngine
from preprocessing.face.keyframes import KeyframeOptions, select_keyframes
from preprocessing.face.landmarks import POINTS
from preprocessing.recordings import VideoRef
from preprocessing.synthetic import cohort
from preprocessing.synthetic.acting import NEUTRAL, PAIN
from preprocessing.synthetic.people import draw_people, session
from preprocessing.synthetic.video import Portrait, write_video
from tests.helpers.synthetic_checks import TWO, landmarks, performance, ranking

pytestmark = pytest.mark.medium
INDEX = {int(mesh): i for i, mesh in enumerate(POINTS)}  # number in the mesh -> place among the 92


def clips_of(n_people: int, per_level: int, effect: float = 1.0, levels=TWO, seed: int = 0) -> list:
    return [c for person in draw_people(n_people, seed) for c in session(person, per_level, effect, levels)]


def still(portrait: Portrait, **weights: float) -> np.ndarray:
    """Luma of a frame with only the movement `weights`."""
    everything = dict.fromkeys((*PAIN, *NEUTRAL, "x", "y", "roll", "zoom", "yaw", "pitch", "close"), 0.0)
    return portrait.frame(everything | weights, (0, 0))[: portrait.size[1]].astype(int)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return Portrait(draw_people(3, seed=0)[1], (320, 240))


def test_files_are_h264_at_25_frames(tmp_path):
    for clip in clips_of(1, 2):
        tracks = performance(clip)
        write_video(tmp_path / "a.mp4", clip.person, tracks, (96, 72), np.random.default_rng(0))
        with av.open(str(tmp_path / "a.mp4")) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264" and stream.average_rate == 25
            assert (stream.width, stream.height) == (96, 72)
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(frames) == len(tracks["close"]) in (137, 138)
        assert np.abs(frames[0].astype(int) - frames[-1]).max() > 20  # something moves


def test_a_face_is_found_in_every_frame(tmp_path):
    engine = FaceEngine()
    for clip in clips_of(3, 1)[::2]:
        write_video(tmp_path / "a.mp4", clip.person, performance(clip), (320, 240), np.random.default_rng(0))
        found = engine.process(VideoRef(tmp_path / "a.mp4"))
        assert found.n_lost <= 1 and found.max_faces == 1 and not found.padded
        assert np.nanmin(found.scores) > 0.9


def test_only_the_face_moves_and_the_right_part_of_it(portrait):
    y0, y1, x0, x1 = portrait.box
    rest = still(portrait)
    for name in ("brow_lower", "orbit", "levator", "brow_raise", "smile", "pucker", "jaw", "close"):
        change = np.abs(still(portrait, **{name: 1.0}) - rest)
        assert change[y0:y1, x0:x1].max() > 15, name
        change[y0:y1, x0:x1] = 0
        assert change.max() == 0, name
    rows = {name: np.abs(still(portrait, **{name: 1.0}) - rest).sum(1) for name in ("brow_lower", "close", "jaw")}
    centre = {name: (np.arange(len(r)) * r).sum() / r.sum() for name, r in rows.items()}
    assert centre["brow_lower"] < centre["close"] + 6 < centre["jaw"]  # rows grow downwards


def test_closing_the_eyes_covers_the_pupils():
    """Closed eyes show lighter skin instead of the pupil; half-closed eyes still show it."""
    for person in draw_people(3, seed=0):
        portrait = Portrait(person, (320, 240))
        y0, y1, x0, x1 = portrait.box
        rest = dict.fromkeys((*PAIN, *NEUTRAL, "x", "y", "roll", "zoom", "yaw", "pitch", "close"), 0.0)
        x, y = (np.kron(m, np.ones((2, 2))) for m in portrait._where(rest))  # place in the picture of every pixel
        for pupil in ((203, 101), (247, 103)):
            here = np.hypot(x - pupil[0], y - pupil[1]) < 2.5
            light = [still(portrait, close=c)[y0:y1, x0:x1][here].mean() for c in (0.0, 0.4, 1.0)]
            assert light[2] > light[0] + 25 and light[1] < light[0] + 15


def test_the_landmarks_follow_brows_and_mouth(tmp_path):
    """What the mesh measures for one constant action after some rest, in interocular distances.
    (It hardly follows lids, not even real ones: these are tested on pixels above.)"""
    engine, person = FaceEngine(), draw_people(3, seed=0)[0]
    names = (*PAIN, *NEUTRAL, "x", "y", "roll", "zoom", "yaw", "pitch", "close")
    held = np.arange(30) >= 15
    shift = {}
    for action in ("close", "brow_lower", "smile"):
        tracks = {name: np.where(held, 1.0, 0.0) if name == action else np.zeros(30) for name in names}
        write_video(tmp_path / "a.mp4", person, tracks, (320, 240), np.random.default_rng(0))
        points = engine.process(VideoRef(tmp_path / "a.mp4")).landmarks
        points = points / np.hypot(*(points[0, INDEX[33]] - points[0, INDEX[263]]))
        lids = points[:, INDEX[145], 1] - points[:, INDEX[159], 1]
        brows = points[:, INDEX[105], 1] + points[:, INDEX[334], 1]
        mouth = np.hypot(*(points[:, INDEX[61]] - points[:, INDEX[291]]).T)
        shift[action] = [v[20:].mean() - v[2:14].mean() for v in (lids, brows, mouth)]
    assert shift["close"][0] < 0 and shift["brow_lower"][1] > 0.02 and shift["smile"][2] > 0.04


def test_subjects_look_different():
    looks = [still(Portrait(person, (96, 72))) for person in draw_people(4, seed=0)]
    for i in range(4):
        for j in range(i):
            assert np.abs(looks[i] - looks[j]).mean() > 5


def test_pain_grows_with_the_level_and_starts_late():
    levels = ("BL1", "PA1", "PA2", "PA3", "PA4")
    clips = clips_of(12, 6, levels=levels)
    shown = {level: [] for level in levels}
    for clip in clips:
        tracks = performance(clip)
        pain = sum(tracks[name] for name in PAIN) / 3 + tracks["close"] / 2
        shown[clip.level].append(pain[75:110].mean() - pain[:25].mean())
    means = [np.mean(shown[level]) for level in levels]
    assert means == sorted(means) and means[-1] > 0.4 and abs(means[0]) < 0.1


def test_without_effect_the_level_does_not_reach_the_face():
    """Equal random numbers, another level: the same movements, frame by frame; with an effect, different ones."""
    for effect, same in ((0.0, True), (1.0, False)):
        calm, pain = clips_of(1, 1, effect)
        pain_as_calm = type(calm)(**{**vars(calm), "intensity": pain.intensity + calm.intensity})
        one, two = performance(calm), performance(pain_as_calm)
        assert all((one[name] == two[name]).all() for name in one) is same


def test_motion_keyframes_and_length_are_silent():
    """The face moves as much in every class, so that neither the number of keyframes nor their threshold reveals the class."""
    clips = clips_of(16, 10)
    rng = np.random.default_rng(0)
    values = []
    for clip in clips:
        points = landmarks(performance(clip), rng)
        default = select_keyframes(points / 68, KeyframeOptions(norm="none"))  # outer eye corners are 68 apart
        paper = select_keyframes(points * 1.9, KeyframeOptions.preset("paper"))
        motion = np.linalg.norm(np.diff(points.reshape(len(points), -1), axis=0), axis=1)
        values.append([len(points), len(default.index), default.threshold, len(paper.index), np.median(motion)])
    y, people = np.array([c.level == "PA4" for c in clips]), np.array([c.person.index for c in clips])
    for name, value in zip(("frames", "keyframes", "threshold", "paper", "motion"), np.array(values).T, strict=True):
        area, error = ranking(value, y, people)
        assert abs(area - 0.5) < 3 * error, name


def test_file_size_is_silent(tmp_path):
    clips = clips_of(4, 6)
    sizes = []
    for clip in clips:
        path = tmp_path / "a.mp4"
        write_video(path, clip.person, performance(clip), (96, 72), np.random.default_rng(len(sizes)))
        sizes.append(path.stat().st_size)
    y, people = np.array([c.level == "PA4" for c in clips]), np.array([c.person.index for c in clips])
    area, error = ranking(np.array(sizes), y, people)
    assert abs(area - 0.5) < 3 * error


@pytest.mark.slow
def test_what_the_face_engine_sees_tells_pain_from_rest(tmp_path):
    """Through the real detector: faces everywhere, keyframe counts uninformative, and a linear model of the upper face that
    has never seen the subject beats chance."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    out = cohort.generate(tmp_path / "tree", clips_per_level=4, levels=TWO, size=(320, 240))
    engine = FaceEngine()
    lost = frames = 0
    faces, counts, y, people = [], [], [], []
    for path in sorted(out.rglob("*.mp4")):
        clip = engine.process(VideoRef(path))
        lost, frames = lost + clip.n_lost, frames + clip.n_frames
        middle = clip.frames[len(clip.frames) // 2 - 2 : len(clip.frames) // 2 + 3]
        small = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (28, 28), interpolation=cv2.INTER_AREA) for f in middle]
        faces.append(np.mean(small, axis=0)[4:16].ravel())
        counts.append(len(clip.keyframes))
        y.append("PA4" in path.name)
        people.append(path.parent.name)
    x, y, people = np.array(faces), np.array(y), np.array(people)
    assert lost <= 0.01 * frames
    area, error = ranking(np.array(counts), y, people)
    assert abs(area - 0.5) < 3 * error
    right = 0
    for person in np.unique(people):
        test = people == person
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(0, 4, 9))).fit(x[~test], y[~test])
        right += (model.predict(x[test]) == y[test]).sum()
    assert right / len(y) > 0.5 + 2.5 * np.sqrt(0.25 / len(y))
