"""How many folds share a GPU: resources.folds_per_gpu, else as many as the first fold's peak memory allows."""

import math
import sys
from collections.abc import Mapping
from typing import Any

SAFE = 0.9  # of the card's memory: allocators fragment, and no fold is quite like the first
CONTEXT_MB = 600  # what CUDA itself takes in every process, which torch does not count
MOST = 16
ATTEMPTS = 3  # first folds that may fail before folds run one per GPU, without a measurement


class GpuShare:
    """Read before every chunk of trials, updated with every result. gpus: of the whole cluster; 0 requests none."""

    def __init__(self, wanted: int | None, gpus: int):
        self.per_gpu, self.gpus, self.attempts = wanted, gpus, ATTEMPTS

    @property
    def measuring(self) -> bool:
        """The next trial must run alone, because nothing is known about a fold's memory yet."""
        return self.gpus > 0 and self.per_gpu is None

    @property
    def fraction(self) -> float:
        """GPUs that a trial requests from Ray, rounded down to the 4 decimals that Ray keeps."""
        if not self.gpus:
            return 0
        return math.floor(1e4 / (self.per_gpu or 1)) / 1e4

    def learn(self, metrics: Mapping[str, Any]) -> None:
        """Use the report of a trial. If it ended without one (its worker was killed, for example), the next trial measures, at
        most ATTEMPTS times; without a report, or if the trial used no GPU, folds run one per GPU."""
        if not self.measuring:
            return
        if "user_error" in metrics or not self.attempts:
            peak, total = metrics.get("gpu_peak_mb"), metrics.get("gpu_total_mb")
            self.per_gpu = fitting(peak, total) if peak and total else 1
        else:
            self.attempts -= 1


def fitting(peak_mb: float, total_mb: float) -> int:
    """Folds of this peak that fit into a card together, at least 1."""
    return max(1, min(MOST, int(SAFE * total_mb / (peak_mb + CONTEXT_MB))))


def memory() -> dict[str, float]:
    """Of this process, after a fold: {"gpu_peak_mb", "gpu_total_mb"}; {} where it used no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    return {"gpu_peak_mb": torch.cuda.max_memory_reserved() / 2**20, "gpu_total_mb": torch.cuda.mem_get_info()[1] / 2**20}
