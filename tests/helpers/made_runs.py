"""Ledgers made up for tests: people of different skill, calibrated-looking probabilities, a few lost clips."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any

import numpy as np

from orchestrator.scores.fold_result import FoldResult


def words_of(block) -> str:
    """Every text of a block of the report (reporting/blocks.py), drawings aside; "" for None."""
    if isinstance(block, str):
        return block
    if is_dataclass(block):
        return " ".join(words_of(getattr(block, field.name)) for field in fields(block) if field.name != "svg")
    if isinstance(block, Sequence):
        return " ".join(map(words_of, block))
    return "" if block is None else str(block)


def pseudonym(index: int) -> str:
    return hashlib.sha256(f"person {index}".encode()).hexdigest()[:12]


def results(value: Any) -> Any:
    """Entries of a ledger in it, as a list, a tuple or alone, read as the code reads them."""
    if isinstance(value, dict):
        return FoldResult.from_json(value) if {"fold", "train_subjects"} <= set(value) else value
    return type(value)(map(results, value)) if isinstance(value, list | tuple) else value


def takes_entries(function: Callable) -> Callable:
    """The function, called with entries of a ledger where it takes results of folds."""
    @wraps(function)
    def call(*given: Any, **more: Any) -> Any:
        return function(*map(results, given), **{name: results(value) for name, value in more.items()})
    return call


def made_fold(fold, seed, subject, y_true, y_pred, prob, train, val, lost=None, **more):
    lost = lost or {}
    rows = [{"sample": f"{subject}-{i:03d}", "subject": subject, "y_true": int(t), "y_pred": int(p),
             "prob": [float(x) for x in q]} for i, (t, p, q) in enumerate(zip(y_true, y_pred, prob, strict=True))]
    digest = hashlib.sha256(f"{fold} {seed}".encode()).hexdigest()
    return {"fold": fold, "seed": seed, "subject": subject, "checksum": digest, "n_test": len(rows),
            "n_quarantined": sum(lost.values()), "quarantined_by_class": lost, "epochs": 7, "train_subjects": train,
            "val_subjects": val, "scaler_sha256": digest, "encoder_sha256": f"{fold % 2:064d}",
            "weights_sha256": digest, "test_openings": 1, "wall_s": 1.5, "peak_memory_mb": 100.0,
            "selection": {"val_loss": 0.5}, "train_label_counts": [10 * len(train) + 1, 10 * len(train)],
            "predictions": rows, "warnings": []} | more


def made_run(n_people=8, n_clips=16, seeds=(0,), classes=("BL1", "PA4"), skill=1.2, chooser=0, **more):
    """(run, folds): leave-one-subject-out. skill is the mean shift of a Gaussian score, 0 is chance."""
    rng, K = np.random.default_rng(chooser), len(classes)
    names = [pseudonym(i) for i in range(n_people)]
    own = np.maximum(rng.normal(skill, 0.5 * skill, n_people), 0)
    folds = []
    for seed in seeds:
        for i, name in enumerate(names):
            truth = np.repeat(np.arange(K), n_clips // K)
            scores = rng.normal(size=(len(truth), K)) + own[i] * np.eye(K)[truth]
            prob = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            others = [n for n in names if n != name]
            val = [others[(i + j + seed) % len(others)] for j in range(2)]
            train = [n for n in others if n not in val]
            lost = {classes[-1]: 2} if i == 1 else {}
            counts = [10 * len(train) + 1] + [10 * len(train)] * (K - 1)
            folds.append(made_fold(i, seed, name, truth, prob.argmax(1), prob, train, val, lost,
                                   train_label_counts=counts))
    run = {"dataset": "synthetic", "task": "bl_pa4", "class_names": list(classes), "model": "dual",
           "encoder": "vit_micro", "n_parameters": 123456, "protocol": "clean", "leaky": False, "unproven": False,
           "partial": False, "n_subjects": n_people, "n_planned": n_people * len(seeds), "n_failed": 0, "failed_folds": [],
           "seeds": list(seeds), "wall_s": 83.2, "versions": {"python": "3.11", "torch": "2.14", "ray": "2.60"},
           "git_commit": "abcdef0", "dirty": False, "key_fingerprint": "feedc0de"}
    return run | more, folds
