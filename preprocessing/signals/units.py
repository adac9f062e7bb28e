"""Convert signals to one unit per kind, with pint, so that data in nanosiemens and in microsiemens can be combined.

A unit is a text in the manifest. Values without a unit, or with an arbitrary one ("a.u."), are used unchanged.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from preprocessing.errors import ClipError, InputError
from preprocessing.notes import note

ARBITRARY = {"a.u.", "a.u", "au", "arb", "arb.", "arb. unit", "arb. units", "arbitrary", "arbitrary unit", "arbitrary units",
             "count", "counts", "adc", "raw", "digit", "digits", "lsb", "normalized", "normalised", "z", "z-score", "u", "unit",
             "units", "-", "1", "none", "n/a", "unitless", "dimensionless"}
# kind -> the target units; the first one with the same dimension is used. Microvolts are the unit of BioVid.
TARGETS: dict[str, tuple[str, ...]] = {
    "gsr": ("uS",), "eda": ("uS",), "ecg": ("uV",), "emg": ("uV",), "spo2": ("%",),
    "fnirs": ("uM", "mM*mm"), "imu": ("m/s^2", "rad/s", "uT"),
    "bvp": ("uV", "uA", "%", "mmHg"), "resp": ("uV", "%", "ohm", "mm", "L", "L/s", "Pa"),
}
# For the kind "other": any dimension is allowed; these are preferred to SI base units.
USUAL = ("uV", "uA", "uS", "degC", "m/s^2", "rad/s", "uT", "Pa", "mm", "%", "s", "Hz")
# Heart and breathing rates, which pint does not know or takes for rotations.
PER_MINUTE = ("bpm", "1/min", "/min", "min^-1", "beats/min", "beats_per_minute", "breaths/min", "beats per minute")
RECIPROCAL = ("gsr", "eda")  # a resistance (kiloohm) is converted by its reciprocal
MOST = 40  # characters
LOGARITHMIC = ("decibel", "decibelmilliwatt", "decibelmicrowatt", "neper", "octave", "decade")  # as pint calls them


@dataclass(frozen=True)
class Conversion:
    """value -> factor * value + offset, of 1/value where `reciprocal`; into `target` ("" = arbitrary)."""

    target: str
    factor: float = 1.0
    offset: float = 0.0
    reciprocal: bool = False

    @property
    def identity(self) -> bool:
        return self.factor == 1.0 and self.offset == 0.0 and not self.reciprocal


@lru_cache(maxsize=256)
def conversion(text: str, kind: str) -> Conversion:
    """The conversion from the unit `text` to that of the kind. ValueError with one clause: unknown unit, or wrong dimension."""
    targets = TARGETS.get(kind, USUAL)
    plain = tidy(text, kind)
    if kind == "spo2" and plain.lower() in ("fraction", "ratio"):
        return Conversion("%", 100.0)
    if not plain or text.strip().lower() in ARBITRARY:
        return Conversion("")
    if kind not in TARGETS and plain.lower() in PER_MINUTE:
        return Conversion("Hz", _round(1 / 60))
    if plain in targets:  # the usual case: importing pint takes half a second
        return Conversion(plain)
    return _by_pint(plain, text, kind, targets)


def _by_pint(plain: str, text: str, kind: str, targets: tuple[str, ...]) -> Conversion:
    unit = _parse(plain, text)
    registry = _registry()
    if unit.dimensionless and "%" not in targets:
        raise ValueError(f"unit {text!r} has no dimension, but a channel of kind {kind} is in {' or '.join(targets)}")
    for target in targets:
        wanted = registry.Unit(_pint(target))
        if kind in RECIPROCAL and (1 / unit).is_compatible_with(wanted) and not unit.is_compatible_with(wanted):
            return Conversion(target, float((1 / (1.0 * unit)).to(wanted).magnitude), 0.0, True)
        if unit.is_compatible_with(wanted) and "delta_" not in plain:  # pint cannot convert temperature differences
            zero, one = (float(registry.Quantity(value, unit).to(wanted).magnitude) for value in (0.0, 1.0))
            return Conversion(target, _round(one - zero), _round(zero))
    if kind in TARGETS:
        raise ValueError(f"unit {text!r} has the wrong dimension for a channel of kind {kind}, which is in "
                         f"{' or '.join(targets)} (kind other accepts any unit)")
    base = (1.0 * unit).to_base_units()
    return Conversion(f"{base.units:~C}", float(base.magnitude))


def _round(value: float) -> float:
    """Removes the rounding errors of pint's factors: 1 mV is 1000 uV and not 999.9999999999999."""
    return float(f"{value:.14g}")


def tidy(text: str, kind: str) -> str:
    """`text` in one spelling: one micro sign, ohm and degree in letters, powers with ^; "g" of an acceleration is gravity."""
    plain = text.strip().strip("[]()").strip()
    for old, new in (("µ", "u"), ("μ", "u"), ("Ω", "ohm"), ("\u2126", "ohm"), ("°C", "degC"), ("°", "deg"), ("·", "*"),
                     ("⁻¹", "^-1"), ("⁻²", "^-2"), ("²", "^2"), ("³", "^3"), ("**", "^"), ("−", "-")):
        plain = plain.replace(old, new)
    plain = re.sub(r"(?i)ohms?\b", "ohm", plain)
    plain = re.sub(r"(?i)\b(deg|degrees?)[ _]?C(elsius)?\b|\bcelsius\b", "degC", plain)
    plain = re.sub(r"\bdps\b", "deg/s", plain)
    plain = re.sub(r"(?i)\bpercent\b|\bpct\b", "%", plain)
    plain = re.sub(r"(?<=[A-Za-z])(-?\d)\b", r"^\1", plain)
    if kind == "imu" and re.fullmatch(r"m?[gG]", plain):
        plain = {"g": "g_0", "mg": "millig_0"}[plain.lower()]
    return "uM" if plain in ("umol/L", "umol/l") else plain


def _pint(plain: str) -> str:
    return plain.replace("%", "percent").replace("^", "**")


def _parse(plain: str, text: str) -> Any:
    """The unit in pint. Only letters, one-digit powers, * and / reach its parser, which would evaluate any expression."""
    wrong = ValueError(f"unit {text[:MOST]!r} is not known; write for instance uS, mV, g, degC, or a.u. for an arbitrary one")
    if len(plain) > MOST or not re.fullmatch(r"[A-Za-z%_][A-Za-z%_0]*(\^-?\d)?([ */]+[A-Za-z%_][A-Za-z%_0]*(\^-?\d)?)*", plain):
        raise wrong
    for spelling in (plain, plain.lower()) if len(plain) > 4 else (plain,):  # also lower case (Siemens), but not of MV
        try:
            unit = _registry().Unit(_pint(spelling))
        except Exception:  # pint raises several types, also those of its tokenizer
            continue
        if any(name.endswith(LOGARITHMIC) for name in re.findall("[a-z_]+", str(unit))):
            raise ValueError(f"unit {text[:MOST]!r} is logarithmic and cannot be converted by a factor; give the values on a "
                             "linear scale, or write a.u. to use them unchanged")
        return unit
    raise wrong


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(cache_folder=None, autoconvert_offset_to_baseunit=True)


def check(text: str, kind: str, where: str) -> str:
    """The unit after conversion ("" = unchanged). InputError with the message of `conversion`."""
    try:
        return conversion(text, kind).target
    except ValueError as error:
        raise InputError(f"{where}: {error}; correct unit or kind.") from None


def convert(x: np.ndarray, text: str, kind: str) -> np.ndarray:
    """x (n,) in the unit of the kind, with a note if the values change; else x itself."""
    if not text:
        return x
    how = conversion(text, kind)
    if how.identity:
        return x
    if how.reciprocal:
        if not x.all():
            raise ClipError("signal", "no_resistance", f"A channel of kind {kind} has a resistance of 0, whose conductance is "
                                                       "infinite; repair the file.")
        x = 1.0 / x
    note(f"{kind}: unit converted from {text.strip()} to {how.target}" + (" (reciprocal)." if how.reciprocal else "."))
    return x * how.factor + how.offset if how.offset else x * how.factor
