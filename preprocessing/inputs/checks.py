"""Checks of option values. They raise ValueError that names the option; the configuration reader adds where it stands."""

import math
from collections.abc import Sequence
from typing import Any


def check_number(name: str, value: Any, least: float | None = None, most: float | None = None, above: float | None = None,
                 whole: bool = False) -> None:
    """Check for a finite number (no bool) within least..most and greater than `above`; `whole`: an integer."""
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
    if right and (least is None or value >= least) and (most is None or value <= most) and (above is None or value > above):
        return
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", least), ("at most", most), ("above", above))
              if bound is not None]
    what = "a whole number" if whole else "a number"
    raise ValueError(f"{name}={value!r} must be {what}" + (f" {' and '.join(bounds)}" if bounds else ""))


def check_band(name: str, band: Sequence[float | None] | None) -> None:
    """Check for None, or (low, high) in Hz: each above 0 or None, and low below high."""
    if band is None:
        return
    if not isinstance(band, tuple | list) or len(band) != 2:
        raise ValueError(f"{name}={band!r} must be two frequencies in Hz (low, high), or none")
    for corner in band:
        if corner is not None:
            check_number(name, corner, above=0)
    low, high = band
    if low is not None and high is not None and low >= high:
        raise ValueError(f"{name}={list(band)!r} must have the lower frequency first")


def check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be true or false")
