"""Folds of one configuration with everything they use: the stages before the folds, run where anything is missing."""

from dataclasses import dataclass

from orchestrator import embed, folddata, pretrain, runinfo
from orchestrator.chosen import Part
from orchestrator.clipstore import ClipStore
from orchestrator.cohort import Cohort
from orchestrator.encoders import Encoder
from orchestrator.foldfit import FoldData, FoldRecipe
from orchestrator.folds import Plan, check_classes
from orchestrator.models_needed import ESTIMATORS


@dataclass(frozen=True)
class Prepared:
    """content: what these folds are made of, as in runinfo.content."""

    part: Part
    encoders: list[Encoder]
    data: FoldData
    recipe: FoldRecipe
    content: dict[str, str]
    notes: list[str]  # what the workers of encoders and tokens were warned of


def prepare(part: Part, plan: Plan, people: Cohort, clips: ClipStore) -> Prepared:
    """Pretrain and embed what is missing, gather what folds share. Raises UserError where a fold lacks a class."""
    config = part.config
    encoders = pretrain.ensure(config, people, clips, plan.groups)
    tokens = embed.ensure(config, people, clips, encoders)
    data = folddata.build(config, people, clips, encoders, tokens)
    check_classes(part.folds, data.counts(), data.class_names, config.model.name in ESTIMATORS)
    recipe = folddata.recipe(config, plan.refit, plan.leaky)
    return Prepared(part, encoders, data, recipe,
                    runinfo.content(config, people, clips, encoders, tokens, recipe, part.lineages),
                    [*pretrain.notes(encoders), *embed.notes(tokens)])
