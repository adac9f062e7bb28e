"""Arrays of clips of which some rows can be read and no others."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RowsOnly:
    """An array (n, ...) that gives the `allowed` rows (n,) bool and raises RuntimeError at any other. Copies nothing."""

    inner: Any
    allowed: np.ndarray

    @classmethod
    def of(cls, inner: Any, rows: np.ndarray) -> "RowsOnly":
        allowed = np.zeros(len(inner), bool)
        allowed[rows] = True
        return cls(inner, allowed)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def dtype(self) -> np.dtype:
        return self.inner.dtype

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, rows) -> np.ndarray:
        if not self.allowed[rows].all():
            raise RuntimeError("a clip was read that this step of the fold must not see")
        return self.inner[rows]
