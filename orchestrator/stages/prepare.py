"""The folds of one configuration with everything they use; earlier stages are run if anything is missing."""

from dataclasses import dataclass
from functools import cached_property

from orchestrator.cohort.cohort import Cohort
from orchestrator.config.model_inputs import is_estimator
from orchestrator.evaluation import fold_data, run_record
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe
from orchestrator.evaluation.sweep_choice import Part
from orchestrator.plan.folds import Plan, check_classes
from orchestrator.stages import make_encoders, make_tokens
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder
from orchestrator.stores.token_store import TokenJob


@dataclass(frozen=True)
class Prepared:
    """content: what these folds are made of, as in run_record.content."""

    part: Part
    people: Cohort
    clips: ClipStore
    encoders: list[Encoder]
    tokens: list[TokenJob]
    recipe: FoldRecipe
    content: dict[str, str]
    notes: list[str]  # warnings of the workers that made encoders and tokens

    @cached_property
    def data(self) -> FoldData:
        """Read at first use; a finished run never needs it. Raises UserError if a fold lacks a class."""
        config = self.part.config
        found = fold_data.build(config, self.people, self.clips, self.encoders, self.tokens)
        check_classes(self.part.folds, found.counts(), found.class_names, is_estimator(config.model.name))
        return found


def prepare(part: Part, plan: Plan, people: Cohort, clips: ClipStore) -> Prepared:
    """Pretrain and embed what is missing."""
    config = part.config
    encoders = make_encoders.ensure(config, people, clips, plan.groups)
    tokens = make_tokens.ensure(config, people, clips, encoders)
    recipe = fold_data.recipe(config, plan.refit, plan.leaky)
    return Prepared(part, people, clips, encoders, tokens, recipe,
                    run_record.content(config, cohort=people, clips=clips, encoders=encoders, tokens=tokens, recipe=recipe,
                                       lineages=part.lineages),
                    [*make_encoders.notes(encoders), *make_tokens.notes(tokens)])
