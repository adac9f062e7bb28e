"""Units through pint: one unit per kind, for all recordings."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.datasets import manifest
from preprocessing.datasets.biovid import CHANNELS
from preprocessing.errors import ClipError, InputError
from preprocessing.notes import gathered
from preprocessing.signals.units import Conversion, check, conversion, convert

VALUES = np.array([0.5, 2.0, 40.0])


@pytest.mark.parametrize(("unit", "kind", "want"), [
    ("nS", "eda", VALUES / 1000), ("µS", "gsr", VALUES), ("μS", "eda", VALUES), ("S", "gsr", VALUES * 1e6),
    ("kΩ", "gsr", 1000 / VALUES), ("kOhm", "eda", 1000 / VALUES), ("MΩ", "eda", 1 / VALUES),
    ("mV", "ecg", VALUES * 1000), ("V", "emg", VALUES * 1e6), ("µV", "emg", VALUES),
    ("g", "imu", VALUES * 9.80665), ("mg", "imu", VALUES * 0.00980665), ("m/s²", "imu", VALUES), ("m/s2", "imu", VALUES),
    ("°/s", "imu", np.deg2rad(VALUES)), ("mM", "fnirs", VALUES * 1000), ("µmol/L", "fnirs", VALUES),
    ("fraction", "spo2", VALUES * 100), ("%", "spo2", VALUES), ("K", "other", VALUES - 273.15),
    ("degF", "other", (VALUES - 32) / 1.8), ("kPa", "other", VALUES * 1000), ("a.u.", "eda", VALUES), ("", "ecg", VALUES)])
def test_values_by_hand(unit, kind, want):
    np.testing.assert_allclose(convert(VALUES, unit, kind), want, rtol=1e-9)


@pytest.mark.parametrize(("unit", "kind"), [("dB", "other"), ("dBm", "other"), ("dB/V", "other"), ("neper", "gsr"),
                                            ("mV", "eda"), ("uS", "ecg"), ("us", "eda"), ("uS/cm", "gsr"), ("V", "spo2"),
                                            ("rad", "eda"), ("mmm", "other"), ("uS**99999", "eda"), ("9^9^9^9", "other"),
                                            ("__import__('os')", "other"), ("x" * 300, "eda")])
def test_unknown_or_incompatible_units_give_one_sentence(unit, kind):
    with pytest.raises(InputError, match="row 3: unit .*correct unit or kind") as caught:
        check(unit, kind, "row 3")
    assert len(str(caught.value)) < 250


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(["", "m", "u", "n", "k", "µ", "μ"]), st.sampled_from([("S", "eda"), ("V", "emg"), ("M", "fnirs"),
                                                                              ("siemens", "gsr"), ("volt", "ecg")]))
def test_prefixes_are_factors(prefix, unit):
    base, kind = unit
    size = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "k": 1e3}[prefix.replace("µ", "u").replace("μ", "u")]
    if len(base) > 2:
        prefix = {"m": "milli", "u": "micro", "n": "nano", "k": "kilo"}.get(prefix.replace("µ", "u").replace("μ", "u"), "")
    assert conversion(prefix + base, kind).factor == pytest.approx(size * 1e6, rel=1e-12)


def test_a_conversion_is_noted_and_nothing_else_is():
    with gathered() as said:
        convert(VALUES, "nS", "eda")
        convert(VALUES, "kOhm", "eda")
        assert convert(VALUES, "uS", "eda") is VALUES and convert(VALUES, "a.u.", "eda") is VALUES
    assert said == ["eda: unit converted from nS to uS.", "eda: unit converted from kOhm to uS (reciprocal)."]
    with pytest.raises(ClipError, match="resistance of 0"):
        convert(np.array([0.0, 1.0]), "kOhm", "eda")


def test_heart_and_breathing_rates_and_powers_of_units():
    for text in ("bpm", "BPM", "1/min", "min⁻¹", "beats/min"):
        assert conversion(text, "other") == Conversion("Hz", 0.016666666666667)
    assert conversion("m·s⁻²", "imu") == Conversion("m/s^2")
    assert conversion("delta_degC", "other").offset == 0


def test_the_units_of_biovid_change_no_value_and_import_nothing():
    assert all(convert(VALUES, channel.unit, channel.kind) is VALUES for channel in CHANNELS)
    code = "import sys; from preprocessing.signals import units; units.conversion('uS', 'gsr'); sys.exit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == 0


def rows(tmp_path, *units, kind="eda"):
    lines = ["subject,sample,label,signal_path,fs,channels"]
    for i, unit in enumerate(units):
        channels = json.dumps([{"name": "x", "column": 0, "kind": kind} | ({"unit": unit} if unit is not None else {})])
        lines.append(f"p{i},s{i},{i % 2},{i}.npy,4,\"{channels.replace(chr(34), chr(34) * 2)}\"")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return manifest.load(tmp_path)


def test_the_units_of_a_channel_are_convertible_in_all_rows(tmp_path):
    assert not rows(tmp_path, "uS", "nS", "kOhm").notes
    assert "no unit" in rows(tmp_path, None, None).notes[0] and "no unit" in rows(tmp_path, "a.u.", "", None).notes[0]
    for units in (("uS", None), (None, "nS"), ("a.u.", "uS")):
        with pytest.raises(InputError, match="row 2: the unit of channel 'x'"):
            rows(tmp_path, *units)
    with pytest.raises(InputError, match="row 2: the unit of channel 'x'"):
        rows(tmp_path, "mV", "degC", kind="other")
    with pytest.raises(InputError, match="row 1: channel 'x': unit 'mV'"):
        rows(tmp_path, "mV", "mV")
