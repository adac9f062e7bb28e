"""The register of models: by its name what each reads, how it is built, what it costs and where in the paper it stands.

Light: nothing here imports torch. A model's own file is imported when the model is built. The built-in models stand in
catalogue.py; a file of somebody else's adds one with `register`, as decorator of the class or function that builds it
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
    """Beside an option's type, in Annotated: what it is, and its limits. least and most are allowed, above and below not."""

    about: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model. make: what builds it, itself or as "module:name"; it is called with n_classes, what the data give
    (n_channels, signal_length, token_dim, token_grid, frames, image_size, channels) and the options, by keyword; what it does
    not name it is not given.

    needs: keys of the batch that it reads, of tokens, signals and video. family: "classifier" is the paper's with some of its
    streams, "network" another torch module that is trained by epochs, "estimator" is fitted once (fit, predict_proba).
    signal_encoder: where it has E_ts, which the signal MAE pretrains, of what the tokens are: "step" or "conv".
    given: words of the call that the name stands for. settings: the options' values that come with the name.
    share: of a machine's rate of matrix products, what its training step reaches (benchmarks/models.py); what the step computes
    is counted. recurrent: goes through a signal step by step, which takes long to count.
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
        """Where its code begins, as "module:name"."""
        return self.make if isinstance(self.make, str) else f"{self.make.__module__}:{self.make.__qualname__}"

    def facts(self) -> list[Any]:
        """What a fold makes of the entry, JSON-like: a part of the run's key."""
        return [sorted(self.needs), self.family, self.signal_encoder, dict(self.given)]

    def maker(self) -> Callable[..., Any]:
        """What builds it. Imports its file."""
        if not isinstance(self.make, str):
            return self.make
        module, _, name = self.make.partition(":")
        return getattr(import_module(module), name)

    def build(self, n_classes: int, seed: int | None = None, **options: Any) -> Any:
        """The model, freshly initialised. `seed` fixes the initial weights without touching the global random state.

        Options that `make` does not name are left aside, so that one set of sizes builds any model.
        """
        make = self.maker()
        words = {**self.given, **options, "n_classes": n_classes}
        parameters = inspect.signature(make).parameters
        if self.estimator:
            words["seed"] = seed or 0
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            words = {name: value for name, value in words.items() if name in parameters}
        if self.estimator:
            return make(**words)
        import torch

        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return make(**words)


MODELS: dict[str, Model] = {}


def add(model: Model) -> None:
    """Put a model into the register. ModelError for a name that is taken, or words that say nothing."""
    if model.name in MODELS:
        raise ModelError(f"There is a model called {model.name!r} already: give the new one another name.")
    if model.family not in FAMILIES:
        raise ModelError(f"The model {model.name!r} is of no family {model.family!r}: choose one of {', '.join(FAMILIES)}.")
    if not model.needs or not model.needs <= TOKENS | SIGNALS | VIDEO:
        raise ModelError(f"The model {model.name!r} needs {sorted(model.needs)}: name some of tokens, signals and video.")
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
