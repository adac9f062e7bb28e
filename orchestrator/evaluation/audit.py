"""audit=true: the leakage canaries on the run's own data, with its own model, folds and scheduler.

It needs about four times the fits of one seed, plus three, in addition to the run itself. Results go into audit.json
and the report. A canary that fails is a defect of this program.
"""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import Config
from orchestrator.errors import LineageError
from orchestrator.evaluation import damage
from orchestrator.evaluation.canaries import (
    FAILED,
    KINDS,
    PASSED,
    SHIFTS,
    UNCLEAR,
    judge_again,
    judge_crossed,
    judge_other,
    judge_test,
    perturbed,
    recipe_of,
    repeats,
)
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe, UsedEncoder, fit_fold
from orchestrator.evaluation.fold_data import used_encoder
from orchestrator.evaluation.ledger import Ledger
from orchestrator.evaluation.raw_noise import Pipeline, Reprocessed, reprocess
from orchestrator.files.code_key import code_sha256
from orchestrator.files.storage import key_of, read_json, write_json
from orchestrator.plan.folds import Fold, Plan
from orchestrator.runtime import progress
from orchestrator.scores.fold_result import FoldResult
from orchestrator.stores.encoder_store import Encoder

# What perturbs a run's data
PERTURBATIONS = ("orchestrator.evaluation.canaries:perturbed", "orchestrator.evaluation.raw_noise:reprocess")
QUESTIONS = {
    "shuffled": "Labels shuffled within each subject: is accuracy at chance, and is no prediction affected by the test labels?",
    "coded": "All clips of a subject and class replaced by one random code: memorised, and useless for other subjects?",
    "again": "The first fold fitted again: is the result identical?",
    "noisy_test": "Test recordings of the first fold replaced (noise signals, altered videos): are the fitted parts identical?",
    "noisy_other": "Recordings of one training subject replaced in the same way: do the weights change?",
    "guard": "An artefact with the test subjects in its lineage: does the fold stop with an error?",
    "roles": "Is every test subject absent from training, validation and the encoder of the fold?",
    "opened": "Were the test clips of every fold accessed exactly once?"}
SINGLE = ("again", "noisy_test", "noisy_other")  # the first fold alone


@dataclass(frozen=True)
class Canary:
    """One fit. kind: a name of QUESTIONS; repeat and label shift of those that are fitted twice (canaries.py)."""

    kind: str
    fold: Fold
    repeat: int = 0
    shift: int = 0

    @property
    def place(self) -> str:
        """The name of its ledger."""
        return self.kind if self.kind in SINGLE else f"{self.kind}-{self.repeat}-{self.shift}"

    @property
    def name(self) -> str:
        return f"{self.place}-{self.fold.name}"


@dataclass(frozen=True)
class AuditWork:
    """What the trials share. data: by kind for the fits on noise, "" for all others."""

    fits: Mapping[str, Canary]
    data: Mapping[str, FoldData]
    recipe: FoldRecipe
    encoders: dict[int | None, UsedEncoder | None]
    ledgers: Mapping[str, Ledger]

    def run(self, name: str) -> dict:
        fit = self.fits[name]
        data = self.data.get(fit.kind, self.data[""])
        if fit.kind not in SINGLE:
            data = perturbed(fit.kind, data, fit.fold, fit.repeat, fit.shift)
        entry = fit_fold(fit.fold, data, recipe_of(fit.kind, self.recipe), self.encoders[fit.fold.group],
                         score_training=fit.kind == "coded")
        self.ledgers[fit.place].write(fit.fold, entry)
        return {"accuracy": -1.0}


def planned(folds: Sequence[Fold], n_clips: float, n_classes: int, asked: int | None, points: float) -> list[Canary]:
    """All fits of an audit, for the folds of the first seed with n_clips test clips in total. asked: canaries.repeats."""
    first = [fold for fold in folds if fold.seed == folds[0].seed]
    n = asked or repeats(n_clips, n_classes, points)
    crossed = [Canary(kind, fold, repeat, shift)
               for kind in KINDS for repeat in range(n) for shift in SHIFTS for fold in first]
    return [*crossed, *(Canary(kind, first[0]) for kind in SINGLE)]


def run(config: Config, plan: Plan, data: FoldData, recipe: FoldRecipe, encoders: Sequence[Encoder],
        ledger: Ledger, folder: Path, pipeline: Pipeline | None = None,
        served: Sequence[tuple[Sequence[Fold], Sequence[Encoder]]] = ()) -> list[dict]:
    """Fit what is missing in the canaries' own ledgers, judge it, write audit.json. One row per canary: name, question,
    verdict, text.

    plan: folds that share one pretraining and one setting. pipeline: the earlier stages of the run, so that noise can
    replace the recordings themselves. served: all folds of the run, each with its encoders; by default those of this plan.
    """
    from orchestrator.evaluation.scheduler import run_grid

    first = [fold for fold in plan.folds if fold.seed == plan.folds[0].seed]
    n_clips = sum(len(data.rows(fold.test)) for fold in first)
    points, n_classes = config.canaries.points, data.n_classes
    fits = planned(plan.folds, n_clips, n_classes, config.canaries.repeats, points)
    key = key_of([ledger.content_key, code_sha256(*PERTURBATIONS)], 32)
    ledgers = {fit.place: Ledger(folder / "audit" / fit.place, key) for fit in fits}
    for own in ledgers.values():
        own.clean_up()
    for place, own in ledgers.items():
        damage.entries("audit", own, [fit.fold for fit in fits if fit.place == place], f" of the canary {place}")
    missing = {fit.name: fit for fit in fits if ledgers[fit.place].missing([fit.fold])}
    used = {group: used_encoder(encoders, group) for group in {fold.group for fold in first}}
    noise = _noise(pipeline, data, first[0], folder, {fit.kind for fit in missing.values()})
    data_of = {"": data, **{kind: found.data for kind, found in noise.items()}}

    def work(names: list[str]) -> AuditWork:
        kinds = {"", *(missing[name].kind for name in names)}
        return AuditWork({name: missing[name] for name in names}, {kind: d for kind, d in data_of.items() if kind in kinds},
                         recipe, used, ledgers)

    failed = run_grid(config, "audit", f"{folder.name} audit", names=list(missing), planned=len(fits), work=work,
                      scratch=folder) if missing else {}
    facts = _remember_noise(folder, key, noise)
    shutil.rmtree(folder / "audit" / "raw", ignore_errors=True)
    judged = _fitted(fits, ledger=ledger, ledgers=ledgers, failed=failed, points=points, n_classes=n_classes, facts=facts)
    everything = served or [(plan.folds, encoders)]
    judged |= {"guard": _guard_stops(first[0], data, recipe, used[first[0].group]), "roles": _roles(everything, data)}
    accesses = [entry.test_openings for own, _ in everything for fold in own
                if (entry := ledger.read(fold))]
    judged["opened"] = _verdict(all(n == 1 for n in accesses), f"{len(accesses)} folds.")
    rows = [{"name": name, "question": question, **judged[name]} for name, question in QUESTIONS.items()]
    write_json(folder / "audit.json", rows)
    for row in rows:
        progress.say("audit", f"{row['name']}: {row['verdict']}. {row['text']}")
    return rows


def _noise(pipeline: Pipeline | None, data: FoldData, fold: Fold, folder: Path,
           kinds: Collection[str]) -> dict[str, Reprocessed]:
    """The data of the fits on noise that are still missing: noise for all test subjects, or for one training subject."""
    replaced = {"noisy_test": fold.test, "noisy_other": fold.train[:1]}
    return {kind: reprocess(pipeline, data, fold, subjects, folder / "audit" / "raw" / kind)
            for kind, subjects in replaced.items() if kind in kinds}


def _remember_noise(folder: Path, key: str, noise: Mapping[str, Reprocessed]) -> dict[str, dict]:
    """Where noise replaced the data, by kind; this includes fits that an earlier command finished."""
    path = folder / "audit" / "noise.json"
    there = read_json(path)
    known = there.get(key, {}) if isinstance(there, dict) else {}
    known |= {kind: {"where": found.where, "other_encoder": found.other_encoder} for kind, found in noise.items()}
    if noise:
        write_json(path, {key: known})
    return known


def clean(folders: Iterable[Path]) -> bool:
    """Whether no canary of these runs failed."""
    return not any(row["verdict"] == FAILED for folder in folders for row in read_json(folder / "audit.json") or [])


def _fitted(fits: Sequence[Canary], ledger: Ledger, ledgers: Mapping[str, Ledger], failed: Mapping[str, str],
            points: float, n_classes: int, facts: Mapping[str, dict]) -> dict[str, dict]:
    """The verdicts on what was fitted."""
    entries = {fit: entry for fit in fits if (entry := ledgers[fit.place].read(fit.fold))}
    plain = ledger.read(fits[-1].fold)
    single = {fit.kind: entries.get(fit) for fit in fits if fit.kind in SINGLE}
    found = {}
    again = single["again"]
    if plain is not None and again is not None:
        found["again"] = judge_again(plain, again)
    exact = found.get("again", {}).get("verdict") == PASSED
    for kind in QUESTIONS:
        own = [fit for fit in fits if fit.kind == kind]
        lacking = [fit for fit in own if fit not in entries]
        if not own or kind in found:
            continue
        if lacking or (kind in SINGLE and plain is None):
            why = next((reason for name, reason in failed.items() if name.startswith(kind)), "the fold itself is missing")
            found[kind] = {"verdict": UNCLEAR, "text": f"{len(lacking)} of {len(own)} fits are missing: {why}"}
        elif kind in KINDS:
            pairs = [(entries[fit], entries[replace(fit, shift=1)]) for fit in own if fit.shift == 0]
            found[kind] = judge_crossed(pairs, n_classes, points, exact, kind == "coded")
        else:
            assert plain is not None
            found[kind] = _on_noise(kind, plain, entries[own[0]], facts.get(kind, {}))
    return found


def _on_noise(kind: str, plain: FoldResult, entry: FoldResult, facts: Mapping) -> dict:
    found = judge_test(plain, entry) if kind == "noisy_test" else judge_other(plain, entry)
    if kind == "noisy_test" and facts.get("other_encoder"):
        found = {"verdict": FAILED, "text": "With the test recordings replaced, the fold's encoder would change: it was "
                                            "pretrained on test subjects."}
    where = facts.get("where")
    return {**found, "text": found["text"] + (f" Noise was inserted {where}." if where else "")}


def _guard_stops(fold: Fold, data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None) -> dict:
    try:
        fit_fold(fold, data, recipe, encoder, [Lineage("a canary", frozenset(data.keys(fold.test)))])
    except LineageError as error:
        return _verdict("a canary" in str(error), "It stops and shows how the test subject leaked in.")
    return _verdict(False, "It did not stop.")


def _roles(served: Sequence[tuple[Sequence[Fold], Sequence[Encoder]]], data: FoldData) -> dict:
    leaking: list[int] = []
    for folds, encoders in served:
        seen = {e.plan.index: e.lineage.everyone() for e in encoders}
        leaking += [fold.index for fold in folds
                    if set(data.keys(fold.test))
                    & {*data.keys(fold.train), *data.keys(fold.val), *seen.get(fold.group or 0, ())}]
    n = sum(len(folds) for folds, _ in served)
    return _verdict(not leaking, f"{n} folds." if not leaking else f"No. Folds with a leak: {leaking[:10]}.")


def _verdict(good: bool, text: str) -> dict:
    return {"verdict": PASSED if good else FAILED, "text": text}
