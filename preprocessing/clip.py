"""Preprocess one recording to one clip: face crops at the keyframes, landmarks, signals. Called in the workers.

K keyframes, F frames of the video, L signal samples, C channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from preprocessing.clip_format import PreparedClip, encode_image
from preprocessing.duplicates.fingerprints import is_distinctive
from preprocessing.errors import ClipError, InputError
from preprocessing.face.engine import FaceEngine, FaceOptions
from preprocessing.face.keyframes import KeyframeOptions
from preprocessing.inputs.limits import Limits
from preprocessing.recordings import Recording, VideoRef
from preprocessing.signals.signals import SHORTFALL, SignalOptions, process_signal, read_signal, used
from preprocessing.video.duration import video_duration

FRAMES = ("keyframes", "all")


@dataclass(frozen=True)
class ClipOptions:
    """All options that affect the stored clip."""

    face: FaceOptions = field(default_factory=FaceOptions)
    keyframe: KeyframeOptions = field(default_factory=KeyframeOptions)
    signal: SignalOptions = field(default_factory=SignalOptions)
    frames: str = "keyframes"
    video: bool = True
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_config(cls, face: Mapping[str, Any], keyframe: Mapping[str, Any], signal: Mapping[str, Any],
                    frames: str, video: bool, limits: Mapping[str, Any] | None = None) -> "ClipOptions":
        """Raises InputError for a name or value that does not exist."""
        if frames not in FRAMES:
            raise InputError(f"frames={frames} does not exist: use frames=keyframes or frames=all.")
        rest = {name: value for name, value in keyframe.items() if name != "preset"}
        return cls(_options(FaceOptions(), "face", face), _options(_preset(keyframe), "keyframe", rest),
                   _options(SignalOptions(), "signal", signal), frames, video,
                   _options(Limits(), "data", limits or {}))


def _preset(keyframe: Mapping[str, Any]) -> KeyframeOptions:
    try:
        return KeyframeOptions.preset(keyframe.get("preset", "default"))
    except ValueError as error:
        raise InputError(f"keyframe.preset does not fit: {error}.") from error


def _options(default: Any, node: str, given: Mapping[str, Any]) -> Any:
    known = [f.name for f in fields(default)]
    for name in given:
        if name not in known:
            raise InputError(f"There is no option '{node}.{name}': the options of {node} are {', '.join(known)}.")
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    try:
        return replace(default, **values)
    except (ValueError, TypeError) as error:
        raise InputError(f"An option of {node} does not fit: {error}.") from error


def prepare_clip(recording: Recording, engine: FaceEngine | None, options: ClipOptions) -> PreparedClip:
    """Raises ClipError with stage, reason and fix; any other exception is a bug of this program."""
    channels: tuple[str, ...] = ()
    signal, duration, slowest, distinctive = np.zeros((0, 0), np.float32), 0.0, 1.0, False
    if recording.signal is not None:
        raw = read_signal(recording.signal, options.limits)
        signal = process_signal(raw, options.signal)
        distinctive = is_distinctive(used(raw, options.signal))
        channels = tuple(channel.name for channel in raw.channels)
        duration = max(len(channel.values) / channel.fs for channel in raw.channels)
        slowest = min(channel.fs for channel in raw.channels)
    video = recording.video if options.video else None
    if video is None and recording.signal is None:
        raise ClipError("video", "no_modality", "The clip has neither a video nor a signal file: complete the copy.")
    if video is None:
        if recording.video is not None:  # no model uses the video, but its duration shows whether the signals are complete
            check_same_duration(*undecoded_duration(recording.video, options.limits), duration, slowest)
        none = np.zeros(0, np.int32)
        return PreparedClip(frames=(), frame_index=none, keyframes=none, landmarks=np.zeros((0, 92, 2), np.float32),
                            n_frames=0, fps=0.0, padded=False, n_lost=0, max_faces=0, signal=signal, channels=channels,
                            duration_s=duration, distinctive=distinctive)
    assert engine is not None, "a recording with video needs a face engine"
    face = engine.process(video, options.keyframe, options.frames, options.limits)
    check_same_duration(face.seconds, face.fps, duration, slowest)
    images = tuple(encode_image(frame, options.face.image, options.face.quality) for frame in face.frames)
    duration = duration or (face.n_frames / face.fps if face.fps else 0.0)
    return PreparedClip(frames=images, frame_index=face.frame_index, keyframes=face.keyframes, landmarks=face.landmarks,
                        n_frames=face.n_frames, fps=face.fps, padded=face.padded, n_lost=face.n_lost, max_faces=face.max_faces,
                        signal=signal, channels=channels, duration_s=duration, distinctive=distinctive)


def undecoded_duration(video: VideoRef, limits: Limits | None = None) -> tuple[float, float]:
    """(seconds, frames per second) of a video that is not decoded: from its window where it has one, else from its packets.
    (0.0, 0.0), unknown, where the frame rate was set by the user: then the time stamps are not trusted."""
    if video.start_s is not None or video.end_s is not None:
        return (0.0, 0.0) if video.end_s is None else (video.end_s - (video.start_s or 0.0), video.fps or 25.0)
    return (0.0, 0.0) if video.fps else video_duration(video.path, limits)


def check_same_duration(video_s: float, fps: float, signal_s: float, fs: float) -> None:
    """ClipError where the durations of the video and the signals of one clip differ by more than SHORTFALL plus two frames and
    one sample: both would be resampled to one length, and video and signals would no longer be synchronous.

    video_s, signal_s: the durations, 0 where unknown or where there is none."""
    if not fps or not video_s or not signal_s:
        return
    if abs(video_s - signal_s) > SHORTFALL * max(video_s, signal_s) + 2 / fps + 1 / fs:
        raise ClipError("signal", "other_durations", f"The video lasts {video_s:.2f} s, its signals {signal_s:.2f} s: copy the "
                                                     "incomplete file again, correct fs, or give a window that both cover.")
