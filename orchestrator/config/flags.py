"""Flags that a command does not have: options are written without dashes, and the message says how."""

import argparse
import difflib
from collections.abc import Callable, Sequence

from orchestrator.errors import UserError


def refuse_unknown(parser: argparse.ArgumentParser, argv: Sequence[str], keys: Callable[[], list[str]]) -> None:
    """UserError for a flag that the parser does not know. keys(): the options that can be set."""
    known = {flag: action for action in parser._actions for flag in action.option_strings}
    words, i = list(argv), 0
    if {"-h", "--help"} & {*words}:
        return
    while i < len(words) and words[i] != "--":
        flag, equals, value = words[i].partition("=")
        if not flag.startswith("-"):
            i += 1
        elif flag in known:
            i += 1 if equals or known[flag].nargs == 0 else 2
        else:
            after = words[i + 1] if i + 1 < len(words) else ""
            raise UserError(_sentence(flag, value if equals else "" if after.startswith("-") or "=" in after else after,
                                      known, keys()))


def _sentence(flag: str, value: str, known: Sequence[str] | dict, keys: list[str]) -> str:
    from orchestrator.config.configuration import SHORT, like
    from orchestrator.config.schema import TABLE

    if near := difflib.get_close_matches(flag, [name for name in known if name.startswith("--")], n=1, cutoff=0.8):
        return f"There is no flag {flag}: did you mean {near[0]}?"
    name = flag.lstrip("-").replace("-", "_")
    key = name if name in keys else like(name, keys).partition(" or ")[0].partition(", ")[0]
    option = TABLE.get(SHORT.get(key, key))
    value = value or ("true" if option is not None and option.kind == "flag" else "VALUE")
    return f"There is no flag {flag}: options are written without dashes, did you mean {key}={value}?"
