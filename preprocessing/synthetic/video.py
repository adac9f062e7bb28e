"""Draw the face of a synthetic subject frame by frame and write H.264.

Shapes: H, W the frame; h, w the box around the head (the only part that moves); h2, w2 half of that.
All work is on the Y, U and V planes and displacements are kept at half size: with encoding
about 3 ms of CPU a 640x480 frame.
"""

from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.random import SeedSequence

from preprocessing.synthetic import face
from preprocessing.synthetic.acting import FPS, HEAD, NEUTRAL, PAIN
from preprocessing.synthetic.people import Person

_PORTRAIT = 4  # random stream of the appearance of a subject
_TEXTURE = 2  # texture pixels per pixel of the image
_HEAD_INNER, _HEAD_OUTER = (84.0, 96.0), (112.0, 122.0)  # ellipses: the inside moves fully, the outside is fixed
_LID_STEPS = 16
_NOISE_PAD = 64
# A constant quantiser needs no analysis of half-sized frames, and movements are small: two thirds of the time of constant
# quality, at 39 dB.
_X264 = {"preset": "ultrafast", "threads": "1", "qp": "26", "x264-params": "me-range=4"}


class Portrait:
    """The appearance, light and camera of a subject, ready to be animated. `size` is (width, height), both even."""

    def __init__(self, person: Person, size: tuple[int, int]):
        self.size = size
        rng = np.random.default_rng(SeedSequence(person.seed, spawn_key=(_PORTRAIT, person.index)))
        x_map, y_map, linear = self._camera(rng, size)
        texture = self._texture(rng)
        self.noise = self._noise(rng, size)
        w, h = size
        # luma and chroma of the whole image at rest: the fixed background of every frame
        self.planes = _planes(texture)
        self.rest = [
            _sample(self.planes[0], x_map, y_map, 1.0),
            *(_sample(p, _half(x_map), _half(y_map), 0.5) for p in self.planes[1:]),
        ]
        mask = _head_mask(x_map, y_map)
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        y0, y1 = int(rows[0]) // 4 * 4, min(h, (int(rows[-1]) + 4) // 4 * 4)
        x0, x1 = int(cols[0]) // 4 * 4, min(w, (int(cols[-1]) + 4) // 4 * 4)
        self.box = (y0, y1 - (y1 - y0) % 2, x0, x1 - (x1 - x0) % 2)
        y0, y1, x0, x1 = self.box
        x, y = np.ascontiguousarray(x_map[y0:y1, x0:x1]), np.ascontiguousarray(y_map[y0:y1, x0:x1])
        self._fields(_half(x), _half(y), _half(np.ascontiguousarray(mask[y0:y1, x0:x1])), linear)
        self._folds()

    @staticmethod
    def _camera(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-> maps (H, W) each from the frame to the image, and their linear part (2, 2): pose, distance, mirror, shape."""
        w, h = size
        scale = h / 480 * rng.uniform(1.75, 2.05)
        tilt, flip = rng.uniform(-0.07, 0.07), -1.0 if rng.uniform() < 0.5 else 1.0
        centre = (w * (0.5 + 0.05 * rng.uniform(-1, 1)), h * (0.50 + 0.03 * rng.uniform(-1, 1)))
        c, s = np.cos(tilt) / scale, np.sin(tilt) / scale
        linear = np.array([[flip * c, flip * s], [-s, c]])
        v, u = np.mgrid[:h, :w].astype(np.float32)
        u, v = u - centre[0], v - centre[1]
        x = (linear[0, 0] * u + linear[0, 1] * v + face.CENTRE[0]).astype(np.float32)
        y = (linear[1, 0] * u + linear[1, 1] * v + face.CENTRE[1]).astype(np.float32)
        dx, dy = face.shape_bumps(rng)(x, y)
        return x + dx, y + dy, linear

    @staticmethod
    def _texture(rng: np.random.Generator) -> np.ndarray:
        """The neutral image at twice its size in the colours and light of this subject. RGB uint8."""
        picture = face.neutral()
        n = picture.shape[0]
        y, x = np.mgrid[:n, :n].astype(np.float32)
        skin = np.exp(-((((x - 225) / 55) ** 2 + ((y - 122) / 62) ** 2) ** 3))[:, :, None]
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
        hue = ((hsv[:, :, 0].astype(int) + rng.integers(0, 180)) % 180).astype(np.uint8)
        hsv[:, :, 0] = np.where((hsv[:, :, 1] > 150) & (hsv[:, :, 2] > 70) & (y > 150), hue, hsv[:, :, 0])  # the suit
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32) / 255
        gamma = np.exp(rng.uniform(-0.05, 0.35))
        image = image ** (1 + skin * (gamma - 1)) * (1 + skin * rng.uniform(-0.045, 0.045, 3).astype(np.float32))
        surroundings = np.exp(rng.uniform(-0.2, 0.1) + rng.uniform(-0.09, 0.09, 3)).astype(np.float32)
        image = image * (skin + (1 - skin) * surroundings)
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.12)
        light = 1 + depth * (np.cos(angle) * (x - 225) + np.sin(angle) * (y - 118)) / 60
        image *= (np.clip(light, 0.7, 1.3) * rng.uniform(0.88, 1.08))[:, :, None]
        image *= np.exp(rng.uniform(-0.03, 0.03, 3)).astype(np.float32)
        bright = (np.clip(image, 0, 1) * 255).astype(np.uint8)
        return cv2.resize(bright, None, fx=_TEXTURE, fy=_TEXTURE, interpolation=cv2.INTER_CUBIC)

    @staticmethod
    def _noise(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        w, h = size
        grain = rng.uniform(1.4, 2.2) * rng.standard_normal((h + _NOISE_PAD, w + _NOISE_PAD), dtype=np.float32)
        return np.clip(np.round(grain) + 16, 0, 32).astype(np.uint8)  # offset 16, subtracted after adding

    def _fields(self, x: np.ndarray, y: np.ndarray, mask: np.ndarray, linear: np.ndarray) -> None:
        """Displacement of every track at full strength, flat: head (6, 2 h2 w2), face (7, 2 rows columns)."""
        actions = np.stack([np.stack(face.action(name, x, y)) for name in (*PAIN, *NEUTRAL)]).astype(np.float32)
        touched = np.abs(actions).max((0, 1)) > 0.05
        rows, cols = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        self.face_box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1))
        self.actions = np.ascontiguousarray(actions[:, :, *self.face_box])
        cx, cy = face.CENTRE
        u, v = x - cx, y - cy
        nose = np.exp(-0.5 * ((u / 30) ** 2 + (v / 40) ** 2))
        nose = nose + 0.8 * np.exp(-0.5 * ((u / 9) ** 2 + ((v - 8) / 12) ** 2))
        zero = np.zeros_like(x)
        flip = np.sign(np.linalg.det(linear))
        head = {
            "x": (-mask * flip, zero),
            "y": (zero, -mask),
            "roll": (mask * (v - 60), -mask * u),  # about the neck
            "zoom": (-mask * u, -mask * v),
            "yaw": (-nose * mask * flip, zero),
            "pitch": (zero, -nose * mask),
        }
        # the last row is the source position of each pixel at rest, so that one product gives the whole map
        self.head = np.ascontiguousarray(np.stack([*(head[name] for name in HEAD), (x, y)]).astype(np.float32))

    def _folds(self) -> None:
        """How much luma the face loses where each set of folds is at full depth."""
        x0, x1, y0, y1 = 175, 280, 75, 150
        self.zone = (slice(y0 * _TEXTURE, y1 * _TEXTURE), slice(x0 * _TEXTURE, x1 * _TEXTURE))
        y, x = np.mgrid[y0 * _TEXTURE : y1 * _TEXTURE, x0 * _TEXTURE : x1 * _TEXTURE].astype(np.float32) / _TEXTURE
        self.skin = self.planes[0][self.zone].copy()
        self.folds = [
            np.clip(depth * (self.skin - 16.0) * face.wrinkles(x, y, which), 0, 255).astype(np.uint8)
            for which, depth in (("brow", 0.32), ("cheek", 0.36), ("eyes", 0.7))
        ]

    def frame(self, weights: dict[str, float], grain: tuple[int, int]) -> np.ndarray:
        """One frame (H * 3 / 2, W) uint8, planar 4:2:0. grain: offset into the noise tile of the subject."""
        w, h = self.size
        out = np.empty((h * 3 // 2, w), np.uint8)
        self.draw(weights, grain, (out[:h], *out[h:].reshape(2, h // 2, w // 2)))
        return out

    def draw(self, weights: dict[str, float], grain: tuple[int, int], planes: tuple[np.ndarray, ...]) -> None:
        """One frame into Y (H, W), U and V (H / 2, W / 2), which may be views of an encoder's frame."""
        w, h = self.size
        y0, y1, x0, x1 = self.box
        small = self._where(weights)  # (2, h2, w2) in pixels of the image, which is the resolution of the chroma texture
        large = [cv2.resize(m * _TEXTURE + (_TEXTURE - 1) / 2, (x1 - x0, y1 - y0)) for m in small]
        skin = self.skin
        depths = (weights["brow_lower"], weights["levator"], weights["close"] ** 2)
        for fold, depth in zip(self.folds, depths, strict=True):
            skin = cv2.subtract(skin, cv2.convertScaleAbs(fold, alpha=float(np.clip(depth, 0, 1.2))))
        self.planes[0][self.zone] = skin

        for number, (plane, rest, texture) in enumerate(zip(planes, self.rest, self.planes, strict=True)):
            k, places = (2, small) if number else (1, large)
            plane[:] = rest
            _remap(texture, places[0], places[1], plane[y0 // k : y1 // k, x0 // k : x1 // k])
        gy, gx = grain
        cv2.addWeighted(planes[0], 1.0, self.noise[gy : gy + h, gx : gx + w], 1.0, -16.0, dst=planes[0])

    def _where(self, weights: dict[str, float]) -> np.ndarray:
        """(2, h2, w2): the position in the image that each pixel of the box shows, at half size.

        einsum and not @, whose last bit depends on the number of BLAS threads."""
        head = np.array([*(weights[name] for name in HEAD), 1.0], np.float32)
        where = np.einsum("a,axhw->xhw", head, self.head)
        actions = np.array([weights[name] for name in (*PAIN, *NEUTRAL)], np.float32)
        where[:, *self.face_box] += np.einsum("a,axhw->xhw", actions, self.actions)
        # the lids are looked up after the movement of head and brow, else they would miss the eye
        left, top, scale, table = _lids()
        step = weights["close"] * _LID_STEPS
        k = min(int(step), _LID_STEPS - 1)
        lids = cv2.addWeighted(table[k], 1 - (step - k), table[k + 1], step - k, 0)
        x, y = np.ascontiguousarray(where[:, *self.face_box])
        where[1, *self.face_box] += cv2.remap(lids, (x - left) * scale, (y - top) * scale, cv2.INTER_LINEAR)
        return where


@lru_cache(maxsize=2)
def portrait(person: Person, size: tuple[int, int]) -> Portrait:
    return Portrait(person, size)


def write_video(
    path: Path, person: Person, tracks: dict[str, np.ndarray], size: tuple[int, int], rng: np.random.Generator
) -> None:
    """H.264, 25 fps, one thread (same arguments, same file), without time stamps of the machine."""
    drawn = portrait(person, size)
    n_frames = len(tracks["close"])
    grain = rng.integers(0, _NOISE_PAD, (n_frames, 2))
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=dict(_X264))
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        for i in range(n_frames):
            weights = {name: float(values[i]) for name, values in tracks.items()}
            frame = av.VideoFrame(*size, "yuv420p")
            drawn.draw(weights, (grain[i, 0], grain[i, 1]), _views(frame))
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@cache
def _lids() -> tuple[float, float, float, np.ndarray]:
    """-> left, top, table pixels per image pixel, and the vertical displacement of the lids at each step of closing."""
    left, top, scale = 185.0, 85.0, 2.0
    y, x = np.mgrid[top : 130.0 : 1 / scale, left : 270.0 : 1 / scale]
    table = np.stack([face.close_eyes(x, y, k / _LID_STEPS) for k in range(_LID_STEPS + 1)])
    return left, top, scale, table.astype(np.float32)


def _head_mask(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W) float32: 1 on the head, 0 on the background, smooth between."""
    cx, cy = face.CENTRE[0], face.CENTRE[1] - 10
    inner = np.hypot((x - cx) / _HEAD_INNER[0], (y - cy) / _HEAD_INNER[1])
    outer = np.hypot((x - cx) / _HEAD_OUTER[0], (y - cy) / _HEAD_OUTER[1])
    ramp = np.clip((1 - outer) / np.maximum(inner - outer, 1e-6), 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def _planes(rgb: np.ndarray) -> list[np.ndarray]:
    h, w = rgb.shape[:2]
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    u, v = yuv[h:].reshape(2, h // 2, w // 2)
    return [np.ascontiguousarray(yuv[:h]), u.copy(), v.copy()]


def _half(field: np.ndarray) -> np.ndarray:
    return cv2.resize(field, (field.shape[1] // 2, field.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _sample(plane: np.ndarray, x: np.ndarray, y: np.ndarray, factor: float) -> np.ndarray:
    """Sample a plane of the texture at image coordinates; factor 0.5 for the chroma planes, which are smaller."""
    k = _TEXTURE * factor
    shift = (k - 1) / 2  # centres of pixels, not their corners
    return _remap(plane, x * k + shift, y * k + shift)


def _remap(plane: np.ndarray, x: np.ndarray, y: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    return cv2.remap(plane, x, y, cv2.INTER_LINEAR, into, cv2.BORDER_REFLECT)


def _views(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """The planes of an encoder's frame, without the padding of their rows."""
    rows = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in frame.planes)  # type: ignore[call-overload]
    return tuple(row[: p.height, : p.width] for row, p in zip(rows, frame.planes, strict=True))
