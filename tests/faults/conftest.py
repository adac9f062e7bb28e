"""One uninterrupted run for all kill tests: real subjects, signals only, the cheapest model."""

from pathlib import Path

import pytest

from tests.helpers.processes import Started, all_gone, road, run


@pytest.fixture(scope="session")
def remains():
    """Processes that killed commands had started; checked at the end of the session, because Ray's agents need a minute."""
    started: set[Started] = set()
    yield started
    all_gone(started)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    """(store, run folder)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(road(folder / "store", folder / "run"), folder / "log")
    return folder / "store", folder / "run"
