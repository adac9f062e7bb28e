"""Folds of one configuration with everything they use: the stages before the folds, run where anything is missing."""

from dataclasses import dataclass

from orchestrator.cohort.cohort import Cohort
from orchestrator.config.model_inputs import is_estimator
from orchestrator.evaluation import fold_data, run_record
from orchestrator.evaluation.fit_fold import FoldData, FoldRecipe
from orchestrator.evaluation.sweep_choice import Part
from orchestrator.plan.folds import Plan, check_classes
from orchestrator.stages import make_encoders, make_tokens
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import Encoder


@dataclass(frozen=True)
class Prepared:
    """content: what these folds are made of, as in run_record.content."""

    part: Part
    encoders: list[Encoder]
    data: FoldData
    recipe: FoldRecipe
    content: dict[str, str]
    notes: list[str]  # what the workers of encoders and tokens were warned of


def prepare(part: Part, plan: Plan, people: Cohort, clips: ClipStore) -> Prepared:
    """Pretrain and embed what is missing, gather what folds share. Raises UserError where a fold lacks a class."""
    config = part.config
    encoders = make_encoders.ensure(config, people, clips, plan.groups)
    tokens = make_tokens.ensure(config, people, clips, encoders)
    data = fold_data.build(config, people, clips, encoders, tokens)
    check_classes(part.folds, data.counts(), data.class_names, is_estimator(config.model.name))
    recipe = fold_data.recipe(config, plan.refit, plan.leaky)
    return Prepared(part, encoders, data, recipe,
                    run_record.content(config, people=people, clips=clips, encoders=encoders, tokens=tokens, recipe=recipe,
                                       lineages=part.lineages),
                    [*make_encoders.notes(encoders), *make_tokens.notes(tokens)])
