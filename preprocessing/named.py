"""Functions that a registry names as "module:name": the module is imported only when the function is used."""

from importlib import import_module
from typing import Any


def itself(one: Any) -> Any:
    """The object that "module:name" names; anything that is not a text is returned unchanged."""
    if not isinstance(one, str):
        return one
    module, _, name = one.partition(":")
    return getattr(import_module(module), name)
