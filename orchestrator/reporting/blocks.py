"""The content of a report page as plain data: sections of blocks, without HTML. page.py renders them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from markupsafe import Markup


@dataclass(frozen=True)
class Table:
    """The first `n_text` columns hold text, the others numbers; the first cell names its row. Rows in `ours` stand out."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    n_text: int = 1
    ours: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """An inline drawing. alt: its content in words, for readers who cannot see it."""

    kind: ClassVar[str] = "figure"
    svg: Markup
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Sentences:
    kind: ClassVar[str] = "sentences"
    texts: Sequence[str]
    title: str = ""


@dataclass(frozen=True)
class Note:
    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Listing:
    """Text that keeps its line breaks."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class Columns:
    """Blocks side by side if the page is wide enough."""

    kind: ClassVar[str] = "columns"
    columns: Sequence[Sequence["Block"]]


Block: TypeAlias = Table | Figure | Sentences | Note | Listing | Columns


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Headline:
    """The main result of the run, the lines under it, and its meaning in words. number: "-" if there is none."""

    number: str
    unit: str
    under: Sequence[str]
    sentences: Sequence[str]
    bar: Figure | None


@dataclass(frozen=True)
class Page:
    """links: (anchor, name) of each section. stamps: (word, sentence), serious limits of the result."""

    name: str
    kind: str
    question: str
    leaky: bool
    stamps: Sequence[tuple[str, str]]
    headline: Headline
    warnings: Sequence[str]
    links: Sequence[tuple[str, str]]
    sections: Sequence[Section]
