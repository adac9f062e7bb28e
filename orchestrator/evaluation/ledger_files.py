"""Where a ledger's files are: a local folder, or any file system that pyarrow supports (run.ledger=s3://bucket/folder).

Both guarantee that a file is complete or absent, and that it is read back as it was written.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

from orchestrator.errors import UserError
from orchestrator.files.storage import intact, read_checked, remove_temporaries, write_json

OBJECT_STORES = ("s3", "gcs", "abfs")  # folders are only parts of names there
TRIES = 3  # attempts to write one object until its checksum matches


class LedgerFiles(Protocol):
    """JSON objects with a checksum, by file name."""

    def read(self, name: str) -> dict | None:
        """The object, or None if it is absent, damaged or edited."""

    def holds(self, name: str) -> bool:
        """Whether a file of that name exists, valid or not."""

    def write(self, name: str, value: dict) -> None: ...

    def names(self) -> list[str]: ...

    def clean_up(self) -> None:
        """Remove temporary files of killed writers."""


class LocalFiles:
    """A folder: temporary name, fsync, rename."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, name: str) -> dict | None:
        return read_checked(self.folder / name)

    def holds(self, name: str) -> bool:
        return os.path.lexists(self.folder / name)

    def write(self, name: str, value: dict) -> None:
        write_json(self.folder / name, value)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("fold-*.json"))

    def clean_up(self) -> None:
        remove_temporaries(self.folder)


class RemoteFiles:
    """A folder of a pyarrow file system. An object is written at once and read back. Object stores show it only when it is
    complete, so no temporary name and no rename is needed (they have none)."""

    def __init__(self, filesystem: Any, folder: str):
        self.filesystem, self.folder = filesystem, folder.rstrip("/")

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def read(self, name: str) -> dict | None:
        try:
            value = json.loads(self._bytes(name))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise _unreadable(name, error) from error
        return value if isinstance(value, dict) and intact(value) else None

    def holds(self, name: str) -> bool:
        from pyarrow.fs import FileType

        try:
            return self.filesystem.get_file_info(self.path(name)).type != FileType.NotFound
        except OSError as error:
            raise _unreadable(name, error) from error

    def write(self, name: str, value: dict) -> None:
        """Raises OSError if the object is not read back as it was written; the trial is then repeated."""
        data = (json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
        if self.filesystem.type_name not in OBJECT_STORES:
            self.filesystem.create_dir(self.folder, recursive=True)
        for _ in range(TRIES):
            with self.filesystem.open_output_stream(self.path(name)) as out:
                out.write(data)
            if hashlib.sha256(self._bytes(name)).digest() == hashlib.sha256(data).digest():
                return
        raise OSError(f"{name} of the ledger was not read back as it was written")

    def _bytes(self, name: str) -> bytes:
        with self.filesystem.open_input_stream(self.path(name)) as source:
            return source.read()

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        found = self.filesystem.get_file_info(FileSelector(self.folder, allow_not_found=True))
        return sorted(info.base_name for info in found if info.base_name.startswith("fold-"))

    def clean_up(self) -> None:
        pass


def _unreadable(name: str, error: OSError) -> UserError:
    return UserError(f"{name} of the ledger cannot be read ({' '.join(str(error).split())}): check run.ledger, its permissions "
                     "and the network.")


def files_at(uri: str) -> LedgerFiles:
    """The folder of a URI (s3://, gs://, hdfs://, file://). Raises UserError if pyarrow cannot open it."""
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        filesystem, folder = FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).replace(uri, _public(uri))
        raise UserError(f"run.ledger={_public(uri)} cannot be opened ({reason}): give a folder as file://, s3://, "
                        "gs:// or hdfs://, or leave run.ledger out for a folder in run.dir.") from error
    if filesystem.type_name == "local":
        return LocalFiles(Path(folder))
    if filesystem.type_name == "s3" and "allow_delayed_open" not in uri:
        # one PUT of the whole object instead of a multipart upload
        filesystem, folder = FileSystem.from_uri(uri + ("&" if "?" in uri else "?") + "allow_delayed_open=true")
    return RemoteFiles(filesystem, folder)


def _public(uri: str) -> str:
    """The URI without secrets: no user information before an @ and no query after a question mark."""
    scheme, mark, rest = uri.partition("://")
    return scheme + mark + rest.partition("?")[0].rpartition("@")[2]
