"""One run that nobody touches, for all kill tests: real people, signals only, the cheapest model."""

from pathlib import Path

import pytest

from tests.faults.processes import road, run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    """(store, run folder)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(road(folder / "store", folder / "run"), folder / "log")
    return folder / "store", folder / "run"
