"""Rows of arrays (samples first) as batches of float32 tensors.

Shapes: n samples in an array, B batch.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

KEEP_BYTES = 512 << 20  # arrays up to this size as float32 are read and converted once, not in every epoch


class Batches:
    """Reads the rows of model.needs, and of the key padding mask "keep" if there is one: `take(positions)` -> (batch, rows).

    For a model with a `pool` (models.classifier.token_pool), tokens are pooled when they are read. "video" is stored as frames
    (n, T, H, W, 3) uint8 and read as (B, 3, T, H, W) in [0, 1]; a float array is taken as (n, 3, T, H, W).
    """

    def __init__(
        self,
        model: nn.Module,
        arrays: Mapping[str, np.ndarray],
        rows: np.ndarray,
        device: torch.device,
        keep_bytes: int | None = None,
    ):
        if not len(rows):
            raise ValueError("there are no rows to read")
        needs: frozenset[str] = model.needs  # type: ignore[assignment]
        missing = sorted(needs - set(arrays))
        if missing:
            raise ValueError(f"the model reads {sorted(needs)}, the arrays lack {missing}")
        self.arrays = {name: arrays[name] for name in sorted(needs | ({"keep"} & set(arrays)))}
        self.pool = getattr(model, "pool", None)
        self.device, self.rows, self.n = device, np.ascontiguousarray(rows), len(rows)
        keep_bytes = KEEP_BYTES if keep_bytes is None else keep_bytes
        self.row_index = torch.from_numpy(self.rows).to(device)
        self.kept: dict[str, Tensor] = {}
        for name in self.arrays:
            row_bytes = 4 * self._read(name, rows[:1]).numel()
            if row_bytes * self.n <= keep_bytes:
                self.kept[name] = self._read_all(name)
                keep_bytes -= row_bytes * self.n

    def _read_all(self, name: str) -> Tensor:
        first = self._read(name, self.rows[:1])
        kept = first.new_empty(self.n, *first.shape[1:])
        for start in range(0, self.n, 64):
            kept[start : start + 64] = self._read(name, self.rows[start : start + 64])
        return kept

    def _read(self, name: str, rows: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(self.arrays[name][rows]))
        if name == "video" and values.dtype == torch.uint8:
            values = values.permute(0, 4, 1, 2, 3).to(self.device, torch.float32) / 255
        values = values.to(self.device) if name == "keep" else values.to(self.device, torch.float32)
        return self.pool(values) if name == "tokens" and self.pool is not None else values

    def take(self, positions: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """The samples at these positions of `rows`: ({name: (B, ...)}, their rows (B,))."""
        index = torch.from_numpy(np.ascontiguousarray(positions)).to(self.device)
        batch = {
            name: self.kept[name][index] if name in self.kept else self._read(name, self.rows[positions])
            for name in self.arrays
        }
        return batch, self.row_index[index]
