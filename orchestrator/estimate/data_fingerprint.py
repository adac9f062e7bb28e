"""The content of a data root in numbers: subjects, clips, classes, rates, sizes, and all that is missing or duplicated.

Computed from the loader's references and from a few opened recordings; nothing is written.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lengths import Lengths, by_class, check_rates, measure
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import SIGNALS, TOKENS, VIDEO, needs, reads_video
from orchestrator.errors import UserError
from orchestrator.estimate.clip_costs import PIXELS_PER_FRAME
from orchestrator.files.storage import file_sha256
from orchestrator.stores.clip_store import clip_options
from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits
from preprocessing.inputs.paths import is_file
from preprocessing.notes import gathered
from preprocessing.recordings import Recording, SignalRef, VideoRef
from preprocessing.signals.signals import (
    SignalOptions,
    column_error,
    holds_rows,
    process_signal,
    read_signal,
    seconds_of,
    unfit_filters,
)

SAMPLED_VIDEOS, SAMPLED_SIGNALS = 6, 12
MORE = 5  # if none of these can be used, up to so many times more are opened, until one can
MOST_FRAMES = 400  # of one sampled video; a clip is shorter
HASH_BUDGET = 300_000_000  # bytes read to find equal files


@dataclass(frozen=True)
class ClassCount:
    """Clips of one class: in all, and the fewest and most that one subject has."""

    name: str
    clips: int
    least: int
    most: int
    in_task: bool


@dataclass(frozen=True)
class Sample:
    """A few opened recordings. seconds, rates (fps or Hz) one entry each; problems: one reason each; examples: for each the
    file and its columns, "" where there is nothing to tell."""

    opened: int = 0
    seconds: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    shapes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """planned: the synthetic cohort before it is written, so that only counts are known."""

    subjects: int
    clips: int
    classes: tuple[ClassCount, ...]
    sexes: dict[str, int]
    ages: tuple[int, int] | None
    lacking_a_class: int  # subjects without a clip of some class of the task
    with_video: int
    with_signal: int
    channels: tuple[str, ...]
    n_channels: int
    video: Sample
    signal: Sample
    missing: tuple[Path, ...]
    empty: tuple[Path, ...]
    same_reference: int  # clips that use the same window of the same file as another clip
    same_content: tuple[tuple[Path, ...], ...]
    hashed_all: bool
    notes: tuple[str, ...]
    planned: bool = False
    lengths: Lengths = field(default_factory=Lengths)
    uneven_rates: str = ""  # the error that would stop a run that crops by steps
    unfit: tuple[str, ...] = ()  # filters that are not possible at these sampling rates
    lacking: tuple[str, ...] = ()  # signal files that lack a column or hold it twice, each with the names of its columns
    length_warning: str = ""  # a warning if the clips' lengths alone predict the class
    usable: Mapping[int, Counter] = field(default_factory=dict)  # subject -> class of the task -> clips not excluded

    @property
    def task_clips(self) -> int:
        return sum(c.clips for c in self.classes if c.in_task)

    @property
    def pixels(self) -> float:
        """Pixels of a frame, from the opened videos; those of BioVid without any."""
        sides = [tuple(map(int, shape.split("x"))) for shape in self.video.shapes]
        return statistics.median(w * h for w, h in sides) if sides else PIXELS_PER_FRAME

    @property
    def frames_per_clip(self) -> float | None:
        """From the opened videos; None without any."""
        pairs = list(zip(self.video.seconds, self.video.rates, strict=False))
        return statistics.median(s * r for s, r in pairs) if pairs else None


def take(config: Config, people: Cohort) -> Fingerprint:
    """The fingerprint of a previewed cohort."""
    recordings = [clip.recording for clip in people.clips]
    if not recordings:
        return planned_synthetic(config, people)
    videos = [r.video for r in recordings if r.video]
    signals = [r.signal for r in recordings if r.signal]
    films = videos if reads_video(config) else []  # a damaged video does not matter to a model that reads none
    read = recordings if films else [replace(r, video=None) for r in recordings]
    missing, empty = _absent(read)
    same_content, hashed_all = equal_files(_files(read) - set(missing) - set(empty))
    counts = people.label_counts(config.task.classes)
    layouts = Counter(tuple(f"{c.name} ({c.kind}, {c.fs:g} Hz)" for c in ref.channels) for ref in signals)
    channels = layouts.most_common(1)[0][0] if layouts else ()
    ages = [p.age for p in people.people if p.age is not None]
    options = clip_options(config, False)
    beside = {r.video: (seconds, max(c.fs for c in r.signal.channels)) for r in recordings
              if r.video and r.signal and (seconds := seconds_of(r.signal))}
    unread = {} if films else {r.signal: r.video for r in recordings if r.signal and r.video}
    kept = [clip for clip in people.clips if clip.recording.signal]
    try:
        uneven = ""
        check_rates(kept, options.signal)
    except UserError as error:
        uneven = str(error)
    lasting = measure(kept, options.signal)
    absent = {*missing, *empty}
    unfit = {text: None for ref in signals
             for text in unfit_filters(ref.channels, ref.format == "biovid_filtered", options.signal)}
    return Fingerprint(
        subjects=len(people.people), clips=len(recordings), classes=class_counts(config, people),
        sexes=dict(Counter(p.sex or "unknown" for p in people.people)), ages=(min(ages), max(ages)) if ages else None,
        lacking_a_class=sum(len(counter) < len(config.task.classes) for counter in counts.values()),
        with_video=len(videos), with_signal=len(signals), channels=channels, n_channels=len(channels),
        video=_until_one(lambda refs: sample_videos(refs, beside, options.limits), films, SAMPLED_VIDEOS, set(missing)),
        signal=_until_one(lambda refs: sample_signals(refs, options.signal, options.limits, unread), signals, SAMPLED_SIGNALS,
                          set(missing)),
        missing=missing, empty=empty, same_reference=_same_reference(recordings), same_content=same_content,
        hashed_all=hashed_all, notes=people.notes, lengths=lasting, uneven_rates=uneven,
        unfit=tuple(unfit), lacking=_lacking(signals), length_warning=_length_warning(config, people, lasting),
        usable=_usable(config, people, lasting, absent))


def _lacking(signals: Iterable[SignalRef]) -> tuple[str, ...]:
    found = {ref.path: error.names for ref in signals if (error := column_error(ref))}
    return tuple(found[path] for path in sorted(found))


def _length_warning(config: Config, people: Cohort, lasting: Lengths) -> str:
    if not lasting.stretched:
        return ""
    seconds: dict[str, list[float]] = {people.class_names[c]: [] for c in config.task.classes}
    for clip in people.clips:
        key = clip.subject, clip.sample
        if clip.label in config.task.classes and key in lasting.seconds and key not in lasting.odd:
            seconds[people.class_names[clip.label]].append(lasting.seconds[key])
    return by_class(seconds)


def _usable(config: Config, people: Cohort, lasting: Lengths, absent: set[Path]) -> dict[int, Counter]:
    """Clips of the task that are not excluded for missing files or columns, empty windows or their length: what can be known
    without decoding them."""
    wanted, counts = needs(config), {subject.index: Counter[int]() for subject in people.people}

    def there(ref: VideoRef | SignalRef | None) -> bool:
        if ref is None or set(source_files(ref)) & absent:
            return False
        return not isinstance(ref, SignalRef) or (
            all(map(is_file, source_files(ref))) and not column_error(ref) and holds_rows(ref))

    for clip in people.clips:
        video, signal = clip.recording.video, clip.recording.signal
        if clip.label not in config.task.classes or (clip.subject, clip.sample) in lasting.odd:
            continue
        if (there(signal) or not wanted & SIGNALS) and (there(video) or not wanted & (TOKENS | VIDEO)):
            counts[clip.subject][config.task.classes.index(clip.label)] += 1
    return counts


def planned_synthetic(config: Config, people: Cohort) -> Fingerprint:
    """The counts that the generator would write: the layout of BioVid Part A, one level per class of the task."""
    each, n = config.synthetic.clips_per_level, len(people.people)
    names = config.synthetic.levels or [("BL1", "PA1", "PA2", "PA3", "PA4")[c] for c in config.task.classes if c < 5]
    total = n * each * len(names)
    shape = f"{config.synthetic.size[0]}x{config.synthetic.size[1]}"
    return Fingerprint(subjects=n, clips=total, classes=tuple(ClassCount(name, n * each, each, each, True) for name in names),
                       sexes={}, ages=None, lacking_a_class=0, with_video=total, with_signal=total,
                       channels=("gsr (gsr, 512 Hz)", "ecg (ecg, 512 Hz)", "emg_trapezius (emg, 512 Hz)"), n_channels=3,
                       video=Sample(0, (5.5,), (25.0,), (shape,)), signal=Sample(0, (5.5,), (512.0,)), missing=(), empty=(),
                       same_reference=0, same_content=(), hashed_all=True, notes=(), planned=True)


def class_counts(config: Config, people: Cohort) -> tuple[ClassCount, ...]:
    per_subject: dict[int, Counter] = defaultdict(Counter)
    for clip in people.clips:
        per_subject[clip.label][clip.subject] += 1
    rows = []
    for label in range(max(len(people.class_names), max(per_subject, default=-1) + 1)):
        each = [per_subject[label][p.index] for p in people.people]
        name = people.class_names[label] if label < len(people.class_names) else str(label)
        rows.append(ClassCount(name, sum(each), min(each), max(each), label in config.task.classes))
    return tuple(rows)


def source_files(ref: VideoRef | SignalRef) -> tuple[Path, ...]:
    from preprocessing.signals import signals

    return signals.source_files(ref) if isinstance(ref, SignalRef) else (ref.path,)


def _files(recordings: Iterable[Recording]) -> set[Path]:
    return {path for r in recordings for ref in (r.video, r.signal) if ref for path in source_files(ref)}


def _absent(recordings: Iterable[Recording]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """(paths that do not exist, files without bytes)."""
    missing, empty = [], []
    for path in sorted(_files(recordings)):
        try:
            if path.is_file() and path.stat().st_size == 0:
                empty.append(path)
            elif not path.exists():
                missing.append(path)
        except OSError:
            missing.append(path)
    return tuple(missing), tuple(empty)


def _same_reference(recordings: Sequence[Recording]) -> int:
    """Number of clips that use exactly the same recordings as an earlier clip."""
    seen = Counter((r.video, None if r.signal is None else replace(r.signal)) for r in recordings)
    return sum(seen.values()) - len(seen)


def equal_files(paths: Iterable[Path], budget: int = HASH_BUDGET) -> tuple[tuple[tuple[Path, ...], ...], bool]:
    """(groups of files with equal content, whether all candidates were read). Only files of equal size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if is_file(path):
            by_size[path.stat().st_size].append(path)
    groups, whole = [], True
    for size, candidates in sorted(by_size.items()):
        if len(candidates) < 2:
            continue
        if size * len(candidates) > budget:
            whole = False
            continue
        budget -= size * len(candidates)
        by_hash: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(candidates):
            by_hash[file_sha256(path)].append(path)
        groups += [tuple(same) for same in by_hash.values() if len(same) > 1]
    return tuple(groups), whole


def spread(refs: Sequence, n: int, without: set[Path]) -> list:
    """n references, evenly spaced over the data set, so that several subjects are sampled."""
    there = [ref for ref in refs if not set(source_files(ref)) & without]
    if len(there) <= n:
        return there
    return [there[round(i * (len(there) - 1) / (n - 1))] for i in range(n)]


def _until_one(sample: Callable[[Sequence], Sample], refs: Sequence, n: int, without: set[Path]) -> Sample:
    """The sample of `n` references; of up to MORE times as many if none of them can be used."""
    chosen = spread(refs, n, without)
    found = sample(chosen)
    for ref in spread([ref for ref in refs if ref not in chosen], MORE * n, without):
        if len(found.problems) < found.opened:
            break
        more = sample([ref])
        found = replace(more, opened=found.opened + 1, problems=found.problems + more.problems,
                        examples=found.examples + more.examples)
    return found


def sample_videos(refs: Sequence[VideoRef], beside: Mapping[VideoRef, tuple[float, float]] = {},
                  limits: Limits | None = None) -> Sample:
    """Decode these clips (at most MOST_FRAMES frames each): their real size, rate and length.

    beside: seconds and rate of the signals of the same clip, with which the video is compared."""
    with gathered() as notes:
        found = _decoded(refs, beside, limits)
    return replace(found, notes=tuple(notes))


def _decoded(refs: Sequence[VideoRef], beside: Mapping[VideoRef, tuple[float, float]], limits: Limits | None) -> Sample:
    from preprocessing.clip import check_same_duration
    from preprocessing.video.video import Video

    seconds, rates, shapes, problems = [], [], [], []
    for ref in refs:
        try:
            with Video(ref, limits=limits) as video:
                first = last = 0.0
                n = 0
                for frame in video:
                    first, last, n = (first if n else frame.time_s), frame.time_s, n + 1
                    if n == MOST_FRAMES:
                        break
                shapes.append(f"{frame.width}x{frame.height}")
                if video.fps and n < MOST_FRAMES:
                    seconds.append(last - first + 1 / video.fps)
                    rates.append(video.fps)
                    check_same_duration(video.seconds, video.fps, *beside.get(ref, (0.0, 1.0)))
        except ClipError as error:
            problems.append(f"{error.reason}: {error.fix}")
    return Sample(len(refs), tuple(seconds), tuple(rates), tuple(shapes), tuple(problems), ("",) * len(problems))


def sample_signals(refs: Sequence[SignalRef], options: SignalOptions, limits: Limits,
                   unread: Mapping[SignalRef, VideoRef] = {}) -> Sample:
    """Read these clips and apply all steps of preprocessing except the slow denoising.

    unread: videos of the same clips that the model does not read; a run compares their length with that of the signals."""
    from preprocessing.clip import check_same_duration, undecoded_duration

    seconds, rates, problems, examples = [], [], [], []
    for ref in refs:
        try:
            with gathered():  # the run counts and reports these notes
                process_signal(signal := read_signal(ref, limits), replace(options, emd=False))
            channels = signal.channels
        except ClipError as error:
            problems.append(f"{error.reason}: {error.fix}")
            examples.append(error.names)
            continue
        seconds.append(max(len(c.values) / c.fs for c in channels))
        rates += [c.fs for c in channels]
        if film := unread.get(ref):
            try:
                check_same_duration(*undecoded_duration(film, limits), seconds[-1], min(c.fs for c in channels))
            except ClipError as error:
                problems.append(f"{error.reason}: {error.fix}")
                examples.append(error.names)
    return Sample(len(refs), tuple(seconds), tuple(rates), (), tuple(problems), tuple(examples))
