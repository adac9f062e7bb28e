"""Decoding: every kind of bad file has its reason, and a good one gives upright frames at the right times."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from preprocessing.errors import ClipError
from preprocessing.recordings import VideoRef
from preprocessing.video.frames import to_rgb
from preprocessing.video.resample import halve
from preprocessing.video.video import Video
from tests.helpers import films


def times(path: Path, **window) -> list[float]:
    with Video(VideoRef(path, **window)) as video:
        return [round(frame.time_s, 4) for frame in video]


def images(path: Path, **window) -> list[np.ndarray]:
    with Video(VideoRef(path, **window)) as video:
        return [frame.rgb().copy() for frame in video]


def reason(path: Path, **window) -> str:
    with pytest.raises(ClipError) as caught:
        times(path, **window)
    assert caught.value.stage == "video"
    assert path.name not in str(caught.value) and str(path) not in str(caught.value)  # names are private
    return caught.value.reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def clip(folder) -> Path:
    return films.write_video(folder / "clip.mp4", films.nodding(50, width=160, height=120))


# ---------------------------------------------------------------------------------------------- bad files


def test_truncated(folder, clip):
    index_last = folder / "index_last.mp4"
    index_last.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert reason(index_last) == "truncated"
    for name, codec, options in (
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.avi", "mpeg4", {}),
        ("a.mkv", "libx264", {}),
    ):
        whole = films.write_video(folder / name, films.nodding(50), codec=codec, muxer=options)
        for share in (0.4, 0.7):
            cut = folder / f"cut{share}_{name}"
            cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
            assert reason(cut) == "truncated"
        assert len(times(whole)) == 50


def test_empty_missing_and_folders_without_images(folder):
    (folder / "empty.mp4").write_bytes(b"")
    assert reason(folder / "empty.mp4") == "empty"
    assert reason(folder / "nowhere.mp4") == "missing"
    (folder / "nothing").mkdir()
    (folder / "nothing" / "notes.txt").write_text("none")
    assert reason(folder / "nothing") == "empty"


def test_audio_only(folder):
    assert reason(films.write_sound(folder / "sound.mp4")) == "no_video_stream"


def test_wrong_extension(folder):
    """The content counts: an AVI named .mp4 is read, a table and a photograph are errors."""
    avi = films.write_video(folder / "b.avi", films.nodding(10), codec="mpeg4")
    assert len(times(avi.rename(folder / "really_avi.mp4"))) == 10
    (folder / "table.mp4").write_text("time,gsr\n0,1\n" * 500)
    assert reason(folder / "table.mp4") == "not_a_video"
    cv2.imwrite(str(folder / "photo.png"), films.face())
    assert reason((folder / "photo.png").rename(folder / "photo.mp4")) == "not_a_video"


def test_playlists_are_not_followed(folder, clip):
    """They could name files outside of the data's folder, or hosts."""
    texts = {
        "a.mp4": f"ffconcat version 1.0\nfile {clip.name}\n",
        "b.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip.name}\n#EXT-X-ENDLIST\n",
    }
    for name, text in texts.items():
        (folder / f"list_{name}").write_text(text)
        assert reason(folder / f"list_{name}") == "not_a_video"


def test_damaged_inside(folder):
    long = films.write_video(folder / "long.mp4", films.nodding(200))
    data = np.frombuffer(long.read_bytes(), np.uint8).copy()
    at = np.random.default_rng(0).integers(4000, len(data) - 8000, 300)
    data[at] ^= 255
    (folder / "damaged.mp4").write_bytes(data.tobytes())
    assert reason(folder / "damaged.mp4") == "corrupt"


def test_zero_frames_per_second(folder):
    moving = films.write_video(folder / "m.avi", films.nodding(20), codec="mjpeg", pix_fmt="yuvj420p")
    still = films.stop_clock(moving, folder / "still.mkv")
    assert reason(still) == "no_frame_rate"
    assert times(still, fps=10.0) == [round(i / 10, 4) for i in range(20)]  # unless the manifest gives the rate
    assert times(still, fps=10.0, start_s=1.0, end_s=1.5) == [1.0, 1.1, 1.2, 1.3, 1.4]


def test_frames_of_different_sizes(tmp_path):
    films.write_folder(tmp_path / "pictures", [films.face(), films.face(200, 240)])
    assert reason(tmp_path / "pictures") == "mixed_sizes"


def test_unreadable_image_in_a_folder(tmp_path):
    films.write_folder(tmp_path / "pictures", films.nodding(3))
    (tmp_path / "pictures" / "frame1.png").write_bytes(b"")
    assert reason(tmp_path / "pictures") == "bad_frame"


def test_a_folder_or_a_link_to_nothing_among_the_frames(tmp_path):
    for name in ("pictures1", "pictures2"):
        films.write_folder(tmp_path / name, films.nodding(3))
    (tmp_path / "pictures1" / "x.png").mkdir()
    (tmp_path / "pictures2" / "x.png").symlink_to("nothing.png")
    assert reason(tmp_path / "pictures1") == reason(tmp_path / "pictures2") == "bad_frame"


def test_an_image_whose_header_promises_too_many_pixels(tmp_path):
    films.write_folder(tmp_path / "pictures", films.nodding(3))
    data = bytearray(cv2.imencode(".bmp", films.face(64, 48))[1].tobytes())
    data[18:26] = (2**24).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "pictures" / "frame3.bmp").write_bytes(data)
    assert reason(tmp_path / "pictures") == "too_large"


def test_an_unknown_codec(folder):
    path = films.write_video(folder / "odd.avi", films.nodding(10), codec="mpeg4")
    data = path.read_bytes()
    assert b"FMP4" in data
    path.write_bytes(data.replace(b"FMP4", b"ZZZZ"))
    assert reason(path) == "unknown_codec"


def test_a_file_without_read_access(clip, tmp_path, monkeypatch):
    """As for an account without read access; the tests may run as root."""
    films.write_folder(tmp_path / "pictures", films.nodding(2))

    def refuses(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", refuses)
    monkeypatch.setattr(Path, "open", refuses)
    monkeypatch.setattr(Path, "iterdir", refuses)
    assert reason(clip) == reason(tmp_path / "pictures") == "unreadable"


def test_an_invalid_file_name(folder):
    with pytest.raises(ClipError) as caught:
        Video(VideoRef(folder / ("x" * 300 + ".mp4")))
    assert caught.value.reason == "missing"


# ---------------------------------------------------------------------------------------------- times and windows


def test_constant_rate(clip):
    assert times(clip) == [round(i / 25, 4) for i in range(50)]
    with Video(VideoRef(clip)) as video:
        assert len(list(video)) == 50 and video.fps == 25.0


def test_variable_rate_keeps_its_times(folder):
    """25 frames at 25 per second, then 25 at 10 per second."""
    stamps = [40 * i if i < 25 else 1000 + 100 * (i - 25) for i in range(50)]
    path = films.write_video(folder / "vfr.mp4", films.nodding(50), times=stamps)
    assert times(path) == [s / 1000 for s in stamps]
    assert times(path, start_s=1.5, end_s=2.0) == [1.5, 1.6, 1.7, 1.8, 1.9]
    with Video(VideoRef(path)) as video:
        list(video)
        assert video.fps == pytest.approx(49 / 3.4)


def test_the_rate_of_a_window_is_that_of_its_own_frames(folder):
    """30 frames per second until 4 s, then 12: the same with and without seeking."""
    stamps = [round(1000 * i / 30) if i < 120 else 4000 + round(1000 * (i - 120) / 12) for i in range(168)]
    path = films.write_video(folder / "two_rates.mp4", films.nodding(168, width=64, height=48), times=stamps,
                             encoder={"preset": "veryfast", "g": "12"})
    for may_seek in (True, False):
        with Video(VideoRef(path, start_s=5.0, end_s=7.0), may_seek) as video:
            assert len(list(video)) == 24
            assert video.fps == pytest.approx(12, rel=0.01) and video.seconds == pytest.approx(2.0)


def test_the_total_duration_of_the_frames(clip):
    for window, seconds in (({}, 2.0), ({"start_s": 0.5}, 1.5), ({"end_s": 1.21}, 1.21), ({"start_s": 0.5, "end_s": 1.0}, 0.5)):
        with Video(VideoRef(clip, **window)) as video:
            list(video)
            assert video.seconds == pytest.approx(seconds)


def test_one_frame(folder):
    assert times(films.write_video(folder / "one.mp4", films.nodding(1))) == [0.0]


def test_window(clip):
    assert times(clip, start_s=0.4, end_s=0.6) == [0.4, 0.44, 0.48, 0.52, 0.56]
    assert reason(clip, start_s=5.0, end_s=6.0) == "window_outside"


def test_a_window_beyond_the_end(clip, tmp_path):
    """Two seconds of video. A window that lacks more than 5 % would reveal itself by its length."""
    assert reason(clip, start_s=1.0, end_s=2.5) == "short_window"
    assert reason(clip, end_s=10.0) == "short_window"
    assert len(times(clip, end_s=2.1)) == 50 and len(times(clip, start_s=1.0, end_s=2.04)) == 25
    assert len(times(clip, start_s=1.0)) == 25  # to the end
    films.write_folder(tmp_path / "pictures", films.nodding(8, width=64, height=48))
    assert reason(tmp_path / "pictures", fps=4.0, end_s=3.0) == "short_window"
    assert len(times(tmp_path / "pictures", fps=4.0, end_s=2.0)) == 8


def test_a_late_window_gives_the_frames_of_a_full_decode(folder):
    frames = films.nodding(300, width=160, height=120)
    path = films.write_video(folder / "long2.mp4", frames, encoder={"preset": "veryfast", "g": "30"})
    everything = images(path)
    part = images(path, start_s=8.0, end_s=9.0)
    assert len(part) == 25
    for a, b in zip(part, everything[200:225], strict=True):
        np.testing.assert_array_equal(a, b)
    with Video(VideoRef(path, start_s=8.0, end_s=9.0), may_seek=False) as video:
        assert [frame.index for frame in video] == list(range(200, 225))


def test_folder_of_frames_is_sorted_naturally(tmp_path):
    frames = films.nodding(12, width=64, height=48)
    read = images(films.write_folder(tmp_path / "pictures", frames))
    assert len(read) == 12
    for a, b in zip(read, frames, strict=True):
        np.testing.assert_array_equal(a, b)
    assert times(tmp_path / "pictures", fps=4.0, start_s=1.0, end_s=2.0) == [1.0, 1.25, 1.5, 1.75]
    assert reason(tmp_path / "pictures", start_s=1.0) == "no_frame_rate"
    with Video(VideoRef(tmp_path / "pictures")) as video:
        assert video.fps == 0.0  # unknown, not guessed


# ---------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_in_the_metadata_is_undone(folder, degrees):
    frame = films.face(160, 120)
    stored = np.rot90(frame, -degrees // 90)  # a rotated camera, and a header that gives the rotation
    turned = films.write_video(folder / f"turned{degrees}.mp4", [stored] * 3, rotation=degrees)
    upright = films.write_video(folder / f"upright{degrees}.mp4", [frame] * 3)
    read = images(turned)[0]
    assert read.shape == frame.shape
    assert np.abs(read.astype(int) - images(upright)[0]).mean() < 5
    assert np.abs(read[::-1].astype(int) - images(upright)[0]).mean() > 20  # the comparison is sensitive


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [("libx264", "yuv420p", (322, 242)), ("libx264", "yuv444p", (160, 120)), ("libx264", "yuv422p", (160, 120)),
     ("mjpeg", "yuvj420p", (160, 120)), ("libx264", "yuv420p10le", (160, 120)), ("ffv1", "yuv420p", (161, 121))],
)  # fmt: skip
def test_a_region_equals_that_part_of_the_whole_frame(tmp_path, codec, pix_fmt, size):
    frames = films.nodding(2, width=size[0], height=size[1])
    path = films.write_video(tmp_path / "a.mkv", frames, codec=codec, pix_fmt=pix_fmt)
    whole = images(path)
    rng = np.random.default_rng(0)
    with Video(VideoRef(path)) as video:
        for n, frame in enumerate(video):
            for _ in range(20):
                x, y = rng.uniform(-60, size[0]), rng.uniform(-60, size[1])
                w, h = rng.uniform(1, 200, 2)
                part, x0, y0 = frame.region((x, y, x + w, y + h))
                ph, pw = part.shape[:2]
                np.testing.assert_array_equal(part[:, :, :3], whole[n][y0 : y0 + ph, x0 : x0 + pw])
                if ph and pw:
                    assert x0 <= max(x, 0) and y0 <= max(y, 0)
                    assert x0 + pw >= min(x + w, size[0]) and y0 + ph >= min(y + h, size[1])


@pytest.mark.parametrize("width", [160, 162, 164, 166, 168, 172, 176])
def test_colours_are_those_of_the_decoder(tmp_path, width):
    """Against PyAV's own conversion to rgb24, to the last column."""
    path = films.write_video(tmp_path / "a.mp4", films.nodding(3, width=width, height=120))
    with Video(VideoRef(path)) as video, av.open(str(path)) as container:
        for frame, reference in zip(video, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(frame.rgb(), reference.to_ndarray(format="rgb24"))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [("libx264", "yuv420p", (322, 242)), ("mjpeg", "yuvj420p", (320, 240)), ("libx264", "yuv444p", (160, 120)),
     ("ffv1", "yuv420p", (161, 121))],
)  # fmt: skip
def test_a_downscaled_region_equals_that_of_the_whole_frame(tmp_path, codec, pix_fmt, size):
    """4:2:0 is downscaled before it is converted; both orders differ only by rounding."""
    frames = films.nodding(2, width=size[0], height=size[1])
    path = films.write_video(tmp_path / "a.mkv", frames, codec=codec, pix_fmt=pix_fmt)
    whole = images(path)
    with Video(VideoRef(path)) as video:
        for n, frame in enumerate(video):
            for times in (1, 2):
                for bounds in ((0, 0, 400, 400), (70, 40, 130, 99), (-20, 30, 90, 300)):
                    part, x, y = frame.region(bounds, times)
                    reference = halve(whole[n][y:, x:], times)[: part.shape[0], : part.shape[1]].astype(int)
                    assert part.size and np.abs(part[:, :, :3] - reference).mean() < 2.5
                    assert np.abs(part[:, ::-1, :3] - reference).mean() > 5  # the comparison is sensitive
                    kept, kx, ky = frame.keep(bounds).region(bounds, times)
                    np.testing.assert_array_equal(kept[: part.shape[0], : part.shape[1], :3], part[:, :, :3])
                    assert (kx, ky) == (x, y)


def test_colour_matrices():
    """White, black and grey of both ranges; pure BT.709 red from its Y, U and V."""
    for space in (1, 2, 5, 9):
        for full, low, high in ((False, 16, 235), (True, 0, 255)):
            to = to_rgb(space, full)
            np.testing.assert_allclose(to @ [low, 128, 128, 1], [0, 0, 0], atol=1e-3)
            np.testing.assert_allclose(to @ [high, 128, 128, 1], [255, 255, 255], atol=1e-3)
    np.testing.assert_allclose(to_rgb(1, False) @ [62.56, 102.34, 240, 1], [255, 0, 0], atol=0.05)
    np.testing.assert_allclose(to_rgb(2, True) @ [76.245, 84.97, 255.5, 1], [255, 0, 0], atol=0.05)


def test_files_are_closed_whatever_happens(clip):
    """Decoding 40 videos, half of them not to the end, leaves no file open."""
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("no /proc here")
    before = len(list(open_files.iterdir()))
    for i in range(40):
        with Video(VideoRef(clip)) as video:
            for frame in video:
                if i % 2 and frame.index == 3:
                    break
    assert len(list(open_files.iterdir())) <= before
