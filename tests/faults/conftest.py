"""One run that nobody touches, for all kill tests: real people, signals only, the cheapest model."""

from pathlib import Path

import pytest

from tests.helpers.processes import Started, all_gone, road, run


@pytest.fixture(scope="session")
def remains():
    """What killed commands had started; looked at when the session ends, for it takes Ray's agents a minute to end."""
    started: set[Started] = set()
    yield started
    all_gone(started)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    """(store, run folder)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(road(folder / "store", folder / "run"), folder / "log")
    return folder / "store", folder / "run"
