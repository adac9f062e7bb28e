"""The duration of a video without decoding, and signals with another duration."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits
from preprocessing.recordings import Channel, Recording, SignalRef, VideoRef
from preprocessing.video import video
from preprocessing.video.duration import video_duration
from tests.helpers import films

SIGNALS_ALONE = ClipOptions(video=False)


def recording(tmp_path, film, seconds: float, fs: float = 100.0, **window) -> Recording:
    values = np.sin(np.arange(round(seconds * fs)) / 9)
    np.save(tmp_path / "s.npy", values[:, None])
    signal = SignalRef(tmp_path / "s.npy", "npy", (Channel("x", 0, "other", fs),))
    return Recording("a", "a-0", 0, "L", VideoRef(film, **window), signal)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"),
                                             ("a.avi", "mpeg4"), ("a.mov", "mpeg4"), ("a.webm", "libvpx")])
@pytest.mark.parametrize("n", [10, 37])
def test_packets_give_the_duration_of_the_decoded_video(tmp_path, name, codec, n):
    path = films.write_video(tmp_path / name, films.numbered(n), codec=codec)
    with video.Video(VideoRef(path)) as film:
        assert sum(1 for _ in film) == n
    seconds, rate = video_duration(path)
    assert seconds == pytest.approx(film.seconds, abs=1.5 / 25) and rate == pytest.approx(25)


def test_a_late_first_time_stamp_does_not_change_the_duration(tmp_path):
    source = films.write_video(tmp_path / "a.mp4", films.numbered(30))
    assert video_duration(films.remux(source, tmp_path / "b.mp4", offset_s=7.0))[0] == pytest.approx(1.2, abs=0.05)


def decoded(path: Path) -> tuple[int, float]:
    with video.Video(VideoRef(path)) as film:
        return sum(1 for _ in film), film.seconds


def end_after(path: Path, seconds: float) -> Path:
    """The same video with an edit list that ends after so many seconds."""
    data = bytearray(path.read_bytes())
    (scale,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    edits = data.index(b"elst") + 8
    (n,) = struct.unpack_from(">I", data, edits)
    struct.pack_into(">I", data, edits + 4 + 12 * (n - 1), round(seconds * scale))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize(("cut", "shown"), [(0.4, 90), (1.0, 75), (1.3, 67), (2.52, 37)])
def test_frames_before_a_cut_without_encoding_do_not_count(tmp_path, name, cut, shown):
    """`ffmpeg -ss` with `-c copy`: the file starts at the key frame before, and an edit list skips to the cut."""
    source = films.write_video(tmp_path / "whole.mp4", films.numbered(100), encoder={"g": "100", "bf": "2"})
    path = films.remux(source, tmp_path / name, offset_s=-cut)
    assert decoded(path) == (shown, pytest.approx(shown / 25))
    assert video_duration(path) == (pytest.approx(shown / 25), 25.0)
    prepare_clip(recording(tmp_path, path, shown / 25), None, SIGNALS_ALONE)
    with pytest.raises(ClipError, match="other_durations"):
        prepare_clip(recording(tmp_path, path, 4.0), None, SIGNALS_ALONE)


@pytest.mark.parametrize("cut", [0.0, 0.4])
@pytest.mark.parametrize(("seconds", "shown"), [(1.0, 25), (2.0, 50), (2.5, 63), (3.0, 75)])
def test_frames_after_the_end_of_an_edit_list_do_not_count(tmp_path, cut, seconds, shown):
    source = films.write_video(tmp_path / "whole.mp4", films.numbered(100), encoder={"g": "40", "bf": "2"})
    path = end_after(films.remux(source, tmp_path / "a.mp4", offset_s=-cut), seconds)
    assert decoded(path) == (shown, pytest.approx(shown / 25))
    assert video_duration(path)[0] == pytest.approx(shown / 25)


def test_videos_that_cannot_be_read_have_no_duration(tmp_path):
    clip = films.write_video(tmp_path / "a.mp4", films.numbered(30))
    (tmp_path / "cat.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip.name}\n#EXT-X-ENDLIST\n")
    cv2.imwrite(str(tmp_path / "pic.png"), films.face())
    (tmp_path / "pic.png").rename(tmp_path / "pic.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    films.write_sound(tmp_path / "sound.mp4")
    for name in ("cat.mp4", "list.mp4", "pic.mp4", "empty.mp4", "sound.mp4"):
        assert video_duration(tmp_path / name) == (0.0, 0.0), name
        with pytest.raises(ClipError):
            decoded(tmp_path / name)
    assert video_duration(clip)[0] == pytest.approx(1.2)
    assert video_duration(clip, Limits(max_pixels=1000)) == (0.0, 0.0)


def test_other_files_have_no_duration(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    films.write_folder(tmp_path / "frames", films.numbered(3))
    whole = films.write_video(tmp_path / "a.mp4", films.numbered(30)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:len(whole) // 2])
    films.write_video(tmp_path / "a.mpg", films.numbered(30), codec="mpeg2video")
    for name in ("absent.mp4", "text.mp4", "frames", "cut.mp4", "a.mpg"):
        assert video_duration(tmp_path / name) == (0.0, 0.0)


@pytest.mark.parametrize(("seconds", "fs"), [(0.3, 100.0), (2.3, 100.0), (1.5, 200.0), (6.2, 100.0)])
def test_signals_and_an_unused_video_of_different_durations(tmp_path, seconds, fs):
    film = films.write_video(tmp_path / "a.mp4", films.numbered(75))
    with pytest.raises(ClipError, match="other_durations: The video lasts 3.00 s"):
        prepare_clip(recording(tmp_path, film, seconds, fs), None, SIGNALS_ALONE)


def test_signals_as_long_as_the_video_and_missing_videos(tmp_path):
    film = films.write_video(tmp_path / "a.mp4", films.numbered(75))
    assert prepare_clip(recording(tmp_path, film, 3.0), None, SIGNALS_ALONE).signal.shape == (400, 1)
    assert prepare_clip(recording(tmp_path, tmp_path / "away.mp4", 1.0), None, SIGNALS_ALONE).signal.shape == (400, 1)
    assert prepare_clip(recording(tmp_path, film, 1.5, fps=50.0), None, SIGNALS_ALONE).signal.shape == (400, 1)  # rate given
    with pytest.raises(ClipError, match="The video lasts 1.00 s, its signals 3.00 s"):  # its window, not the whole video
        prepare_clip(recording(tmp_path, film, 3.0, start_s=1.0, end_s=2.0), None, SIGNALS_ALONE)
