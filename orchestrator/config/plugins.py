"""Files of other people that add models, data sets, splits, augmentations and signal formats: `--plugin FILE.py`.

Only a file that the user names on the command line runs: no configuration, run folder or variable of the environment can name
one. Workers are told the paths by whoever starts them.
"""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from models.registry import MODELS
from orchestrator.config.split_register import SPLITS
from orchestrator.errors import UserError
from preprocessing.datasets.registry import SOURCES
from preprocessing.signals.formats import FORMATS

PACKAGE = "dualpain_plugin"  # their modules are called dualpain_plugin_STEM

_loaded: dict[str, Path] = {}


def load(paths: Iterable[str | Path]) -> None:
    """Run each file once in this process. UserError with the line where one fails."""
    for path in map(Path, paths):
        path = path.expanduser().absolute()
        name = f"{PACKAGE}_{path.stem}"
        if not path.is_file() or path.suffix != ".py" or not re.fullmatch(r"\w+", path.stem):
            raise UserError(f"--plugin {path} cannot be used: name a Python file that is there, such as my_model.py.")
        if _loaded.get(name, path) != path:
            raise UserError(f"--plugin {path} and --plugin {_loaded[name]} have one name: rename one of the files.")
        if name in _loaded:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        _loaded[name] = path
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name], _loaded[name]
            raise UserError(f"--plugin {path} fails at line {_line(error, path)} ({type(error).__name__}: "
                            f"{' '.join(str(error).split()).rstrip('.')}): mend the file.") from error


def added() -> dict[str, list[str]]:
    """What each file adds, by its name: "model logistic", "data set gait"."""
    registers: list[tuple[str, list[tuple[str, object]]]] = [
        ("model", [(m.name, m.make) for m in MODELS.values()]), ("data set", [(s.name, s.load) for s in SOURCES.values()]),
        ("split", [(s.name, s.make) for s in SPLITS.values()]), ("signal format", [(n, f.read) for n, f in FORMATS.items()])]
    if augment := sys.modules.get("models.classifier.augment"):
        registers.append(("augmentation", list(augment.AUGMENTATIONS.items())))
    return {path.name: [f"{kind} {name}" for kind, found in registers for name, made in found
                        if getattr(made, "__module__", None) == module] for module, path in _loaded.items()}


def named() -> tuple[str, ...]:
    """The files that run here, for workers."""
    return tuple(map(str, _loaded.values()))


def file_of(module: str) -> Path | None:
    """The file of a plugin's module; None for any other."""
    return _loaded.get(module)


def record() -> list[dict[str, str]]:
    """What a run tells of them: file name and SHA-256."""
    return [{"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in _loaded.values()]


def _line(error: BaseException, path: Path) -> int | str:
    """The last line of the file itself that was running."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or "?"
    line: int | str = "?"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
