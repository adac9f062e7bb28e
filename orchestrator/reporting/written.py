"""Whether the files of a run are still up to date: then they are shown, and nothing is computed again.

`<run.dir>/written.json` holds a key of their inputs and their hashes. It is written last.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.files.storage import file_sha256, key_of, read_checked, read_json, write_checked

FILES = ("facts.json", "predictions.parquet", "folds.parquet", "summary.json", "report.html")
RECORD = "written.json"


def remember(folder: Path, made_of: Any) -> None:
    """made_of: JSON-like; everything that determines the files."""
    write_checked(folder / RECORD, {"made_of": key_of(made_of, 64), "files": _hashes(folder)})


def standing(folder: Path, made_of: Any) -> dict | None:
    """The summary if all files are unchanged and made from the same inputs; else None."""
    record = read_checked(folder / RECORD)
    if record is None or record["made_of"] != key_of(made_of, 64) or record["files"] != _hashes(folder):
        return None
    return read_json(folder / "summary.json")


def _hashes(folder: Path) -> Mapping[str, str]:
    return {name: file_sha256(folder / name) for name in FILES if (folder / name).is_file()}
