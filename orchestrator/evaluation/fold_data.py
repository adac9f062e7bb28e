"""From the stores to the data that folds share: one read-only FoldData of the task's clips, in order of (subject, clip)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.cohort import duplicates
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
from preprocessing.duplicates.fingerprints import same_signals, signal_fingerprint
from preprocessing.shard import ShardSignals


def build(config: Config, cohort: Cohort, clips: ClipStore, encoders: Sequence[Encoder],
          tokens: Sequence[TokenJob]) -> FoldData:
    """Raises UserError if the model reads a modality that the data set lacks, or if subjects differ in channels."""
    wanted, classes = needs(config), config.task.classes
    needs_video = bool(tokens) or "video" in wanted  # then a clip without a keyframe cannot be used
    shards = []
    parts: dict[str, list] = defaultdict(list)
    counts_per_subject = []
    shapes: dict[tuple, int] = {}
    channels: tuple[str, ...] = ()
    order = trial_order(cohort)
    for person in cohort.people:
        shard = clips.signals(person.index)
        usable = shard.usable(classes, needs_video, "signals" in wanted)
        counts_per_subject.append(int(usable.sum()))
        if not usable.any():
            continue
        kept = zip(shard.samples, shard.n_crops, usable, strict=True)
        shards.append(ShardClips(clips.paths[person.index], tuple((s, int(count)) for s, count, k in kept if k)))
        parts["samples"] += [s for s, k in zip(shard.samples, usable, strict=True) if k]
        parts["tells"].append(clips.comparable(person.index, shard.samples)[usable])
        parts["subject"].append(np.full(usable.sum(), person.index))
        parts["labels"].append([classes.index(int(label)) for label in shard.label[usable]])
        parts["signals"].append(shard.signals[usable])
        parts["numbers"].append(_numbers(person, shard, order)[usable])
        shapes.setdefault((shard.signals.shape[1:], shard.channels), person.index)
        channels = channels or shard.channels
    check_modalities(config, cohort.dataset, cohort.has_video, True)
    if not parts["samples"]:
        raise UserError(f"No clip of task={config.task.name} is usable: see the table of excluded clips, "
                        f"quarantine.parquet in {clips.folder}.")
    if len(shapes) > 1 and "signals" in wanted:
        raise UserError(f"Subjects differ in their signals ({', '.join(str(s) for s in shapes)}): give all subjects the same "
                        "channels, or use model=video.")
    signals = np.concatenate(parts["signals"]) if len(shapes) == 1 else np.zeros((0, 0, 0), np.float32)
    check_modalities(config, cohort.dataset, True, bool(signals.size))
    subject, labels = np.concatenate(parts["subject"]), np.concatenate(parts["labels"]).astype(np.int64)
    check_duplicates(signals, subject, cohort, np.concatenate(parts["tells"]))
    numbers = np.concatenate(parts["numbers"])
    _check_known(config, numbers)
    moments = {p.index: m for p in cohort.people if (m := clips.moments(p.index, classes)) is not None}
    return FoldData(samples=tuple(parts["samples"]), subject=subject, labels=labels, signals=signals, channels=channels,
                    tokens=_tokens(encoders, tokens, counts_per_subject) if "tokens" in wanted else {},
                    token_grid=token_shape(config, encoders[0])[0] if tokens else (1, 1, 1), numbers=numbers,
                    moments=moments if signals.size else {}, pseudonyms=tuple(p.pseudonym for p in cohort.people),
                    cohort=cohort.name, n_classes=len(classes),
                    quarantined=_excluded(cohort.label_counts(classes), subject, labels), class_names=names(config, cohort),
                    frames=Frames(shards, config.clip.frames, config.clip.rate, config.encoder.image_size)
                    if "video" in wanted else None,
                    cohorts=tuple(p.cohort or cohort.name for p in cohort.people),
                    token_lineages=_lineages(encoders, tokens) if "tokens" in wanted else {})


def _numbers(person: Person, shard: ShardSignals, order: Mapping[tuple[int, str], float]) -> np.ndarray:
    """(n, 6) float64 as FoldData.numbers."""
    sex, n = {"f": 0.0, "m": 1.0}.get(person.sex or "", np.nan), len(shard.samples)
    age = np.nan if person.age is None else float(person.age)
    places = [order.get((person.index, sample), np.nan) for sample in shard.samples]
    return np.stack([shard.duration_s, shard.n_frames, shard.n_keyframes, np.full(n, sex), np.full(n, age), places], 1)


def _check_known(config: Config, numbers: np.ndarray) -> None:
    """UserError for a control whose numbers this data set does not provide."""
    feature = config.model.options().get("feature") if config.model.name == "one_number" else None
    columns = {"sex_age": [3, 4], "trial_order": [5]}.get(str(feature))
    if columns and not np.isfinite(numbers[:, columns]).any():
        what = "sex and age of its subjects are not known" if feature == "sex_age" else \
            "its clips are not windows of longer recordings and their order is not known"
        raise UserError(f"model.feature={feature} cannot be used for {config.dataset}, because {what}: use another "
                        "model.feature.")


def check_duplicates(signals: np.ndarray, subject: np.ndarray, cohort: Cohort, informative: np.ndarray | None = None) -> None:
    """Raises UserError if two subjects contain an identical recording (n, L, C), which would leak into training.

    Recordings that are constant or hold too little information may be equal by chance and are skipped. informative (n,)
    bool: which recordings are compared; None for all.
    """
    rows, prints = [], []
    for row, clip in enumerate(signals):  # no rows where the data set has no signals
        if (informative is None or informative[row]) and (found := signal_fingerprint(clip)) is not None:
            rows.append(int(subject[row]))
            prints.append(found)
    duplicates.refuse(cohort, rows, same_signals(prints), "equal after decoding")


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


def _excluded(planned: Mapping[int, Counter], subject: np.ndarray, labels: np.ndarray) -> dict[int, dict[int, int]]:
    """subject -> class -> clips of the cohort that are excluded from all folds, for any reason."""
    usable = Counter(zip(subject.tolist(), labels.tolist(), strict=True))
    found = {s: {c: n - usable[s, c] for c, n in sorted(counts.items()) if n > usable[s, c]} for s, counts in planned.items()}
    return {s: counts for s, counts in found.items() if counts}


def names(config: Config, cohort: Cohort) -> tuple[str, ...]:
    """The task's classes by name, in the order of their labels 0 .. K-1."""
    return tuple(cohort.class_names[c] for c in config.task.classes)


def recipe(config: Config, refit: bool, leaky: bool) -> FoldRecipe:
    return FoldRecipe(model=config.model.name, options=config.model.options(), train=dict(config.train), refit=refit,
                      leaky=leaky, fixed_epochs=config.protocol.val == "fixed_epochs" and not leaky, signal=dict(config.smae),
                      scale=config.scale,
                      as_paper_epochs=config.protocol.as_paper_epochs if leaky and chooses_epoch(config) else None)


def used_encoder(encoders: Sequence[Encoder], group: int | None) -> UsedEncoder | None:
    """The encoder of a fold: that of its group, or the only one if there was no pretraining."""
    chosen = [e for e in encoders if e.plan.index == (group or 0)]
    if not chosen:
        return None
    encoder = chosen[0]
    state = encoder.signal_state()
    arrays = None if state is None else {name: value.numpy() for name, value in state.items()}
    return UsedEncoder(encoder.plan.index, encoder.sha256, arrays, encoder.lineage)
