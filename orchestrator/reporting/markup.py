"""Small pieces of HTML for the report, and its one style sheet. Everything that is not markup is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

CSS = """
:root { --ink: #22303c; --faint: #63727e; --line: #e3e8ec; --teal: #0f766e; --pale: #eef6f5; --rose: #a83246;
  --amber: #8a5a00; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #f6f8f9; font: 15px/1.55 "Segoe UI", "Helvetica Neue", Helvetica,
  "DejaVu Sans", Arial, sans-serif; }
svg text { font-family: "Segoe UI", "Helvetica Neue", Helvetica, "DejaVu Sans", Arial, sans-serif !important; }
main { max-width: 980px; margin: 0 auto; padding: 28px 22px 60px; }
header { padding: 8px 4px 6px; }
header .kind { color: var(--faint); font-size: 14px; margin: 0 0 2px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 0 0 10px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--faint); font-weight: 600; }
nav { font-size: 13px; margin: 10px 4px 16px; line-height: 2; }
nav a { color: var(--teal); text-decoration: none; margin-right: 14px; white-space: nowrap; }
nav a:hover { text-decoration: underline; }
section, .hero { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px;
  margin: 0 0 16px; }
.hero { display: grid; grid-template-columns: 275px 1fr; gap: 6px 30px; align-items: center; }
.hero .number { font-size: 62px; line-height: 1; font-weight: 700; color: var(--teal); letter-spacing: -.03em; }
.hero .number.leaky { color: var(--rose); }
.hero .number small { font-size: 27px; font-weight: 500; letter-spacing: 0; }
.hero .under { color: var(--faint); font-size: 14px; margin-top: 8px; }
.hero p { margin: 0 0 8px; }
.hero .bar { grid-column: 1 / -1; margin-top: 8px; }
.hero .bar svg { display: block; margin: 0 auto; }
.stamp { border: 2px solid var(--rose); color: var(--rose); background: #fdf3f4; border-radius: 10px;
  padding: 12px 18px; margin: 0 0 16px; }
.stamp b { font-size: 20px; letter-spacing: .12em; margin-right: 10px; }
.care { background: #fffaf0; border: 1px solid #f0dcae; border-radius: 10px; padding: 12px 18px; margin: 0 0 16px; }
.care b { color: var(--amber); }
.care ul { margin: 4px 0 0; padding-left: 20px; }
ul.words { margin: 0 0 8px; padding-left: 20px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 10px 34px; align-items: start; }
.two > * { min-width: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--faint); font-weight: 600; border-bottom: 1.5px solid var(--line); }
th, td { padding: 4px 14px 4px 0; vertical-align: top; }
td { border-bottom: 1px solid #f0f3f5; }
th.r, td.r { text-align: right; }
tr.ours td { background: var(--pale); font-weight: 600; }
.facts td:first-child { white-space: nowrap; }
code, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12.5px; }
pre { background: #f6f8f9; border-radius: 6px; padding: 12px 14px; overflow-x: auto; font-size: 12.5px;
  line-height: 1.45; margin: 0; white-space: pre-wrap; }
.note { color: var(--faint); font-size: 13.5px; max-width: 78ch; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
footer { color: var(--faint); font-size: 13px; padding: 4px; }
@media screen and (max-width: 760px) { .hero, .two { grid-template-columns: 1fr; } section, .hero { padding: 16px; } }
@media print {
  @page { margin: 14mm; }
  body { background: #fff; font-size: 11pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  section, .hero { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 10px 0; }
  .hero { grid-template-columns: 215px 1fr; }
  h2, h3 { break-after: avoid; }
  .hero, .stamp, .care, svg, tr, section { break-inside: avoid; }
  #folds, #made, #published, #choices { break-inside: auto; }
  .wide, pre { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def text(value: object) -> str:
    return escape(str(value), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1, ours: Sequence[int] = ()) -> str:
    """A table whose first `left` columns are words and the others numbers; rows in `ours` stand out."""
    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(f'<{tag}{"" if i < left else " class=r"}>{text(cell)}</{tag}>' for i, cell in enumerate(row))

    body = "".join(f'<tr{" class=ours" if i in ours else ""}>{cells("td", row)}</tr>' for i, row in enumerate(rows))
    return f'<div class="wide"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def words(sentences: Iterable[str]) -> str:
    return f'<ul class="words">{"".join(f"<li>{text(sentence)}</li>" for sentence in sentences)}</ul>'


def note(sentence: str) -> str:
    return f'<p class="note">{text(sentence)}</p>'


def section(anchor: str, title: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{text(title)}</h2>{body}</section>'


def page(title: str, body: str) -> str:
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{text(title)}</title><style>{CSS}</style></head><body><main>{body}</main></body></html>\n")
