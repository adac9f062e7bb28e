"""Ridge regression from sums that can be merged: all leave-one-subject-out fits take little more time than one fit.

Shapes: n samples, F features, K outputs, P subjects.

The samples of a subject enter as their count, means and centred products; sums of two sets can be merged (Chan, Golub and
LeVeque 1983). The sums over all subjects but one merge those before and those after it, in fixed order: no total ever
contains the held-out subject, so none of its rounding errors remain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve


@dataclass(frozen=True, eq=False)
class Sums:
    """n; means mean_x (F,), mean_y (K,); centred products xx (F, F), xy (F, K), all float64."""

    n: int
    mean_x: np.ndarray
    mean_y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Sums":
        """The sums of samples x (n, F) with outputs y (n, K). ValueError without samples."""
        if len(x) == 0 or len(x) != len(y):
            raise ValueError(f"sums need at least one sample, and one output per sample: {x.shape}, {y.shape}")
        mean_x, mean_y = x.mean(0), y.mean(0)
        centred = x - mean_x
        return cls(len(x), mean_x, mean_y, centred.T @ centred, centred.T @ (y - mean_y))


def merge(a: Sums, b: Sums) -> Sums:
    """The sums of both sets together."""
    n = a.n + b.n
    dx, dy, weight = b.mean_x - a.mean_x, b.mean_y - a.mean_y, a.n * b.n / n
    return Sums(n, a.mean_x + dx * (b.n / n), a.mean_y + dy * (b.n / n), a.xx + b.xx + weight * np.outer(dx, dx),
                a.xy + b.xy + weight * np.outer(dx, dy))


def merge_all(parts: Sequence[Sums]) -> Sums:
    """Left to right."""
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    return total


def leave_one_out_sums(parts: Sequence[Sums]) -> Iterator[Sums]:
    """For each part the sums of all others: those before it merged with those after it.

    3 P merges; the P sums of the later parts are kept in memory (8 F^2 bytes each). ValueError for fewer than two parts.
    """
    if len(parts) < 2:
        raise ValueError("leaving one subject out needs at least two subjects")
    after: list[Sums] = [parts[-1]]
    for part in reversed(parts[1:-1]):
        after.append(merge(part, after[-1]))
    before: Sums | None = None
    for part in parts:
        rest = after.pop() if after else None
        yield merge(before, rest) if before and rest else before or rest  # type: ignore[misc]
        before = part if before is None else merge(before, part)


@dataclass(frozen=True, eq=False)
class Linear:
    """y = ((x - mean) / scale) coef^T + intercept. mean, scale (F,), coef (K, F), intercept (K,)."""

    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, F) -> (n, K)."""
        return ((x - self.mean) / self.scale) @ self.coef.T + self.intercept


def solve(sums: Sums, alpha: float) -> Linear:
    """Ridge on features standardised with mean and standard deviation (ddof 0); the intercept is not penalised.

    A feature that does not vary beyond rounding has scale 1, as in scikit-learn's StandardScaler.
    """
    variance = np.diag(sums.xx) / sums.n
    eps = np.finfo(float).eps
    constant = variance <= sums.n * eps * variance + (sums.n * sums.mean_x * eps) ** 2
    scale = np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))
    gram = sums.xx / np.outer(scale, scale)
    gram[np.diag_indices_from(gram)] += alpha
    coef = cho_solve(cho_factor(gram, lower=True, overwrite_a=True), sums.xy / scale[:, None]).T
    return Linear(sums.mean_x, scale, coef, sums.mean_y)


def leave_one_out(x: np.ndarray, y: np.ndarray, subjects: np.ndarray, alpha: float = 1.0) -> Iterator[tuple[int, Linear]]:
    """(subject, ridge fitted on all other subjects) in ascending order. x (n, F), y (n, K), subjects (n,)."""
    names = np.unique(subjects)
    parts = [Sums.of(x[subjects == name], y[subjects == name]) for name in names]
    for name, sums in zip(names.tolist(), leave_one_out_sums(parts), strict=True):
        yield name, solve(sums, alpha)
