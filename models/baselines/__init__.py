"""The comparison models of the paper's Tables 7 and 8, by name.

Networks read a dictionary of a batch as models.classifier.classifier does; estimators share fit / predict_proba. A file is only
imported when one of its models is built.
"""

from importlib import import_module
from typing import Any

from models.errors import ModelError

NETWORKS = {  # name -> (module, class)
    "lstm": ("models.baselines.signal_nets", "LSTMFCN"),
    "transformer": ("models.baselines.signal_nets", "SignalTransformer"),
    "convtran": ("models.baselines.signal_nets", "ConvTran"),
    "resnet3d": ("models.baselines.video_nets", "ResNet3D"),
    "vit3d": ("models.baselines.video_nets", "ViT3D"),
    "vgg_rnn": ("models.baselines.video_nets", "VGGRNN"),
    "e2e_mer": ("models.baselines.fusion_nets", "E2EMER"),
    "mte_mer": ("models.baselines.fusion_nets", "MTEMER"),
}
ESTIMATORS = ("random_forest", "svm", "ridge", "one_number")


def build_baseline(name: str, n_classes: int, seed: int | None = None, **options: Any) -> Any:
    """A network (torch module with `needs`) or, for the names in ESTIMATORS, a scikit-learn estimator.

    `seed` fixes the initial weights without touching the global random state. Raises ModelError on an unknown name.
    """
    if name in ESTIMATORS:
        return import_module("models.baselines.estimators").build_estimator(name, n_classes, seed=seed or 0, **options)
    if name not in NETWORKS:
        raise ModelError(f"no baseline is called {name!r}: choose one of {', '.join([*NETWORKS, *ESTIMATORS])}")
    import torch  # takes seconds, and who only asks for a source or fits an estimator does without

    module, cls = NETWORKS[name]
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return getattr(import_module(module), cls)(n_classes, **options)


def source(name: str) -> tuple[str, ...]:
    """Where the code of the baseline called `name` begins, as "module:name"."""
    return (":".join(NETWORKS[name]),) if name in NETWORKS else ("models.baselines.estimators:build_estimator",)
