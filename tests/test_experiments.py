"""Every shipped configuration composes, its options fit the real signatures, and it opens by saying what it is."""

from importlib import import_module

import pytest

from models.registry import MODELS
from orchestrator.config.configuration import EXPERIMENTS, choices, compose
from orchestrator.config.model_inputs import VIDEO, needs
from orchestrator.plan.splits import SPLITS
from orchestrator.stages import check_options as options
from preprocessing.datasets.registry import SOURCES

pytestmark = pytest.mark.medium
FILES = sorted(EXPERIMENTS.glob("*/*.yaml"))


def word(path):
    return ("synthetic" if path.parent.name != "dataset" else path.stem,
            [] if path.parent.name == "dataset" else [f"{path.parent.name}={path.stem}"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_it_composes_and_every_option_is_taken(path):
    dataset, words = word(path)
    options.check(compose(dataset, words))


def test_every_file_opens_with_what_it_is():
    def first(path):
        return next(line for line in path.read_text().splitlines() if "@package" not in line)

    assert FILES and not [path for path in FILES if not first(path).startswith("# ") or len(first(path)) <= 20]


@pytest.mark.parametrize("name", choices("encoder"))
def test_an_encoder_can_be_built(name):
    import torch

    from models.mae.video_mae import VideoMAE
    from orchestrator.stores.encoder_store import video_options

    config = compose("synthetic", [f"encoder={name}"])
    wanted = video_options(config)
    if name in ("vit_base", "vit_large"):  # their shapes without their memory
        wanted |= {"depth": 1, "decoder_depth": 1}
    with torch.device("cpu"):
        model = VideoMAE(**wanted)
    assert model.frames == config.clip.frames and model.image_size == config.encoder.image_size


@pytest.mark.parametrize("name", [name for name in choices("model") if not MODELS[name].needs & VIDEO])
def test_a_model_of_the_folds_can_be_built_with_its_defaults(name):
    config = compose("synthetic", [f"model={name}"])
    wanted = {"n_classes": 2, **config.model.options()}
    if name in ("dual", "signal", "signal_small"):
        wanted["signal"] = dict(config.smae)
    shapes = {"token_dim": 32, "token_grid": (8, 2, 2), "n_channels": 3, "signal_length": 64}
    model = import_module("models").build(name, **shapes, **wanted)
    assert model.needs <= needs(config) | {"numbers"}


def test_the_small_model_of_the_folds_is_the_one_that_is_built_without_a_configuration():
    from models.classifier.classifier import SMALL_HEAD, SMALL_SIGNAL

    options = compose("watch", []).model.options()
    assert {"tokenizer": "conv", **options.pop("signal")} == SMALL_SIGNAL
    assert options == {"use_hpa": False, "hpa": {}, **SMALL_HEAD}


def test_every_model_and_data_set_that_can_be_chosen_is_registered_and_composes():
    assert set(MODELS) == set(choices("model")) and set(SOURCES) == set(choices("dataset"))
    assert set(SPLITS) == set(choices("split"))
    for name in MODELS:
        options.check(compose("synthetic", [f"model={name}"]))


def test_classes_of_tasks_are_labels_of_their_data_sets():
    assert compose("biovid_a", ["task=five"]).task.classes == [0, 1, 2, 3, 4]
    assert compose("biovid_a", []).task.classes == [0, 4] and compose("biovid_b", []).task.classes == [0, 2, 4]
    assert compose("watch", []).task.classes == list(range(7)) and compose("ai4pain", []).task.classes == [0, 1, 2]
