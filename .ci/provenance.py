"""Nothing of a licensed data set enters the repository: the part of `make lint` that looks.

Refused: a subject id of BioVid's form outside the one file of published lists, and any media, table or array above
64 KB without a line in docs/provenance.md that says where it comes from.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUBJECT = re.compile(rb"\d{6}_[mw]_\d{2}")
LISTS = {"preprocessing/biovid_lists.py"}
MEDIA = {".png", ".jpg", ".jpeg", ".gif", ".mp4", ".avi", ".npy", ".npz", ".parquet", ".csv", ".tsv", ".pt", ".safetensors",
         ".tflite", ".onnx", ".pdf", ".svg", ".html", ".wav", ".mat", ".pkl"}
LARGEST = 64 * 1024


def tracked(root: Path = ROOT) -> list[str]:
    """Names of the files that git knows or would add."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(words, cwd=root, capture_output=True, check=True).stdout
    return [name.decode() for name in out.split(b"\0") if name]


def problems(names: list[str], root: Path = ROOT) -> list[str]:
    """One line a refused file."""
    page = root / "docs" / "provenance.md"
    provenance = page.read_text() if page.exists() else ""
    found = []
    for name in names:
        path = root / name
        if not path.is_file():
            continue
        if name not in LISTS and SUBJECT.search(path.read_bytes()):
            found.append(f"{name}: holds a subject id of a licensed data set")
        if path.suffix.lower() in MEDIA and path.stat().st_size > LARGEST and f"`{name}`" not in provenance:
            found.append(f"{name}: {path.stat().st_size} bytes without a line in docs/provenance.md")
    return found


if __name__ == "__main__":
    wrong = problems(tracked())
    print("\n".join(wrong) if wrong else "provenance: nothing that should not be here")
    sys.exit(1 if wrong else 0)
