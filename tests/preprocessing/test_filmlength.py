"""How long a film is, without decoding it, and what becomes of signals that last otherwise."""

import films
import numpy as np
import pytest

from preprocessing import video
from preprocessing.clip import ClipOptions, prepare_clip
from preprocessing.errors import ClipError
from preprocessing.filmlength import film_length
from preprocessing.recordings import Channel, Recording, SignalRef, VideoRef

SIGNALS_ALONE = ClipOptions(video=False)


def recording(tmp_path, film, seconds: float, fs: float = 100.0, **window) -> Recording:
    values = np.sin(np.arange(round(seconds * fs)) / 9)
    np.save(tmp_path / "s.npy", values[:, None])
    signal = SignalRef(tmp_path / "s.npy", "npy", (Channel("x", 0, "other", fs),))
    return Recording("a", "a-0", 0, "L", VideoRef(film, **window), signal)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"),
                                             ("a.avi", "mpeg4"), ("a.mov", "mpeg4"), ("a.webm", "libvpx")])
@pytest.mark.parametrize("n", [10, 37])
def test_packets_tell_what_decoding_tells(tmp_path, name, codec, n):
    path = films.write_video(tmp_path / name, films.numbered(n), codec=codec)
    with video.Video(VideoRef(path)) as film:
        assert sum(1 for _ in film) == n
    seconds, rate = film_length(path)
    assert seconds == pytest.approx(film.seconds, abs=1.5 / 25) and rate == pytest.approx(25)


def test_a_film_whose_stamps_begin_late_is_no_longer(tmp_path):
    source = films.write_video(tmp_path / "a.mp4", films.numbered(30))
    assert film_length(films.remux(source, tmp_path / "b.mp4", offset_s=7.0))[0] == pytest.approx(1.2, abs=0.05)


def test_what_is_no_film_has_no_length(tmp_path):
    (tmp_path / "text.mp4").write_text("no film")
    films.write_folder(tmp_path / "frames", films.numbered(3))
    whole = films.write_video(tmp_path / "a.mp4", films.numbered(30)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:len(whole) // 2])
    films.write_video(tmp_path / "a.mpg", films.numbered(30), codec="mpeg2video")
    for name in ("absent.mp4", "text.mp4", "frames", "cut.mp4", "a.mpg"):
        assert film_length(tmp_path / name) == (0.0, 0.0)


@pytest.mark.parametrize(("seconds", "fs"), [(0.3, 100.0), (2.3, 100.0), (1.5, 200.0), (6.2, 100.0)])
def test_signals_of_another_length_than_a_film_that_nobody_reads(tmp_path, seconds, fs):
    film = films.write_video(tmp_path / "a.mp4", films.numbered(75))
    with pytest.raises(ClipError, match="other_durations: The film lasts 3.00 s"):
        prepare_clip(recording(tmp_path, film, seconds, fs), None, SIGNALS_ALONE)


def test_signals_as_long_as_the_film_and_films_that_are_away(tmp_path):
    film = films.write_video(tmp_path / "a.mp4", films.numbered(75))
    assert prepare_clip(recording(tmp_path, film, 3.0), None, SIGNALS_ALONE).signal.shape == (400, 1)
    assert prepare_clip(recording(tmp_path, tmp_path / "away.mp4", 1.0), None, SIGNALS_ALONE).signal.shape == (400, 1)
    assert prepare_clip(recording(tmp_path, film, 1.5, fps=50.0), None, SIGNALS_ALONE).signal.shape == (400, 1)  # rate by hand
    with pytest.raises(ClipError, match="The film lasts 1.00 s, its signals 3.00 s"):  # its window, not the whole film
        prepare_clip(recording(tmp_path, film, 3.0, start_s=1.0, end_s=2.0), None, SIGNALS_ALONE)
