"""Make or repair .venv: what constraints.txt names, at those versions, and the data files. Standard library only.

Run again it changes nothing when every named package is there in its version.
"""

import hashlib
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def wanted() -> dict[str, str]:
    """Normalised name -> version, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {normal(name): version.strip() for name, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed() -> dict[str, str]:
    return {normal(d.metadata["Name"]): d.version for d in distributions(path=[str(p) for p in site_packages()])}


def site_packages() -> list[Path]:
    return sorted(VENV.glob("lib/python3.*/site-packages"))


def stamp() -> str:
    """What the environment was made from; a changed file makes it again."""
    files = ("pyproject.toml", "constraints.txt", ".ci/environment.py")
    return hashlib.sha256(b"\0".join((ROOT / f).read_bytes() for f in files) + str(VENV).encode()).hexdigest()


def whole() -> bool:
    """Stamp matches, and everything that was installed then is there still."""
    try:
        seal, *names = (VENV / "made-from").read_text().split()
    except OSError:
        return False
    here = installed()
    return seal == stamp() and (VENV / "bin" / "python").exists() and all(name in here for name in names)


def pip(*words: str) -> None:
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "-c", str(ROOT / "constraints.txt"), *words]
    subprocess.run(command, check=True)


def main() -> int:
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        print("error: dualpain needs Python 3.11 to 3.13: run make PYTHON=python3.11 install", file=sys.stderr)
        return 2
    if whole():
        return 0
    print("setting up .venv (about 3 GB of downloads and 7 GB of disk the first time) ...", flush=True)
    if not (VENV / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    try:
        pip("-e", f"{ROOT}[dev,docs]")
        subprocess.run([str(VENV / "bin" / "python"), "-m", "orchestrator.doctor", "--fetch"], cwd=ROOT, check=True)
    except subprocess.CalledProcessError:
        print("error: the packages could not be installed, see the lines above: check the network and the disk, then run "
              "the same command again", file=sys.stderr)
        return 2
    (VENV / "made-from").write_text("\n".join([stamp(), *sorted(installed())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
