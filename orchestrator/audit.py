"""audit=true: the leakage canaries on the run's own data, with its own model, folds and scheduler.

About twice the fits of one seed more. Results go into audit.json and the report; a canary that fails is a defect of ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import damage, progress
from orchestrator.canaries import (
    FAILED,
    PASSED,
    UNCLEAR,
    VARIANTS,
    judge_accuracy,
    judge_other,
    judge_test,
    recipe_of,
)
from orchestrator.config import Config
from orchestrator.encoders import Encoder
from orchestrator.errors import LineageError
from orchestrator.folddata import used_encoder
from orchestrator.foldfit import FoldData, FoldRecipe, UsedEncoder, fit_fold
from orchestrator.folds import Fold, Plan
from orchestrator.ledger import Ledger
from orchestrator.lineage import Lineage
from orchestrator.storage import key_of, read_json, sources_sha256, write_json

QUESTIONS = {
    "shuffled": "Labels shuffled within every person: is accuracy at chance?",
    "coded": "Every person and class replaced by a code of its own: learnt by heart, and of no use for others?",
    "noisy_test": "The test people of the first fold replaced by noise: is everything fitted the same?",
    "noisy_other": "A training person of the first fold replaced by noise: do the weights change?",
    "guard": "An artefact that says it saw the test people: does the fold refuse to start?",
    "roles": "Is every test person absent from training, validation and the encoder of the fold?",
    "opened": "Were the test clips of every fold opened once?"}


@dataclass(frozen=True)
class AuditWork:
    """What the trials share: name -> (variant, fold)."""

    pairs: Mapping[str, tuple[str, Fold]]
    data: FoldData
    recipe: FoldRecipe
    encoders: dict[int | None, UsedEncoder | None]
    ledgers: Mapping[str, Ledger]

    def run(self, name: str) -> dict:
        variant, fold = self.pairs[name]
        entry = fit_fold(fold, VARIANTS[variant](self.data, fold), recipe_of(variant, self.recipe),
                         self.encoders[fold.group], score_training=variant == "coded")
        self.ledgers[variant].write(fold, entry)
        return {"accuracy": -1.0}


def run(config: Config, plan: Plan, data: FoldData, recipe: FoldRecipe, encoders: Sequence[Encoder],
        ledger: Ledger, folder: Path) -> list[dict]:
    """Fit what the canaries' own ledgers lack, judge, write audit.json. One row a canary: name, question, verdict, text."""
    from orchestrator.schedule import run_grid

    first = [fold for fold in plan.folds if fold.seed == plan.folds[0].seed]
    wanted = {"shuffled": first, "coded": first, "noisy_test": first[:1], "noisy_other": first[:1]}
    key = key_of([ledger.content_key, sources_sha256("orchestrator/canaries.py", "orchestrator/audit.py")], 32)
    ledgers = {variant: Ledger(folder / "audit" / variant, key) for variant in wanted}
    for own in ledgers.values():
        own.sweep()
    for variant, people_folds in wanted.items():
        damage.entries("audit", ledgers[variant], people_folds, f" of the canary {variant}")
    missing = {f"{variant}-{fold.name}": (variant, fold) for variant, folds in wanted.items()
               for fold in ledgers[variant].missing(folds)}
    used = {group: used_encoder(encoders, group) for group in {fold.group for fold in first}}

    def work(names: list[str]) -> AuditWork:
        return AuditWork({name: missing[name] for name in names}, data, recipe, used, ledgers)

    failed = run_grid(config, "audit", f"{folder.name} audit", list(missing), sum(map(len, wanted.values())), work,
                      folder) if missing else {}
    rows = [{"name": name, "question": QUESTIONS[name], **found}
            for name, found in _judged(plan, data, recipe, encoders, used, ledger, ledgers, wanted, failed).items()]
    write_json(folder / "audit.json", rows)
    for row in rows:
        progress.say("audit", f"{row['name']}: {row['verdict']}. {row['text']}")
    return rows


def clean(folders: Iterable[Path]) -> bool:
    """Whether no canary of these runs failed."""
    return not any(row["verdict"] == FAILED for folder in folders for row in read_json(folder / "audit.json") or [])


def _judged(plan: Plan, data: FoldData, recipe: FoldRecipe, encoders: Sequence[Encoder],
            used: Mapping[int | None, UsedEncoder | None], ledger: Ledger, ledgers: Mapping[str, Ledger],
            wanted: Mapping[str, list[Fold]], failed: Mapping[str, str]) -> dict[str, dict]:
    first = wanted["shuffled"][0]
    plain = ledger.read(first)
    found = {}
    for variant, folds in wanted.items():
        entries = [entry for fold in folds if (entry := ledgers[variant].read(fold))]
        if len(entries) < len(folds) or (variant.startswith("noisy") and plain is None):
            why = next((reason for name, reason in failed.items() if name.startswith(variant)), "the fold itself is missing")
            found[variant] = {"verdict": UNCLEAR, "text": f"{len(folds) - len(entries)} of {len(folds)} fits failed: {why}"}
        elif variant == "noisy_test":
            found[variant] = judge_test(plain or {}, entries[0])
        elif variant == "noisy_other":
            found[variant] = judge_other(plain or {}, entries[0])
        else:
            found[variant] = judge_accuracy(entries, data.n_classes, variant == "coded")
    found["guard"] = _guard_refuses(first, data, recipe, used[first.group])
    found["roles"] = _roles(plan, data, encoders)
    openings = [entry["test_openings"] for fold in plan.folds if (entry := ledger.read(fold))]
    found["opened"] = _verdict(all(n == 1 for n in openings), f"{len(openings)} folds.")
    return found


def _guard_refuses(fold: Fold, data: FoldData, recipe: FoldRecipe, encoder: UsedEncoder | None) -> dict:
    try:
        fit_fold(fold, data, recipe, encoder, [Lineage("a canary", frozenset(data.keys(fold.test)))])
    except LineageError as refusal:
        return _verdict("a canary" in str(refusal), "It refuses and names the way in.")
    return _verdict(False, "It started.")


def _roles(plan: Plan, data: FoldData, encoders: Sequence[Encoder]) -> dict:
    seen = {e.plan.index: e.lineage.everyone() for e in encoders}
    met = [fold.index for fold in plan.folds
           if set(data.keys(fold.test)) & {*data.keys(fold.train), *data.keys(fold.val), *seen.get(fold.group or 0, ())}]
    return _verdict(not met, f"{len(plan.folds)} folds." if not met else f"Not in the folds {met[:10]}.")


def _verdict(good: bool, text: str) -> dict:
    return {"verdict": PASSED if good else FAILED, "text": text}
