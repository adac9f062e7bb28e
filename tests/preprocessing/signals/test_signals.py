import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import signal as sps

from preprocessing.datasets.biovid import CHANNELS
from preprocessing.errors import ClipError
from preprocessing.notes import gathered
from preprocessing.recordings import Channel, SignalRef
from preprocessing.signals import gaps
from preprocessing.signals.emd import EMDOptions, decompose, denoise
from preprocessing.signals.filters import butterworth, design, resample, rms_envelope
from preprocessing.signals.signals import ChannelData, Signal, SignalOptions, process_signal, read_signal, unfit_filters
from tests.helpers.layouts import HEADER, bio, write_bio

FS = 512.0


def one(values: np.ndarray, kind: str, fs: float = FS) -> Signal:
    return Signal((ChannelData("x", kind, fs, np.asarray(values, dtype=np.float64)),))


def gain(filtered: np.ndarray, x: np.ndarray) -> float:
    middle = slice(len(x) // 4, 3 * len(x) // 4)
    return float(filtered[middle].std() / x[middle].std())


@pytest.mark.parametrize(("low", "high", "order", "pad"),
                         [(20, 250, 4, "odd"), (0.1, 250, 2, "even"), (None, 5, 4, "odd")])
def test_filters_have_scipys_response_at_the_corners(low, high, order, pad):
    """Zero-phase: the magnitude response of the design, squared; 0.5 at a corner."""
    sos = design(low, high, order, FS)
    t = np.arange(int(60 * FS)) / FS
    for frequency in [f for f in (low, high) if f] + [2.0, 60.0, 200.0]:
        x = np.sin(2 * np.pi * frequency * t + 0.3)
        _, response = sps.sosfreqz(sos, worN=[frequency], fs=FS)
        got = gain(butterworth(x, low, high, order, FS, pad=pad), x)
        assert got == pytest.approx(abs(response[0]) ** 2, abs=0.02)
        if frequency in (low, high):
            assert got == pytest.approx(0.5, abs=0.02)


def test_zero_phase_and_causal_differ_by_a_delay():
    t = np.arange(int(4 * FS)) / FS
    x = np.sin(2 * np.pi * 30 * t)
    straight, causal = butterworth(x, 20, 250, 4, FS), butterworth(x, 20, 250, 4, FS, causal=True)
    middle = slice(512, 1536)
    lags = np.arange(-8, 9)
    best = [lags[np.argmax([np.dot(x[middle], np.roll(y, -lag)[middle]) for lag in lags])] for y in (straight, causal)]
    assert best[0] == 0 and best[1] != 0


def test_upper_corner_at_nyquist_becomes_a_high_pass():
    for _ in range(2):  # at every use, not once per process
        with pytest.warns(UserWarning, match="high-pass only"):
            design(20, 250, 4, 500.0)
    with pytest.warns(UserWarning, match="high-pass only"):
        sos = design(20, 250, 4, 500.0)
    np.testing.assert_array_equal(sos, sps.butter(4, 20, "highpass", fs=500.0, output="sos"))
    with pytest.warns(UserWarning, match="not filtered"):
        assert design(20, None, 4, 40.0) is None
    assert design(20, 250, 4, 512.0).shape == (4, 6)  # 250 Hz is legal at 512


def test_resampling_keeps_the_whole_clip_and_its_level():
    t = np.linspace(0, 5.5, 2816, endpoint=False)
    x = 20 + 3 * t + np.sin(2 * np.pi * 1.0 * t)
    y = resample(x, 400)
    assert y.shape == (400,)
    ideal = 20 + 3 * np.arange(400) * 5.5 / 400 + np.sin(2 * np.pi * np.arange(400) * 5.5 / 400)
    assert np.abs(y - ideal)[5:-5].max() < 0.05 and np.abs(y - ideal).max() < 0.3  # no dip from 20 to 0 at the ends
    high = resample(np.sin(2 * np.pi * 100 * t), 400)  # above the new Nyquist limit of 36 Hz: removed, no aliasing
    assert np.abs(high[10:-10]).max() < 0.01


def test_one_sample_is_a_constant():
    np.testing.assert_array_equal(resample(np.array([1.5]), 48), 1.5)
    for kind in ("emg", "ecg", "gsr", "other"):
        np.testing.assert_array_equal(process_signal(one([1.5], kind, 4.0)), 1.5)


def test_values_beyond_float32_are_refused():
    x = np.sin(np.arange(60.0))
    x[9] = 1e39
    with pytest.raises(ClipError, match="signal: infinite"):
        process_signal(Signal((*one(np.sin(np.arange(60.0)), "eda", 4.0).channels, *one(x, "eda", 4.0).channels)))
    x[9] = 1e30
    assert np.isfinite(process_signal(one(x, "eda", 4.0))).all()


def test_envelope_against_a_loop():
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    got = rms_envelope(x, fs=100, seconds=0.1)
    want = [np.sqrt(np.mean(x[max(0, i - 5): i + 6] ** 2)) for i in range(100)]
    np.testing.assert_allclose(got, want, atol=1e-12)


def burst(rng: np.random.Generator, n: int = 2816) -> np.ndarray:
    x = butterworth(rng.normal(0, 0.1, n), 20, 250, 4, FS)
    x[1200:2000] += butterworth(rng.normal(0, 1.5, 800), 20, 250, 4, FS)
    return x


def test_emd_is_complete_and_scale_free():
    x = burst(np.random.default_rng(0))
    imfs, residue, scale = decompose(x, EMDOptions())
    np.testing.assert_allclose(scale * (imfs.sum(0) + residue), x, atol=1e-9)
    small, _, _ = decompose(x * 1e-3, EMDOptions())
    assert len(small) == len(imfs) >= 6  # PyEMD's absolute thresholds would give half as many
    np.testing.assert_allclose(denoise(x * 1e-3, FS), denoise(x, FS) * 1e-3, rtol=1e-6, atol=1e-12)


def test_emd_attenuates_rest_and_keeps_the_burst():
    x = burst(np.random.default_rng(1))
    rest, loud = slice(100, 1000), slice(1250, 1950)
    y = denoise(x, FS)
    assert y[rest].std() < 0.6 * x[rest].std()
    assert y[loud].std() > 0.85 * x[loud].std()
    universal = denoise(x, FS, EMDOptions(lam="universal"))
    assert universal[rest].std() < y[rest].std()
    np.testing.assert_allclose(denoise(x, FS, EMDOptions(lam=0.0)), x, atol=1e-9)
    hard = denoise(x, FS, EMDOptions(mode="hard"))
    assert hard[loud].std() > y[loud].std()  # hard thresholding does not shrink what it keeps


def test_ceemdan_is_reproducible():
    x = burst(np.random.default_rng(2))[1000:1400]
    options = EMDOptions(method="ceemdan", trials=3)
    first = denoise(x, FS, options)
    np.testing.assert_array_equal(first, denoise(x, FS, options))
    assert np.isfinite(first).all() and not np.allclose(first, denoise(x, FS))


def test_process_by_kind():
    rng = np.random.default_rng(3)
    emg = burst(rng)
    out = process_signal(one(emg, "emg"), SignalOptions(emd=False))
    assert out.shape == (400, 1) and out.dtype == np.float32
    want = resample(rms_envelope(butterworth(emg, 20, 250, 4, FS), FS), 400)
    np.testing.assert_allclose(out[:, 0], want, rtol=1e-5)
    gsr = process_signal(one(emg + 5, "gsr"))
    np.testing.assert_allclose(gsr[:, 0], resample(emg + 5, 400), rtol=1e-5)
    ecg = process_signal(one(emg, "ecg"), SignalOptions(source="filtered"))
    np.testing.assert_allclose(ecg[:, 0], resample(emg, 400), atol=1e-6)
    waveform = process_signal(one(emg, "emg"), SignalOptions(source="filtered", envelope="none"))
    np.testing.assert_allclose(waveform[:, 0], resample(emg, 400), atol=1e-6)
    ramp = process_signal(one(np.linspace(3, 9, 2816), "gsr"), SignalOptions(gsr_detrend=True))
    assert np.abs(ramp).max() < 1e-6
    low = process_signal(one(np.sin(np.arange(2816)) + 4, "eda"), SignalOptions(gsr_lowpass=5.0))
    assert np.ptp(low[50:-50]) < 0.01 and low.mean() == pytest.approx(4, abs=0.01)
    drift = process_signal(one(100 + np.sin(2 * np.pi * np.arange(2000) / 500), "fnirs", 50.0),
                           SignalOptions(fnirs_band=(0.01, 0.5), length=200))
    assert abs(drift.mean()) < 1 and np.ptp(drift) > 1


def test_the_defaults_are_those_of_the_specification():
    assert SignalOptions() == SignalOptions(
        window_mode="resample", length=400, source="raw", seconds=None, emg_band=(20.0, 250.0), emg_order=4, causal=False,
        ecg_band=(0.1, 250.0), ecg_order=2, gsr_lowpass=None, gsr_detrend=False, fnirs_band=None, emd=True,
        emd_options=EMDOptions(lam=1.0, mode="soft", method="emd", noise_seconds=0.5, trials=20), envelope="auto",
        envelope_seconds=0.1, range_floor=1e-8)


def test_raw_channels_with_default_options_against_scipy():
    """Every step in scipy: EMG band-passed, denoised and enveloped, ECG band-passed over its mirrored self."""
    x = burst(np.random.default_rng(6)) + np.linspace(0, 2, 2816)
    band = sps.sosfiltfilt(sps.butter(4, (20, 250), "bandpass", fs=FS, output="sos"), x)
    emg = process_signal(one(x, "emg"))[:, 0]
    np.testing.assert_allclose(emg, resample(rms_envelope(denoise(band, FS), FS), 400), rtol=1e-4, atol=1e-6)
    without = process_signal(one(x, "emg"), SignalOptions(emd=False))[:, 0]
    np.testing.assert_allclose(without, resample(rms_envelope(band, FS), 400), rtol=1e-4, atol=1e-6)
    assert np.abs(emg - without).max() > 0.05 * np.ptp(without)  # denoising is on and does something
    causal = process_signal(one(x, "emg"), SignalOptions(emd=False, causal=True))[:, 0]
    sos = sps.butter(4, (20, 250), "bandpass", fs=FS, output="sos")
    ahead = sps.sosfilt(sos, x, zi=sps.sosfilt_zi(sos) * x[0])[0]
    np.testing.assert_allclose(causal, resample(rms_envelope(ahead, FS), 400), rtol=1e-4, atol=1e-6)
    assert np.abs(causal - without).max() > 0.05 * np.ptp(without)
    sos = sps.butter(2, (0.1, 250), "bandpass", fs=FS, output="sos")
    ecg = process_signal(one(x, "ecg"))[:, 0]
    np.testing.assert_allclose(ecg, resample(sps.sosfiltfilt(sos, x, padtype="even", padlen=2815), 400), rtol=1e-4, atol=1e-5)
    for other in (x, sps.sosfiltfilt(sos, x, padtype="odd", padlen=2815), sps.sosfiltfilt(sos, x),
                  sps.sosfiltfilt(sps.butter(4, (0.1, 250), "bandpass", fs=FS, output="sos"), x, padtype="even", padlen=2815)):
        assert np.abs(ecg - resample(other, 400)).max() > 0.01  # the comparison is sensitive


def test_a_providers_filtered_file_is_not_filtered_again():
    emg = burst(np.random.default_rng(5))
    channel = one(emg, "emg").channels
    got = process_signal(Signal(channel, filtered=True))
    np.testing.assert_array_equal(got, process_signal(Signal(channel), SignalOptions(source="filtered")))
    assert not np.allclose(got, process_signal(Signal(channel)))


def test_window_modes():
    x = np.arange(2816.0)
    crop = process_signal(one(x, "other"), SignalOptions(window_mode="crop"))
    np.testing.assert_array_equal(crop[:, 0], x[1208:1608])
    full = process_signal(one(x, "other"), SignalOptions(window_mode="full", length=2800))
    np.testing.assert_array_equal(full[:, 0], x[8:2808])
    emg = burst(np.random.default_rng(4))
    kept = process_signal(one(emg, "emg"), SignalOptions(window_mode="full", length=2800, source="filtered"))
    np.testing.assert_allclose(kept[:, 0], emg[8:2808], rtol=1e-6)  # the waveform, not its envelope
    first = process_signal(one(x, "other"), SignalOptions(window_mode="crop", length=512, seconds=1.0))
    np.testing.assert_array_equal(first[:, 0], x[:512])
    with pytest.raises(ClipError, match="short_file"):
        process_signal(one(x[:300], "other"), SignalOptions(window_mode="crop"))


def test_channels_of_different_rates_share_one_time_axis():
    def ramp(fs: float) -> ChannelData:
        return ChannelData("x", "other", fs, np.linspace(0, 10, int(10 * fs), endpoint=False))
    for mode, length in (("resample", 100), ("crop", 600)):
        out = process_signal(Signal((ramp(100.0), ramp(4.0))), SignalOptions(window_mode=mode, length=length))
        middle = slice(length // 10, -length // 10)
        assert np.abs(out[middle, 0] - out[middle, 1]).max() < 0.1


def test_channels_of_different_durations_are_an_error():
    def channels(*seconds: float) -> Signal:
        return Signal(tuple(ChannelData("x", "other", fs, np.arange(round(s * fs)) / fs)
                            for s, fs in zip(seconds, (700.0, 4.0), strict=True)))

    for mode, length in (("resample", 100), ("crop", 700)):
        options = SignalOptions(window_mode=mode, length=length)
        for pair in ((20.0, 10.0), (9.0, 10.0)):
            with pytest.raises(ClipError, match="other_durations"):
                process_signal(channels(*pair), options)
        assert process_signal(channels(10.0, 9.75), options).shape == (length, 2)
    assert process_signal(channels(1.6, 1.5)).shape == (400, 2)  # less than one sample of the slower one
    assert process_signal(channels(20.0, 10.0), SignalOptions(seconds=10.0)).shape == (400, 2)


@pytest.mark.parametrize("kind", ["emg", "ecg", "gsr", "other"])
def test_zero_and_noise_channels_give_zero(kind):
    dust = np.random.default_rng(0).normal(0, 1e-22, 2816)
    assert not process_signal(one(dust, kind)).any()
    assert not process_signal(one(np.zeros(2816), kind)).any()
    np.testing.assert_array_equal(process_signal(one(np.full(2816, 5.0), kind)), 5.0)  # flat, at its level


def test_options_are_checked():
    for wrong in ({"window_mode": "x"}, {"source": "x"}, {"envelope": "x"}, {"length": 0}, {"range_floor": -1.0}):
        with pytest.raises(ValueError):
            SignalOptions(**wrong)
    assert SignalOptions(emd_options={"lam": 2.0}).emd_options == EMDOptions(lam=2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SignalOptions(emd_options={"x": 1})  # type: ignore[arg-type]
    for wrong in ({"emg_band": (250.0, 20.0)}, {"emg_band": (20.0,)}, {"ecg_band": (0.0, 20.0)}, {"fnirs_band": "x"},
                  {"emg_order": "abc"}, {"ecg_order": 0}, {"length": 40.5}, {"length": True}, {"seconds": -3},
                  {"gsr_lowpass": -1}, {"envelope_seconds": "x"}, {"emd": "no"}, {"range_floor": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SignalOptions(**wrong)
    SignalOptions(emg_band=(20.0, None), ecg_band=(None, 100), fnirs_band=None, seconds=4, gsr_lowpass=5)
    for wrong in ({"mode": "x"}, {"method": "x"}, {"lam": -1.0}, {"lam": "much"}, {"trials": 0}, {"noise_seconds": 0}):
        with pytest.raises(ValueError):
            EMDOptions(**wrong)


# ---- bad files: the reason, and the neighbours' survival

def ref(path, channels=CHANNELS[:3]) -> SignalRef:
    return SignalRef(path, "biovid", channels, start_s=0.0, end_s=5.5)


def spoil(tmp_path, change) -> dict:
    """A good clip and one damaged by `change(lines)`, as {name: (L,C) or ClipError}."""
    rng = np.random.default_rng(0)
    for name in ("before", "bad", "after"):
        write_bio(tmp_path / f"{name}.csv", bio(rng))
    lines = (tmp_path / "bad.csv").read_text().splitlines()
    (tmp_path / "bad.csv").write_bytes(change(lines))
    out: dict[str, np.ndarray | ClipError] = {}
    for name in ("before", "bad", "after"):
        try:
            out[name] = process_signal(read_signal(ref(tmp_path / f"{name}.csv")), SignalOptions(emd=False))
        except ClipError as error:
            out[name] = error
    return out


def cell(lines: list[str], text: str, row: int = 1000, column: int = 1) -> bytes:
    cells = lines[row].split("\t")
    cells[column] = text
    return "\n".join([*lines[:row], "\t".join(cells), *lines[row + 1:]]).encode()


BAD = {
    "nan": (lambda lines: cell(lines, "NaN"), "nan"),
    "empty cell": (lambda lines: cell(lines, ""), "nan"),
    "inf": (lambda lines: cell(lines, "inf"), "infinite"),
    "overflow": (lambda lines: cell(lines, "1e999"), "infinite"),
    "text": (lambda lines: cell(lines, "n/v"), "not_a_number"),
    "decimal comma": (lambda lines: "\n".join(lines).replace(".", ",").encode(), "not_a_number"),
    "missing column": (lambda lines: "\n".join(lines).replace("ecg", "egc").encode(), "missing_column"),
    "column twice": (lambda lines: "\n".join(lines).replace("emg_corrugator", "gsr").encode(), "duplicate_column"),
    "no header": (lambda lines: "\n".join(lines[1:]).encode(), "missing_column"),
    "half a file": (lambda lines: "\n".join(lines[:1400]).encode(), "short_file"),
    "half a row": (lambda lines: "\n".join(lines[:1400]).encode()[:-30], "not_a_table"),
    "header only": (lambda lines: lines[0].encode(), "empty_file"),
    "empty": (lambda lines: b"", "empty_file"),
    "binary": (lambda lines: bytes(range(256)) * 50, "missing_column"),
    "NUL": (lambda lines: cell(lines, "\0"), "not_a_number"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_its_reason_and_does_not_affect_others(tmp_path, name):
    change, reason = BAD[name]
    out = spoil(tmp_path, change)
    assert isinstance(out["bad"], ClipError)
    assert (out["bad"].stage, out["bad"].reason) == ("signal", reason)
    assert out["bad"].fix.endswith((".", ")."))
    assert out["before"].shape == out["after"].shape == (400, 3)


def test_missing_file_folder_and_four_columns(tmp_path):
    write_bio(tmp_path / "four.csv", bio(np.random.default_rng(0))[:, :4], HEADER[:4])
    assert len(read_signal(ref(tmp_path / "four.csv")).channels) == 3
    with pytest.raises(ClipError, match="missing_column"):
        read_signal(ref(tmp_path / "four.csv", CHANNELS))
    for path in (tmp_path / "absent.csv", tmp_path, tmp_path / ("x" * 5000)):
        with pytest.raises(ClipError, match="missing_file"):
            read_signal(ref(path))


def test_harmless_spellings_read_the_same(tmp_path):
    values = bio(np.random.default_rng(0))
    write_bio(tmp_path / "plain.csv", values)
    want = read_signal(ref(tmp_path / "plain.csv"))
    order = [3, 1, 5, 0, 4, 2]
    write_bio(tmp_path / "reordered.csv", values[:, order], [HEADER[i] for i in order])
    write_bio(tmp_path / "blanks.csv", values, [f" {name} " for name in HEADER])
    write_bio(tmp_path / "semicolon.csv", values, sep=";")
    write_bio(tmp_path / "comma.csv", values, sep=",")
    text = (tmp_path / "plain.csv").read_text()
    (tmp_path / "dos.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    for name in ("reordered", "blanks", "semicolon", "comma", "dos"):
        got = read_signal(ref(tmp_path / f"{name}.csv"))
        for a, b in zip(got.channels, want.channels, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
    # Scientific notation, as in the burst-gated files.
    rows = "\n".join("0\t1.5E+00\t-2e3\t4.2e-58\t0\t0" for _ in range(2816))
    (tmp_path / "e.csv").write_text("\t".join(HEADER) + "\n" + rows)
    values = [c.values[0] for c in read_signal(ref(tmp_path / "e.csv")).channels]
    assert values == [1.5, -2000.0, 4.2e-58]


def test_a_slightly_short_file_is_held_at_its_last_value(tmp_path):
    values = bio(np.random.default_rng(0), rows=2800)
    write_bio(tmp_path / "a.csv", values)
    got = read_signal(ref(tmp_path / "a.csv")).channels[0].values
    assert len(got) == 2816 and (got[2800:] == got[2799]).all()


def test_arrays_parquet_and_windows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as papq

    x = np.arange(1000.0)
    np.save(tmp_path / "a.npy", np.column_stack([x, -x]))
    np.savez(tmp_path / "a.npz", chest=np.column_stack([x, 2 * x]), wrist=x[::10])
    papq.write_table(pa.table({"t": x, "v": (3 * x).astype(np.int64)}), tmp_path / "a.parquet")
    window = {"start_s": 2.0, "end_s": 5.0}
    got = read_signal(SignalRef(tmp_path / "a.npy", "npy", (Channel("b", 1, "other", 10.0),), **window))
    np.testing.assert_array_equal(got.channels[0].values, -x[20:50])
    channels = (Channel("c", "chest:1", "ecg", 100.0), Channel("w", "wrist", "eda", 10.0))
    got = read_signal(SignalRef(tmp_path / "a.npz", "npz", channels, **window))
    np.testing.assert_array_equal(got.channels[0].values, 2 * x[200:500])
    np.testing.assert_array_equal(got.channels[1].values, x[::10][20:50])
    got = read_signal(SignalRef(tmp_path / "a.parquet", "parquet", (Channel("v", "v", "other", 10.0),), **window))
    np.testing.assert_array_equal(got.channels[0].values, 3 * x[20:50])
    rows = SignalRef(tmp_path / "a.npy", "npy", (Channel("a", 0, "other", 10.0),), start_row=7, end_row=9)
    np.testing.assert_array_equal(read_signal(rows).channels[0].values, [7, 8])
    late = SignalRef(tmp_path / "a.npy", "npy", (Channel("a", 0, "other", 10.0),), start_s=99.0, end_s=120.0)
    with pytest.raises(ClipError, match="short_file"):
        read_signal(late)
    for column in (2, -1):
        with pytest.raises(ClipError, match="missing_column"):
            read_signal(SignalRef(tmp_path / "a.npy", "npy", (Channel("a", column, "other", 1.0),)))
    with pytest.raises(ClipError, match="missing_column"):
        read_signal(SignalRef(tmp_path / "a.npz", "npz", (Channel("a", "foot", "other", 1.0),)))


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(b"\x80\x04]\x94.")
    np.savez(tmp_path / "c.npz", x=np.array([None]))
    for name in ("a.npy", "b.npy", "c.npz"):
        with pytest.raises(ClipError, match="not_an_array"):
            read_signal(SignalRef(tmp_path / name, name[2:], (Channel("x", 0, "other", 1.0),)))


def test_one_table_with_several_rates(tmp_path):
    """A slow column ends early in the table; the blanks after it are not missing data, a gap inside is."""
    fast, slow = np.arange(100.0), np.arange(10.0)
    def write(slow_cells):
        lines = ["f;s"] + [f"{f:.1f};{s}".replace(".", ",") for f, s in zip(fast, slow_cells, strict=True)]
        (tmp_path / "x.csv").write_text("\n".join(lines))
    channels = (Channel("f", "f", "other", 10.0), Channel("s", "s", "other", 1.0))
    table = SignalRef(tmp_path / "x.csv", "csv", channels, ";", ",", start_s=2.0, end_s=6.0)
    write([*map(str, slow), *[""] * 90])
    got = read_signal(table)
    np.testing.assert_array_equal(got.channels[0].values, fast[20:60])
    np.testing.assert_array_equal(got.channels[1].values, slow[2:6])
    write(["0", "1", "2", "", "4", "5", "6", *[""] * 93])
    with pytest.raises(ClipError, match="nan"):
        read_signal(table)


# ---- gaps, denoising, scale

def windows(x: np.ndarray, half: int) -> np.ndarray:
    """Mean square of every window of `rms_envelope`."""
    return np.array([np.mean(x[max(0, i - half): i + half + 1] ** 2) for i in range(len(x))])


@pytest.mark.parametrize("options", [EMDOptions(), EMDOptions(mode="hard"), EMDOptions(lam=4.0), EMDOptions(lam="universal")])
@pytest.mark.parametrize("fs", [250.0, 512.0, 1000.0])
def test_denoising_increases_the_energy_nowhere(options, fs):
    """Gated bursts, a sine that starts late, one spike, exponential decay: not the cases in which the fault was found."""
    n, rng = int(2.5 * fs), np.random.default_rng(int(fs))
    at = np.arange(n) / fs
    noise = rng.standard_normal(n)
    inputs = {
        "two bursts": np.where((at % 1.0 > 0.3) & (at % 1.0 < 0.5), noise, 1e-15 * noise),
        "late sine": np.where(at > 1.5, np.sin(2 * np.pi * 40 * at), 0.0),
        "spike": np.where(np.arange(n) == n // 2, 100.0, 0.01 * noise),
        "decay": noise * np.exp(-8 * at),
    }
    for name, x in inputs.items():
        before, after = windows(x, round(0.05 * fs)), windows(denoise(x, fs, options), round(0.05 * fs))
        assert (after <= before * (1 + 1e-6) + 1e-30).all(), name


@pytest.mark.parametrize("fill", ["zeros", "held", "offset"])
def test_a_gap_in_an_emg_is_zero_and_changes_nothing_else(fill):
    fs, n = 1000.0, 4000
    x = np.random.default_rng(0).standard_normal(n)
    gapped = x.copy() + (50.0 if fill == "offset" else 0.0)
    gapped[1500:2300] = x[1499] if fill == "held" else 0.0
    options = SignalOptions(window_mode="crop", length=n)
    with pytest.warns(UserWarning, match="emg: parts that were not recorded"):
        got = process_signal(one(gapped, "emg", fs), replace(options, envelope="rms"))[:, 0]
    whole = process_signal(one(x, "emg", fs), replace(options, envelope="rms"))[:, 0]
    assert not got[1500:2300].any()
    away = np.r_[200:1300, 2500:3800]
    assert np.abs(got[away] - whole[away]).mean() < 0.1 * whole[away].mean()
    edges = np.r_[1400:1500, 2300:2400]
    assert got[edges].max() < 1.5 * whole.max()  # no ringing
    gapped[500:3000] = gapped[500]
    with pytest.raises(ClipError, match="gaps"):
        process_signal(one(gapped, "emg", fs), options)


def test_gaps_of_other_kinds():
    t = np.arange(2560) / 256
    ecg = 3 + np.sin(2 * np.pi * 1.2 * t) ** 21
    lost = ecg.copy()
    lost[1000:1200] = 0.0
    with pytest.warns(UserWarning, match="ecg: parts"):
        got = process_signal(one(lost, "ecg", 256.0), SignalOptions(ecg_band=(0.1, 100.0), length=2560))[:, 0]
    assert np.ptp(got) < 1.2 * np.ptp(process_signal(one(ecg, "ecg", 256.0), SignalOptions(ecg_band=(0.1, 100.0), length=2560)))
    eda = 4 + 0.1 * np.sin(t)
    eda[300:400] = 0.0
    with pytest.warns(UserWarning, match="eda: parts"):
        assert process_signal(one(eda, "eda", 256.0)).min() > 3.8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        process_signal(one(np.round(4 + 0.1 * np.sin(t[::64]), 1), "eda", 4.0))  # normal for a coarse sensor
        process_signal(one(np.round(97 + np.sin(t[::64])), "spo2", 4.0))
        process_signal(one(burst(np.random.default_rng(8)), "emg"))


def fine(kind: str, fs: float, seconds: float = 12.0, seed: int = 0) -> np.ndarray:
    """A channel of that kind at a fine resolution, (n,): around 3, so that it is never 0."""
    t, rng = np.arange(round(seconds * fs)) / fs, np.random.default_rng(seed)
    rate = {"bvp": 1.2, "imu": 0.7, "resp": 0.25, "fnirs": 0.1}[kind]
    return 3 + np.sin(2 * np.pi * rate * t + seed) + 0.01 * rng.standard_normal(len(t))


KINDS_AND_RATES = [("bvp", 64.0), ("imu", 50.0), ("resp", 25.0), ("fnirs", 10.0)]


@pytest.mark.parametrize(("kind", "fs"), KINDS_AND_RATES)
@pytest.mark.parametrize("fill", ["held", "held to the end", "zeros", "two"])
def test_a_lost_connection_of_a_fine_channel_is_interpolated(kind, fs, fill):
    whole = fine(kind, fs)
    x, (a, b) = whole.copy(), (round(4 * fs), round(6 * fs))
    lost = np.zeros(len(x), bool)
    lost[a:b] = True
    if fill == "held to the end":
        lost[:] = False
        lost[round(10 * fs):] = True
    if fill == "two":
        lost[round(8 * fs) : round(9.5 * fs)] = True
    for start in np.flatnonzero(np.diff(lost.astype(int), prepend=0) == 1):
        stop = start + int(np.argmin(np.r_[lost[start:], False]))
        x[start:stop] = 0.0 if fill == "zeros" else x[start - 1]
    found = gaps.find(x, kind, fs)
    assert found is not None and not found[~lost].sum() > 2 and found[lost].all()
    with pytest.warns(UserWarning, match=f"{kind}: parts that were not recorded .* interpolation"):
        got = process_signal(one(x, kind, fs), SignalOptions(window_mode="crop", length=len(x)))[:, 0]
    assert got.min() > whole.min() - 0.1 and np.allclose(got[~found], whole[~found], atol=1e-6)


def test_zeros_with_noise_among_them_are_still_a_gap():
    x = 10 * np.random.default_rng(0).standard_normal(6000)
    x[1000:5000] = 0.0
    x[3000] = 1e-9
    found = gaps.find(x, "emg", 1000)
    assert found is not None and found[1000:3000].all() and found[3001:5000].all()


@pytest.mark.parametrize("noise", [0.2, 0.22, 0.25])
def test_a_muscle_at_rest_under_a_coarse_sensor_is_no_gap(noise):
    """Whole steps of an ADC: at rest long constant values and the next step; a lost connection is clearly different."""
    rng = np.random.default_rng(3)
    x = np.round(12 + noise * rng.standard_normal(4000))
    x[2000:2400] = np.round(12 + 20 * rng.standard_normal(400))  # one contraction
    assert (x[1:] == x[:-1]).mean() > 0.6 and gaps.find(x, "emg", 1000) is None
    x[2100:2200] = 0.0
    found = gaps.find(x, "emg", 1000)
    assert found is not None and found[2100:2200].all() and found.sum() <= 104


@pytest.mark.parametrize(("kind", "fs"), KINDS_AND_RATES)
def test_naturally_constant_signals_are_no_gap(kind, fs):
    x = fine(kind, fs, 20.0)
    at_rest = np.where(np.arange(len(x)) < len(x) // 3, 3.0, np.round(x, 1))  # a coarse sensor
    repeated = np.repeat(x[::4], 4)[: len(x)]  # a slower one, upsampled by repetition
    saturated = np.minimum(x, 3.6)
    short = x.copy()
    short[50:56] = short[50]
    unknown = x[:40].copy()  # too few other samples to know the resolution
    unknown[12:38] = unknown[12]
    for name, values in {"whole": x, "coarse": at_rest, "repeated": repeated, "saturated": saturated, "short": short,
                         "little": unknown}.items():
        assert gaps.find(values, kind, fs) is None, name


def test_more_than_half_lost_of_a_fine_channel_is_excluded():
    x = fine("bvp", 64.0)
    x[200:660] = x[199]
    with pytest.raises(ClipError, match="gaps"):
        process_signal(one(x, "bvp", 64.0))


def test_saturation_is_noted():
    x = np.clip(10 * burst(np.random.default_rng(9)), -4, 4)
    with pytest.warns(UserWarning, match="saturated"):
        process_signal(one(x, "emg"))


@pytest.mark.parametrize("kind", ["emg", "ecg", "gsr", "other"])
@pytest.mark.parametrize("scale", [1e-15, 1e-9, 1e-6, 1e6])
def test_the_unit_of_a_signal_does_not_matter(kind, scale):
    x = burst(np.random.default_rng(7)) + 2.0
    one_unit, other = process_signal(one(x, kind)), process_signal(one(x * scale, kind))
    np.testing.assert_allclose(other / scale, one_unit, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "fs", "words"), [("emg", 32.0, "not filtered"), ("emg", 200.0, "high-pass only"),
                                                  ("ecg", 250.0, "high-pass only"), ("gsr", 4.0, "not filtered")])
def test_impossible_filters_are_noted_for_every_clip_and_in_advance(kind, fs, words):
    options = SignalOptions(gsr_lowpass=5.0, emd=False)
    for _ in range(3):
        with gathered() as said:
            process_signal(one(np.random.default_rng(0).normal(5, 1, round(6 * fs)), kind, fs), options)
        assert any(text.startswith(kind) and words in text and "Nyquist" in text for text in said)
    assert unfit_filters((Channel("x", "x", kind, fs),), False, options) == [text for text in said if "Nyquist" in text]
