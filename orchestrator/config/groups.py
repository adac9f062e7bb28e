"""The groups of experiments/ and what each holds. Imports nothing, so that --help answers at once."""

from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
GROUPS = ("dataset", "task", "model", "encoder", "protocol", "split", "pretrain", "experiment")


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (EXPERIMENTS / group).glob("*.yaml"))
