"""Is this machine ready? Each check is one row: what was checked, its state, what was found, and the fix."""

import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

from orchestrator.config.configuration import Config
from orchestrator.evaluation import run_record
from orchestrator.evaluation.run_record import PACKAGES, ROOT
from orchestrator.runtime import ray_session, surroundings
from orchestrator.runtime.finding import OK, STOP, WARN, Finding
from preprocessing.allotment import memory_bytes, usable_cores
from preprocessing.errors import InputError

PYTHON = ((3, 11), (3, 14))  # from, below
BYTES_PER_WORKER = 700 << 20  # a preprocessing actor with both face models
SHARED_MEMORY = 512 << 20
SYNTHETIC_ENCODER = "libx264"
GB = 1e9


def check(config: Config, video: bool, encode: bool = False) -> list[Finding]:
    """All checks. video: the data set has video; encode: the synthetic cohort is yet to be written. Writes nothing."""
    ray_session.environment()
    folders = [run_record.run_dir(one) for one in run_record.runs(config)]
    return [python(), *packages(), cores(config), memory(config), shared_memory(), graphics(),
            *faces(config, video), codecs(video, encode), *surroundings.check(config, folders)]


def python() -> Finding:
    low, high = PYTHON
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if low <= sys.version_info[:2] < high:
        return Finding("Python", OK, found)
    return Finding("Python", STOP, f"{found}, but {low[0]}.{low[1]} to {high[0]}.{high[1] - 1} is needed",
                   f"run make PYTHON=python{low[0]}.{low[1]} install")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def pinned(constraints: Path) -> dict[str, str]:
    """Normalised name -> version; empty where there is no constraints.txt (an installed package, no checkout)."""
    if not constraints.is_file():
        return {}
    pairs = (line.split("==") for line in constraints.read_text().splitlines() if "==" in line and line[0] != "#")
    return {normal(name): version.strip() for name, version in pairs}


def required() -> list[str]:
    """Names of the direct dependencies of this project."""
    try:
        lines = metadata.requires("dualpain") or []
    except metadata.PackageNotFoundError:
        return list(PACKAGES)
    return [re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def packages(constraints: Path = ROOT / "constraints.txt") -> list[Finding]:
    """A missing package stops a run; another version than the pinned one may change the last digits of a result."""
    installed = {normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}
    absent = [name for name in required() if normal(name) not in installed]
    if absent:
        return [Finding("Packages", STOP, f"{', '.join(absent)} missing", "run make install")]
    wanted = pinned(constraints)
    other = [f"{name} {installed[name]} instead of {version}" for name, version in wanted.items()
             if name in installed and installed[name].partition("+")[0] != version]
    main = ", ".join(f"{name} {installed[normal(name)]}" for name in ("ray", "torch", "numpy"))
    if other:
        shown = "; ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        return [Finding("Packages", WARN, f"{len(other)} of {len(wanted)} differ from constraints.txt: {shown}",
                        "run make install to get the versions that results are compared with")]
    return [Finding("Packages", OK, f"{main}; {len(wanted)} versions as in constraints.txt" if wanted else main)]


def cores(config: Config) -> Finding:
    here, wanted = usable_cores(), config.resources.cpus
    load = os.getloadavg()[0]
    everywhere = os.cpu_count() or here
    text = (f"{here} usable" + (f" of {everywhere}: affinity or a container's limit" if here < everywhere else "")
            + (f", {wanted} by resources.cpus" if wanted else "") + f", load {load:.1f}")
    if wanted and wanted > here:
        return Finding("Cores", WARN, f"resources.cpus={wanted}, but only {here} can be used: a run plans for {here}",
                       "lower it, or ask for more cores where the limit is set")
    if load > 1.5 * here:
        return Finding("Cores", WARN, text + ": other programs are running", "expect longer times than printed below")
    return Finding("Cores", OK, text)


def memory(config: Config) -> Finding:
    total, available = memory_bytes()
    workers = usable_cores(config.resources.cpus)
    needed = workers * BYTES_PER_WORKER + (2 << 30)  # Ray itself and the driver
    text = f"{total / GB:.1f} GB, {available / GB:.1f} GB free"
    if available < needed:
        return Finding("Memory", WARN, f"{text}; {workers} workers need about {needed / GB:.1f} GB",
                       "close other programs, or use fewer workers with resources.cpus=N")
    return Finding("Memory", OK, text)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    if not folder.is_dir():
        return Finding("Shared memory", OK, "Ray uses a temporary folder here")
    size = shutil.disk_usage(folder).total
    if size < SHARED_MEMORY:
        return Finding("Shared memory", WARN, f"{folder} has {size / GB:.2f} GB, so Ray falls back to the disk",
                       "in a container: docker run --shm-size=4g")
    return Finding("Shared memory", OK, f"{size / GB:.1f} GB")


def graphics() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", OK, "none that torch can use: everything runs on the CPU")
    names = [f"{torch.cuda.get_device_name(i)} ({torch.cuda.get_device_properties(i).total_memory / GB:.0f} GB)"
             for i in range(torch.cuda.device_count())]
    return Finding("GPU", OK, ", ".join(names))


def faces(config: Config, video: bool) -> list[Finding]:
    """Both face models with the right hashes, and a runtime that loads them."""
    from preprocessing.clip import ClipOptions
    from preprocessing.face.litert import load_model
    from preprocessing.face.weights import SHA256, weight_file

    try:
        options = ClipOptions.from_config(config.face, config.keyframe, config.signal, config.frames, video).face
    except InputError as error:
        return [Finding.stop("Options", error)]
    if not video or options.provider == "precomputed":
        why = "face.provider=precomputed, where only boxes need one" if video else "no video"
        return [Finding("Face models", OK, f"not needed: {why}")]
    provider = "opencv" if options.provider == "opencv" else "litert"  # cropped faces have a mesh, too
    try:
        paths = [weight_file(name, options.weights_dir) for name in sorted(SHA256)]
        for path in paths:
            load_model(path, provider)
    except (InputError, ValueError, RuntimeError) as error:
        return [Finding.stop("Face models", error)]
    return [Finding("Face models", OK, f"{len(paths)} files with the right hashes, loaded by {provider}")]


def codecs(video: bool, encode: bool) -> Finding:
    """The H.264 decoder for video, and the encoder where the synthetic cohort is yet to be written."""
    import av

    def has(name: str, mode: Literal["r", "w"]) -> bool:
        try:
            av.codec.Codec(name, mode)
        except (ValueError, av.FFmpegError):
            return False
        return True

    missing = [text for text, there in (("H.264 decoder", has("h264", "r")),
                                        (f"{SYNTHETIC_ENCODER} encoder", has(SYNTHETIC_ENCODER, "w"))) if not there]
    if missing:
        stops = (video and "H.264 decoder" in missing) or (encode and len(missing) > 0)
        return Finding("Video", STOP if stops else WARN, f"PyAV {av.__version__} has no {' and no '.join(missing)}",
                       "run make install: the wheels of PyPI have both")
    return Finding("Video", OK, f"PyAV {av.__version__}: H.264 decoder, {SYNTHETIC_ENCODER} encoder")
