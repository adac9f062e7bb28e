"""Reads options from the signature of the function or class that takes them: names, kinds and bounds for a plugin.

A parameter's annotation gives the kind: int, float, bool, str, Literal, each with `| None`. models.registry.Bounds beside it,
in Annotated, says what the option is and where its limits lie.
"""

import ast
import inspect
import types
import typing
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.registry import Bounds
from orchestrator.config.option import Option

# Arguments of a model that the run sets, not the user.
GIVEN = {"self", "name", "n_classes", "seed", "channels", "n_channels", "length", "signal_length", "in_dim", "video_dim",
         "signal_dim", "token_dim", "token_grid", "video_tokens", "signal_tokens", "scale", "image_size", "frames"}
KINDS = {int: "whole", float: "number", bool: "flag", str: "text"}


def parameters(make: Callable[..., Any]) -> set[str]:
    """Names the caller of `make` may choose."""
    found = inspect.signature(make).parameters.values()
    return {p.name for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD} - GIVEN


@cache
def written(place: str) -> frozenset[str]:
    """parameters() of the function or class at "module:name", read from its file: an import of torch or scikit-learn takes
    seconds. It is imported where the file does not show them, as of a dataclass or an inherited __init__."""
    module, _, name = place.partition(":")
    spec = find_spec(module)
    tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.Module([], [])
    made = next((node for node in tree.body if getattr(node, "name", "") == name), None)
    if isinstance(made, ast.ClassDef):
        made = next((node for node in made.body if getattr(node, "name", "") == "__init__"), None)
    if not isinstance(made, ast.FunctionDef):
        return frozenset(parameters(getattr(import_module(module), name)))
    every = made.args
    return frozenset(one.arg for one in (*every.posonlyargs, *every.args, *every.kwonlyargs)) - GIVEN


def rows(make: Callable[..., Any], node: str) -> list[Option]:
    """The options that `make` takes, as node.NAME; one whose annotation names no known kind is not checked."""
    try:
        hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make, include_extras=True)
    except NameError:  # a name that is imported for type checkers alone
        return []
    return [row for name in inspect.signature(make).parameters if name in parameters(make) and name in hints
            and (row := _row(f"{node}.{name}", hints[name])) is not None]


def _row(key: str, hint: Any) -> Option | None:
    bounds = Bounds("")
    if typing.get_origin(hint) is typing.Annotated:
        hint, *more = typing.get_args(hint)
        bounds = next((one for one in more if isinstance(one, Bounds)), bounds)
    null = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        null = len(parts) < len(typing.get_args(hint))
        if len(parts) > 1:
            return None
        hint = parts[0]
    if typing.get_origin(hint) is typing.Literal:
        words = typing.get_args(hint)
        named = all(isinstance(word, str) for word in words)
        return Option(key, "word", words=words, null=null, about=bounds.about) if named else None
    if hint not in KINDS:
        return None
    return Option(key, KINDS[hint], bounds.least, bounds.most, bounds.above, bounds.below, null, about=bounds.about)
