"""The groups of experiments/ and what each holds. It imports only the registers, which are light, so that --help is fast."""

from pathlib import Path
from typing import Any

from models.registry import MODELS
from orchestrator.config.split_register import SPLITS
from preprocessing.datasets.registry import SOURCES

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
GROUPS = ("dataset", "task", "model", "encoder", "protocol", "split", "pretrain", "experiment")


def choices(group: str) -> list[str]:
    """What a group offers: its files, and what the registers name."""
    return sorted({path.stem for path in (EXPERIMENTS / group).glob("*.yaml")} | set(registered(group)))


def registered(group: str) -> dict[str, dict[str, Any]]:
    """The entries of a group's register that have no file in experiments/, by name, in the form of Hydra."""
    nodes: dict[str, dict[str, Any]] = {}
    if group == "model":
        nodes = {name: {"name": name, **model.settings} for name, model in MODELS.items()}
    elif group == "dataset":
        nodes = {name: {"defaults": [{"override /task": source.task}, {"override /model": source.model}], "dataset": name,
                        **source.settings} for name, source in SOURCES.items()}
    elif group == "split":
        nodes = {name: {"name": name, **split.options} for name, split in SPLITS.items()}
    return {name: node for name, node in nodes.items() if not (EXPERIMENTS / group / f"{name}.yaml").exists()}
