"""All models of the project by name, in plain torch and scikit-learn: without Ray and without the other packages.

`build(name, **options)` imports only the module it needs, so that `import models` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models import catalogue as catalogue  # fills the registry
from models.errors import ModelError
from models.registry import MODELS, find

if TYPE_CHECKING:
    from torch import nn

STAGE_1 = {  # name -> "module:class"
    "video_mae": "models.mae.video_mae:VideoMAE",
    "signal_mae": "models.mae.signal_mae:SignalMAE",
    "critic": "models.mae.critic:Critic",
}

__all__ = ["STAGE_1", "ModelError", "build", "names", "source"]


def names() -> list[str]:
    """Every name that build() takes."""
    return [*STAGE_1, *MODELS]


def build(name: str, **options: Any) -> "nn.Module":
    """The model called `name` (see names()), on the CPU, with initial weights from torch's global generator.

    Raises ModelError for an unknown name. Options are checked by the model itself; classifiers and baselines ignore options
    they do not have, so that one set of sizes builds any of them (the options of a run are checked before it starts).
    """
    if name not in STAGE_1:
        return _known(name).build(**options)
    module, _, cls = STAGE_1[name].partition(":")
    return getattr(import_module(module), cls)(**options)


def source(name: str) -> tuple[str, ...]:
    """The code of the model called `name` as "module:name"; it is part of the content key of everything that it computes.

    Raises ModelError for an unknown name.
    """
    return (STAGE_1[name] if name in STAGE_1 else _known(name).source,)


def _known(name: str):
    if name not in MODELS:
        raise ModelError(f"There is no model called {name!r}; choose one of: {', '.join(names())}.")
    return find(name)
