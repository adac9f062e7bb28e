"""Comparison of two runs on the same subjects: paired tests, correction for multiple comparisons, effect size and power.

All functions take d (P,), the difference of the two runs' accuracies for each subject, seeds averaged first.
"""

import numpy as np
import scipy  # which imports its parts when they are used
from numpy.typing import ArrayLike

EXACT_UP_TO = 20  # subjects with a difference: up to 2^20 sign patterns are enumerated


def _differences(d: ArrayLike) -> np.ndarray:
    """As floats without rounding errors, so that 0.7 - 0.6 equals 0.1."""
    return np.round(np.asarray(d, dtype=float), 12)


def sign_flip(d: ArrayLike, draws: int = 100_000, seed: int = 0) -> tuple[float, str]:
    """Two-sided sign-flip (permutation) test of mean difference 0: p value and "exact" or "monte carlo".

    Exact over all 2^m patterns for m <= 20 non-zero differences (a zero has no sign to flip). Otherwise `draws`
    random patterns, with the observed one counted in: p = (1 + hits) / (1 + draws), never 0 (Phipson & Smyth 2010).
    """
    nonzero = _differences(d)
    nonzero = nonzero[nonzero != 0]
    observed = abs(nonzero.sum()) - 1e-9
    if nonzero.size <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in nonzero:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= observed).mean()), "exact"
    rng, hits = np.random.default_rng(seed), 0
    for start in range(0, draws, 10_000):
        signs = rng.choice([-1.0, 1.0], size=(min(10_000, draws - start), nonzero.size))
        hits += int((np.abs(signs @ nonzero) >= observed).sum())
    return (1 + hits) / (1 + draws), "monte carlo"


def wilcoxon(d: ArrayLike) -> float:
    """Two-sided signed-rank test, zeros dropped (scipy chooses exact or normal); 1 if no subject differs."""
    differences = _differences(d)
    return float(scipy.stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's (1979) step-down adjusted p values, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def cohen_dz(d: ArrayLike) -> float | None:
    """Mean difference over the standard deviation (ddof 1) of the differences; None if that is 0."""
    differences = _differences(d)
    spread = differences.std(ddof=1) if differences.size > 1 else 0.0
    return float(differences.mean() / spread) if spread > 0 else None


def power(dz: float, n: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test for a true effect dz with n subjects (non-central t)."""
    critical, shift = scipy.stats.t.ppf(1 - alpha / 2, n - 1), dz * np.sqrt(n)
    wrong_side = np.nan_to_num(scipy.stats.nct.cdf(-critical, n - 1, shift))  # scipy gives NaN below 1e-40
    return float(scipy.stats.nct.sf(critical, n - 1, shift) + wrong_side)


def one_sided_bounds(d: ArrayLike, level: float = 0.95, inflated: float = 1.0) -> tuple[float, float] | None:
    """The lower and the upper one-sided Student bound of the mean, each at `level`; None for fewer than 2 subjects.

    Two one-sided tests against a margin (Schuirmann 1987) at 1 - level: the mean is above -margin if the lower bound is, and
    below the margin if the upper bound is; both together mean equivalence. inflated: the variance of the mean relative to that
    of independent subjects (chance.inflation).
    """
    differences = _differences(d)
    if differences.size < 2:
        return None
    half = scipy.stats.t.ppf(level, differences.size - 1) * differences.std(ddof=1) * np.sqrt(inflated / differences.size)
    return float(differences.mean() - half), float(differences.mean() + half)


def smallest_dz(n: int, wanted: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest effect size dz that n subjects detect with the wanted power; None for fewer than 3 subjects."""
    if n < 3:
        return None
    highest = (2 * scipy.stats.t.ppf(1 - alpha / 2, n - 1) + 2) / np.sqrt(n)
    return float(scipy.optimize.brentq(lambda dz: power(dz, n, alpha) - wanted, 1e-6, highest))


def smallest_gap(d: ArrayLike, wanted: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest true mean difference that a t test on these subjects detects with the wanted power, given their standard
    deviation; None if it is 0, or if there are too few subjects for the sign-flip test to reach alpha."""
    differences = _differences(d)
    if 2.0 ** (1 - differences.size) > alpha or np.ptp(differences) == 0:
        return None
    dz = smallest_dz(differences.size, wanted, alpha)
    return dz * float(differences.std(ddof=1)) if dz is not None else None
