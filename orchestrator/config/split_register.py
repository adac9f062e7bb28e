"""The register of splits: by name, the function that divides a cohort into folds, and its options.

The built-in ones are added by orchestrator/plan/splits.py; their options are explained in experiments/split/. A plugin adds
one with `register` (docs/how-to/extend.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.errors import UserError

Make = TypeVar("Make", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Split:
    """make: called with the configuration and the subjects of the cohort; returns one plan.splits.SubjectSplit per
    fold, in the order of fold numbers. options: defaults by name; make finds them as config.split.NAME."""

    name: str
    make: Callable[..., Any]
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)


SPLITS: dict[str, Split] = {}


def register(*, name: str, about: str, **options: Any) -> Callable[[Make], Make]:
    """A decorator that adds the function below it as a split; `options`: their defaults. UserError for a name that is taken."""
    def keep(make: Make) -> Make:
        if name in SPLITS:
            raise UserError(f"There is a split called {name!r} already: give the new one another name.")
        SPLITS[name] = Split(name=name, make=make, about=about, options=options)
        return make

    return keep
