"""What a run will cost: time and disk of every stage, before anything runs. "About" means within a factor of three.

Work is counted in floating-point operations (a multiply-add is two) by the formulas behind the cost table of the
design notes, and divided by the speed that a short matrix product shows on this machine;
times are for a machine that is free.
N tokens, D width, L layers, S signal steps, C channels.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator import session
from orchestrator.config import Config
from orchestrator.encoders import signal_options, video_options
from orchestrator.fingerprint import Fingerprint
from orchestrator.folds import Plan
from orchestrator.models_needed import ESTIMATORS, needs
from orchestrator.preprocess import FRAMES_PER_CLIP, SECONDS_PER_FRAME, SIGNAL_BYTES, video_clip_bytes

# Share of the matrix product's speed that each kind of network reached in processor time on one thread: encoder
# 0.4 (micro) to 0.8 (small), MAE step 0.5 to 0.7. Other machines and GPUs differ; that is the "about".
ENCODER_SHARE, MAE_SHARE, SIGNAL_MAE_SHARE = 0.75, 0.65, 0.24
CLASSIFIER_SHARE = {"dual": 0.17, "video": 0.11, "signal": 0.14, "signal_small": 0.4}
SYNTHETIC_SECONDS, SYNTHETIC_BYTES = 0.6, 600_000  # a clip: 640 x 480, 5.5 s, two signal tables
TRIAL_SECONDS = 0.4  # Tune's own time a fold
START_SECONDS = 15.0  # Ray, and torch in every worker


@dataclass(frozen=True)
class Cost:
    """seconds: (least, most), None where there is no estimate; size: bytes left on disk."""

    stage: str
    what: str
    seconds: tuple[float, float] | None
    size: float


@dataclass(frozen=True)
class Speed:
    """rate: operations a second of one worker; workers: how many such workers run side by side."""

    rate: float
    workers: int
    name: str


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
    return Speed(rate, session.cpus(config), f"{session.cpus(config)} cores")


def transformer(n: float, d: float, layers: int) -> float:
    """Forward pass of `layers` pre-LN blocks with a four times wider MLP over n tokens."""
    return layers * (24 * n * d * d + 4 * n * n * d)


def encoder(options: dict) -> tuple[float, float, int, int, int]:
    """(full forward, one MAE training step, tokens, width, parameters) of one clip through a video MAE.

    options: as in encoders.video_options. A step is three forward passes' worth of each half and the critic's nine.
    """
    from models.video_mae import SCALES

    preset = SCALES[options["scale"]]
    d, layers = options.get("dim") or preset.dim, options.get("depth") or preset.depth
    tubelet, patch = options.get("tubelet", 2), options.get("patch", 16)
    n = options["frames"] // tubelet * (options["image_size"] // patch) ** 2
    values = 3 * tubelet * patch * patch
    full = transformer(n, d, layers) + 2 * n * values * d
    visible = options.get("visible", 0.1) * n
    width = options.get("decoder_dim") or d // 2
    depth = preset.decoder_depth if options.get("decoder_depth") is None else options["decoder_depth"]
    seen = transformer(visible, d, layers) + 2 * visible * values * d
    painted = transformer(n, width, depth) + 2 * visible * d * width + 2 * (n - visible) * width * values
    critic = 2 * (n - visible) * values * 2 * d
    parameters = 12 * (layers * d * d + depth * width * width) + values * (d + width) + d * width
    return full, 3 * (seen + painted) + 9 * critic, n, d, parameters


def hpa(n: float, width: float, options: dict) -> float:
    """Forward pass of the hybrid attention block with its convolutional embedding (kernel 8)."""
    filters, emb, ff = options.get("filters", 64), options.get("emb", 16), options.get("ff", 256)
    return 2 * n * width * filters * (options.get("kernel", 8) + emb) + 4 * n * n * emb + 4 * n * emb * ff


def dcan(n: float, s: float, options: dict) -> float:
    """Forward pass of the co-attention: affinities both ways, and the fusion MLPs of both streams."""
    d, hidden = options.get("dim", 128), options.get("hidden", 512)
    return options.get("layers", 2) * (6 * n * s * d + 2 * n * d * d + 6 * (n + s) * d * hidden)


def signal_mae(options: dict, decoder: bool = False) -> tuple[float, int]:
    """(forward pass of E_ts, or of E_ts and D_ts; tokens)."""
    stride = -(-options["length"] // options.get("max_tokens", 50)) if options.get("tokenizer") == "conv" else 1
    n, d = -(-options["length"] // stride), options.get("dim", 64)
    layer = n * (8 * d * d + 4 * d * options.get("ff", 128)) + 4 * n * n * d
    return layer * (options.get("depth", 3) + (options.get("decoder_depth", 3) if decoder else 0)), n


def classifier(config: Config, n_channels: int) -> float | None:
    """Forward pass of one clip through the chosen model; None where no formula is kept (the baselines)."""
    name, given = config.model.name, config.model.options()
    if name not in CLASSIFIER_SHARE:
        return None
    flops, lengths = 0.0, list[int]()
    if name in ("dual", "video"):
        _, _, n, d, _ = encoder(video_options(config))
        n = _pooled(config, n)
        flops += hpa(n, d, dict(given.get("hpa") or {}))
        lengths.append(n)
    if name != "video":
        options = signal_options(config, n_channels, int(config.signal.get("length", 400)))
        work, n = signal_mae(options)
        flops += work + (hpa(n, options.get("dim", 64), dict(given.get("hpa") or {})) if given.get("use_hpa", True) else 0.0)
        lengths.append(n)
    if len(lengths) == 2:
        flops += dcan(lengths[0], lengths[1], dict(given.get("dcan") or {}))
    return flops


def _pooled(config: Config, n: int) -> int:
    frames = config.clip.frames // int(video_options(config).get("tubelet", 2))
    return {"none": n, "2x2": n // 4, "temporal": frames}[config.embed.pool]


def forecast(config: Config, data: Fingerprint, plans: Sequence[Plan], speed: Speed) -> list[Cost]:
    """Every stage from an empty store. plans: one for each protocol that runs."""
    wanted = needs(config)
    each = data.clips / max(1, data.people)
    groups = {group.subjects for plan in plans for group in plan.groups}
    rows = [*_data(config, data), _preprocess(config, data)]
    if groups and config.model.name in ("dual", "signal", "signal_small"):
        options = signal_options(config, data.n_channels, int(config.signal.get("length", 400)))
        seen = each * sum(map(len, groups)) * int(config.pretrain.signal.get("epochs", 100))
        seconds = 3 * seen * signal_mae(options, decoder=True)[0] / (SIGNAL_MAE_SHARE * speed.rate * _ranks(config, speed))
        rows.append(Cost("pretrain", f"{len(groups)} signal MAE", twice(seconds), 400_000 * len(groups)))
    if "tokens" in wanted:
        rows += _video(config, data, speed, groups, each)
    rows.append(_folds(config, data, plans, speed))
    return rows


def _data(config: Config, data: Fingerprint) -> list[Cost]:
    if not data.planned:
        return []
    area = config.synthetic.size[0] * config.synthetic.size[1] / (640 * 480)
    seconds = SYNTHETIC_SECONDS * area * data.clips / session.cpus(config)
    return [Cost("synthetic", f"{data.clips} clips written", twice(seconds), SYNTHETIC_BYTES * area * data.clips)]


def _preprocess(config: Config, data: Fingerprint) -> Cost:
    """Decoding and faces; the constant is for 1388 x 1038, so smaller pictures are quicker."""
    frames = (data.frames_per_clip or FRAMES_PER_CLIP) * data.with_video
    seconds = (frames * SECONDS_PER_FRAME + 0.03 * data.with_signal) / session.cpus(config) + START_SECONDS
    each = video_clip_bytes(config, data.frames_per_clip or FRAMES_PER_CLIP)
    size = each * data.with_video + SIGNAL_BYTES * (data.clips - data.with_video)
    return Cost("preprocess", f"{data.clips} clips, {data.with_video} with video", (seconds / 3, seconds), size)


def _video(config: Config, data: Fingerprint, speed: Speed, groups: set, each: float) -> list[Cost]:
    ratio = float(config.pretrain.video.get("mask_ratio", 0.9))
    _, step, n, d, parameters = encoder({**video_options(config), "visible": 1 - ratio})
    rows = []
    if groups and not config.pretrain.checkpoint:
        seen = each * sum(map(len, groups)) * int(config.pretrain.video.get("epochs", 200))
        seconds = seen * step / (MAE_SHARE * speed.rate * _ranks(config, speed)) + START_SECONDS
        rows.append(Cost("pretrain", f"{len(groups)} video MAE ({config.encoder.name})", twice(seconds),
                         4 * parameters * len(groups)))
    encoders = max(1, len(groups))
    passes = data.task_clips * encoders * config.embed.views
    each_token = d + 4.0 if config.embed.dtype == "int8" else 2.0 * d
    views = f" x {config.embed.views} views" if config.embed.views > 1 else ""
    rows.append(Cost("embed", f"{data.task_clips} clips x {encoders} encoders{views}",
                     twice(embedding(video_options(config), passes, speed) + START_SECONDS),
                     _pooled(config, n) * each_token * passes))
    return rows


def _folds(config: Config, data: Fingerprint, plans: Sequence[Plan], speed: Speed) -> Cost:
    """Least: every fold stops as early as it may; most: it uses every epoch."""
    each = data.task_clips / max(1, data.people)
    runs = [(fold, plan) for plan in plans for fold in plan.folds]
    size = 20_000.0 * len(runs) + 200 * each * len(runs) + 3_000_000
    what = f"{len(runs)} folds of {config.model.name}"
    if config.model.name in ESTIMATORS:
        return Cost("loso", what, (START_SECONDS, START_SECONDS + 10 * len(runs)), size)
    work = classifier(config, data.n_channels)
    if work is None:
        return Cost("loso", what, None, size)
    most = int(config.train.get("max_epochs", 200))
    least = min(most, int(config.train.get("patience", 10)) + 1)
    passes = sum(each * (len(fold.train) * (2 if plan.refit else 1) + len(fold.val) / 3) for fold, plan in runs)
    epoch = 3 * passes * work / (CLASSIFIER_SHARE[config.model.name] * speed.rate * speed.workers)
    fixed = START_SECONDS + TRIAL_SECONDS * len(runs) / session.cpus(config)
    return Cost("loso", what, (fixed + epoch * least, fixed + epoch * most), size)


def training(config: Config, video: dict | None, signal: dict | None, films: int, signals: int,
             speed: Speed) -> tuple[float, float]:
    """(seconds, bytes on disk while it goes on) of one encoder. films, signals: clips with video, with signals."""
    seconds, size, rate = 0.0, 0.0, speed.rate * _ranks(config, speed)
    if video is not None:
        options = config.pretrain.video
        _, step, _, d, parameters = encoder({**video, "visible": 1 - float(options.get("mask_ratio", 0.9))})
        values = 3 * video.get("tubelet", 2) * video.get("patch", 16) ** 2
        seconds += films * int(options["epochs"]) * step / (MAE_SHARE * rate)
        size += 4 * 3 * 3 * (parameters + 2 * d * values)  # weights and two moments, two checkpoints and the one in writing
    if signal is not None:
        seconds += 3 * signals * int(config.pretrain.signal["epochs"]) * signal_mae(signal, decoder=True)[0] / (
            SIGNAL_MAE_SHARE * rate)
        size += 9 * 400_000 + 4 * signals * signal["length"] * signal["n_channels"]
    return seconds, size


def embedding(video: dict, clips: int, speed: Speed) -> float:
    """Seconds of so many clips (views counted) through the encoder, without the start of the workers."""
    return clips * encoder(video)[0] / (ENCODER_SHARE * speed.rate * speed.workers)


def _ranks(config: Config, speed: Speed) -> int:
    """Data-parallel workers of pretraining: the rule of pretrain.py."""
    return config.pretrain.workers or (speed.workers if "GPU" in speed.name else min(2, speed.workers))


def twice(seconds: float) -> tuple[float, float]:
    return seconds / 1.5, seconds * 1.5


def duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def span(seconds: tuple[float, float] | None) -> str:
    if seconds is None:
        return "no estimate for this model"
    low, high = duration(seconds[0]), duration(seconds[1])
    return f"about {low}" if low == high else f"about {low} to {high}"


def size_text(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
