import pytest

from preprocessing.datasets import registry
from preprocessing.errors import InputError

NEED_ROOT = ["biovid_a", "biovid_b", "ai4pain", "ai4pain_2025", "manifest"]


def test_the_contract_names():
    assert set(registry.SOURCES) == {*NEED_ROOT, "watch", "synthetic"}


def test_unknown_names_get_the_nearest():
    with pytest.raises(InputError, match="biovid_a"):
        registry.load("biovid-a", ".")
    with pytest.raises(InputError, match="ai4pain_2025"):
        registry.load("ai4pain2025", ".")
    with pytest.raises(InputError, match="manifest"):
        registry.load("zzz", ".")


@pytest.mark.parametrize("name", NEED_ROOT)
@pytest.mark.parametrize("root", [None, "", "/nowhere/at/all", "a\0b", "x" * 5000, "~nobody-of-this-name/x"])
def test_a_missing_root_shows_the_layout_and_the_remedy(name, root):
    with pytest.raises(InputError) as info:
        registry.load(name, root)
    assert "python -m preprocessing.synthetic --out DIR" in str(info.value)
    assert registry.find(name).form() in str(info.value)


@pytest.mark.parametrize("name", NEED_ROOT)
def test_an_empty_root_shows_the_layout(name, tmp_path):
    with pytest.raises(InputError) as info:
        registry.load(name, tmp_path)
    assert registry.find(name).form() in str(info.value) and str(tmp_path) in str(info.value)
