"""Stage 2 training without Ray: one classifier, one set of training rows, one seed (paper: "Training").

Shapes: n samples in an array, B batch, K classes.

The result depends only on (model weights, arrays, rows, recipe, seed): the order of the samples depends on (seed, epoch),
dropout on (seed, step), and the random state of the caller is neither used nor changed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from models.classifier.augment import SignalAugmentation, augment
from models.classifier.batches import Batches
from models.classifier.flat_parameters import FlatParameters

Arrays = Mapping[str, np.ndarray]
EpochReport = Callable[[dict[str, Any]], None]
# Stopping rule of the paper's released code: the learning rate is halved when the training loss has not fallen for more than
# 7 epochs, and training ends when the rate reaches 1e-6.
PLATEAU_FACTOR, PLATEAU_PATIENCE, LEAST_RATE = 0.5, 7, 1e-6


@dataclass(frozen=True)
class ClassifierRecipe(SignalAugmentation):
    """Training options of stage 2. Training stops after `patience` epochs without an improvement of `monitor`.

    stop="rate" stops as the paper's released code does instead: the learning rates are halved on a plateau of the training
    loss, and training ends when they have fallen to 1e-6. Then `patience` and `plateau` have no effect.
    signal_*: augmentation of the training signals (models.classifier.augment.SignalAugmentation); the paper has none.
    lr_signal: learning rate of the signal encoder, None: as the others; grad_clip: bound on the norm of the gradient.
    """

    optimizer: Literal["radam", "adam", "adamw"] = "radam"
    lr: float = 1e-3
    lr_signal: float | None = None
    batch_size: int = 32
    max_epochs: int = 200
    patience: int = 10
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    stop: Literal["patience", "rate"] = "patience"
    grad_clip: float | None = None
    lr_decay: float = 1.0  # the rates are multiplied by this after every epoch
    lr_schedule: Literal["constant", "cosine"] = "constant"  # cosine: in addition, half a cosine down to 0 over max_epochs
    plateau: bool = False  # halve the rates after `patience // 2` epochs without improvement
    weight_decay: float = 0.0
    label_smoothing: float = 0.0


@dataclass
class Fit:
    """`epochs`: the chosen number of epochs, from 1; `best`: the monitored value there (the training loss in a refit)."""

    epochs: int
    best: float
    history: list[dict[str, Any]] = field(default_factory=list)


def fit_classifier(
    model: nn.Module,
    arrays: Arrays,
    labels: np.ndarray,
    train_rows: np.ndarray,
    val_rows: np.ndarray | None,
    recipe: ClassifierRecipe,
    seed: int,
    on_epoch: EpochReport | None = None,
) -> Fit:
    """Train the model in place. With `val_rows` the weights of the best epoch are restored; without, all max_epochs are run.

    arrays: samples first, one entry for each of model.needs, e.g. "tokens" (n, N, D) float16, "signals" (n, L, C)
    float32; read-only memory maps are fine. labels: (n,) integers. `on_epoch` may raise an exception to stop.
    Raises ValueError on fewer than two training rows, overlapping rows, or an unknown option.
    """
    train_rows, val_rows = check_rows(arrays, labels, train_rows, val_rows)
    if recipe.monitor not in ("val_loss", "val_accuracy"):
        raise ValueError(f"unknown monitor: {recipe.monitor!r}")
    if recipe.lr_schedule not in ("constant", "cosine"):
        raise ValueError(f"unknown lr_schedule: {recipe.lr_schedule!r}")
    if recipe.stop not in ("patience", "rate"):
        raise ValueError(f"unknown stop: {recipe.stop!r}")
    if recipe.batch_size < 2 or recipe.max_epochs < 1:
        raise ValueError(f"batch_size must be 2 or more and max_epochs 1 or more: {recipe}")
    device = next(model.parameters()).device
    train = Batches(model, arrays, train_rows, device)
    val = Batches(model, arrays, val_rows, device) if val_rows is not None else None
    target = torch.as_tensor(np.asarray(labels), dtype=torch.long, device=device)
    history: list[dict[str, Any]] = []
    best, best_epoch, best_state = math.inf, 0, None
    flat, optimizer = build_optimizer(model, recipe)
    by_rate = ReduceLROnPlateau(optimizer, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE) if recipe.stop == "rate" else None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for epoch in range(1, recipe.max_epochs + 1):
                torch.manual_seed(dropout_seed(seed, epoch))
                row: dict[str, Any] = {"epoch": epoch, "lr": optimizer.param_groups[0]["lr"]}
                order = shuffled(len(train_rows), seed, epoch)
                row.update(train_epoch(model, train, target, optimizer, recipe, order))
                if not math.isfinite(row["train_loss"]):
                    raise FloatingPointError(f"the training loss is not finite in epoch {epoch}: lower train.lr")
                if val is not None:
                    row.update(evaluate(model, val, target))
                    if not math.isfinite(row["val_loss"]):
                        raise FloatingPointError(f"the validation loss is not finite in epoch {epoch}: lower train.lr")
                history.append(row)
                score = monitored(row, recipe, val is not None)
                if val is None or score < best:
                    best, best_epoch = score, epoch
                    best_state = None if val is None else snapshot(model)
                if on_epoch is not None:
                    on_epoch(dict(row))
                waited = epoch - best_epoch
                if by_rate is not None:
                    by_rate.step(row["train_loss"])
                    if val is not None and max(group["lr"] for group in optimizer.param_groups) <= LEAST_RATE:
                        break
                elif waited >= recipe.patience:
                    break
                stuck = by_rate is None and recipe.plateau and waited and waited % max(recipe.patience // 2, 1) == 0
                for group in optimizer.param_groups:
                    group["lr"] *= recipe.lr_decay * (0.5 if stuck else 1.0) * cosine_step(recipe, epoch)
    finally:
        for parameters in flat:
            parameters.release()
    if best_state is not None:
        model.load_state_dict(best_state)
    model.eval()
    return Fit(best_epoch, -best if recipe.monitor == "val_accuracy" and val is not None else best, history)


def monitored(row: dict[str, Any], recipe: ClassifierRecipe, validated: bool) -> float:
    """The value to be minimised: validation loss, negative validation accuracy, or in a refit the training loss."""
    if not validated:
        return row["train_loss"]
    return -row["val_accuracy"] if recipe.monitor == "val_accuracy" else row["val_loss"]


def cosine_step(recipe: ClassifierRecipe, epoch: int) -> float:
    """Ratio of the cosine schedule's rate in the next epoch to that in this one, counted from 1."""
    if recipe.lr_schedule == "constant":
        return 1.0
    now, after = (1 + math.cos(math.pi * done / recipe.max_epochs) for done in (epoch - 1, epoch))
    return after / now


def dropout_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def check_rows(
    arrays: Arrays, labels: np.ndarray, train_rows: np.ndarray, val_rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Both lists as int64; ValueError for too few or overlapping rows, or arrays and labels of different lengths."""
    train_rows = np.asarray(train_rows, dtype=np.int64)
    val_rows = None if val_rows is None else np.asarray(val_rows, dtype=np.int64)
    if len(train_rows) < 2:
        raise ValueError(f"training needs at least two rows, got {len(train_rows)}")
    if val_rows is not None and (len(val_rows) == 0 or np.intersect1d(train_rows, val_rows).size):
        raise ValueError("there must be validation rows, and none of them may be a training row")
    lengths = {name: len(array) for name, array in arrays.items()}
    if any(length != len(labels) for length in lengths.values()):
        raise ValueError(f"arrays and labels differ in length: {lengths}, labels {len(labels)}")
    return train_rows, val_rows


def shuffled(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of n samples in one epoch: a pure function of (n, seed, epoch)."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n)


def spans(n: int, batch_size: int) -> Iterator[slice]:
    """Consecutive batches; a last batch of a single sample is added to the one before, since BatchNorm cannot use it."""
    start = 0
    while start < n:
        stop = min(start + batch_size, n)
        if n - stop == 1:
            stop = n
        yield slice(start, stop)
        start = stop


def build_optimizer(
    model: nn.Module, recipe: ClassifierRecipe
) -> tuple[list[FlatParameters], torch.optim.Optimizer]:
    """The optimiser over one vector for the model and one for its signal encoder, if it has one."""
    kinds = {"radam": torch.optim.RAdam, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if recipe.optimizer not in kinds:
        raise ValueError(f"unknown optimizer: {recipe.optimizer!r}")
    encoder = getattr(model, "signal_encoder", None)
    own = [p for p in encoder.parameters() if p.requires_grad] if isinstance(encoder, nn.Module) else []
    special = {id(p) for p in own}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
    flat, groups = [], []
    for parameters, lr in ((rest, recipe.lr), (own, recipe.lr if recipe.lr_signal is None else recipe.lr_signal)):
        if parameters:
            flat.append(FlatParameters(parameters))
            groups.append({"params": [flat[-1].vector], "lr": lr})
    return flat, kinds[recipe.optimizer](groups, lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=False)


def train_epoch(
    model: nn.Module,
    batches: Batches,
    target: Tensor,
    optimizer: torch.optim.Optimizer,
    recipe: ClassifierRecipe,
    order: np.ndarray,
) -> dict[str, float]:
    """One pass over the training rows in the given order: {"train_loss", "train_accuracy"} of the weights during the pass."""
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=target.device)
    correct = torch.zeros((), dtype=torch.int64, device=target.device)
    vectors = [p for group in optimizer.param_groups for p in group["params"]]
    for span in spans(len(order), recipe.batch_size):
        batch, rows = batches.take(order[span])
        if "signals" in batch:
            batch["signals"] = augment(batch["signals"], recipe)
        logits_BK = model(batch)
        target_B = target[rows]
        loss = F.cross_entropy(logits_BK, target_B, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=False)  # the gradients are views and must stay where they are
        loss.backward()
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(vectors, recipe.grad_clip)
        optimizer.step()
        total += loss.detach() * len(target_B)
        correct += (logits_BK.detach().argmax(-1) == target_B).sum()
    return {"train_loss": float(total) / len(order), "train_accuracy": int(correct) / len(order)}


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches, target: Tensor) -> dict[str, float]:
    """{"val_loss", "val_accuracy"} over all rows of `batches`, in eval mode; plain cross-entropy."""
    model.eval()
    total, correct, n = 0.0, 0, batches.n
    for start in range(0, n, 64):
        batch, rows = batches.take(np.arange(start, min(start + 64, n)))
        logits_BK = model(batch).double()
        total += float(F.cross_entropy(logits_BK, target[rows], reduction="sum"))
        correct += int((logits_BK.argmax(-1) == target[rows]).sum())
    return {"val_loss": total / n, "val_accuracy": correct / n}


@torch.no_grad()
def predict_proba(model: nn.Module, arrays: Arrays, rows: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Class probabilities (len(rows), K) float64 in eval mode; the mode of the model is restored."""
    rows = np.asarray(rows, dtype=np.int64)
    was_training = model.training
    model.eval()
    batches = Batches(model, arrays, rows, next(model.parameters()).device, keep_bytes=0)
    found = [
        model(batches.take(np.arange(start, min(start + batch_size, len(rows))))[0]).double().softmax(-1).cpu().numpy()
        for start in range(0, len(rows), batch_size)
    ]
    model.train(was_training)
    return np.concatenate(found)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
