"""Code that a register names as "module:name": imported when it is used, so that a name costs no import."""

from importlib import import_module
from typing import Any


def itself(one: Any) -> Any:
    """What "module:name" stands for; anything but text is itself already."""
    if not isinstance(one, str):
        return one
    module, _, name = one.partition(":")
    return getattr(import_module(module), name)
