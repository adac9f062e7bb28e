"""The code that computes an artefact, as part of its content key.

"Code" is the syntax of every function, class and constant that a stage's own functions reach, by name and by import, inside
this project: without comments, docstrings, annotations, formatting and file locations. A comment, a file that is renamed
or a change in what another stage calls changes no key; a changed constant changes the keys of whatever reaches it.

Annotations are followed though they are not hashed: a method is called on an argument whose class only they name. Of a
class of this project, a method counts if its name is used anywhere in the reached code (and any with two underscores); a
class that inherits from a class of a library, which may call any of its methods, counts as a whole.
A plugin's file is followed into this project, not into other files beside it.
Not followed are modules whose values are part of a key by themselves or which only move bytes (VALUES), and the register of
models, of which a run uses one (models.source).
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from orchestrator.config import plugins
from orchestrator.files import code_cache

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestrator", "models", "preprocessing")
VALUES = ("orchestrator.config.configuration", "orchestrator.config.schema", "orchestrator.files", "orchestrator.runtime",
          "orchestrator.errors", "preprocessing.carriers", "preprocessing.errors", "models.errors")
TABLES = ("models", "models.registry", "models.catalogue")

Symbol = tuple[str, str]  # (module, name at its top level; "" for the module's own statements)


@cache
def code_sha256(*roots: str) -> str:
    """Hash of the code that `roots` reach, each written as "package.module:name"; LookupError for one that is not there."""
    if any(root.startswith(plugins.PACKAGE) for root in roots):
        return _computed(roots)  # a plugin's file does not belong to the sources
    sources, name = sources_sha256(), " ".join(sorted(roots))
    known = code_cache.known(ROOT, sources)
    if name not in known:
        known[name] = _computed(roots)
        if code_cache.sources_sha256(ROOT, PACKAGES) == sources:  # nobody has edited a file since it was hashed
            code_cache.remember(ROOT, sources, known)
    return known[name]


@cache
def sources_sha256() -> str:
    """Hash of every Python file of the packages, byte by byte."""
    return code_cache.sources_sha256(ROOT, PACKAGES)


def _computed(roots: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for text in sorted({text for symbol in reached(*roots) for text in _written(*symbol)}):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


@cache
def _written(module: str, name: str) -> tuple[str, ...]:
    return tuple(_text(node) for node in parsed(module).nodes(name))


def reached(*roots: str) -> set[Symbol]:
    """Everything that `roots` reach, themselves included."""
    waiting: list[Symbol] = []
    for root in roots:
        module, _, name = root.partition(":")
        if not name or name not in parsed(module).names:
            raise LookupError(f"there is no {root}")
        waiting.append((module, name))
    found: set[Symbol] = set()
    used: set[str] = set()  # names of attributes, anywhere in what is reached
    unused: dict[str, list[Symbol]] = {}  # methods by their name, until it is used
    while waiting:
        symbol = waiting.pop()
        if symbol in found or _left_out(symbol[0]):
            continue
        found.add(symbol)
        own = parsed(symbol[0])
        waiting += [(symbol[0], ""), *_uses(*symbol)]
        for method in own.methods.get(symbol[1], ()):
            name = method.rpartition(".")[2]
            (waiting if name in used else unused.setdefault(name, [])).append((symbol[0], method))
        for name in attributes(*symbol) - used:
            used.add(name)
            waiting += unused.pop(name, [])
    return found


@cache
def attributes(module: str, name: str) -> frozenset[str]:
    """Names that could be a method's: of attributes, and of text, which getattr may take."""
    found = set()
    for node in parsed(module).nodes(name):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute):
                found.add(inner.attr)
            elif isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value.isidentifier():
                found.add(inner.value)
    return frozenset(found)


def forget() -> None:
    """Clear the caches: for a process whose source files are changed while it runs."""
    for kept in (code_sha256, sources_sha256, parsed, file_of, attributes, _uses, _written):
        kept.cache_clear()


def _left_out(module: str) -> bool:
    return module in TABLES or any(module == place or module.startswith(place + ".") for place in VALUES)


@dataclass
class _Module:
    """A parsed file: `names` of its top level with the statements that bind them, and what its imports stand for."""

    name: str
    names: dict[str, list[ast.stmt]] = field(default_factory=dict)
    rest: list[ast.stmt] = field(default_factory=list)  # statements that bind nothing: they run on every import
    imports: dict[str, str] = field(default_factory=dict)  # name here -> dotted name in this project
    methods: dict[str, list[str]] = field(default_factory=dict)  # class -> "class.method" of those that count when used

    def nodes(self, name: str) -> list[ast.stmt]:
        return self.names.get(name, []) if name else self.rest


@cache
def parsed(name: str) -> _Module:
    path = file_of(name)
    if path is None:
        raise LookupError(f"there is no module {name}")
    module = _Module(name)
    for node in _statements(ast.parse(plugins.content(name) or path.read_bytes()).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports.update(_imported(node))
            continue
        if isinstance(node, ast.ClassDef) and all(_is_ours(base, module) for base in node.bases) and not node.keywords:
            node = _without_methods(node, module)
        bound = _bound(node)
        for one in bound:
            module.names.setdefault(one, []).append(node)
        if not bound and not _is_text(node):
            module.rest.append(node)
    for one in module.imports:
        module.names.setdefault(one, [])
    return module


@cache
def file_of(name: str) -> Path | None:
    """The file of a dotted name in this project; None where it is no module."""
    if name.startswith(plugins.PACKAGE):
        return plugins.file_of(name)
    if name.partition(".")[0] not in PACKAGES:
        return None
    place = ROOT.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements; those inside an `if TYPE_CHECKING` count as if they were outside, since annotations use it."""
    for node in body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body
        else:
            yield node


def _is_ours(base: ast.expr, module: _Module) -> bool:
    """Whether a base class belongs to this project and inherits from no other class."""
    if not isinstance(base, ast.Name):
        return False
    if base.id in module.imports:
        place, _, name = module.imports[base.id].rpartition(".")
        return file_of(place) is not None and name in parsed(place).methods
    return base.id in module.methods


def _without_methods(node: ast.ClassDef, module: _Module) -> ast.ClassDef:
    """The class with the parts that run implicitly; its other methods are kept separately, under "class.method"."""
    stays: list[ast.stmt] = []
    module.methods[node.name] = []
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("__"):
            module.methods[node.name].append(f"{node.name}.{inner.name}")
            module.names.setdefault(f"{node.name}.{inner.name}", []).append(inner)
        else:
            stays.append(inner)
    return ast.ClassDef(node.name, node.bases, node.keywords, stays, node.decorator_list)


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return set()


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Names that an import binds, of those inside the project. Relative imports are not used here."""
    if isinstance(node, ast.Import):
        pairs = [(a.asname or a.name.partition(".")[0], a.name if a.asname else a.name.partition(".")[0]) for a in node.names]
    else:
        pairs = [(a.asname or a.name, f"{node.module}.{a.name}") for a in node.names]
    return {name: target for name, target in pairs if target.partition(".")[0] in PACKAGES}


@cache
def _uses(module: str, name: str) -> tuple[Symbol, ...]:
    """What the statements that bind `name` use, directly."""
    own = parsed(module)
    found: list[Symbol] = []
    if name in own.imports:
        found += _target(own.imports[name])
    for node in own.nodes(name):
        found += _read(node, own, dict(own.imports), frozenset())
    return tuple(dict.fromkeys(found))


def _target(dotted: str) -> list[Symbol]:
    """A dotted name of the project as symbols: a name in a module, or every name of a module."""
    if file_of(dotted) is not None:
        return [(dotted, name) for name in ("", *parsed(dotted).names) if "." not in name] if not _left_out(dotted) else []
    module, _, name = dotted.rpartition(".")
    return [(module, name)] if file_of(module) is not None else []


def _read(node: ast.AST, own: _Module, imports: dict[str, str], local: frozenset[str]) -> list[Symbol]:
    """Symbols that a statement or expression reads. local: names that a function around it binds itself."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        bound, inner = _locals(node)
        local = (local - frozenset(inner)) | bound
        imports = {**{k: v for k, v in imports.items() if k not in bound}, **inner}
    if isinstance(node, ast.Attribute):
        dotted = _dotted(node, imports, local)
        if dotted is not None:
            return _target(dotted)
    if isinstance(node, ast.Name):
        if node.id in local or not isinstance(node.ctx, ast.Load):
            return []
        if node.id in imports:
            return _target(imports[node.id])
        return [(own.name, node.id)] if node.id in own.names else []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _of_text(node.value, own, imports, local)
    return [symbol for child in ast.iter_child_nodes(node) for symbol in _read(child, own, imports, local)]


def _locals(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> tuple[frozenset[str], dict[str, str]]:
    """(names the function binds, its own imports from this project)."""
    args = node.args
    bound = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg) if a is not None}
    imports: dict[str, str] = {}
    shared: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            bound.add(inner.id)
        elif isinstance(inner, ast.Global):
            shared.update(inner.names)
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            imports.update(_imported(inner))
    return frozenset(bound) - shared - frozenset(imports), imports


def _dotted(node: ast.Attribute, imports: dict[str, str], local: frozenset[str]) -> str | None:
    """The project's name that a.b.c stands for, as far as modules reach and one name further; None for another object."""
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name) or inner.id in local or inner.id not in imports:
        return None
    dotted = imports[inner.id]
    for part in reversed(parts):
        if file_of(dotted) is None:
            break
        dotted = f"{dotted}.{part}"
    return dotted


def _of_text(text: str, own: _Module, imports: dict[str, str], local: frozenset[str]) -> list[Symbol]:
    """A module's name is an import at run time; an annotation may stand in quotes."""
    if text.partition(".")[0] in PACKAGES and file_of(text) is not None:
        return _target(text)
    if not text[:1].isalpha() or len(text) > 200:
        return []
    try:
        inner = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return []
    if isinstance(inner, ast.Constant):
        return []
    names = {n.id for n in ast.walk(inner) if isinstance(n, ast.Name)}
    classes = {name for name in names if name[:1].isupper()}  # "fold" is a key more often than a name
    return [symbol for name in sorted(classes) for symbol in _read(ast.Name(name, ast.Load()), own, imports, local)]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _text(node: object) -> str:
    """The syntax below a node without docstrings, annotations and imports, the same for every version of Python."""
    if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):  # type: ignore[arg-type]
        return ""
    if isinstance(node, list):
        return "[" + ",".join(text for item in node if (text := _text(item))) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [type(node).__name__]
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in ("annotation", "returns", "type_comment", "ctx", "type_params", "simple"):
            continue
        text = _text(value)
        parts.append(f"{name}={text}")
    return f"({' '.join(parts)})"
