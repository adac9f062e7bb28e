"""Estimates time and disk of every stage before anything runs. The middle of an interval should be within a factor of two of
the real time, on an idle machine.

Work is counted in floating-point operations (a multiply-add is two) and divided by the speed of a short matrix product on
this machine; one step of the classifier is timed (timed_steps.py). Everything else (decoding, figures, starting processes)
has constants, measured in processor time on two cores of an AMD EPYC with 55 GFLOP/s per core in a matrix product.
N tokens, D width, L layers, S signal steps, C channels.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import has_signal_encoder, needs, reads_video
from orchestrator.estimate import flops, fold_costs
from orchestrator.estimate.clip_costs import FRAMES_PER_CLIP, PIXELS_PER_FRAME, video_clip_bytes
from orchestrator.estimate.data_fingerprint import Fingerprint
from orchestrator.estimate.finished import NOTHING, Finished
from orchestrator.plan.folds import Plan
from orchestrator.runtime import ray_session
from orchestrator.runtime.progress import duration
from orchestrator.stores.encoder_store import signal_options, video_options
from orchestrator.stores.token_store import stored_shape

# Share of the matrix product's speed that each kind of network reached in processor time on one thread: encoder
# 0.4 (micro) to 0.8 (small), MAE step 0.5 to 0.7. Other machines and GPUs differ.
ENCODER_SHARE, MAE_SHARE, SIGNAL_MAE_SHARE = 0.75, 0.65, 0.24
MAE_STEP_SECONDS, SIGNAL_MAE_STEP_SECONDS = 0.02, 0.01  # fixed time of a step: calls, optimiser, curves
SYNTHETIC_SECONDS, SYNTHETIC_BYTES = 0.6, 600_000  # a clip: 640 x 480, 5.5 s, two signal tables
# A frame until its shard is written: 1/123 s at 1388 x 1038, 1/336 s at 640 x 480 (benchmarks/preprocess.md)
FRAME_SECONDS, PIXEL_SECONDS = 0.0016, 4.55e-9
CROP_SECONDS = 0.0014  # one more crop as PNG, with frames=all
EMD_SECONDS, SIGNAL_SECONDS = 0.03, 0.013  # the signals of a clip: BioVid's, with EMD of 5.5 s of EMG; `watch`'s, without
CLIP_SHARE = 0.62  # typical share of the upper bound of disk space: 20 crops of 78 KB
DECODE_SECONDS = 0.015  # the 16 crops of a clip, from the store to the encoder's pixels (benchmarks/pretrain.md)
COMMAND_SECONDS = 6.0  # the command's own imports, and stopping Ray
RAY_SECONDS = 6.0  # Ray itself
FACE_START, TORCH_START, TRAIN_START = 3.0, 6.0, 12.0  # a stage's workers: OpenCV and face models; torch; Ray Train's besides
DRAWN_SECONDS, DRAWN_BYTES = 3.0, 900_000  # an encoder's reconstructions, once it is trained
REPORT_SECONDS = 4.0  # figures, tables and files of one run


@dataclass(frozen=True)
class Cost:
    """seconds: (least, most), None without an estimate; size: bytes that stay on disk; passing: more bytes while it runs."""

    stage: str
    what: str
    seconds: tuple[float, float] | None
    size: float
    passing: float = 0.0


@dataclass(frozen=True)
class Speed:
    """rate: operations a second of one worker; workers: how many such workers run side by side.

    clip: seconds of one clip in a training step of the classifier, as timed; None if it was not timed.
    """

    rate: float
    workers: int
    name: str
    clip: float | None = None


def measured(config: Config) -> Speed:
    """A matrix product of about 0.2 s: on the GPU where there is one, else on one thread, in processor time."""
    import torch

    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time
    device, side = ("cuda", 4096) if gpu else ("cpu", 512)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a = torch.rand(side, side, device=device)
        done, began = -3, clock()
        while done < 1 or clock() - began < 0.2:
            if done == 0:
                began = clock()
            float((a @ a)[0, 0])  # the read waits for a GPU
            done += 1
        rate = 2 * side**3 * done / (clock() - began)
    finally:
        torch.set_num_threads(threads)
    if gpu:
        return Speed(rate, torch.cuda.device_count(), f"{torch.cuda.device_count()} GPU")
    return Speed(rate, ray_session.cpus(config), f"{ray_session.cpus(config)} cores")


def forecast(config: Config, data: Fingerprint, plans: Sequence[Plan], speed: Speed, there: Finished = NOTHING,
             until: str = "loso") -> list[Cost]:
    """Every stage up to `until`. plans: one for each protocol that runs; there: what is finished already and costs nothing."""
    wanted = needs(config)
    each = data.clips / max(1, data.subjects)
    groups = {group.training: group for plan in plans for _, part in plan.parts(config) for group in part.groups}
    rows = [*_data(config, data), *_preprocess(config, data, there)]
    if until in ("pretrain", "embed", "loso"):
        trained = [group.trained_here for key, group in groups.items() if group.trained_here and key not in there.encoders]
        rows += _pretrain(config, data, speed, trained, each, "tokens" in wanted)
    if until in ("embed", "loso") and "tokens" in wanted:
        seen = {group.origin.sha256() if group.origin else group.training
                for plan in plans for _, part in plan.parts(config) for group in part.groups}
        rows += _embed(config, data, speed, seen, there)
    if until == "loso":
        for number, plan in enumerate(plans):
            rows += fold_costs.folds(config, data, plan, speed, there.folds(number), len(plans) > 1)
    ray = config.run.executor == "ray" and any(row.stage != "report" for row in rows)
    return [Cost("start", "the command" + (" and Ray" if ray else ""),
                 interval(COMMAND_SECONDS + (RAY_SECONDS if ray else 0)), 0), *rows]


def _data(config: Config, data: Fingerprint) -> list[Cost]:
    if not data.planned:
        return []
    area = config.synthetic.size[0] * config.synthetic.size[1] / (640 * 480)
    seconds = SYNTHETIC_SECONDS * area * data.clips / ray_session.cpus(config)
    return [Cost("synthetic", f"{data.clips} clips written", interval(seconds), SYNTHETIC_BYTES * area * data.clips)]


def _preprocess(config: Config, data: Fingerprint, there: Finished) -> list[Cost]:
    """Decoding, faces and signals of the subjects that are not in the store. Videos that are not read cost nothing."""
    left = (data.subjects - len(there.subjects)) / max(1, data.subjects)
    if left <= 0:
        return []
    video, signals = left * (data.with_video if reads_video(config) else 0), left * data.with_signal
    length = data.frames_per_clip or FRAMES_PER_CLIP
    seconds = clip_seconds(config, round(left * data.subjects), video, signals, frames=length, pixels=data.pixels,
                           emg=any("(emg" in channel for channel in data.channels))
    size = CLIP_SHARE * video_clip_bytes(config, length) * video + signal_bytes(config, data) * signals
    what = f"{left * data.clips:.0f} clips, {video:.0f} with video"
    return [Cost("preprocess", what, interval(seconds), size)]


def clip_seconds(config: Config, subjects: int, videos: float, signals: float, *, emg: bool,
                 frames: float = FRAMES_PER_CLIP, pixels: float = PIXELS_PER_FRAME) -> float:
    """Seconds until the clips of so many subjects are in the store, without the start of Ray: for the plan and for the run.

    frames, pixels: of a video and of its frames; those of BioVid where no video was opened."""
    each = FRAME_SECONDS + PIXEL_SECONDS * pixels + (CROP_SECONDS if config.frames == "all" else 0)
    workers = max(1, min(ray_session.cpus(config), subjects))
    work = videos * frames * each + signals * (EMD_SECONDS if emg else SIGNAL_SECONDS)
    return work / workers + (FACE_START if videos else FACE_START / 2)


def signal_bytes(config: Config, data: Fingerprint) -> float:
    """Bytes of one clip in its shard: float32 signals, and the metadata of the clip."""
    return 4.0 * int(config.signal.get("length", 400)) * data.n_channels + 1500


def _pretrain(config: Config, data: Fingerprint, speed: Speed, groups: Sequence[tuple[int, ...]], each: float,
              video: bool) -> list[Cost]:
    """Costs of the groups' encoders; both kinds are trained by the same workers, which start once."""
    clips, rows = each * sum(map(len, groups)), []
    if groups and video and not config.pretrain.checkpoint and not config.pretrain.given:
        seconds, passing, size = _video_mae(config, video_options(config), clips, speed)
        rows.append(Cost("pretrain", f"{len(groups)} video MAE ({config.encoder.name})", interval(seconds), size * len(groups),
                         passing * len(groups)))
    if groups and has_signal_encoder(config.model.name):
        options = signal_options(config, data.n_channels, int(config.signal.get("length", 400)))
        seconds, passing, size = _signal_mae(config, options, clips, speed)
        rows.append(Cost("pretrain", f"{len(groups)} signal MAE", interval(seconds), size * len(groups), passing * len(groups)))
    if rows:
        drawn = len(groups) if len(rows) > 1 or "video" in rows[0].what else 0
        ray = config.run.executor == "ray"
        rows.append(Cost("pretrain", ("starting Ray Train" if ray else "starting torch") + (", figures" if drawn else ""),
                         interval((TRAIN_START if ray else TORCH_START) + DRAWN_SECONDS * drawn), DRAWN_BYTES * drawn))
    return rows


def _video_mae(config: Config, video: dict, clips: float, speed: Speed) -> tuple[float, float, float]:
    """(seconds, bytes of one encoder while it is trained, bytes of it when it is done)."""
    options = config.pretrain.video
    work = flops.video_mae(video, float(options.get("mask_ratio", 0.9)))
    seen, ranks = clips * int(options.get("epochs", 200)), ranks_of(config, speed)
    seconds = seen * work.step / (MAE_SHARE * speed.rate * ranks) + seen / int(options.get("batch", 16)) * MAE_STEP_SECONDS
    seconds += clips * DECODE_SECONDS / ranks  # once: the workers keep them (pretrain.cache_mb)
    # weights and two moments, the critic's as well: two checkpoints and the one being written
    return seconds, 4 * 3 * 3 * (work.parameters + work.critic_parameters), 4.0 * work.parameters


def _signal_mae(config: Config, signal: dict, clips: float, speed: Speed) -> tuple[float, float, float]:
    options = config.pretrain.signal
    work = flops.signal_mae(signal)
    seen = clips * int(options.get("epochs", 100))
    seconds = 3 * seen * work.reconstruct / (SIGNAL_MAE_SHARE * speed.rate * ranks_of(config, speed))
    seconds += seen / int(options.get("batch", 64)) * SIGNAL_MAE_STEP_SECONDS
    return seconds, 9 * 4 * work.parameters + 4 * clips * signal["length"] * signal["n_channels"], 4.0 * work.parameters


def _embed(config: Config, data: Fingerprint, speed: Speed, groups: set, there: Finished) -> list[Cost]:
    """Every clip of the task through every encoder; groups of one public checkpoint share its tokens."""
    video = video_options(config)
    mae = flops.video_mae(video)
    encoders = 1 if config.pretrain.checkpoint or not groups else len(groups)
    passes = max(0, data.task_clips * encoders - there.tokens)
    if not passes:
        return []
    each_token = mae.dim + 4.0 if config.embed.dtype == "int8" else 2.0 * mae.dim
    what = f"{data.task_clips} clips x {encoders} encoders" + (f", {there.tokens} are finished" if there.tokens else "")
    untrained = 4.0 * mae.parameters if (config.pretrain.checkpoint or not groups) and not there.tokens else 0.0
    seconds = embedding(video, passes, speed) + TORCH_START
    return [Cost("embed", what, interval(seconds), math.prod(stored_shape(config, video)[0]) * each_token * passes + untrained)]


def training(config: Config, video: dict | None, signal: dict | None, films: int, signals: int,
             speed: Speed) -> tuple[float, float]:
    """(seconds, bytes on disk during training) of one encoder. films, signals: clips with video, with signals."""
    parts = []
    if video is not None:
        parts.append(_video_mae(config, video, films, speed))
    if signal is not None:
        parts.append(_signal_mae(config, signal, signals, speed))
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def embedding(video: dict, clips: int, speed: Speed) -> float:
    """Seconds of so many clips from the store through the encoder, without the start of the workers."""
    return clips * (flops.video_mae(video).encode / (ENCODER_SHARE * speed.rate) + DECODE_SECONDS) / speed.workers


def ranks_of(config: Config, speed: Speed) -> int:
    """Data-parallel workers of pretraining: the rule of make_encoders.py."""
    return config.pretrain.workers or (speed.workers if "GPU" in speed.name else min(2, speed.workers))


def interval(seconds: float) -> tuple[float, float]:
    return seconds / 1.5, seconds * 1.5


def middle(seconds: tuple[float, float]) -> float:
    """The central estimate of an interval: the geometric mean, since the ends may be orders of magnitude apart."""
    return math.sqrt(seconds[0] * seconds[1])


def total(spans: Sequence[tuple[float, float] | None]) -> tuple[float, float, float]:
    """(least, central estimate, most) of all that have an estimate."""
    known = [s for s in spans if s is not None]
    return sum(s[0] for s in known), sum(map(middle, known)), sum(s[1] for s in known)


def span(seconds: tuple[float, float] | tuple[float, float, float] | None) -> str:
    """"about 3.5 min (2.0 min to 6.0 min)": the central estimate and the interval."""
    if seconds is None:
        return "no estimate for this model"
    low, high = duration(seconds[0]), duration(seconds[-1])
    guess = duration(seconds[1] if len(seconds) == 3 else middle(seconds))
    return f"about {guess}" if low == high else f"about {guess} ({low} to {high})"


def size_text(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
