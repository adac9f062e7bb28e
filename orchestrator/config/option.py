"""One option: the kind of its value, its bounds, and the message for a value that does not fit."""

import math
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UserError


@dataclass(frozen=True)
class Option:
    """kind: whole | number | flag | word | text | vectors. words: the allowed words, alone or besides numbers
    (gamma="scale"). least, most: inclusive bounds; above, below: exclusive bounds. many: (fewest, most) values of a list.
    once: no value of the list may be repeated. about: what the option is, for the reference.
    """

    key: str
    kind: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    null: bool = False
    words: tuple[str, ...] = ()
    many: tuple[int, int] | None = None
    once: bool = False
    about: str = ""

    def check(self, value: Any) -> None:
        """UserError for a value that is not of this kind, or out of bounds."""
        if value is None and self.null:
            return
        if self.kind == "vectors":
            right = isinstance(value, list | tuple) and all(isinstance(v, list | tuple) and len(v) == 3
                                                            and all(is_number(x, True) and x >= 0 for x in v) for v in value)
        elif self.many is not None:
            right = (isinstance(value, list | tuple) and self.many[0] <= len(value) <= self.many[1]
                     and all(map(self._one, value)) and not (self.once and len(set(value)) < len(value)))
        else:
            right = self._one(value)
        if not right:
            raise UserError(f"{self.key}={shown(value)} does not fit: it must be {self.wanted()}.")

    def _one(self, value: Any) -> bool:
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str) and bool(value.strip())
        if isinstance(value, str):
            return value in self.words
        if self.kind == "word" or not is_number(value, self.kind == "whole"):
            return False
        return ((self.least is None or value >= self.least) and (self.most is None or value <= self.most)
                and (self.above is None or value > self.above) and (self.below is None or value < self.below))

    def wanted(self) -> str:
        if self.words and self.least is not None and self.least == self.most:
            return "one of " + ", ".join(self.words)
        limits = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        bounds = [f"{name} {bound:,.10g}" for name, bound in limits if bound is not None]
        what = {"whole": "a whole number", "number": "a number", "flag": "true or false", "text": "a name",
                "word": "one of " + ", ".join(self.words), "vectors": "lists of three channel numbers"}[self.kind]
        what += " " + " and ".join(bounds) if bounds else ""
        if self.words and self.kind != "word":
            what += " or one of " + ", ".join(self.words)
        if self.many is not None:
            low, high = self.many
            what = f"a list of {low if low == high else f'{low} to {high}'} values, each {what}"
            what += ", each once" if self.once else ""
        return what + (", or null" if self.null else "")


def is_number(value: Any, whole: bool) -> bool:
    return (isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            and (isinstance(value, int) or math.isfinite(value)))


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
