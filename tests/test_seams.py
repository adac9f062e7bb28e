"""Tests hold on to public names: a private one may be renamed by whoever works on the inside, and no test falls."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
FILES = sorted(TESTS.rglob("*.py"))


def private(name: str) -> bool:
    """Of a name, or of the last part of a dotted one; Python's own (`__main__`, `__call__`) are public."""
    return any(part.startswith("_") and not (part.startswith("__") and part.endswith("__")) for part in name.split("."))


def patched(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, name) of every attribute that is set or taken away on something else than `self`, by any way of doing it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("setattr", "delattr", "patch", "object"):  # monkeypatch's, mock's and Python's own
                words = [*node.args[:2], *(word.value for word in node.keywords if word.arg in ("name", "target", "attribute"))]
                found += [(node.lineno, word.value) for word in words
                          if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            elif called == "multiple":
                found += [(node.lineno, word.arg) for word in node.keywords if word.arg]
        targets = {ast.Assign: lambda n: n.targets, ast.AugAssign: lambda n: [n.target], ast.AnnAssign: lambda n: [n.target],
                   ast.Delete: lambda n: n.targets}.get(type(node), lambda n: [])(node)
        found += [(target.lineno, target.attr) for target in targets if isinstance(target, ast.Attribute)
                  and not (isinstance(target.value, ast.Name) and target.value.id == "self")]
    return found


def code_in(tree: ast.AST) -> list[ast.AST]:
    """Programs that tests hand to other processes as text."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            try:
                found.append(ast.parse(node.value))
            except SyntaxError:
                continue
    return found


def offences(source: str) -> list[tuple[int, str]]:
    tree = ast.parse(source)
    return [(line, name) for one in (tree, *code_in(tree)) for line, name in patched(one) if private(name)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_patches_a_private_name(path):
    assert not offences(path.read_text())


@pytest.mark.parametrize("source", [
    'monkeypatch.setattr(module, "_name", 1)', 'monkeypatch.setattr("package.module._name", 1)',
    'monkeypatch.setattr("package._module.name", 1)', 'patch("a.b._c")', 'mock.patch.object(a, "_b")',
    'monkeypatch.delattr(a, "_b")', "a._b = 1", "a.b._c += 1", 'setattr(a, "_b", 1)', "patch.multiple(a, _b=1)",
    'monkeypatch.setattr(module, name="_x", value=1)', 'CODE = "import a\\na._b = 1"', "del a._b"])
def test_every_way_of_patching_is_seen(source):
    assert offences(source)


@pytest.mark.parametrize("source", [
    'monkeypatch.setattr(module, "name", lambda _x: 1)', 'monkeypatch.setattr("a.__main__.generate", f)', "self._x = 1",
    'monkeypatch.setattr(Kind, "__call__", f)', "_local = 1", 'os.environ["_X"] = "1"'])
def test_what_is_public_may_be_patched(source):
    assert not offences(source)
