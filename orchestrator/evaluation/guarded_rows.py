"""Lazy views of clip arrays that control how rows are read."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """A lazy view of an array (n, ...) in memory or on disk; subclasses define how rows are read. Copies nothing."""

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
    """Returns the `allowed` rows (n,) bool and raises RuntimeError for any other row."""

    allowed: np.ndarray

    @classmethod
    def of(cls, inner: Any, rows: np.ndarray) -> "RowsOnly":
        allowed = np.zeros(len(inner), bool)
        allowed[rows] = True
        return cls(inner, allowed)

    def __getitem__(self, rows) -> np.ndarray:
        if not self.allowed[rows].all():
            raise RuntimeError("a clip was read that must not be used in this step of the fold")
        return self.inner[rows]
