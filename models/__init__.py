"""Every network of the project by name. Plain torch: knows neither Ray nor the other rooms.

`build(name, **options)` imports the file it needs and no other, so that `import models` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models import catalogue as catalogue  # fills the register
from models.errors import ModelError
from models.registry import MODELS, find

if TYPE_CHECKING:
    from torch import nn

STAGE_1 = {  # name -> where its class stands
    "video_mae": "models.mae.video_mae:VideoMAE",
    "signal_mae": "models.mae.signal_mae:SignalMAE",
    "critic": "models.mae.critic:Critic",
}

__all__ = ["STAGE_1", "ModelError", "build", "names", "source"]


def names() -> list[str]:
    """Every name that build() takes."""
    return [*STAGE_1, *MODELS]


def build(name: str, **options: Any) -> "nn.Module":
    """The model called `name` (see names()), on the CPU, freshly initialised from torch's global generator.

    Raises ModelError for an unknown name. Options are checked by the model itself; classifiers and baselines leave aside
    names they do not know, so that one set of sizes builds any of them (a run's own options are checked before it starts).
    """
    if name not in STAGE_1:
        return _known(name).build(**options)
    module, _, cls = STAGE_1[name].partition(":")
    return getattr(import_module(module), cls)(**options)


def source(name: str) -> tuple[str, ...]:
    """Where the code of the model called `name` begins, as "module:name": what a key of anything that it computes holds.

    Raises ModelError for an unknown name.
    """
    return (STAGE_1[name] if name in STAGE_1 else _known(name).source,)


def _known(name: str):
    if name not in MODELS:
        raise ModelError(f"There is no model called {name!r}; choose one of: {', '.join(names())}.")
    return find(name)
