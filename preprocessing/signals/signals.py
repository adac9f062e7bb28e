"""From a SignalRef to one array: read, filter, denoise, envelope, window (spec section 2). L samples, C channels.

Nothing here is fitted on data: normalisation is done by `moments.Scaler`, fitted on the training subjects of a fold only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from preprocessing.errors import ClipError
from preprocessing.inputs.checks import check_band, check_flag, check_number
from preprocessing.inputs.limits import Limits
from preprocessing.moments import LEAST_STD
from preprocessing.notes import note
from preprocessing.recordings import Channel, SignalRef
from preprocessing.signals import gaps, tables, units
from preprocessing.signals.emd import EMDOptions, denoise
from preprocessing.signals.filters import butterworth, half_window, resample, rms_envelope, unfit
from preprocessing.signals.formats import FORMATS

LIMITS = Limits()
SHORTFALL = 0.05  # largest share of a window that may be missing at the end of the file (the last value is repeated)


LEAST_SECONDS = 0.05  # of signal.seconds: less would leave a few samples of the fastest channel, and one sample of others


@dataclass(frozen=True)
class ChannelData:
    """One channel as recorded: values (n,) float64 on a uniform grid of fs Hz."""

    name: str
    kind: str
    fs: float
    values: np.ndarray


@dataclass(frozen=True)
class Signal:
    """The channels of one clip; lengths may differ where rates do. filtered: whether the provider has filtered them."""

    channels: tuple[ChannelData, ...]
    filtered: bool = False


@dataclass(frozen=True)
class SignalOptions:
    """Spec section 2, defaults first. A band is (low, high) in Hz, either end None; None = no filter.

    window_mode: "resample" the whole clip to `length` | "crop" `length` steps at the original rate, from the centre |
        "full" the same, with the EMG waveform instead of its envelope (length 2800 of 2816). length: number of time steps.
    source: "raw" | "filtered": already filtered by the provider, so EMG and ECG are not filtered again.
    emg_band: pass band of the EMG in Hz; None = no filter. emg_order: order of the EMG's Butterworth filter.
    ecg_band: pass band of the ECG in Hz; None = no filter. ecg_order: order of the ECG's Butterworth filter.
    gsr_lowpass: cut-off frequency of the skin conductance in Hz; None = no filter. gsr_detrend: remove the linear trend
    of the skin conductance. fnirs_band: pass band of fNIRS in Hz; None = no filter.
    emd: denoise the EMG by its intrinsic mode functions.
    envelope: "auto" = RMS envelope of EMG before decimation in "resample", waveform otherwise | "rms" | "none".
    envelope_seconds: window of the RMS envelope.
    causal: `sosfilt` instead of zero-phase filtering of EMG.
    range_floor: a channel whose range within the clip is below this fraction of its largest magnitude is numerical noise and
        counts as constant. It is relative, so that volts and microvolts give the same; `moments.LEAST_STD` applies as well.
    seconds: use only the first `seconds` of every clip; None = whole clip.
    """

    window_mode: str = "resample"
    length: int = 400
    source: str = "raw"
    seconds: float | None = None
    emg_band: tuple[float | None, float | None] | None = (20.0, 250.0)
    emg_order: int = 4
    causal: bool = False
    ecg_band: tuple[float | None, float | None] | None = (0.1, 250.0)
    ecg_order: int = 2
    gsr_lowpass: float | None = None
    gsr_detrend: bool = False
    fnirs_band: tuple[float | None, float | None] | None = None
    emd: bool = True
    emd_options: EMDOptions = field(default_factory=EMDOptions)
    envelope: str = "auto"
    envelope_seconds: float = 0.1
    range_floor: float = 1e-8

    def __post_init__(self) -> None:
        if not isinstance(self.emd_options, EMDOptions):  # a mapping in a configuration
            object.__setattr__(self, "emd_options", EMDOptions(**self.emd_options))
        choices = {"window_mode": ("resample", "crop", "full"), "source": ("raw", "filtered"),
                   "envelope": ("auto", "rms", "none")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is none of {allowed}")
        for name in ("length", "emg_order", "ecg_order"):
            check_number(name, getattr(self, name), least=1, whole=True)
        for name in ("emg_band", "ecg_band", "fnirs_band"):  # compared with the channel's rate in filters.design
            check_band(name, getattr(self, name))
        for name in ("causal", "gsr_detrend", "emd"):
            check_flag(name, getattr(self, name))
        if self.seconds is not None:
            check_number("seconds", self.seconds, least=LEAST_SECONDS)
        if self.gsr_lowpass is not None:
            check_number("gsr_lowpass", self.gsr_lowpass, above=0)
        check_number("envelope_seconds", self.envelope_seconds, above=0)
        check_number("range_floor", self.range_floor, least=0)


# The windows of 200 samples of `watch` are used without filters.
WATCH = SignalOptions(window_mode="full", length=200, emg_band=None, ecg_band=None, emd=False, envelope="none")


def read_signal(ref: SignalRef, limits: Limits = LIMITS) -> Signal:
    """The channels of a clip as recorded, converted to the unit of their kind. ClipError("signal", ...): missing_file,
    missing_column, not_a_number, nan, infinite, short_file, too_large and the like, each with what to do.
    """
    if len(ref.channels) > limits.max_channels:
        raise ClipError("signal", "too_large", f"The clip has {len(ref.channels)} channels and data.max_channels is "
                                               f"{limits.max_channels}: use fewer, or raise data.max_channels.")
    columns = read_values(ref, limits)
    channels = []
    for channel, values in zip(ref.channels, columns, strict=True):
        values = cut_window(values, channel, ref)
        if np.isnan(values).any():
            raise ClipError("signal", "nan", f"Channel {channel.name} has empty or NaN cells; repair the file.")
        if not np.isfinite(values).all():
            raise ClipError("signal", "infinite", f"Channel {channel.name} has infinite values; repair the file.")
        channels.append(ChannelData(channel.name, channel.kind, channel.fs, units.convert(values, channel.unit, channel.kind)))
    return Signal(tuple(channels), filtered=ref.format == "biovid_filtered")


def source_files(ref: SignalRef) -> tuple[Path, ...]:
    """Every file that `read_signal` reads for this clip, in the order of its channels; content keys hash these files."""
    return FORMATS[ref.format].paths(ref) if ref.format in FORMATS else (ref.path,)


def seconds_of(ref: SignalRef) -> float | None:
    """Duration of the clip, from its window and the number of rows in the header or the lines of its file; None where the file
    would have to be read. With several rates the fastest channel is used."""
    fs = max(channel.fs for channel in ref.channels)
    if ref.start_row is not None and ref.end_row is not None:
        return (ref.end_row - ref.start_row) / fs
    if ref.end_s is not None:
        return ref.end_s - (ref.start_s or 0.0)
    rows = _counted_rows(ref)
    if rows is None:
        return None
    start = ref.start_row / fs if ref.start_row else ref.start_s or 0.0
    return max(0.0, rows / fs - start)


def _counted_rows(ref: SignalRef) -> int | None:
    """Rows of the clip's file from its header or lines; None where the file would have to be read, or holds several clips."""
    return None if ref.format in FORMATS else tables.count_rows(ref.path, ref.format)


def holds_rows(ref: SignalRef) -> bool:
    """False where, by its header or its lines, the file has no row in the clip's window."""
    rows = _counted_rows(ref)
    if rows is None:
        return True
    fs = max(channel.fs for channel in ref.channels)
    return rows > (ref.start_row or 0) and rows / fs > (ref.start_s or 0.0)


def column_error(ref: SignalRef) -> ClipError | None:
    """The error about missing or repeated columns that reading would raise, by the header of the file alone."""
    if ref.format in FORMATS:
        return None
    return tables.column_error(ref.path, ref.format, tuple(str(channel.column) for channel in ref.channels), separator(ref),
                               ref.encoding)


def separator(ref: SignalRef) -> str | None:
    return ref.sep or ("\t" if ref.format == "tsv" else None)


def read_values(ref: SignalRef, limits: Limits = LIMITS) -> list[np.ndarray]:
    """The whole columns of the file, one (rows,) float64 per channel."""
    form = FORMATS.get(ref.format)
    if form is None or form.text:
        for path in source_files(ref):
            tables.check_size(path, ref.format, limits)
    if form is not None:
        columns = form.columns(ref)
        if not isinstance(form.read, str) and (rows := max(map(len, columns), default=0)) > limits.max_rows:
            raise ClipError("signal", "too_large", f"The signal file has {rows} rows and data.max_rows is {limits.max_rows}: "
                                                   "split it, or raise data.max_rows.")
        return columns
    if ref.format in ("biovid", "biovid_filtered"):  # one small file per clip: no cache needed
        table = tables.read_columns(ref.path, [str(c.column) for c in ref.channels], ref.sep, ref.decimal, ref.encoding)
        return [table[str(c.column)] for c in ref.channels]
    try:
        stat = ref.path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):
        raise ClipError("signal", "missing_file", "The signal file is missing; restore it.") from None
    columns = _read_file(ref.path, stamp, format=ref.format, channels=ref.channels, sep=separator(ref), decimal=ref.decimal,
                         item=ref.item, encoding=ref.encoding)
    if len({channel.fs for channel in ref.channels}) > 1:
        return [tables.trim(values) for values in columns]  # slower channels end earlier in the same table
    return columns


@lru_cache(maxsize=1)  # many windows of one long file are read one after the other
def _read_file(
    path: Path,
    stamp: tuple[int, int],
    format: str,
    channels: tuple[Channel, ...],
    sep: str | None,
    decimal: str,
    item: str | int | None,
    encoding: str,
) -> list[np.ndarray]:
    names = [str(channel.column) for channel in channels]
    if format in ("csv", "tsv", "ai4pain"):
        table = tables.read_columns(path, names, sep, decimal, encoding)
        return [table[name] for name in names]
    if format == "parquet":
        table = tables.read_parquet(path, names)
        return [table[name] for name in names]
    if format in ("npy", "npz"):
        return array_columns(path, item, channels)
    raise ValueError(f"unknown signal format {format!r}")


def array_columns(path: Path, item: str | int | None, channels: tuple[Channel, ...]) -> list[np.ndarray]:
    """Columns of arrays: by position, or "name" / "name:position" for an array of an npz; each array is read once."""
    arrays: dict[str | int | None, np.ndarray] = {}
    columns = []
    for channel in channels:
        name, position = item, channel.column
        if isinstance(position, str):
            head, colon, tail = position.rpartition(":")
            name, position = (head, int(tail)) if colon and tail.isdecimal() else (position, 0)
        if name not in arrays:
            arrays[name] = tables.read_array(path, name)
        array = arrays[name][:, None] if arrays[name].ndim == 1 else arrays[name]
        rows, width = array.shape
        # More columns than rows, and many more columns than channels: time probably runs along the other axis.
        if rows < width and (rows <= len(channels) < width or 2 * len(channels) < width):
            raise ClipError("signal", "swapped_axes", f"The array has {rows} rows and {width} columns, but rows must be "
                                                      "samples. It seems to be channels x samples: save it transposed.")
        if not 0 <= position < array.shape[1]:
            fix = f"Channel {channel.name}: the array has {array.shape[1]} columns; correct its position."
            raise ClipError("signal", "missing_column", fix)
        columns.append(np.ascontiguousarray(array[:, position]))
    return columns


def cut_window(values: np.ndarray, channel: Channel, ref: SignalRef) -> np.ndarray:
    """The window of `ref` from a whole column (rows,): by rows, or by seconds at the rate of the channel."""
    rows = len(values)
    start, stop = ref.start_row, ref.end_row
    if start is None and stop is None:
        start = 0 if ref.start_s is None else round(ref.start_s * channel.fs)
        stop = rows if ref.end_s is None else round(ref.end_s * channel.fs)
    start, stop = start or 0, rows if stop is None else stop
    wanted, window = stop - start, values[start:stop]
    if start < 0 or wanted < 1 or len(window) < max(1, (1 - SHORTFALL) * wanted):
        raise ClipError("signal", "short_file", f"Channel {channel.name} has {len(window)} of {wanted} values; "
                                                "the file is incomplete, or the window lies outside of it. Copy the file "
                                                "again, or correct the window.")
    return np.concatenate([window, np.full(wanted - len(window), window[-1])]) if len(window) < wanted else window


def process_signal(signal: Signal, options: SignalOptions = SignalOptions()) -> np.ndarray:
    """(L,C) float32, unnormalised: every channel filtered by its kind and resampled or cropped to `options.length` samples."""
    if not signal.channels:
        raise ClipError("signal", "no_channel", "The clip has no signal channel; define channels in the data set.")
    if signal.filtered and options.source == "raw":
        options = replace(options, source="filtered")  # never filter twice
    check_durations(signal, options)
    rate = max(channel.fs for channel in signal.channels)
    columns = []
    for channel in signal.channels:
        x = condition(_first_seconds(channel, options), channel.kind, channel.fs, options)
        if options.window_mode == "resample":
            x = resample(x, options.length)
        else:
            if channel.fs != rate:  # so that a step is the same time in every channel
                x = resample(x, max(1, round(len(x) * rate / channel.fs)))
            x = crop(x, options.length, channel.name)
        columns.append(x)
    with np.errstate(over="ignore"):
        out = np.stack(columns, axis=1).astype(np.float32)
    for channel, column in zip(signal.channels, out.T, strict=True):
        if not np.isfinite(column).all():
            raise ClipError("signal", "infinite", f"Channel {channel.name} has values too large for float32 (3e38); "
                                                  "repair the file.")
    return out


def used(signal: Signal, options: SignalOptions) -> list[np.ndarray]:
    """The recorded values of every channel that (approximately) enter the clip of `process_signal`: (n,) each."""
    rate, parts = max(channel.fs for channel in signal.channels), []
    for channel in signal.channels:
        x = _first_seconds(channel, options)
        length = max(1, round(options.length * channel.fs / rate))
        if options.window_mode != "resample" and len(x) > length:
            start = (len(x) - length) // 2
            x = x[start : start + length]
        parts.append(x)
    return parts


def _first_seconds(channel: ChannelData, options: SignalOptions) -> np.ndarray:
    """(n,) recorded values of the channel, only the first `options.seconds` if that is set."""
    if options.seconds is None:
        return channel.values
    return channel.values[: max(1, round(options.seconds * channel.fs))]


def check_durations(signal: Signal, options: SignalOptions) -> None:
    """ClipError where the durations of the channels differ by more than SHORTFALL and one sample: after resampling, the
    channels would no longer be synchronous."""
    most = options.seconds or float("inf")
    seconds = [min(len(channel.values) / channel.fs, most) for channel in signal.channels]
    shortest, longest = min(seconds), max(seconds)
    if longest - shortest > max(SHORTFALL * longest, 1 / min(channel.fs for channel in signal.channels)):
        raise ClipError("signal", "other_durations", f"The channels last from {shortest:.1f} to {longest:.1f} s; give a window "
                                                     "that all of them cover, or correct their rates.")


def condition(x: np.ndarray, kind: str, fs: float, options: SignalOptions) -> np.ndarray:
    """x (n,) of one kind: filtered, denoised, and its envelope, at its own rate. Gaps are interpolated before a filter; in
    an EMG they are 0 in the result."""
    size, moves = float(np.abs(x).max()), float(np.ptp(x))
    if moves < max(options.range_floor * size, LEAST_STD):
        if len(x) > 1:
            note(f"{kind}: a channel does not change within the clip and is treated as constant.")
        level = float(np.median(x))
        return np.full(len(x), level if size >= LEAST_STD else 0.0)
    raw = options.source == "raw"
    gap = gaps.find(x, kind, fs) if raw else None
    if gap is not None:
        gaps.check(gap, kind)
        x = gaps.bridge(x, gap)
    if gaps.stuck(x, kind):
        note(f"{kind}: the values often stay at one end of their range, as with a saturated amplifier.")
    if kind == "emg":
        if raw and options.emg_band:
            x = butterworth(x, *options.emg_band, options.emg_order, fs, options.causal, name=kind)
        if gap is not None:
            x = np.where(gap, 0.0, x)
        if raw and options.emd:
            x = denoise(x, fs, options.emd_options, gap, options.envelope_seconds)
        if options.envelope == "rms" or (options.envelope == "auto" and options.window_mode == "resample"):
            if half_window(fs, options.envelope_seconds) > options.envelope_seconds * fs / 2 + 0.5:
                note(f"{kind}: the envelope's window of {options.envelope_seconds:g} s is under three samples: three are used.")
            x = rms_envelope(x, fs, options.envelope_seconds)
            if gap is not None:
                x = np.where(gap, 0.0, x)
    elif kind == "ecg" and raw and options.ecg_band:
        x = butterworth(x, *options.ecg_band, options.ecg_order, fs, pad="even", name=kind)
    elif kind in ("gsr", "eda"):
        if options.gsr_lowpass is not None:
            x = butterworth(x, None, options.gsr_lowpass, 4, fs, name=kind)
        if options.gsr_detrend:
            x = x - np.linspace(x[0], x[-1], len(x))
    elif kind == "fnirs" and options.fnirs_band:
        x = butterworth(x, *options.fnirs_band, 2, fs, pad="even", name=kind)
    return x


def unfit_filters(channels: Sequence[Channel], filtered: bool, options: SignalOptions) -> list[str]:
    """Notes on filters that are not possible at the rates of these channels, as the workers will give them."""
    raw = options.source == "raw" and not filtered
    low = (None, options.gsr_lowpass) if options.gsr_lowpass is not None else None
    bands = {"emg": options.emg_band if raw else None, "ecg": options.ecg_band if raw else None,
             "fnirs": options.fnirs_band, "gsr": low, "eda": low}
    found = [f"{c.kind}: {problem}." for c in channels if (band := bands.get(c.kind)) and (problem := unfit(*band, c.fs))]
    return list(dict.fromkeys(found))


def crop(x: np.ndarray, length: int, name: str) -> np.ndarray:
    """`length` steps from the centre of x (n,); if x is up to 5 % too short, the last value is repeated."""
    if len(x) >= length:
        start = (len(x) - length) // 2
        return x[start : start + length]
    if len(x) < (1 - SHORTFALL) * length:
        raise ClipError("signal", "short_file", f"Channel {name} has {len(x)} of {length} samples; set "
                                              "signal.window_mode=resample.")
    return np.concatenate([x, np.full(length - len(x), x[-1])])
