"""Arrays of clips whose rows are watched as they are read."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """An array (n, ...), in memory or on disk, seen through what a subclass makes of reading its rows. Copies nothing."""

    inner: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def dtype(self) -> np.dtype:
        return self.inner.dtype

    def __len__(self) -> int:
        return len(self.inner)


@dataclass(frozen=True)
class RowsOnly(Rows):
    """Gives the `allowed` rows (n,) bool and raises RuntimeError at any other."""

    allowed: np.ndarray

    @classmethod
    def of(cls, inner: Any, rows: np.ndarray) -> "RowsOnly":
        allowed = np.zeros(len(inner), bool)
        allowed[rows] = True
        return cls(inner, allowed)

    def __getitem__(self, rows) -> np.ndarray:
        if not self.allowed[rows].all():
            raise RuntimeError("a clip was read that this step of the fold must not see")
        return self.inner[rows]
