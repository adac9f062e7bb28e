"""Every network of the project by name. Plain torch: knows neither Ray nor the other rooms.

`build(name, **options)` imports the file it needs and no other, so that `import models` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

STAGE_1 = {  # name -> (module, class)
    "video_mae": ("models.mae.video_mae", "VideoMAE"),
    "signal_mae": ("models.mae.signal_mae", "SignalMAE"),
    "critic": ("models.mae.critic", "Critic"),
}
CLASSIFIERS = ("dual", "video", "signal", "signal_small")
BASELINES = (
    *("lstm", "transformer", "convtran", "resnet3d", "vit3d", "vgg_rnn", "e2e_mer", "mte_mer"),  # torch
    *("random_forest", "svm", "ridge", "one_number"),  # scikit-learn
)
NAMES = (*STAGE_1, *CLASSIFIERS, *BASELINES)

__all__ = ["BASELINES", "CLASSIFIERS", "NAMES", "STAGE_1", "ModelError", "build", "source"]


def build(name: str, **options: Any) -> "nn.Module":
    """The model called `name` (see NAMES), on the CPU, freshly initialised from torch's global generator.

    Raises ModelError for an unknown name. Options are checked by the model itself; classifiers and baselines leave aside
    names they do not know, so that one set of sizes builds any of them (a run's own options are checked before it starts).
    """
    if name in STAGE_1:
        module, cls = STAGE_1[name]
        return getattr(import_module(module), cls)(**options)
    if name in CLASSIFIERS:
        return import_module("models.classifier.classifier").build_classifier(name, **options)
    if name in BASELINES:
        return import_module("models.baselines").build_baseline(name, **options)
    raise ModelError(f"There is no model called {name!r}; choose one of: {', '.join(NAMES)}.")


def source(name: str) -> tuple[str, ...]:
    """Where the code of the model called `name` begins, as "module:name": what a key of anything that it computes holds.

    Raises ModelError for an unknown name.
    """
    if name in STAGE_1:
        return (":".join(STAGE_1[name]),)
    if name in CLASSIFIERS:
        return ("models.classifier.classifier:build_classifier",)
    if name in BASELINES:
        return import_module("models.baselines").source(name)
    raise ModelError(f"There is no model called {name!r}; choose one of: {', '.join(NAMES)}.")
