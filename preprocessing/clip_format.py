"""A clip as it is stored: its fields, and the codec of its images. Code that reads clips imports no other preprocessing.

K keyframes, F frames of the video, L signal samples, C channels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# PNG is lossless with any of these settings. Huffman coding alone with the average filter takes half the time of OpenCV's
# default for writing and two thirds of it for reading, for 8 % more bytes.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 5
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """frames: encoded images of the video frames frame_index; keyframes int32: indices of the keyframes, equal to frame_index
    unless all frames are stored; landmarks (F, 92, 2) float32, NaN where no face was found; signal (L, C) float32 unnormalised.

    frames is empty where the recording has no video, signal is (0, 0) where it has no signals. distinctive: whether the
    signals hold so much information that those of another recording cannot be equal by chance.
    """

    frames: tuple[bytes, ...]
    frame_index: np.ndarray
    keyframes: np.ndarray
    landmarks: np.ndarray
    n_frames: int
    fps: float
    padded: bool
    n_lost: int
    max_faces: int
    signal: np.ndarray
    channels: tuple[str, ...]
    duration_s: float
    distinctive: bool = True


def encode_image(rgb: np.ndarray, image: str = "png", quality: int = 95) -> bytes:
    """(H, W, 3) uint8 RGB to PNG, or to JPEG of that quality."""
    how = {"png": (".png", _PNG),
           "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])}
    ok, data = cv2.imencode(how[image][0], cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), how[image][1])
    assert ok
    return data.tobytes()


def decode_image(data: bytes) -> np.ndarray:
    """Image bytes to (H, W, 3) uint8 RGB. Raises ValueError if they are damaged."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError("damaged image in the clip store")
    return image
