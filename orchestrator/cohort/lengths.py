"""How long the clips of a cohort are, and at which rates, before any is prepared: what cannot be set beside the others.

Lengths are told from declared windows, headers and counted lines; no label decides what is excluded. A length that many
people have beside the usual one is a design (a rest of 60 s beside stimuli of 10 s) and stays; `by_class` tells where it
gives the classes away. A clip's verdict goes into its person's key, the cohort's usual length does not: somebody who joins
changes no other person's shard unless a verdict changes.
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

SHORT, LONG = 0.55, 1.8  # of the usual length: half a file and a rate given twice too high or low lie beyond
NEAR, MOST = 0.1, 0.6  # lengths are usual where so many clips are so near the median; clips of any length have none
ABSURD = 0.1  # of the median, where no length is usual
DESIGNED = 0.5  # of the people, and two at least: a length that so many of them have is no damage
TELLING = 0.9  # area under the ROC curve of length alone, between two classes
SAME_RATE = 0.02  # AI4Pain's rates are estimated person by person


@dataclass(frozen=True)
class Lengths:
    """seconds: by (subject, sample), of the clips with a signal; usual: their median; regular: whether most are near it.

    odd: (subject, sample) -> seconds of those that are no clip of this cohort. None of it where windows are cropped in steps.
    stretched: each clip becomes the same number of steps, however long it is.
    """

    seconds: Mapping[tuple[int, str], float] = field(default_factory=dict)
    usual: float = 0.0
    regular: bool = True
    odd: Mapping[tuple[int, str], float] = field(default_factory=dict)
    stretched: bool = True

    def sentence(self) -> str:
        """What is odd or uneven, "" for clips of one length."""
        if self.odd:
            return (f"{len(self.odd)} of {len(self.seconds)} clips last {span(self.odd.values())} beside the usual "
                    f"{self.usual:.3g} s")
        if self.stretched and self.seconds and max(self.seconds.values()) > (1 + NEAR) * min(self.seconds.values()):
            return (f"the clips last {span(self.seconds.values())}, and each is stretched to the same number of steps: "
                    "signal.seconds cuts them alike")
        return ""


def span(values) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g} s" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g} s"


def measure(clips: Sequence[Clip], options: "SignalOptions") -> Lengths:
    """The lengths of these clips' signals, as far as they can be told without reading them."""
    from preprocessing.signals.signals import seconds_of

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
        return Lengths(found, stretched=options.window_mode == "resample")
    # Of people's medians: somebody with many clips decides no more than others. The upper of two, as odd ones are mostly short.
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
    """Those of `far` whose length is no design. A design is what at least DESIGNED of the people (two or more) have beside
    clips that are not far: where a person's clips are all far, a wrong fs explains it as well."""
    both = {subject for subject, _ in found.keys() - far.keys()} & {subject for subject, _ in far}
    own = sorted((s, subject) for (subject, _), s in far.items() if subject in both)
    least = max(2, math.ceil(DESIGNED * n_people))
    near, begin, end = Counter[int](), 0, 0  # how often the people of own[begin:end] occur there
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
    """What the lengths of the clips tell of their classes, "" where little. seconds: by class, of the clips that are kept.

    Every clip is stretched to the same number of steps, so that a longer one shows faster: a model that tells a class by
    that has learnt the protocol. Two classes count as told apart where their medians differ by more than NEAR and a clip of
    the one is longer than one of the other with a probability (area under the ROC curve, Hanley and McNeil 1982) of TELLING.
    """
    lasting = {name: sorted(values) for name, values in seconds.items() if values}
    middle = {name: statistics.median(values) for name, values in lasting.items()}
    names = sorted(middle, key=lambda name: -middle[name])
    told = {name for i, a in enumerate(names) for b in names[i + 1:]
            if middle[a] > (1 + NEAR) * middle[b] and _longer(lasting[a], lasting[b]) >= TELLING for name in (a, b)}
    if not told:
        return ""
    first, *others = [name for name in names if name in told]
    return (f"Clips of class {first} last {span(lasting[first])}, "
            + ", ".join(f"of {name} {span(lasting[name])}" for name in others)
            + ": a model can tell the classes by their length; give all one window (start_s, end_s, or signal.seconds).")


def _longer(a: Sequence[float], b: Sequence[float]) -> float:
    """Probability that one of `a` is greater than one of `b`, equal ones half. b is sorted."""
    return sum(bisect_left(b, x) + bisect_right(b, x) for x in a) / (2 * len(a) * len(b))


def check_rates(clips: Sequence[Clip], options: "SignalOptions") -> None:
    """UserError where window_mode=crop or full would set steps of different durations side by side."""
    if options.window_mode == "resample":
        return
    rates = sorted({max(c.fs for c in clip.recording.signal.channels) for clip in clips if clip.recording.signal})
    if rates and rates[-1] > (1 + SAME_RATE) * rates[0]:
        shown = ", ".join(f"{rate:g}" for rate in (rates if len(rates) < 6 else [*rates[:4], rates[-1]]))
        raise UserError(f"signal.window_mode={options.window_mode} counts steps, and the clips have different rates "
                        f"({shown} Hz), so that a step would not last as long for everybody: use signal.window_mode=resample, "
                        "or bring the files to one rate.")
