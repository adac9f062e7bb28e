"""Tables of models, data sets and splits in README.md, made from the registers. To update: python docs/tables.py"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from models.registry import MODELS  # noqa: E402
from orchestrator.plan.splits import SPLITS  # noqa: E402
from preprocessing.datasets.registry import SOURCES  # noqa: E402

README = ROOT / "README.md"
ORDER = ("tokens", "signals", "video")


def tables() -> dict[str, str]:
    """{table name, as in the marks of README.md: its Markdown}."""
    models = [(f"`{m.name}`", ", ".join(part for part in ORDER if part in m.needs), m.family, m.about, m.paper)
              for m in MODELS.values()]
    sources = [(f"`{s.name}`", s.about, s.paper) for s in SOURCES.values()]
    splits = [(f"`{s.name}`", s.about) for s in SPLITS.values()]
    return {"models": table(("`model=`", "reads", "kind", "what it is", "paper"), models),
            "data sets": table(("`--dataset`", "what it is", "paper"), sources),
            "splits": table(("`split=`", "test subjects"), splits)}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written(text: str) -> str:
    """The text, with each table between its marks updated."""
    for name, new in tables().items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- end of {name} -->")
        if not mark or not end:
            raise SystemExit(f"README.md lacks the marks <!-- {name} --> and <!-- end of {name} -->: add them")
        text = f"{before}{mark}{new}{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
