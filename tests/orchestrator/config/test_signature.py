"""Options that a signature declares, read without importing what declares them."""

from importlib import import_module

import pytest

from models.registry import MODELS
from orchestrator.config.signature import GIVEN, parameters, written

OTHERS = ("models.mae.video_mae:VideoMAE", "models.mae.signal_mae:SignalMAE", "models.classifier.training:ClassifierRecipe",
          "models.mae.training:VideoMAERecipe", "models.hpa.block:HPA", "models.classifier.dcan:DCAN",
          "models.classifier.dcan:ReleasedDCAN")
BUILT_IN = sorted({model.make for model in MODELS.values() if isinstance(model.make, str)})


@pytest.mark.parametrize("place", [*BUILT_IN, *OTHERS])
def test_what_is_read_from_the_file_is_the_signature(place):
    module, _, name = place.partition(":")
    assert written(place) == parameters(getattr(import_module(module), name))
    assert written(place) and not written(place) & GIVEN


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError):
        written("models.registry:nothing")
