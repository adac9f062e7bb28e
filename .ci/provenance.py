"""Checks, in `make lint`, that no part of a licensed data set enters the repository.

It fails for a subject id in BioVid's format outside the one file of published lists, in a file or in its name or folders,
and for any media file, table, array or archive above 64 KB without a line in docs/reference/provenance.md on its origin.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUBJECT = re.compile(rb"\d{6}_[mw]_\d{2}")
LISTS = {"preprocessing/datasets/biovid_lists.py"}
MEDIA = {
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".heic", ".pdf", ".svg", ".html", ".ipynb"),
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".asf", ".ogv", ".ogg", ".flv", ".mxf"),
    *(".h264", ".hevc", ".mjpeg", ".wav", ".mp3", ".flac", ".aac", ".m4a", ".edf", ".bdf", ".mat", ".npy", ".npz", ".h5"),
    *(".hdf5", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".xls", ".ods", ".parquet", ".feather", ".arrow", ".sqlite"),
    *(".pt", ".pth", ".safetensors", ".tflite", ".onnx", ".pkl", ".pickle", ".joblib", ".zip", ".gz", ".tgz", ".bz2", ".xz"),
    *(".zst", ".7z", ".rar", ".tar"),
}  # fmt: skip
LARGEST = 64 * 1024


def tracked(root: Path = ROOT) -> list[str]:
    """Names of the files that git knows or would add."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(words, cwd=root, capture_output=True, check=True).stdout
    return [name.decode() for name in out.split(b"\0") if name]


def problems(names: list[str], root: Path = ROOT) -> list[str]:
    """One line per problem."""
    page = root / "docs" / "reference" / "provenance.md"
    provenance = page.read_text() if page.exists() else ""
    found = []
    for name in names:
        path = root / name
        if SUBJECT.search(name.encode()):
            found.append(f"{name}: has a subject id of a licensed data set in its name")
        if not path.is_file():
            continue
        if name not in LISTS and SUBJECT.search(path.read_bytes()):
            found.append(f"{name}: contains a subject id of a licensed data set")
        if path.suffix.lower() in MEDIA and path.stat().st_size > LARGEST and f"`{name}`" not in provenance:
            found.append(f"{name}: {path.stat().st_size} bytes without a line in docs/reference/provenance.md: add one, or "
                         "remove the file")
    return found


if __name__ == "__main__":
    wrong = problems(tracked())
    print("\n".join(wrong) if wrong else "provenance: no licensed data found")
    sys.exit(1 if wrong else 0)
