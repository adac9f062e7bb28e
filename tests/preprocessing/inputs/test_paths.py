import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.errors import InputError
from preprocessing.inputs.paths import check_distinct, check_link, check_name, fold_name, inside, is_file, is_folder


def test_inside(tmp_path):
    (tmp_path / "a").mkdir()
    assert inside(tmp_path, "a/b.csv", "row") == tmp_path / "a" / "b.csv"
    assert inside(tmp_path, "./a//b.csv", "row") == tmp_path / "a" / "b.csv"
    assert inside(tmp_path, "a\\b.csv", "row") == tmp_path / "a" / "b.csv"
    assert inside(tmp_path, "..a/b..csv", "row") == tmp_path / "..a" / "b..csv"  # dots in a name do not go up


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.lists(st.sampled_from(["a", "..", ".", "", "\0", "/", "\\", "C:", "~", "b.csv", "\ud800", "x" * 300]),
                max_size=6),
       st.sampled_from(["/", "\\"]))
def test_nothing_gets_outside(tmp_path_factory, parts, sep):
    root = tmp_path_factory.getbasetemp()
    try:
        path = inside(root, sep.join(parts), "row 1")
    except InputError as error:
        assert "row 1" in str(error)
        return
    assert os.path.normpath(path) == str(root) or os.path.normpath(path).startswith(f"{root}{os.sep}")
    assert isinstance(is_file(path), bool) and isinstance(is_folder(path), bool)


def test_links(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "rootless").mkdir()
    root = tmp_path / "root"
    (root / "out").symlink_to(tmp_path / "rootless")  # a neighbour whose name begins alike
    (root / "loop").symlink_to(root / "loop")
    (root / "in").symlink_to(root)
    for name in ("out", "out/deeper"):
        with pytest.raises(InputError, match="outside"):
            inside(root, name, "row")
    assert check_link(root, root / "in" / "x", "row") == root / "in" / "x"
    assert not is_file(inside(root, "loop", "row"))


def test_names():
    assert check_name("Zoë 7", "row") == "Zoë 7"
    for name in ("", " a", "a ", ".", "..", "a/b", "a\\b", "a\0", "a\tb", "\ud800"):
        with pytest.raises(InputError, match="row"):
            check_name(name, "row")


def test_duplicate_names():
    check_distinct(["a", "b", "a"], "subject", "here")  # the same name again is no duplicate
    for one, two in (("a", "A"), ("straße", "STRASSE"), ("é", "e\u0301"), ("ﬁ", "fi"), ("１", "1")):
        with pytest.raises(InputError, match="here"):
            check_distinct([one, two], "subject", "here")
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert fold_name(unicodedata.normalize(form, "Ångström")) == fold_name("ångström")
