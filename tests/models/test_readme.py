"""models/README.md is the map: every file, figure, equation and table has its place, and every place is there."""

import ast
import re

from tests.helpers.places import ROOT

MODELS = ROOT / "models"
TEXT = (MODELS / "README.md").read_text()
FILES = sorted(p for p in MODELS.rglob("*.py") if p.stat().st_size)


def numbers(word: str) -> set[int]:
    """Those that follow `word`, ranges and lists included: "Figs. 1 to 4", "Figs. 11 and 12", "Eq. 3"."""
    found: set[int] = set()
    for first, link, last in re.findall(rf"{word}s?\.? (\d+)[AB]?(?: (to|and) (?:Fig\. )?(\d+))?", TEXT):
        found |= set(range(int(first), int(last or first) + 1)) if link == "to" else {int(first), int(last or first)}
    return found


def test_every_file_is_on_the_map():
    assert FILES and not [path for path in FILES if not re.search(rf"[`/]{re.escape(path.name)}`", TEXT)]


def test_every_place_on_the_map_exists():
    named = set(re.findall(r"`([\w/]+\.(?:py|md))`", TEXT))
    known = {str(p.relative_to(base)) for p in FILES for base in (MODELS, MODELS / "baselines", ROOT) if base in p.parents}
    missing = {n for n in named if n not in known and not (ROOT / n).exists()}
    assert len(named) > 30 and missing == set()


def test_names_behind_a_file_are_defined_in_it():
    pairs = re.findall(r"`([\w/]+\.py)` `([\w.]+)`", TEXT)
    assert len(pairs) >= 5
    for path, name in pairs:
        tree = ast.parse((MODELS / path).read_text())
        for part in name.split("."):
            node = next(n for n in ast.walk(tree) if getattr(n, "name", None) == part)
            tree = node


def test_all_figures_and_equations_have_a_place():
    assert numbers("Fig") >= set(range(1, 13))
    assert numbers("Eq") >= set(range(1, 8))
    assert numbers("Table") >= set(range(3, 10))
    assert "Algorithm 1" in TEXT


def test_public_names_carry_a_docstring():
    """Every module; public classes and functions unless they are so short that name and types say it."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []
    assert [(path, node.name) for path, tree in trees.items() for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
            and not ast.get_docstring(node) and node.end_lineno - node.lineno > 5] == []
