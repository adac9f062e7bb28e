"""Times training steps of the run's own classifier on random clips: the seconds per clip on this machine, for any options."""

import time
from dataclasses import replace

import numpy as np

from models.errors import ModelError
from models.registry import find
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import SIGNALS, TOKENS, VIDEO, has_signal_encoder, is_estimator, needs
from orchestrator.errors import UserError
from orchestrator.estimate import flops
from orchestrator.estimate.costs import Speed
from orchestrator.estimate.data_fingerprint import Fingerprint
from orchestrator.evaluation import fold_data
from orchestrator.stores.encoder_store import video_options
from orchestrator.stores.token_store import stored_shape

LONGEST = 2.0  # seconds: a step that would take longer is estimated from its operations instead
TRIES = 3


def with_timed_step(speed: Speed, config: Config, data: Fingerprint) -> Speed:
    """The speed with `clip`, in processor time of one thread; unchanged without a network, or if it cannot be built."""
    name = config.model.name
    if is_estimator(name) or (SIGNALS <= needs(config) and not data.n_channels):
        return speed
    try:
        each = 3 * flops.classifier(config, data.n_channels, len(config.task.classes)) / (find(name).share * speed.rate)
        batch = min(int(config.train.get("batch_size", 32)), int(LONGEST / TRIES / each))
        return replace(speed, clip=_clip(config, data, batch)) if batch >= 2 else speed
    except (UserError, ModelError, ValueError, TypeError, KeyError, AssertionError, RuntimeError):
        return speed  # the model cannot be built with these options: the run reports why


def _clip(config: Config, data: Fingerprint, n: int) -> float:
    import torch

    from models.classifier.training import ClassifierRecipe, fit_classifier
    from orchestrator.evaluation.fit_fold import _classifier_recipe

    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: list[float] = []
    threads, rows, k = torch.get_num_threads(), np.arange(n), len(config.task.classes)
    torch.set_num_threads(1)
    try:
        model, arrays = _model(config, data, n)
        recipe = replace(_classifier_recipe(ClassifierRecipe, fold_data.recipe(config, False, False)), max_epochs=TRIES,
                         patience=TRIES + 1, batch_size=n)
        fit_classifier(model, arrays, rows % k, rows, val_rows=None, recipe=recipe, seed=0,
                       on_epoch=lambda row: times.append(clock()))
    finally:
        torch.set_num_threads(threads)
    return min(later - sooner for sooner, later in zip(times, times[1:], strict=False)) / n


def _model(config: Config, data: Fingerprint, n: int):
    """(the classifier as fit_fold builds it, arrays of n random clips)."""
    import torch

    from models import build

    rng, wanted = np.random.default_rng(0), needs(config)
    length, arrays, grid, width = int(config.signal.get("length", 400)), {}, (1, 1, 1), None
    if wanted & TOKENS:
        grid, width = stored_shape(config, video_options(config))
        arrays["tokens"] = rng.normal(size=(n, int(np.prod(grid)), width)).astype(np.float16)
    if wanted & SIGNALS:
        arrays["signals"] = rng.normal(size=(n, length, data.n_channels)).astype(np.float32)
    size = config.encoder.image_size
    if wanted & VIDEO:
        arrays["video"] = rng.integers(0, 256, (n, config.clip.frames, size, size, 3), np.uint8)
    options = {k: v for k, v in config.model.options().items() if k != "weights"}
    if has_signal_encoder(config.model.name):
        options["signal"] = {**config.smae, **(options.get("signal") or {})}
    with torch.random.fork_rng():
        model = build(config.model.name, n_classes=len(config.task.classes), token_dim=width, token_grid=grid,
                      n_channels=data.n_channels or None, signal_length=length if SIGNALS <= wanted else None,
                      frames=config.clip.frames, image_size=size, **options)
    return model.to("cuda") if torch.cuda.is_available() else model, arrays
