"""Draws docs/images/clip.png, one synthetic clip before and after preprocessing: python docs/images/clip.py"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from preprocessing.datasets import registry  # noqa: E402
from preprocessing.face.engine import FaceClip, FaceEngine  # noqa: E402
from preprocessing.face.landmarks import POINTS  # noqa: E402
from preprocessing.face.litert import load_model  # noqa: E402
from preprocessing.face.mesh import FACE_MESH, FaceMesh  # noqa: E402
from preprocessing.face.roi import Roi  # noqa: E402
from preprocessing.face.weights import weight_file  # noqa: E402
from preprocessing.recordings import Recording  # noqa: E402
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal  # noqa: E402
from preprocessing.synthetic import cohort  # noqa: E402
from preprocessing.video.frames import ImageFrame  # noqa: E402

SEED, COLOURS = 3, 128
BEFORE, AFTER, MARK = "#8a8f98", "#1f5fa8", "#c4422b"
TITLES = {"gsr": ("GSR, µS", "taken as it is"), "ecg": ("ECG, µV", "0.1 to 250 Hz"),
          "emg_trapezius": ("EMG, µV", "20 to 250 Hz, EMD, envelope")}  # fmt: skip


def draw_crop(axes, clip: FaceClip) -> None:
    """The keyframe that moved most, with the mesh of the crop; the points used for distances are marked."""
    image = clip.frames[int(np.argmax(clip.distance[clip.keyframes]))]
    mesh = FaceMesh(load_model(weight_file(FACE_MESH)))
    points, _ = mesh.find(ImageFrame(0, 0.0, image), Roi(111.5, 111.5, 1.2 * 224))
    axes.imshow(image)
    axes.scatter(*points.T, s=4, c="#37f5b5", lw=0)
    axes.scatter(*points[POINTS].T, s=5, c="#ffe600", lw=0)
    axes.set_title("face crop, 224 x 224, and 468 points;\nyellow: the 92 that distances use", fontsize=8.5, loc="left")
    axes.axis("off")


def draw_distance(axes, clip: FaceClip) -> None:
    """Each frame's distance to the last keyframe before it: a keyframe is where it exceeds the threshold."""
    time = np.arange(clip.n_frames) / clip.fps
    axes.plot(time, clip.distance, color=BEFORE, lw=1)
    axes.axhline(clip.threshold, color=MARK, lw=0.8, ls="--")
    axes.text(time[-1], clip.threshold, f" T = {clip.threshold:.2f}", color=MARK, fontsize=8, va="center")
    axes.plot(time[clip.keyframes], clip.distance[clip.keyframes], "o", color=MARK, ms=3.5)
    kept = f"{len(clip.keyframes)} of {clip.n_frames} frames are kept"
    axes.set_title(f"distance to the last keyframe, over seconds; {kept}", fontsize=8.5, loc="left")
    axes.set_ylabel("interocular\ndistances", fontsize=8)
    axes.set_xlim(0, time[-1])
    axes.set_ylim(0, None)


def draw_strip(axes, clip: FaceClip, n: int = 9) -> None:
    chosen = np.linspace(0, len(clip.frames) - 1, n).round().astype(int)
    axes.imshow(np.concatenate([clip.frames[i][::2, ::2] for i in chosen], axis=1))
    axes.set_title("nine of them", fontsize=8.5, loc="left")
    axes.axis("off")


def draw_signals(columns, recording: Recording) -> None:
    """columns (2, C) of axes: as recorded above, as stored below."""
    assert recording.signal is not None
    raw, stored = read_signal(recording.signal), process_signal(read_signal(recording.signal), SignalOptions())
    for (above, below), channel, after in zip(columns.T, raw.channels, stored.T, strict=True):
        title, how = TITLES[channel.name]
        seconds = len(channel.values) / channel.fs
        above.plot(np.arange(len(channel.values)) / channel.fs, channel.values, color=BEFORE, lw=0.5)
        below.plot(np.linspace(0, seconds, len(after), endpoint=False), after, color=AFTER, lw=0.8)
        above.set_title(f"{title}, as recorded ({channel.fs:.0f} Hz)", fontsize=9, loc="left")
        below.set_title(f"400 values: {how}", fontsize=8, loc="left", color=AFTER)
        above.set_xticklabels([])
        below.set_xlabel("seconds", fontsize=8)
        for axes in (above, below):
            axes.set_xlim(0, seconds)


def picture(recording: Recording) -> plt.Figure:
    assert recording.video is not None
    clip = FaceEngine().process(recording.video)
    figure = plt.figure(figsize=(10, 6.4), dpi=90)
    upper, lower = figure.add_gridspec(2, 1, height_ratios=(1, 1), hspace=0.2, left=0.065, right=0.94, top=0.925, bottom=0.075)
    face, curve = upper.subgridspec(1, 2, width_ratios=(1, 2.15), wspace=0.2)
    draw_crop(figure.add_subplot(face), clip)
    above, below = curve.subgridspec(2, 1, height_ratios=(1.5, 1), hspace=0.42)
    draw_distance(figure.add_subplot(above), clip)
    draw_strip(figure.add_subplot(below), clip)
    draw_signals(lower.subgridspec(2, 3, hspace=0.28, wspace=0.25).subplots(), recording)
    for axes in figure.axes:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = cohort.generate(Path(folder) / "tree", subjects=1, clips_per_level=1, levels=("PA4",), seed=SEED, jobs=1)
        figure = picture(registry.load("biovid_a", tree).recordings[0])
    figure.savefig(ROOT / "docs" / "images" / "clip.png")
    with Image.open(ROOT / "docs" / "images" / "clip.png") as image:  # fewer colours: a third of the file size
        small = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(ROOT / "docs" / "images" / "clip.png", optimize=True)


if __name__ == "__main__":
    main()
