"""Arbitrary bytes where a data set's own tables should be: InputError or a note, never another exception."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.datasets import registry
from preprocessing.errors import ClipError, InputError
from preprocessing.recordings import DataSet
from preprocessing.signals.signals import read_signal
from tests.helpers.layouts import write_2025, write_ai4pain, write_biovid

pytestmark = pytest.mark.medium
FUZZ = settings(max_examples=150, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@st.composite
def damages(draw) -> list[tuple[str, int, bytes]]:
    """Up to three edits of a file: bytes inserted, overwritten or cut at a place given as a share of 1/1000."""
    piece = st.one_of(st.binary(max_size=8), st.sampled_from([b"\t", b",", b"\n", b"\r\n", b"\0", b"\"", b"B1", b"L1",
                                                              b"..", b"/", b"nan", b"\xff", b"BL1", b"0", b"7_low_1"]))
    return draw(st.lists(st.tuples(st.sampled_from(["insert", "write", "cut", "drop"]), st.integers(0, 1000), piece),
                         min_size=1, max_size=3))


def damage(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, share, piece in edits:
        at = len(data) * share // 1000
        if kind == "cut" and share % 5 == 0:
            data = data[:at]
        else:
            skip = {"insert": 0, "write": len(piece), "drop": 1 + share % 40, "cut": 1}[kind]
            data = data[:at] + (b"" if kind == "drop" else piece) + data[at + skip:]
    return data


def load(name: str, root) -> DataSet | None:
    try:
        return registry.load(name, root)
    except InputError as error:
        assert str(root) in str(error)
        return None


def read_some(data: DataSet | None) -> int:
    if data is None:
        return 0
    refs = [r.signal for r in data.recordings if r.signal is not None]
    for ref in refs[:2]:
        try:
            read_signal(ref)
        except ClipError as error:
            assert error.stage == "signal"
    return len(refs)


@pytest.mark.parametrize(("name", "write", "file"), [
    ("biovid_a", lambda root: write_biovid(root, subjects=1, rows=20), "starting_point/samples.csv"),
    ("ai4pain", lambda root: write_ai4pain(root, ("1",), (), fs=1.0), "Train/fnirs/1.csv"),
    ("ai4pain_2025", lambda root: write_2025(root, rows=30), "train/Eda/7.csv"),
])
def test_damaged_tables(tmp_path, name, write, file):
    write(tmp_path)
    whole = (tmp_path / file).read_bytes()
    head = whole[:1500]  # most edits should fall where the structure is
    outcomes = set()

    @FUZZ
    @given(damages(), st.booleans())
    def fuzz(edits, near_the_top):
        data = damage(head, edits) + whole[len(head):] if near_the_top else damage(whole, edits)
        (tmp_path / file).write_bytes(data)
        outcomes.add(read_some(load(name, tmp_path)))

    fuzz()
    assert len(outcomes) > 1  # some damage is refused or costs clips, some is harmless
