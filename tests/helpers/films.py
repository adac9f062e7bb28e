"""Small videos and frame folders with a real face in them: scikit-image's astronaut (NASA, public domain), moved."""

from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from skimage.data import astronaut

REPEATABLE = {"preset": "veryfast", "threads": "1", "qp": "24"}  # x264's rate control does not repeat its bytes


@cache
def portrait() -> np.ndarray:
    return astronaut()


def face(width: int = 320, height: int = 240, dx: float = 0, dy: float = 0, tilt: float = 0, zoom: float = 0.55):
    """One RGB frame (H, W, 3) with the face near its middle, moved by dx, dy pixels and tilted by `tilt` radians."""
    c, s = zoom * np.cos(tilt), zoom * np.sin(tilt)
    nose = np.array([224.0, 120.0])  # in the astronaut picture
    middle = np.array([width / 2 + dx, height / 2 + dy])
    turn = np.array([[c, -s], [s, c]])
    matrix = np.column_stack([turn, middle - turn @ nose])
    return cv2.warpAffine(portrait(), matrix, (width, height), flags=cv2.INTER_AREA, borderValue=(90, 100, 110))


def nodding(n: int, **options) -> list[np.ndarray]:
    """n frames in which the face sways and tilts."""
    return [face(dx=12 * np.sin(i / 5), dy=6 * np.sin(i / 7), tilt=0.1 * np.sin(i / 9), **options) for i in range(n)]


def two_faces() -> np.ndarray:
    """A large face on the left, a small one on the right: (240, 480, 3)."""
    return np.hstack([face(300, 240, zoom=0.7), face(180, 240, zoom=0.35)])


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: int | Fraction = 25,
    codec: str = "libx264",
    times: Iterable[int] | None = None,
    rotation: int = 0,
    pix_fmt: str = "yuv420p",
    encoder: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Encode RGB frames; `times` are presentation times in milliseconds (a variable frame rate)."""
    frames = list(frames)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.options = encoder or (REPEATABLE if codec == "libx264" else {})
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for image, time in zip(frames, times if times is not None else [None] * len(frames), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if time is not None:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with an audio stream alone."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_folder(path: Path, frames: Iterable[np.ndarray]) -> Path:
    """A folder of PNGs named so that the alphabet puts them in the wrong order."""
    path.mkdir()
    for i, image in enumerate(frames):
        cv2.imwrite(str(path / f"frame{i}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def stop_clock(source: Path, target: Path) -> Path:
    """The same pictures with every time stamp 0: a file of 0 frames a second."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = 0
                packet.stream = stream
                new.mux(packet)
    return target


CELL, BITS = 16, 8  # a frame's number is painted in its top left corner


def numbered(n: int, width: int = 160, height: int = 96) -> list[np.ndarray]:
    """n RGB frames of a pattern that moves, each with its number."""
    ramp = np.tile(np.linspace(40, 200, width).astype(np.uint8)[None, :, None], (height, 1, 3))
    frames = [np.roll(ramp, 3 * i, 1) for i in range(n)]
    for i, frame in enumerate(frames):
        for bit in range(BITS):
            frame[:CELL, bit * CELL : (bit + 1) * CELL] = 255 if i >> bit & 1 else 0
    return frames


def number_of(image: np.ndarray) -> int:
    half = CELL // 2
    return sum((int(image[half, bit * CELL + half].mean()) > 128) << bit for bit in range(BITS))


def remux(source: Path, target: Path, offset_s: float = 0.0, hold_s: float = 0.0, sound_s: float = 0.0,
          muxer: dict[str, str] | None = None, rename: str | None = None) -> Path:
    """The same bit stream in another container, its first frame at offset_s; the last frame is shown for hold_s more, and
    there are sound_s of silence where given."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=rename, options=muxer or {}) as new:
        stream: Any = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        base = packets[0].time_base
        shift = round(offset_s / base) - min(packet.pts for packet in packets)
        for packet in packets:
            packet.pts += shift
            packet.dts += shift
        last = max(packets, key=lambda packet: packet.pts)
        last.duration += round(hold_s / base)
        sound: Any = new.add_stream("aac", rate=16000, layout="mono") if sound_s else None
        for packet in packets:
            packet.stream = stream
            new.mux(packet)
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, int(16000 * sound_s)), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            new.mux(sound.encode(frame))
            new.mux(sound.encode(None))
    return target
