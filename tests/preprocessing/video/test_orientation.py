"""Display settings in a header are applied or noted, and none of them counts as damage."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from preprocessing.errors import ClipError
from preprocessing.notes import gathered
from preprocessing.recordings import VideoRef
from preprocessing.video.video import Video
from tests.helpers import films

SQUARE, MIRROR, TURN = "not square", "mirrored", "stored rotated"
FIELDS, VARIES, HELD, SOUND = "interlaced", "rate varies", "shown longer", "before the audio"


def read(path: Path, **window) -> tuple[list[np.ndarray], list[float], list[str], float]:
    """Frames, times, notes and the rate."""
    with gathered() as notes, Video(VideoRef(path, **window)) as video:
        found = [(frame.rgb().copy(), round(frame.time_s, 3)) for frame in video]
    return [image for image, _ in found], [time for _, time in found], notes, video.fps


def write(path: Path, images, codec="libx264", aspect=None, matrix=None, fields=False, encoder=None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = encoder or {}
        if aspect:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            a, b, c, d = (n << 16 for n in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def circle(aspect: float) -> np.ndarray:
    """A circle as stored with such pixels: (120, 160, 3)."""
    y, x = np.mgrid[:120, :160]
    inside = ((x - 80) * aspect) ** 2 + (y - 60) ** 2 < 40**2
    return np.where(inside[..., None], 220, 30).astype(np.uint8).repeat(3, 2)


@pytest.mark.parametrize(("suffix", "codec", "aspect"), [
    ("mp4", "libx264", Fraction(16, 11)), ("mkv", "libx264", Fraction(8, 9)), ("ts", "libx264", Fraction(4, 3)),
    ("avi", "libx264", Fraction(10, 11)), ("mov", "libx264", Fraction(2, 1)), ("mp4", "mpeg4", Fraction(12, 11)),
])  # fmt: skip
def test_pixels_become_square(tmp_path, suffix, codec, aspect):
    """A circle is round: as wide as it is high."""
    images, _, notes, _ = read(write(tmp_path / f"a.{suffix}", [circle(float(aspect))] * 3, codec, aspect))
    bright = images[0][:, :, 1] > 125
    width, height = bright.any(0).sum(), bright.any(1).sum()
    assert images[0].shape[:2] == (120, 2 * round(160 * float(aspect) / 2))
    assert abs(width / height - 1) < 0.05 and any(SQUARE in note for note in notes)


def test_square_pixels_are_not_changed(tmp_path):
    images, _, notes, _ = read(write(tmp_path / "a.mp4", [circle(1.0)] * 3, aspect=Fraction(1, 1)))
    assert images[0].shape == (120, 160, 3) and notes == []


@pytest.mark.parametrize("matrix", [
    (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0),
])  # fmt: skip
def test_all_ways_to_hold_or_mirror_a_camera(tmp_path, matrix):
    stored = np.full((96, 160, 3), 60, np.uint8)
    stored[:40, :60], stored[:40, 100:], stored[60:, :60] = 255, 150, (200, 0, 0)
    a, b, c, d = matrix
    y, x = np.mgrid[:96, :160]
    to_x, to_y = a * x + c * y, b * x + d * y  # the matrix of the header, literally
    wanted = np.zeros((np.ptp(to_y) + 1, np.ptp(to_x) + 1, 3), int)
    wanted[to_y - to_y.min(), to_x - to_x.min()] = stored
    images, _, notes, _ = read(write(tmp_path / "a.mp4", [stored] * 3, matrix=matrix))
    assert images[0].shape == wanted.shape and np.abs(images[0] - wanted).mean() < 5
    assert any(MIRROR in note or TURN in note for note in notes)
    with Video(VideoRef(tmp_path / "a.mp4")) as video:  # parts as well: the face is cropped from them
        part, left, top = next(iter(video)).region((10, 5, 50, 40))
        np.testing.assert_array_equal(part[:, :, :3], images[0][top : top + part.shape[0], left : left + part.shape[1]])


def test_a_rotation_by_other_angles_is_noted(tmp_path):
    path = films.write_video(tmp_path / "a.mp4", films.numbered(3), rotation=30)
    images, _, notes, _ = read(path)
    assert images[0].shape == (96, 160, 3) and any("not a multiple of 90 degrees" in note for note in notes)


@pytest.mark.parametrize(("suffix", "codec", "encoder", "first"), [
    ("mp4", "libx264", {"x264-params": "interlaced=1:tff=1:keyint=10"}, 0),
    ("ts", "libx264", {"x264-params": "interlaced=1:bff=1:keyint=10"}, 1),
    ("mkv", "mpeg2video", {"flags": "+ildct+ilme"}, 1),
])  # fmt: skip
def test_interlaced_frames_are_deinterlaced(tmp_path, suffix, codec, encoder, first):
    """A moving edge gives comb artefacts in interlaced frames; decoded frames have none, in windows as in the whole video."""

    def bar(field: int) -> np.ndarray:
        image = np.full((128, 160, 3), 40, np.uint8)
        image[:, 4 + field : 40 + field] = 220
        return image

    combed = []
    for i in range(70):
        image = bar(8 * i % 100)
        image[1 - first :: 2] = bar((8 * i + 4) % 100)[1 - first :: 2]
        combed.append(image)
    path = write(tmp_path / f"a.{suffix}", combed, codec, encoder=encoder | {"b": "4M"})
    images, times, notes, _ = read(path)

    def combs(image: np.ndarray) -> float:
        rows = image[4:-4, :, 1].astype(float)
        return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()

    assert len(images) == 70 and times == [round(i / 25, 3) for i in range(70)]
    assert combs(images[30]) < 0.5 * combs(combed[30]) and any(FIELDS in note for note in notes)
    part, part_times, _, _ = read(path, start_s=2.2, end_s=2.6)
    assert part_times == times[55:65]
    np.testing.assert_array_equal(np.stack(part), np.stack(images[55:65]))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_a_screen_recording_whose_rate_varies(tmp_path, suffix):
    stamps = [40 * i if i < 50 else 2000 + 200 * (i - 50) for i in range(60)]
    path = films.write_video(tmp_path / f"a.{suffix}", films.numbered(60), times=stamps)
    images, times, notes, fps = read(path)
    assert times == [s / 1000 for s in stamps] and any(VARIES in note for note in notes)
    assert fps == pytest.approx(59 / 3.8)
    images, times, _, _ = read(path, start_s=2.1, end_s=3.1)
    assert [films.number_of(image) for image in images] == [51, 52, 53, 54, 55]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "flv"])
def test_a_long_last_frame_is_not_damage(tmp_path, suffix):
    plain = films.write_video(tmp_path / "plain.ts", films.numbered(50))
    held = films.remux(plain, tmp_path / f"held.{suffix}", hold_s=3.0)
    images, times, notes, _ = read(held)
    assert times == [round(i / 25, 3) for i in range(50)] and any(HELD in note for note in notes)
    assert len(read(held, start_s=1.0, end_s=4.5)[0]) == 25
    with pytest.raises(ClipError) as caught:
        read(held, start_s=1.0, end_s=9.0)
    assert caught.value.reason == "short_window"


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_longer_sound_is_not_damage(tmp_path, suffix):
    plain = films.write_video(tmp_path / "plain.ts", films.numbered(50))
    path = films.remux(plain, tmp_path / f"a.{suffix}", sound_s=5.0)
    images, _, notes, _ = read(path)
    assert len(images) == 50 and any(SOUND in note for note in notes)


@pytest.mark.parametrize(("suffix", "more"), [("mkv", {}), ("mkv", {"sound_s": 4.0}), ("mkv", {"hold_s": 3.0}), ("flv", {})])
def test_a_truncated_file_is_still_damage(tmp_path, suffix, more):
    plain = films.write_video(tmp_path / "plain.ts", films.numbered(100))
    whole = films.remux(plain, tmp_path / f"whole.{suffix}", **more)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    with pytest.raises(ClipError) as caught:
        read(cut)
    assert caught.value.reason == "truncated"
