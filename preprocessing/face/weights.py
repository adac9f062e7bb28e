"""Find the face models, and check that they are the versions this project was evaluated with.

The files are Google's BlazeFace and 468-point face mesh (Apache-2.0), taken from a package on PyPI (carriers.FACES).
"""

import hashlib
from functools import cache
from pathlib import Path

from preprocessing.carriers import FACES, FETCH
from preprocessing.errors import InputError

SHA256 = {
    "face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "face_detection_short_range.tflite": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "face_detection_full_range.tflite": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
}


@cache
def weight_file(name: str, folder: Path | None = None) -> Path:
    """Path of a file listed in SHA256, in `folder` or else in the installed package, after checking its hash.

    Raises InputError where the file is missing or has another hash.
    """
    if name not in SHA256:
        raise ValueError(f"unknown weight file {name!r}: one of {sorted(SHA256)}")
    path = FACES.file(name) if folder is None else folder / name
    if path is None:
        raise InputError(f"face model {name} is missing: the package {FACES.name} is not installed, or does not contain it: "
                         f"{FETCH}, or set face.weights_dir")
    if not path.is_file():
        raise InputError(f"face model {name} is not in {path.parent}: copy it there, or leave face.weights_dir empty")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise InputError(f"face model {path} has sha256 {found[:12]}.., expected {SHA256[name][:12]}..: "
                         + (FETCH if folder is None else f"take {name} from {FACES.name} {FACES.version}"))
    return path
