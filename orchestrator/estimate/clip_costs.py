"""Estimated disk space of a clip, before any is made."""

from orchestrator.config.configuration import Config

BYTES_PER_CLIP = 2_500_000  # with video: 16 to 25 lossless crops of 224 x 224, landmarks and signals


MANY_KEYFRAMES = 25


JPEG_SHARE = 0.4  # of the lossless bytes, at quality 98; less below it


FRAMES_PER_CLIP = 138  # BioVid: 5.5 s at 25 frames a second
PIXELS_PER_FRAME = 1388 * 1038


def video_clip_bytes(config: Config, frames: float = FRAMES_PER_CLIP) -> float:
    """Upper end of what a clip with video of so many frames takes in the store."""
    crops = 1.0 if config.frames == "keyframes" else max(1.0, frames / MANY_KEYFRAMES)
    return BYTES_PER_CLIP * crops * (JPEG_SHARE if config.face.get("image") == "jpeg" else 1.0)
