"""Durations and sampling rates of the clips of a cohort, before preprocessing: which clips are not comparable with the others.

Durations come from declared windows, file headers and line counts; labels are not used to exclude clips. If many subjects
have a second duration, it is part of the study design (a rest of 60 s, stimuli of 10 s) and is kept; `by_class` warns if
it reveals the class. Whether a clip is excluded is part of its subject's key, the usual duration of the cohort is not: a new
subject changes the shards of others only if one of their clips is now judged differently.
"""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.cohort.cohort import Clip
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from preprocessing.signals.signals import SignalOptions

SHORT, LONG = 0.55, 1.8  # of the usual duration: a half file, or a rate wrong by a factor of two, is outside
NEAR, MOST = 0.1, 0.6  # there is a usual duration if 60 % of the clips are within 10 % of the median
ABSURD = 0.1  # of the median, if there is no usual duration
DESIGNED = 0.5  # share of subjects, at least two: a duration that so many have is not an error
TELLING = 0.9  # AUROC of the duration alone, between two classes
SAME_RATE = 0.02  # AI4Pain's rates are estimated for each subject


@dataclass(frozen=True)
class Lengths:
    """seconds: by (subject, sample), of clips with a signal; usual: their median; regular: whether most are near it.

    odd: (subject, sample) -> seconds of clips whose duration is implausible; empty if windows are cropped in steps.
    stretched: whether each clip is resampled to the same number of steps, whatever its duration.
    """

    seconds: Mapping[tuple[int, str], float] = field(default_factory=dict)
    usual: float = 0.0
    regular: bool = True
    odd: Mapping[tuple[int, str], float] = field(default_factory=dict)
    stretched: bool = True

    def sentence(self) -> str:
        """A sentence on implausible or different durations; "" if all clips have the same."""
        if self.odd:
            return (f"{len(self.odd)} of {len(self.seconds)} clips last {span(self.odd.values())}, but the usual "
                    f"duration is {self.usual:.3g} s")
        if self.stretched and self.seconds and max(self.seconds.values()) > (1 + NEAR) * min(self.seconds.values()):
            return (f"the clips last {span(self.seconds.values())}, and each is resampled to the same number of steps: "
                    "signal.seconds crops all to the same duration")
        return ""


def span(values) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g} s" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g} s"


def measure(clips: Sequence[Clip], options: "SignalOptions") -> Lengths:
    """Durations of these clips' signals, as far as they are known without reading the signals."""
    from preprocessing.signals.signals import seconds_of

    found, declared = {}, set()
    for clip in clips:
        ref = clip.recording.signal
        if ref is None or (seconds := seconds_of(ref)) is None or seconds <= 0:
            continue  # a file without values is excluded for its own reason
        key = (clip.subject, clip.sample)
        found[key] = min(seconds, options.seconds or seconds)
        if (ref.end_s is not None) or ref.end_row is not None:
            declared.add(key)
    if options.window_mode != "resample" or len(found) < 2:
        return Lengths(found, stretched=options.window_mode == "resample")
    # Median of subjects' medians, so that subjects weigh equally; the upper one of two, as wrong durations are mostly short.
    own: dict[int, list[float]] = {}
    for (subject, _), seconds in found.items():
        own.setdefault(subject, []).append(seconds)
    usual = statistics.median_high([statistics.median_high(values) for values in own.values()])
    regular = sum(abs(s - usual) <= NEAR * usual for s in found.values()) >= MOST * len(found) if len(found) > 2 else False
    low, high = (SHORT, LONG) if regular else (ABSURD, 1 / ABSURD)
    far = {key: s for key, s in found.items() if key not in declared and not low * usual < s < high * usual}
    return Lengths(found, usual, regular, _damaged(far, found, len(own)))


def _damaged(far: Mapping[tuple[int, str], float], found: Mapping[tuple[int, str], float],
             n_people: int) -> dict[tuple[int, str], float]:
    """Clips of `far` whose duration is not part of the study design. It is, if at least DESIGNED of the subjects (two or more)
    have it and also have clips of usual duration: if all clips of a subject are far, a wrong fs is as likely."""
    both = {subject for subject, _ in found.keys() - far.keys()} & {subject for subject, _ in far}
    own = sorted((s, subject) for (subject, _), s in far.items() if subject in both)
    least = max(2, math.ceil(DESIGNED * n_people))
    near, begin, end = Counter[int](), 0, 0  # number of clips of each subject in own[begin:end]
    designed = set()
    for s in sorted(set(far.values())):
        while end < len(own) and own[end][0] <= (1 + NEAR) * s:
            near[own[end][1]] += 1
            end += 1
        while begin < end and own[begin][0] < (1 - NEAR) * s:
            near[own[begin][1]] -= 1
            begin += 1
        if len(+near) >= least:
            designed.add(s)
    return {key: s for key, s in far.items() if s not in designed}


def by_class(seconds: Mapping[str, Sequence[float]]) -> str:
    """A warning if the duration reveals the class, else "". seconds: durations by class, of the clips that are used.

    Each clip is resampled to the same number of steps, so longer clips look faster: a model that uses this has learnt the
    protocol, not pain. Two classes count as separable if their medians differ by more than NEAR and a random clip of one is
    longer than one of the other with probability TELLING (area under the ROC curve, Hanley and McNeil 1982).
    """
    lasting = {name: sorted(values) for name, values in seconds.items() if values}
    middle = {name: statistics.median(values) for name, values in lasting.items()}
    names = sorted(middle, key=lambda name: -middle[name])
    separable = {name for i, a in enumerate(names) for b in names[i + 1:]
                 if middle[a] > (1 + NEAR) * middle[b] and _longer(lasting[a], lasting[b]) >= TELLING for name in (a, b)}
    if not separable:
        return ""
    first, *others = [name for name in names if name in separable]
    return (f"Clips of class {first} last {span(lasting[first])}, "
            + ", ".join(f"of {name} {span(lasting[name])}" for name in others)
            + ": a model can separate these classes by duration; use one window for all (start_s, end_s, or "
              "signal.seconds).")


def _longer(a: Sequence[float], b: Sequence[float]) -> float:
    """Probability that a value of `a` is greater than one of `b`; ties count half. b is sorted."""
    return sum(bisect_left(b, x) + bisect_right(b, x) for x in a) / (2 * len(a) * len(b))


def check_rates(clips: Sequence[Clip], options: "SignalOptions") -> None:
    """UserError if window_mode=crop or full would mix time steps of different durations."""
    if options.window_mode == "resample":
        return
    rates = sorted({max(c.fs for c in clip.recording.signal.channels) for clip in clips if clip.recording.signal})
    if rates and rates[-1] > (1 + SAME_RATE) * rates[0]:
        shown = ", ".join(f"{rate:g}" for rate in (rates if len(rates) < 6 else [*rates[:4], rates[-1]]))
        raise UserError(f"signal.window_mode={options.window_mode} counts time steps, but the clips have different sampling "
                        f"rates ({shown} Hz), so the steps have different durations: use signal.window_mode=resample, or "
                        "resample the files to one rate.")
