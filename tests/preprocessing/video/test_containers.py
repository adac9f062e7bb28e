"""One bit stream gives the same frames for the same window in every container."""

from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.errors import ClipError
from preprocessing.notes import gathered
from preprocessing.recordings import VideoRef
from preprocessing.video.clock import Clock
from preprocessing.video.video import Video
from tests.helpers import films

pytestmark = pytest.mark.medium
N = 100
X264 = {"preset": "veryfast", "qp": "26", "threads": "1"}
PYRAMID = "b-adapt=0:bframes=3:b-pyramid=2:keyint=20"
X265 = "log-level=0:keyint=20:pools=none:frame-threads=1"
STREAMS = {  # name -> encoder, its options, containers
    "h264": ("libx264", X264 | {"bf": "0", "g": "20"}, "mp4 mov mkv ts mpg avi flv h264"),
    "b_frames": ("libx264", X264 | {"x264-params": PYRAMID}, "mp4 mov mkv ts mpg avi flv h264"),
    "intra_refresh": ("libx264", X264 | {"x264-params": "intra-refresh=1:keyint=20"}, "mp4 mkv ts avi flv h264"),
    "open_gop": ("libx264", X264 | {"x264-params": "open-gop=1:b-adapt=0:bframes=2:keyint=20"}, "mp4 mkv ts mpg avi h264"),
    "mpeg4": ("mpeg4", {"bf": "2", "g": "12", "q": "3"}, "mp4 mkv ts avi"),
    "mpeg2": ("mpeg2video", {"bf": "2", "g": "12", "b": "2M"}, "mkv ts mpg avi"),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": X265}, "mp4 mkv ts hevc"),
    "mjpeg": ("mjpeg", {}, "mp4 mkv avi"),
}
RATES = [Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(24)]
OFFSETS = [0.0, 0.7, 5000.0, (1 << 33) / 90000 - 1.2]  # the last: MPEG's time stamps wrap around to 0 within the video
CARRY_OFFSETS = {"mkv", "ts", "flv"}


@cache
def bit_stream(name: str, rate: Fraction) -> tuple[Path, list[np.ndarray]]:
    """A file of it, and its frames decoded from the start."""
    encoder, options, _ = STREAMS[name]
    if encoder not in av.codecs_available:
        pytest.skip(f"no {encoder} here")
    path = Path(mkdtemp(dir=cache_folder())) / f"{name}.{'mkv' if name == 'mjpeg' else 'ts'}"
    pixels = "yuvj420p" if name == "mjpeg" else "yuv420p"
    films.write_video(path, films.numbered(N), fps=rate, codec=encoder, encoder=options, pix_fmt=pixels)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [films.number_of(frame) for frame in frames] == list(range(N))
    return path, frames


_FOLDER: list[Path] = []


def cache_folder() -> Path:
    return _FOLDER[-1]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    _FOLDER.append(tmp_path_factory.mktemp("streams"))
    yield
    bit_stream.cache_clear()


@cache
def contained(name: str, rate: Fraction, suffix: str, offset: float) -> Path:
    source, _ = bit_stream(name, rate)
    target = source.parent / f"{suffix}{offset:.0f}.{suffix}"
    muxer = {"mpegts_copyts": "1"} if suffix == "ts" else {}
    return films.remux(source, target, offset, muxer=muxer, rename={"mpg": "mpeg"}.get(suffix))


@st.composite
def windows(draw):
    name = draw(st.sampled_from(sorted(STREAMS)))
    suffix = draw(st.sampled_from(STREAMS[name][2].split()))
    offset = draw(st.sampled_from(OFFSETS)) if suffix in CARRY_OFFSETS else 0.0
    first = draw(st.integers(0, N - 6))
    last = draw(st.integers(first + 3, N - 2))
    early = draw(st.sampled_from([0.0, 0.3, 0.6]))  # the window starts this fraction of a frame earlier
    return name, draw(st.sampled_from(RATES)), suffix, offset, first, last, early


@given(windows())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_container_gives_the_same_frames(window):
    name, rate, suffix, offset, first, last, early = window
    path = contained(name, rate, suffix, offset)
    start, end = max(0.0, (first - early) / float(rate)), (last - early) / float(rate)
    with Video(VideoRef(path, start_s=start, end_s=end)) as video:
        got = [(films.number_of(image := frame.rgb()), frame.index, image.copy()) for frame in video]
    assert [number for number, _, _ in got] == list(range(first, last))
    assert [index for _, index, _ in got] == list(range(last - first))
    for number, _, image in got:
        np.testing.assert_array_equal(image, bit_stream(name, rate)[1][number])
    with Video(VideoRef(path, start_s=start, end_s=end), may_seek=False) as video:
        assert [frame.index for frame in video] == list(range(first, last))


@pytest.mark.parametrize(("name", "suffix", "seeks"), [
    ("h264", "mp4", True), ("b_frames", "mkv", True), ("mpeg4", "mp4", True), ("hevc", "mkv", True), ("mjpeg", "mp4", True),
    ("intra_refresh", "mp4", False), ("open_gop", "mkv", False), ("h264", "ts", False), ("b_frames", "avi", False),
])  # fmt: skip
def test_seeking_is_used_where_possible(name, suffix, seeks, monkeypatch):
    """A window at the end of a video with an index of key frames needs no decoding of earlier frames."""
    decoded = []
    saw = Clock.saw
    monkeypatch.setattr(Clock, "saw", lambda clock, packet: (decoded.append(packet.pts), saw(clock, packet))[1])
    path = contained(name, Fraction(25), suffix, 0.0)
    with Video(VideoRef(path, start_s=3.4, end_s=3.8)) as video:
        assert [films.number_of(frame.rgb()) for frame in video] == list(range(85, 95))
    assert (len(decoded) < 40) == seeks


def test_a_bare_stream_without_a_rate_needs_one(tmp_path):
    """Raw MJPEG has neither time stamps nor a rate: a window needs the rate from the user."""
    source, _ = bit_stream("mjpeg", Fraction(25))
    bare = films.remux(source, tmp_path / "bare.mjpeg")
    with pytest.raises(ClipError) as caught, Video(VideoRef(bare, start_s=1.0, end_s=2.0)) as video:
        list(video)
    assert caught.value.reason == "no_frame_rate"
    with Video(VideoRef(bare, fps=10.0, start_s=1.0, end_s=2.0)) as video:
        assert [films.number_of(frame.rgb()) for frame in video] == list(range(10, 20))
    with gathered() as notes, Video(VideoRef(bare)) as video:
        assert len(list(video)) == N and video.fps == 0.0
    assert any("without a frame rate" in note for note in notes)


def test_time_stamps_that_run_backwards_are_an_error(tmp_path):
    """Two concatenated recordings, each with its own time stamps."""
    path, _ = bit_stream("h264", Fraction(25))
    twice = tmp_path / "twice.ts"
    twice.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ClipError) as caught, Video(VideoRef(twice)) as video:
        list(video)
    assert caught.value.reason == "time_runs_back"
