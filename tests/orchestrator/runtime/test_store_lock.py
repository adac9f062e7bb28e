"""A store records the version of its keys, and one of another version is refused before anything is made."""

import pytest

from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.runtime.store_lock import KEYS, writing


def config(tmp_path):
    return compose("watch", [f"store={tmp_path / 'store'}"])


def test_a_new_store_is_marked_and_taken_again(tmp_path):
    for _ in range(2):
        with writing(config(tmp_path), "preprocess"):
            (tmp_path / "store" / "clips" / "watch-0").mkdir(parents=True, exist_ok=True)
    assert f'"keys": {KEYS}' in (tmp_path / "store" / "store.json").read_text()


@pytest.mark.parametrize("mark", [None, '{"keys": 1}', "{"])
def test_a_store_of_another_version_is_refused_in_one_sentence(tmp_path, mark):
    store = tmp_path / "store"
    (store / "encoders" / "0123").mkdir(parents=True)
    if mark is not None:
        (store / "store.json").write_text(mark)
    with pytest.raises(UserError, match="made by another version.*choose another store=.*encoders") as error:
        with writing(config(tmp_path), "preprocess"):
            pytest.fail("something would be made")
    assert "\n" not in str(error.value) and sorted(p.name for p in store.iterdir() if p.name[0] != ".") == sorted(
        ["encoders", *(["store.json"] if mark is not None else [])])


def test_an_empty_store_of_another_version_is_taken(tmp_path):
    (tmp_path / "store" / "clips").mkdir(parents=True)
    with writing(config(tmp_path), "preprocess"):
        pass
    assert (tmp_path / "store" / "store.json").exists()
