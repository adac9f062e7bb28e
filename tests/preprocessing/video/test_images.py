"""No frame beyond data.max_pixels is decoded, from videos or folders."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits
from preprocessing.recordings import VideoRef
from preprocessing.video import images as images_module
from preprocessing.video.video import Video
from tests.helpers import films


def outcome(path: Path, most: int) -> str:
    try:
        with Video(VideoRef(path), limits=Limits(max_pixels=most)) as video:
            return f"{len(list(video))} frames"
    except ClipError as error:
        assert error.stage == "video" and path.name not in str(error)
        if error.reason == "too_large":
            assert "data.max_pixels" in error.fix
        return error.reason


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm"])
def test_an_image_is_checked_by_its_header(tmp_path, suffix, monkeypatch):
    films.write_folder(tmp_path / "pictures", films.nodding(2, width=80, height=60))
    cv2.imwrite(str(tmp_path / "pictures" / f"frame9{suffix}"), np.zeros((600, 800, 3), np.uint8))
    decoded = []
    read = cv2.imdecode
    monkeypatch.setattr(images_module.cv2, "imdecode", lambda data, how: decoded.append(read(data, how)) or decoded[-1])
    assert outcome(tmp_path / "pictures", 479_999) == "too_large"
    assert [image.shape for image in decoded] == [(60, 80, 3)] * 2
    assert outcome(tmp_path / "pictures", 480_000) == "mixed_sizes"


def test_a_decompression_bomb(tmp_path):
    """30,000 x 30,000 pixels in the header of a PNG of 100 bytes."""
    films.write_folder(tmp_path / "pictures", films.nodding(1))
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    (tmp_path / "pictures" / "frame3.png").write_bytes(data)
    assert outcome(tmp_path / "pictures", Limits().max_pixels) == "too_large"


def test_an_image_with_exif_rotation(tmp_path):
    """EXIF orientation 6: stored rotated by 90 degrees."""
    (tmp_path / "pictures").mkdir()
    exif = Image.Exif()
    exif[274] = 6
    data = io.BytesIO()
    Image.fromarray(np.zeros((60, 100, 3), np.uint8)).save(data, "JPEG", exif=exif)
    (tmp_path / "pictures" / "a.jpg").write_bytes(data.getvalue())
    with Video(VideoRef(tmp_path / "pictures")) as video:
        assert [(frame.width, frame.height) for frame in video] == [(60, 100)]


@pytest.mark.parametrize(("suffix", "codec", "pixels"), [
    ("mp4", "libx264", "yuv420p"), ("ts", "libx264", "yuv420p"), ("h264", "libx264", "yuv420p"), ("mkv", "mpeg4", "yuv420p"),
    ("ts", "mpeg2video", "yuv420p"), ("avi", "mjpeg", "yuvj420p"), ("mkv", "ffv1", "yuv420p"),
])  # fmt: skip
def test_a_video_is_checked_before_it_is_decoded(tmp_path, suffix, codec, pixels):
    path = films.write_video(tmp_path / f"a.{suffix}", films.numbered(5, 800, 600), codec=codec, pix_fmt=pixels)
    assert outcome(path, 200_000) == "too_large"
    assert outcome(path, 479_999) == "too_large"
    assert outcome(path, 480_000) == "5 frames"


def test_a_video_whose_size_changes(tmp_path):
    for name, size in (("a", (160, 96)), ("b", (800, 600))):
        films.write_video(tmp_path / f"{name}.h264", films.numbered(10, *size))
    both = tmp_path / "both.h264"
    both.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    assert outcome(both, 1_000_000) == "mixed_sizes"
    assert outcome(both, 100_000) in ("too_large", "corrupt")
