"""From the stores to what folds share: one read-only FoldData over the task's clips, in order of (person, clip)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.cohort import twins
from orchestrator.cohort.cohort import Cohort, Person
from orchestrator.cohort.lineage import Lineage
from orchestrator.cohort.trial_order import trial_order
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import check_modalities, chooses_epoch, needs
from orchestrator.errors import UserError
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder
from orchestrator.stores.frame_reader import Frames, ShardClips
from orchestrator.stores.token_store import TokenJob, Tokens, stored_lineage, token_shape
from preprocessing.prints import same_signals, signal_print
from preprocessing.shard import ShardSignals


def build(config: Config, people: Cohort, clips: ClipStore, encoders: Sequence[Encoder],
          tokens: Sequence[TokenJob]) -> FoldData:
    """Raises UserError where the model reads a modality that the data set lacks, or people differ in channels."""
    wanted, classes = needs(config), config.task.classes
    seen = bool(tokens) or "video" in wanted  # a clip without a keyframe is of no use then
    shards = []
    parts: dict[str, list] = defaultdict(list)
    counts_per_person = []
    shapes: dict[tuple, int] = {}
    channels: tuple[str, ...] = ()
    order = trial_order(people)
    for person in people.people:
        shard = clips.signals(person.index)
        keep = shard.usable(classes, seen, "signals" in wanted)
        counts_per_person.append(int(keep.sum()))
        if not keep.any():
            continue
        kept = zip(shard.samples, shard.n_crops, keep, strict=True)
        shards.append(ShardClips(clips.paths[person.index], tuple((s, int(count)) for s, count, k in kept if k)))
        parts["samples"] += [s for s, k in zip(shard.samples, keep, strict=True) if k]
        parts["tells"].append(clips.comparable(person.index, shard.samples)[keep])
        parts["subject"].append(np.full(keep.sum(), person.index))
        parts["labels"].append([classes.index(int(label)) for label in shard.label[keep]])
        parts["signals"].append(shard.signals[keep])
        parts["numbers"].append(_numbers(person, shard, order)[keep])
        shapes.setdefault((shard.signals.shape[1:], shard.channels), person.index)
        channels = channels or shard.channels
    check_modalities(config, people.dataset, people.has_video, True)
    if not parts["samples"]:
        raise UserError(f"No clip of task={config.task.name} is usable: see the quarantine table in {clips.folder}.")
    if len(shapes) > 1 and "signals" in wanted:
        raise UserError(f"People differ in their signals ({', '.join(str(s) for s in shapes)}): give everybody the same "
                        "channels, or use model=video.")
    signals = np.concatenate(parts["signals"]) if len(shapes) == 1 else np.zeros((0, 0, 0), np.float32)
    check_modalities(config, people.dataset, True, bool(signals.size))
    subject, labels = np.concatenate(parts["subject"]), np.concatenate(parts["labels"]).astype(np.int64)
    check_twins(signals, subject, people, np.concatenate(parts["tells"]))
    numbers = np.concatenate(parts["numbers"])
    _check_known(config, numbers)
    moments = {p.index: m for p in people.people if (m := clips.moments(p.index, classes)) is not None}
    return FoldData(samples=tuple(parts["samples"]), subject=subject, labels=labels, signals=signals, channels=channels,
                    tokens=_tokens(encoders, tokens, counts_per_person) if "tokens" in wanted else {},
                    token_grid=token_shape(config, encoders[0])[0] if tokens else (1, 1, 1), numbers=numbers,
                    moments=moments if signals.size else {}, pseudonyms=tuple(p.pseudonym for p in people.people),
                    cohort=people.name, n_classes=len(classes),
                    quarantined=_lost(people.label_counts(classes), subject, labels), class_names=names(config, people),
                    frames=Frames(shards, config.clip.frames, config.clip.rate, config.encoder.image_size)
                    if "video" in wanted else None,
                    cohorts=tuple(p.cohort or people.name for p in people.people),
                    token_lineages=_lineages(encoders, tokens) if "tokens" in wanted else {})


def _numbers(person: Person, shard: ShardSignals, order: Mapping[tuple[int, str], float]) -> np.ndarray:
    """(n, 6) float64 as FoldData.numbers."""
    sex, n = {"f": 0.0, "m": 1.0}.get(person.sex or "", np.nan), len(shard.samples)
    age = np.nan if person.age is None else float(person.age)
    places = [order.get((person.index, sample), np.nan) for sample in shard.samples]
    return np.stack([shard.duration_s, shard.n_frames, shard.n_keyframes, np.full(n, sex), np.full(n, age), places], 1)


def _check_known(config: Config, numbers: np.ndarray) -> None:
    """UserError for a control of numbers that this data set does not give."""
    feature = config.model.options().get("feature") if config.model.name == "one_number" else None
    columns = {"sex_age": [3, 4], "trial_order": [5]}.get(str(feature))
    if columns and not np.isfinite(numbers[:, columns]).any():
        what = "sex and age of its people are not known" if feature == "sex_age" else \
            "its clips are not cut from common recordings, so that their order is not known"
        raise UserError(f"model.feature={feature} is of no use for {config.dataset}, as {what}: use another model.feature.")


def check_twins(signals: np.ndarray, subject: np.ndarray, people: Cohort, tells: np.ndarray | None = None) -> None:
    """Refuse one and the same recording (n, L, C) under two people: whichever is tested, the other was trained on.

    Constant recordings say nothing and may be equal, as may those that hold too little (tells (n,) bool: which do not; None for
    none). Raises UserError.
    """
    rows, prints = [], []
    for row, clip in enumerate(signals):  # no rows where the data set has no signals
        if (tells is None or tells[row]) and (found := signal_print(clip)) is not None:
            rows.append(int(subject[row]))
            prints.append(found)
    twins.refuse(people, rows, same_signals(prints), "equal after decoding")


def _tokens(encoders: Sequence[Encoder], jobs: Sequence[TokenJob], counts: list[int]) -> dict[int, Tokens]:
    found = {}
    for index, own in _by_encoder(encoders, jobs).items():
        assert [len(job.samples) for job in own] == counts, "token files and clips differ"
        found[index] = Tokens([job.path for job in own], counts)
    return found


def _lineages(encoders: Sequence[Encoder], jobs: Sequence[TokenJob]) -> dict[int, Lineage]:
    return {index: stored_lineage(own) for index, own in _by_encoder(encoders, jobs).items() if own}


def _by_encoder(encoders: Sequence[Encoder], jobs: Sequence[TokenJob]) -> dict[int, list[TokenJob]]:
    return {encoder.plan.index: [job for job in jobs if job.encoder == encoder.plan.index] for encoder in encoders}


def _lost(planned: Mapping[int, Counter], subject: np.ndarray, labels: np.ndarray) -> dict[int, dict[int, int]]:
    """person -> class -> clips of the cohort that no fold can use, whatever the reason. Nothing is lost in silence."""
    usable = Counter(zip(subject.tolist(), labels.tolist(), strict=True))
    lost = {s: {c: n - usable[s, c] for c, n in sorted(counts.items()) if n > usable[s, c]} for s, counts in planned.items()}
    return {s: counts for s, counts in lost.items() if counts}


def names(config: Config, people: Cohort) -> tuple[str, ...]:
    """The task's classes by name, in the order of their labels 0 .. K-1."""
    return tuple(people.class_names[c] for c in config.task.classes)


def recipe(config: Config, refit: bool, leaky: bool) -> FoldRecipe:
    return FoldRecipe(model=config.model.name, options=config.model.options(), train=dict(config.train), refit=refit,
                      leaky=leaky, fixed_epochs=config.protocol.val == "fixed_epochs" and not leaky, signal=dict(config.smae),
                      scale=config.scale,
                      as_paper_epochs=config.protocol.as_paper_epochs if leaky and chooses_epoch(config) else None)


def used_encoder(encoders: Sequence[Encoder], group: int | None) -> UsedEncoder | None:
    """The encoder a fold is served by: its group's, or the only one where there was no pretraining."""
    chosen = [e for e in encoders if e.plan.index == (group or 0)]
    if not chosen:
        return None
    encoder = chosen[0]
    state = encoder.signal_state()
    arrays = None if state is None else {name: value.numpy() for name, value in state.items()}
    return UsedEncoder(encoder.plan.index, encoder.sha256, arrays, encoder.lineage)
