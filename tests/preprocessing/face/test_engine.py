"""From a video to crops, landmarks and keyframes: good clips, bad clips, and clips next to bad ones."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skimage import data

from preprocessing.errors import ClipError
from preprocessing.face.engine import FaceEngine, FaceOptions, crop
from preprocessing.face.keyframes import KeyframeOptions, select_keyframes
from preprocessing.face.precomputed import PrecomputedTracker
from preprocessing.face.roi import Roi
from preprocessing.face.tracking import FaceTracker
from preprocessing.recordings import VideoRef
from preprocessing.video.frames import ImageFrame
from preprocessing.video.video import Video
from tests.helpers import films

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def engine() -> FaceEngine:
    return FaceEngine()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def video(folder) -> VideoRef:
    return VideoRef(films.write_video(folder / "good.mp4", films.nodding(48)))


@pytest.fixture(scope="module")
def clip(engine, video):
    return engine.process(video)


def refused(engine, path: Path, kind: str = "file") -> tuple[str, str]:
    with pytest.raises(ClipError) as caught:
        engine.process(VideoRef(path, kind))
    assert path.name not in caught.value.fix and ". " not in caught.value.fix  # one sentence, no names
    return caught.value.stage, caught.value.reason


# ---------------------------------------------------------------------------------------------- a good clip


def test_shapes_and_types(clip):
    assert clip.n_frames == 48 and clip.fps == 25.0
    k = len(clip.keyframes)
    assert k >= 16 and not clip.padded and clip.threshold >= 0.05
    assert clip.frames.shape == (k, 224, 224, 3) and clip.frames.dtype == np.uint8
    assert clip.frame_index.dtype == np.int32 and clip.frame_index.tolist() == clip.keyframes.tolist()
    assert clip.landmarks.shape == (48, 92, 2) and clip.landmarks.dtype == np.float32
    assert clip.scores.shape == (48,) and clip.scores.dtype == np.float32 and clip.scores.min() > 0.9
    assert (clip.n_lost, clip.max_faces) == (0, 1) and clip.distance.shape == (48,)


def test_one_frame_fewer_than_usual_is_no_defect(engine, folder):
    clip = engine.process(VideoRef(films.write_video(folder / "137.mp4", films.nodding(137))))
    assert clip.n_frames == 137 and clip.n_lost == 0 and len(clip.keyframes) >= 16


def test_keyframes_are_those_of_the_landmarks(clip):
    again = select_keyframes(clip.landmarks, KeyframeOptions())
    assert again.index.tolist() == clip.keyframes.tolist() and again.threshold == clip.threshold


def test_every_crop_shows_the_whole_face(clip, engine):
    """The mesh run on a crop alone: the face fills 1 / 1.25 of it, in the middle up to the slack of the region."""
    for image in clip.frames[::4]:
        points, score = engine._mesh.find(ImageFrame(0, 0.0, image), Roi(111.5, 111.5, 1.2 * 224))
        low, high = points.min(axis=0), points.max(axis=0)
        assert score > 0.9
        assert 224 / 1.25 * 0.9 < (high - low).max() < 224 / 1.25 * 1.1
        assert np.abs((low + high) / 2 - 111.5).max() < 0.08 * 224


def test_the_same_video_gives_the_same_bytes(clip, engine, video):
    again = engine.process(video)
    np.testing.assert_array_equal(again.frames, clip.frames)
    np.testing.assert_array_equal(again.landmarks, clip.landmarks)


def test_all_frames(clip, engine, video):
    everything = engine.process(video, frames="all")
    assert everything.frame_index.tolist() == list(range(48))
    assert everything.keyframes.tolist() == clip.keyframes.tolist()
    np.testing.assert_array_equal(everything.frames[clip.keyframes], clip.frames)
    with pytest.raises(ValueError):
        engine.process(video, frames="some")


def test_a_long_clip_is_decoded_twice_and_comes_out_the_same(clip, video):
    again = FaceEngine(FaceOptions(hold_mb=0.5)).process(video)
    np.testing.assert_array_equal(again.frames, clip.frames)
    assert again.frame_index.tolist() == clip.frame_index.tolist()


def test_a_window_is_the_middle_of_the_clip(engine, video, clip):
    part = engine.process(VideoRef(video.path, start_s=0.4, end_s=1.2))
    assert part.n_frames == 20
    # tracked from another first frame, so the regions differ by up to their slack
    assert np.abs(part.landmarks - clip.landmarks[10:30]).max() < 4


def test_a_folder_of_frames_and_a_file_agree(engine, tmp_path):
    frames = films.nodding(20)
    films.write_folder(tmp_path / "pictures", frames)
    whole = engine.process(VideoRef(tmp_path / "pictures", "frames", fps=25.0))
    assert (whole.n_frames, whole.fps) == (20, 25.0)
    film = films.write_video(tmp_path / "lossless.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    np.testing.assert_array_equal(engine.process(VideoRef(film)).landmarks, whole.landmarks)


def test_a_still_clip_has_no_motion_and_is_filled(engine, tmp_path):
    films.write_folder(tmp_path / "pictures", [films.face(tilt=0.3)] * 20)
    clip = engine.process(VideoRef(tmp_path / "pictures", "frames"))
    assert (np.diff(clip.landmarks, axis=0) == 0).all()
    assert clip.padded and clip.threshold == 0.05 and len(clip.keyframes) == 16
    assert (clip.frames == clip.frames[0]).all()  # the crop stands still, too


def test_rotated_metadata_gives_the_upright_face(engine, folder):
    frames = films.nodding(20)
    upright = engine.process(VideoRef(films.write_video(folder / "upright.mp4", frames)))
    stored = [np.rot90(frame, -1) for frame in frames]
    turned = engine.process(VideoRef(films.write_video(folder / "turned.mp4", stored, rotation=90)))
    assert np.abs(turned.landmarks - upright.landmarks).max() < 3


# ---------------------------------------------------------------------------------------------- faces that are missing


def test_two_faces_the_larger_is_kept_and_both_are_counted(engine, folder):
    clip = engine.process(VideoRef(films.write_video(folder / "two.mp4", [films.two_faces()] * 20)))
    assert clip.max_faces == 2 and clip.n_lost == 0
    assert clip.landmarks[:, :, 0].max() < 250  # the large one is on the left


@pytest.mark.parametrize("second_zoom", [0.35, 0.9])
def test_a_second_face_that_comes_later_is_counted_and_the_first_is_kept(engine, folder, second_zoom):
    """Larger or smaller: a change of the face would look like motion, and mix two subjects in a clip."""
    nobody = np.broadcast_to(np.array([90, 100, 110], np.uint8), (240, 300, 3))
    first, second = films.nodding(70, width=240, height=240, zoom=0.5), films.face(300, 240, zoom=second_zoom)
    frames = [np.hstack([image, second if i >= 30 else nobody]) for i, image in enumerate(first)]
    path = films.write_video(folder / f"later{second_zoom}.mp4", frames)
    clip = engine.process(VideoRef(path))
    assert clip.max_faces == 2 and clip.n_lost == 0
    assert clip.landmarks[:, :, 0].max() < 240
    never = FaceEngine(FaceOptions(recount=0)).process(VideoRef(path))
    assert never.max_faces == 1, "without looking again nobody would know"
    np.testing.assert_array_equal(never.landmarks, clip.landmarks)


def test_a_face_that_leaves_and_returns(engine, folder):
    away = [films.face(dx=min(14 * i, 14 * (60 - i), 380) if i < 60 else 0) for i in range(90)]
    clip = engine.process(VideoRef(films.write_video(folder / "away.mp4", away)), frames="all")
    lost = np.isnan(clip.landmarks).any(axis=(1, 2))
    assert clip.n_lost == lost.sum() and 20 <= clip.n_lost <= 45
    assert lost[25:35].all() and not lost[:8].any() and not lost[55:].any()
    assert (clip.scores[lost] < 0.5).all() and (clip.scores[~lost] >= 0.5).all()
    assert not lost[clip.keyframes].any() and clip.keyframes.max() > 55
    assert clip.frame_index.tolist() == list(range(90))  # meanwhile the last region is cropped
    assert np.abs(clip.landmarks[70] - clip.landmarks[0]).max() < 3


def test_a_face_that_arrives_late(engine, folder):
    frames = [films.face(dx=-400)] * 10 + films.nodding(30)
    clip = engine.process(VideoRef(films.write_video(folder / "late.mp4", frames)), frames="all")
    assert clip.n_lost == 10 and clip.keyframes[0] == 10 and clip.frame_index.tolist() == list(range(10, 40))


def test_no_face_black_and_too_short(engine, folder):
    coffee = data.coffee()[:240, :320]
    assert refused(engine, films.write_video(folder / "coffee.mp4", [coffee] * 20)) == ("face", "no_face")
    black = [np.zeros((240, 320, 3), np.uint8)] * 20
    assert refused(engine, films.write_video(folder / "black.mp4", black)) == ("video", "black_video")
    assert refused(engine, films.write_video(folder / "one.mp4", films.nodding(1))) == ("video", "too_few_frames")
    assert refused(engine, folder / "nowhere.mp4") == ("video", "missing")


def test_too_many_frames_without_a_face_are_excluded(folder):
    frames = films.nodding(14) + [films.face(dx=400)] * 26
    path = films.write_video(folder / "mostly.mp4", frames)
    assert refused(FaceEngine(), path) == ("face", "no_face")
    assert FaceEngine(FaceOptions(max_lost=0.8)).process(VideoRef(path)).n_lost == 26


def test_a_bad_clip_does_not_change_the_next_one(engine, folder, video, clip):
    for bad in ("coffee.mp4", "black.mp4", "nowhere.mp4"):
        refused(engine, folder / bad)
    np.testing.assert_array_equal(engine.process(video).frames, clip.frames)


def test_fewer_frames_than_keyframes(engine, folder):
    clip = engine.process(VideoRef(films.write_video(folder / "short.mp4", films.nodding(9))))
    assert clip.keyframes.tolist() == list(range(9)) and clip.padded


@pytest.mark.parametrize("wrong", [{"size": "abc"}, {"size": 0}, {"size": 224.0}, {"max_lost": "x"}, {"max_lost": 1.5},
                                   {"score": -0.1}, {"quality": 101}, {"recount": -1}, {"min_frames": 0}, {"zoom": 1.0},
                                   {"hold_mb": None}, {"image": "gif"}, {"provider": "dlib"}])
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FaceOptions(**wrong)


# ---------------------------------------------------------------------------------------------- other providers


def test_opencv_gives_the_same_clip(folder):
    ref = VideoRef(films.write_video(folder / "few.avi", films.nodding(12), codec="mjpeg", pix_fmt="yuvj420p"))
    a, b = (FaceEngine(FaceOptions(provider=name)).process(ref) for name in ("litert", "opencv"))
    np.testing.assert_allclose(a.landmarks, b.landmarks, atol=0.05)
    assert a.keyframes.tolist() == b.keyframes.tolist()
    assert np.abs(a.frames.astype(int) - b.frames).mean() < 0.5


@pytest.mark.parametrize("zoom", [1.0, 1.6, 2.4])
def test_cropped_input_is_kept_whole(engine, tmp_path, zoom):
    """Tight crops on which the detectors may fail: the frame itself is the face's region."""
    frames = [films.face(224, 224, zoom=zoom, dy=20, tilt=0.05 * np.sin(i)) for i in range(18)]
    films.write_folder(tmp_path / "pictures", frames)
    clip = engine.process(VideoRef(tmp_path / "pictures", "cropped"))
    assert clip.n_lost == 0
    for image, index in zip(clip.frames, clip.frame_index, strict=True):
        np.testing.assert_array_equal(image, frames[index])


def test_precomputed_landmarks(engine, clip, video, tmp_path):
    """All three formats give the clip that the landmarks came from."""
    rows = clip.landmarks.astype(np.float64)
    rows[5] = np.nan
    options = FaceOptions(provider="precomputed", precomputed_dir=tmp_path, precomputed_root=video.path.parent)
    np.save(tmp_path / "good.landmarks.npy", rows)
    from_npy = FaceEngine(options).process(video)
    np.testing.assert_array_equal(from_npy.landmarks, rows.astype(np.float32))
    assert from_npy.n_lost == 1 and 5 not in from_npy.keyframes
    (tmp_path / "good.landmarks.npy").unlink()
    table = pa.table({"landmarks": rows.reshape(48, -1).tolist(), "score": np.linspace(0.5, 1, 48)})
    pq.write_table(table, tmp_path / "good.landmarks.parquet")
    from_parquet = FaceEngine(options).process(video)
    np.testing.assert_array_equal(from_parquet.landmarks, from_npy.landmarks)
    assert from_parquet.scores[-1] == 1.0
    part = FaceEngine(options).process(VideoRef(video.path, start_s=1.0, end_s=1.4))
    np.testing.assert_array_equal(part.landmarks, clip.landmarks[25:35])  # rows are frames of the file


def test_precomputed_boxes_run_the_mesh(engine, clip, video, tmp_path):
    low, high = clip.landmarks.min(axis=1), clip.landmarks.max(axis=1)
    size = (high - low).max(axis=1, keepdims=True)
    np.save(tmp_path / "good.boxes.npy", np.concatenate([low - [0, 0.3] * size, high + 0.3 * size], axis=1))
    options = FaceOptions(provider="precomputed", precomputed_dir=tmp_path)
    boxed = FaceEngine(options).process(video)
    assert boxed.n_lost == 0 and np.abs(boxed.landmarks - clip.landmarks).mean() < 2


def test_precomputed_files_that_do_not_fit(video, tmp_path):
    engine = FaceEngine(FaceOptions(provider="precomputed", precomputed_dir=tmp_path))
    path = tmp_path / "good.landmarks.npy"
    assert refused(engine, video.path) == ("face", "no_landmark_file")
    for array, reason in (
        (np.zeros((20, 92, 2)), "landmarks_mismatch"),
        (np.random.default_rng(0).uniform(50, 200, (60, 92, 2)), "landmarks_mismatch"),
        (np.zeros((48, 5, 2)), "bad_landmark_file"),
        (np.zeros((48, 92, 2)), "bad_landmarks"),  # all points in one place: no distance between the eyes
        (np.full((48, 92, 2), "a"), "bad_landmark_file"),
    ):
        np.save(path, array)
        assert refused(engine, video.path)[1] == reason
    np.save(path, np.array([{"a": 1}] * 48, object), allow_pickle=True)  # pickled: refused, not run
    assert refused(engine, video.path) == ("face", "bad_landmark_file")


def test_more_rows_than_frames_are_refused_in_a_folder_and_at_the_end_of_a_window(video, tmp_path):
    engine = FaceEngine(FaceOptions(provider="precomputed", precomputed_dir=tmp_path))
    rows = np.random.default_rng(0).uniform(50, 200, (60, 92, 2))
    films.write_folder(tmp_path / "pictures", films.nodding(20))
    for path, name, fits in ((tmp_path / "pictures", "pictures", 20), (video.path, "good", 48)):
        np.save(tmp_path / f"{name}.landmarks.npy", rows)
        with pytest.raises(ClipError, match="landmarks_mismatch"):
            engine.process(VideoRef(path, fps=25.0, start_s=0.2))
        np.save(tmp_path / f"{name}.landmarks.npy", rows[:fits])
        assert engine.process(VideoRef(path, fps=25.0, start_s=0.2)).n_frames == fits - 5
        assert engine.process(VideoRef(path, fps=25.0, start_s=0.2, end_s=0.6)).n_frames == 10


def test_precomputed_scores_are_compared_with_the_threshold(clip, video, tmp_path):
    """A score of the file, and for boxes the mesh's: a box without a face counts as no face."""
    def tracked(score: float) -> FaceEngine:
        return FaceEngine(FaceOptions(provider="precomputed", precomputed_dir=tmp_path, score=score, max_lost=1.0))

    rows, path = clip.landmarks.astype(np.float64), tmp_path / "good.landmarks.parquet"
    scores = [0.2] * 10 + [None] * 2 + [0.9] * 36
    pq.write_table(pa.table({"landmarks": rows.reshape(48, -1).tolist(), "score": scores}), path)
    assert tracked(0.5).process(video).n_lost == 12
    assert tracked(0.1).process(video).n_lost == 2
    path.unlink()
    coffee = films.write_video(tmp_path / "coffee.mp4", [data.coffee()[:240, :320]] * 20)
    np.save(tmp_path / "coffee.boxes.npy", np.tile([100.0, 60.0, 200.0, 160.0], (20, 1)))
    assert refused(FaceEngine(FaceOptions(provider="precomputed", precomputed_dir=tmp_path)), coffee) == ("face", "no_face")


def test_precomputed_landmarks_need_no_model(clip, video, tmp_path):
    np.save(tmp_path / "good.landmarks.npy", clip.landmarks)
    engine = FaceEngine(FaceOptions(provider="precomputed", precomputed_dir=tmp_path, weights_dir=tmp_path / "nowhere"))
    np.testing.assert_array_equal(engine.process(video).landmarks, clip.landmarks)
    (tmp_path / "good.landmarks.npy").rename(tmp_path / "kept")
    np.save(tmp_path / "good.boxes.npy", np.tile([60.0, 20.0, 260.0, 220.0], (48, 1)))
    with pytest.raises(ClipError, match="no_mesh"):
        engine.process(video)


def test_a_damaged_landmark_file_is_one_bad_clip(tmp_path):
    """Bytes of a good header changed: numpy raises many types of exceptions."""
    video, path = tmp_path / "a.mp4", tmp_path / "a.landmarks.npy"
    video.touch()
    with path.open("wb") as stream:
        np.savez(stream, x=np.zeros((3, 92, 2)))
    found = []
    for change in (None, *range(10, 90)):
        if change is not None:
            np.save(path, np.zeros((3, 92, 2)))
            data = bytearray(path.read_bytes())
            data[change] = ord("(")
            path.write_bytes(data)
        try:
            PrecomputedTracker.beside(video, None, None, no_mesh)
        except ClipError as error:
            found.append(error.reason)
    assert len(found) > 20 and set(found) == {"bad_landmark_file"}
    with pytest.raises(ClipError, match="no_landmark_file"):
        PrecomputedTracker.beside(tmp_path / ("x" * 300 + ".mp4"), None, None, no_mesh)


def no_mesh():
    raise AssertionError("nobody asked for the mesh")


# ---------------------------------------------------------------------------------------------- crops


def test_an_unscaled_crop_is_a_copy():
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)
    square = Roi(50 + 19.5, 30 + 19.5, 40)  # pixels 50..89, 30..69
    np.testing.assert_array_equal(crop(ImageFrame(0, 0.0, image), square, 40), image[30:70, 50:90])


def test_crop_is_black_beyond_the_frame():
    image = np.full((100, 120, 3), 200, np.uint8)
    corner = crop(ImageFrame(0, 0.0, image), Roi(-0.5, -0.5, 40), 40)  # pixels -20..19
    assert (corner[:20] == 0).all() and (corner[:, :20] == 0).all() and (corner[20:, 20:] == 200).all()
    assert (crop(ImageFrame(0, 0.0, image), Roi(1000, 1000, 40), 40) == 0).all()
    below = crop(ImageFrame(0, 0.0, image), Roi(119.5, 99.5, 40), 40)
    assert (below[:20, :20] == 200).all() and (below[20:] == 0).all() and (below[:, 20:] == 0).all()


def test_a_downscaled_crop_of_a_video_is_black_beyond_the_frame(tmp_path):
    """It is cropped in the colour space of the decoder, where zeros are green."""
    path = films.write_video(tmp_path / "grey.mp4", [np.full((480, 640, 3), 128, np.uint8)] * 2)
    with Video(VideoRef(path)) as video:
        for frame in video:
            for source in (frame, frame.keep((-256, -256, 256, 256), 1)):
                corner = crop(source, Roi(-0.5, -0.5, 512), 224)  # pixels -256..255
                assert (corner[:111] == 0).all() and (corner[:, :111] == 0).all()
                assert np.abs(corner[113:, 113:].astype(int) - 128).max() <= 3
            assert (crop(frame, Roi(5000, 5000, 512), 224) == 0).all()


def test_a_large_face_is_downscaled_alike_in_both_modes(engine, tmp_path):
    """A face of 500 pixels: halved and then resampled, from a stored part or from the whole frame."""
    frames = films.nodding(18, width=800, height=640, zoom=4.2)
    ref = VideoRef(films.write_video(tmp_path / "large.mp4", frames))
    some, every = engine.process(ref), engine.process(ref, frames="all")
    assert np.ptp(some.landmarks[0], axis=0).max() > 250
    np.testing.assert_array_equal(every.frames[some.frame_index], some.frames)
    square = engine._track(ref, every_crop=True).squares[0]
    straight = crop(ImageFrame(0, 0.0, frames[0]), square, 224)
    assert np.abs(straight.astype(int) - every.frames[0]).mean() < 6


def test_reading_ahead_does_not_change_the_result(engine, tmp_path, monkeypatch):
    """A face that grows and wanders, so that regions predicted for later frames are wrong."""
    frames = [films.face(800, 640, dx=200 * np.sin(i / 4), tilt=0.3 * np.sin(i / 6), zoom=2 + i / 10) for i in range(26)]
    ref = VideoRef(films.write_video(tmp_path / "wanders.mp4", frames))
    ahead = engine.process(ref, frames="all")
    monkeypatch.setattr(FaceTracker, "expect", lambda tracker, frame: None)
    alone = engine.process(ref, frames="all")
    np.testing.assert_array_equal(alone.landmarks, ahead.landmarks)
    np.testing.assert_array_equal(alone.frames, ahead.frames)


def test_a_folder_is_a_path_or_none():
    assert FaceOptions(weights_dir="").weights_dir is None  # type: ignore[arg-type]
    assert FaceOptions(weights_dir="a/b").weights_dir == Path("a/b")  # type: ignore[arg-type]
    assert FaceOptions(weights_dir="~/a").weights_dir == Path.home() / "a"  # type: ignore[arg-type]
