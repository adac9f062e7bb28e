"""Files from outside this project that add models, data sets, splits, augmentations and signal formats: `--plugin FILE.py`.

Only a file that the user names on the command line runs: no configuration, run folder or environment variable can name one.
Workers get the paths from the process that starts them.
"""

import hashlib
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path

from models.registry import MODELS
from orchestrator.config.split_register import SPLITS
from orchestrator.errors import UserError
from preprocessing.datasets.registry import SOURCES
from preprocessing.signals.formats import FORMATS

PACKAGE = "dualpain_plugin"  # their modules are called dualpain_plugin_STEM

_loaded: dict[str, Path] = {}
_contents: dict[str, bytes] = {}  # the bytes that ran, which the keys use even if a file changes meanwhile


def load(paths: Iterable[str | Path], hashes: Iterable[str] = ()) -> None:
    """Run each file once in this process. UserError with the line where one fails.

    hashes: the SHA-256 that each has to have; UserError for a file that was changed since.
    """
    wanted = list(hashes)
    for number, path in enumerate(map(Path, paths)):
        path = path.expanduser().absolute()
        name = f"{PACKAGE}_{path.stem}"
        if not path.is_file() or path.suffix != ".py" or not re.fullmatch(r"\w+", path.stem):
            raise UserError(f"--plugin {path} cannot be used: give an existing Python file, such as my_model.py.")
        if _loaded.get(name, path) != path:
            raise UserError(f"--plugin {path} and --plugin {_loaded[name]} have the same name: rename one of the files.")
        if name not in _loaded:
            _run(name, path)
        if wanted and _sha256(name) != wanted[number]:
            raise UserError(f"--plugin {path} was changed while the command ran: run it again.")


def _run(name: str, path: Path) -> None:
    module = types.ModuleType(name)
    module.__file__ = str(path)
    before = {id(made) for _, found in _registers() for _, made in found}
    sys.modules[name], _loaded[name], _contents[name] = module, path, path.read_bytes()
    try:
        exec(compile(_contents[name], str(path), "exec"), module.__dict__)  # noqa: S102  # named on the command line
        for kind, found in _registers():
            for own, made in found:
                ours = str(getattr(made, "__module__", "")).startswith(("orchestrator.", "models.", "preprocessing."))
                if id(made) not in before and not ours and getattr(module, getattr(made, "__name__", ""), None) is not made:
                    raise UserError(f"{kind} {own} is not a function or class at the top level of the file")
    except Exception as error:
        del sys.modules[name], _loaded[name], _contents[name]
        raise UserError(f"--plugin {path} fails at line {_line(error, path)} ({type(error).__name__}: "
                        f"{' '.join(str(error).split()).rstrip('.')}): correct the file.") from error


def _registers() -> list[tuple[str, list[tuple[str, object]]]]:
    """What can be added, by kind: names and the objects behind them."""
    found: list[tuple[str, list[tuple[str, object]]]] = [
        ("model", [(m.name, m.make) for m in MODELS.values()]), ("data set", [(s.name, s.load) for s in SOURCES.values()]),
        ("split", [(s.name, s.make) for s in SPLITS.values()]), ("signal format", [(n, f.read) for n, f in FORMATS.items()])]
    if augment := sys.modules.get("models.classifier.augment"):
        found.append(("augmentation", list(augment.AUGMENTATIONS.items())))
    return found


def added() -> dict[str, list[str]]:
    """What each file adds, by its name: "model logistic", "data set gait"."""
    return {path.name: [f"{kind} {name}" for kind, found in _registers() for name, made in found
                        if getattr(made, "__module__", None) == module] for module, path in _loaded.items()}


def named() -> tuple[str, ...]:
    """The files that run here, for workers."""
    return tuple(map(str, _loaded.values()))


def hashes() -> tuple[str, ...]:
    """Their SHA-256, in the same order."""
    return tuple(map(_sha256, _loaded))


def file_of(module: str) -> Path | None:
    """The file of a plugin's module; None for any other."""
    return _loaded.get(module)


def content(module: str) -> bytes | None:
    """The bytes of a plugin's module as they ran; None for any other."""
    return _contents.get(module)


def record() -> list[dict[str, str]]:
    """What a run records about them: file name and SHA-256."""
    return [{"file": path.name, "sha256": _sha256(name)} for name, path in _loaded.items()]


def _sha256(module: str) -> str:
    return hashlib.sha256(_contents[module]).hexdigest()


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
