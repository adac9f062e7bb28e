"""What is already finished: shards, encoders, tokens and folds, found by the same keys as in the stages. Nothing is written;
source files that no earlier command has hashed are not read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cohort.cohort import Cohort, private_folder
from orchestrator.config.configuration import Config
from orchestrator.config.model_inputs import needs
from orchestrator.evaluation import fold_data, run_record
from orchestrator.evaluation.ledger import open_ledger
from orchestrator.files.storage import HashCache, key_of
from orchestrator.plan.folds import Plan
from orchestrator.stores.clip_store import ClipStore, current, plan_shards
from orchestrator.stores.cross_dataset import Joined
from orchestrator.stores.encoder_store import open_encoder, plan_encoders
from orchestrator.stores.token_store import current as current_tokens
from orchestrator.stores.token_store import plan_tokens


@dataclass(frozen=True)
class Finished:
    """subjects: those whose shard is up to date; encoders: groups by Group.training; tokens: clips embedded, counted for each
    encoder; ledgers: by plan, names of finished folds, with "audit" if the canaries were fitted too."""

    subjects: frozenset[int] = frozenset()
    encoders: frozenset[Any] = frozenset()
    tokens: int = 0
    ledgers: tuple[frozenset[str], ...] = ()

    def folds(self, plan: int) -> frozenset[str]:
        return self.ledgers[plan] if plan < len(self.ledgers) else frozenset()


NOTHING = Finished()


def find(config: Config, people: Cohort, plans: Sequence[Plan]) -> Finished:
    """NOTHING if the store holds nothing of this configuration. A cohort of two data sets and a run with sweep.read are not
    searched: for them the answer is NOTHING as well."""
    store = config.store_dir / "clips"
    if isinstance(people, Joined) or config.sweep.read or not people.clips or not list(store.glob(f"{people.dataset}-*")):
        return NOTHING
    jobs = plan_shards(config, people, keep=False)
    cache = HashCache(private_folder(config) / "hashes.json")
    done = frozenset(job.subject for job in jobs if current(job, cache))
    if len(done) < len(jobs) or not plans:
        return Finished(done)
    clips = ClipStore(jobs[0].path.parent, jobs)
    trained: set[Any] = set()
    embedded: dict[str, int] = {}
    ledgers = []
    configs = run_record.runs(config) if len(plans) > 1 else [config]
    for own, plan in zip(configs, plans, strict=True):
        contents = []
        for part, its in plan.parts(own):
            found = [open_encoder(e) for e in plan_encoders(part, people, clips, its.groups, needs(own))]
            encoders = [e for e in found if e]
            trained |= {e.plan.group.training for e in encoders if e.plan.group}
            tokens = plan_tokens(part, people, clips, encoders)
            finished = {str(job.path): len(job.samples) for job in tokens if current_tokens(job, cache)}
            embedded |= finished
            if len(encoders) == len(found) and len(finished) == len({job.path for job in tokens}):
                recipe = fold_data.recipe(part, its.refit, its.leaky)
                contents.append(run_record.content(part, people, clips, encoders, tokens, recipe))
        ledgers.append(_folds(own, contents, plan) if len(contents) == len(plan.parts(own)) else frozenset())
    return Finished(done, frozenset(trained), sum(embedded.values()), tuple(ledgers))


def _folds(config: Config, contents: Sequence[dict[str, str]], plan: Plan) -> frozenset[str]:
    """Names of the folds that the run's ledger holds under exactly this content."""
    ledger = open_ledger(config, run_record.run_dir(config), key_of(run_record.together(contents), 32))
    missing = {fold.name for fold in ledger.missing(list(plan.folds))}
    names = {fold.name for fold in plan.folds} - missing
    audited = not missing and (ledger.run_dir / "audit.json").is_file()
    return frozenset(names | ({"audit"} if audited else set()))
