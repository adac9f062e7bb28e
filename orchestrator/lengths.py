"""How long the clips of a cohort are, and at which rates, before any is prepared: what cannot be set beside the others.

Lengths are told from declared windows, headers and counted lines; no label is read. A clip's verdict goes into its person's
key, the cohort's usual length does not: somebody who joins changes no other person's shard unless a verdict changes.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.cohort import Clip
from orchestrator.errors import UserError
from preprocessing.signals import SignalOptions, seconds_of

SHORT, LONG = 0.55, 1.8  # of the usual length: half a file and a rate given twice too high or low lie beyond
NEAR, MOST = 0.1, 0.6  # lengths are usual where so many clips are so near the median; clips of any length have none
ABSURD = 0.1  # of the median, where no length is usual
SAME_RATE = 0.02  # AI4Pain's rates are estimated person by person


@dataclass(frozen=True)
class Lengths:
    """seconds: by (subject, sample), of the clips with a signal; usual: their median; regular: whether most are near it.

    odd: (subject, sample) -> seconds of those that are no clip of this cohort. None of it where windows are cropped in steps.
    """

    seconds: Mapping[tuple[int, str], float] = field(default_factory=dict)
    usual: float = 0.0
    regular: bool = True
    odd: Mapping[tuple[int, str], float] = field(default_factory=dict)

    def sentence(self) -> str:
        """What is odd or uneven, "" for clips of one length."""
        if self.odd:
            return (f"{len(self.odd)} of {len(self.seconds)} clips last {span(self.odd.values())} beside the usual "
                    f"{self.usual:.3g} s")
        if self.seconds and max(self.seconds.values()) > (1 + NEAR) * min(self.seconds.values()):
            return (f"the clips last {span(self.seconds.values())}, and each is stretched to the same number of steps: "
                    "signal.seconds cuts them alike")
        return ""


def span(values) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g} s" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g} s"


def measure(clips: Sequence[Clip], options: SignalOptions) -> Lengths:
    """The lengths of these clips' signals, as far as they can be told without reading them."""
    found, declared = {}, set()
    for clip in clips:
        ref = clip.recording.signal
        if ref is None or (seconds := seconds_of(ref)) is None or seconds <= 0:
            continue  # a file without values has a reason of its own
        key = (clip.subject, clip.sample)
        found[key] = min(seconds, options.seconds or seconds)
        if (ref.end_s is not None) or ref.end_row is not None:
            declared.add(key)
    if options.window_mode != "resample" or len(found) < 2:
        return Lengths(found)
    # Of people's medians: somebody with many clips decides no more than others. The upper of two, as odd ones are mostly short.
    own: dict[int, list[float]] = {}
    for (subject, _), seconds in found.items():
        own.setdefault(subject, []).append(seconds)
    usual = statistics.median_high([statistics.median_high(values) for values in own.values()])
    regular = sum(abs(s - usual) <= NEAR * usual for s in found.values()) >= MOST * len(found) if len(found) > 2 else False
    low, high = (SHORT, LONG) if regular else (ABSURD, 1 / ABSURD)
    odd = {key: s for key, s in found.items() if key not in declared and not low * usual < s < high * usual}
    return Lengths(found, usual, regular, odd)


def check_rates(clips: Sequence[Clip], options: SignalOptions) -> None:
    """UserError where window_mode=crop or full would set steps of different durations side by side."""
    if options.window_mode == "resample":
        return
    rates = sorted({max(c.fs for c in clip.recording.signal.channels) for clip in clips if clip.recording.signal})
    if rates and rates[-1] > (1 + SAME_RATE) * rates[0]:
        shown = ", ".join(f"{rate:g}" for rate in (rates if len(rates) < 6 else [*rates[:4], rates[-1]]))
        raise UserError(f"signal.window_mode={options.window_mode} counts steps, and the clips have different rates "
                        f"({shown} Hz), so that a step would not last as long for everybody: use signal.window_mode=resample, "
                        "or bring the files to one rate.")
