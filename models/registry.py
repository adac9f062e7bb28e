"""The registry of models: for each name its inputs, how it is built, its cost and its place in the paper.

Nothing here imports torch: the module of a model is imported when the model is built. The built-in models are listed in
catalogue.py; a plugin adds one with the decorator `register` on the class or function that builds it
(docs/how-to/extend.md).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from models.errors import ModelError

TOKENS, SIGNALS, VIDEO = frozenset({"tokens"}), frozenset({"signals"}), frozenset({"video"})
FAMILIES = ("classifier", "network", "estimator")
Make = TypeVar("Make", bound=Callable[..., Any])


@dataclass(frozen=True)
class Bounds:
    """For Annotated types of options: a description and bounds. least and most are inclusive, above and below exclusive."""

    about: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model. make: the class or function that builds it, or "module:name"; called by keyword with n_classes, the sizes of
    the data (n_channels, signal_length, token_dim, token_grid, frames, image_size, channels) and the options; it gets only the
    arguments that it names.

    needs: keys of the batch that it reads, out of tokens, signals and video. family: "classifier" is the model of the paper or
    one of its streams, "network" another torch module trained in epochs, "estimator" is fitted once (fit, predict_proba).
    signal_encoder: if it has E_ts, which the signal MAE pretrains, the kind of its tokens: "step" or "conv".
    given: fixed arguments of the call. settings: default values of options.
    share: the fraction of the machine's matrix-product rate that its training step reaches (benchmarks/models.py); the
    operations of a step are counted. recurrent: processes a signal step by step, for which counting takes long.
    """

    name: str
    make: str | Callable[..., Any]
    needs: frozenset[str]
    family: str
    about: str
    paper: str = ""
    signal_encoder: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 0.1
    recurrent: bool = False

    @property
    def estimator(self) -> bool:
        return self.family == "estimator"

    @property
    def source(self) -> str:
        """The class or function that builds it, as "module:name"."""
        return self.make if isinstance(self.make, str) else f"{self.make.__module__}:{self.make.__qualname__}"

    def facts(self) -> list[Any]:
        """The fields that affect a fold, as JSON types: part of the content key of the run."""
        return [sorted(self.needs), self.family, self.signal_encoder, dict(self.given)]

    def maker(self) -> Callable[..., Any]:
        """The class or function that builds it. Imports its module."""
        if not isinstance(self.make, str):
            return self.make
        module, _, name = self.make.partition(":")
        return getattr(import_module(module), name)

    def build(self, n_classes: int, seed: int | None = None, **options: Any) -> Any:
        """The model with new initial weights. `seed` fixes them without changing the global random state.

        Options that `make` does not name are ignored, so that one set of sizes builds any model.
        """
        make = self.maker()
        keywords = {**self.given, **options, "n_classes": n_classes}
        parameters = inspect.signature(make).parameters
        if self.estimator:
            keywords["seed"] = seed or 0
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            keywords = {name: value for name, value in keywords.items() if name in parameters}
        if self.estimator:
            return make(**keywords)
        import torch

        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return make(**keywords)


MODELS: dict[str, Model] = {}


def add(model: Model) -> None:
    """Add a model to the registry. ModelError for a name that is taken, or an unknown family or input."""
    if model.name in MODELS:
        raise ModelError(f"There is a model called {model.name!r} already: give the new one another name.")
    if model.family not in FAMILIES:
        raise ModelError(f"The model {model.name!r} has the unknown family {model.family!r}; choose one of "
                         f"{', '.join(FAMILIES)}.")
    if not model.needs or not model.needs <= TOKENS | SIGNALS | VIDEO:
        raise ModelError(f"The model {model.name!r} has needs={sorted(model.needs)}: give some of tokens, signals and video.")
    MODELS[model.name] = model


def register(*, name: str, needs: set[str] | frozenset[str], about: str, family: str = "network",
             **more: Any) -> Callable[[Make], Make]:
    """A decorator that adds the class or function below it as a model; `more`: further fields of Model."""
    def keep(make: Make) -> Make:
        add(Model(name=name, make=make, needs=frozenset(needs), family=family, about=about, **more))
        return make

    return keep


def lookup(name: str) -> Model | None:
    return MODELS.get(name)


def find(name: str) -> Model:
    """The model called `name`. Raises ModelError for an unknown one."""
    if name not in MODELS:
        raise ModelError(f"There is no model called {name!r}; choose one of: {', '.join(MODELS)}.")
    return MODELS[name]
