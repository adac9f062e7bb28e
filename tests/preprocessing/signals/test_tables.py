"""The table readers under arbitrary bytes: a ClipError or finite-shaped columns, never another exception."""

import copy
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.errors import ClipError
from preprocessing.recordings import Channel, SignalRef
from preprocessing.signals import signals, tables
from preprocessing.signals.signals import read_signal

FUZZ = settings(max_examples=1000, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
CELLS = st.one_of(
    st.sampled_from(["1", "-2.5", "1e9", "4e-58", "nan", "inf", "", " 3 ", "1,5", "x", "\0",
                     '"', '"1"', "1e999", "\ufeff"]),
    st.floats().map(str), st.text(max_size=6))
SPOILT = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), CELLS), max_size=3)


@st.composite
def texts(draw) -> bytes:
    """A small table with a few cells replaced, rows of other widths, any separator and line end; or plain bytes."""
    kind = draw(st.sampled_from(["table"] * 8 + ["cut", "uneven", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=300))
    sep = draw(st.sampled_from(["\t", ",", ";", "|"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\n\n", "\r"]))
    header = ["time", "gsr", "ecg", *draw(st.lists(st.sampled_from(["gsr", "emg", "", " ecg", "x"]), max_size=2))]
    lines = [header] + [[str(10 * row + c) for c in range(len(header))] for row in range(draw(st.integers(0, 5)))]
    for row, column, cell in draw(SPOILT):
        if row < len(lines) and column < len(header):
            lines[row][column] = cell
    if kind == "uneven":
        lines[-1] = lines[-1][: draw(st.integers(0, len(header)))] + draw(st.lists(CELLS, max_size=2))
    data = end.join(map(sep.join, lines)).encode("utf-8", errors="replace")
    return data[: draw(st.integers(0, len(data)))] if kind == "cut" else data


@pytest.mark.medium
def test_a_thousand_fuzzed_csv_files(tmp_path):
    path = tmp_path / "x.csv"
    channels = (Channel("gsr", "gsr", "gsr", 4.0), Channel("ecg", "ecg", "ecg", 4.0))
    outcomes: set[str] = set()

    @FUZZ
    @given(texts(), st.sampled_from([None, None, "\t", ";"]), st.sampled_from([".", ","]))
    def fuzz(data: bytes, sep: str | None, decimal: str) -> None:
        path.write_bytes(data)
        try:
            signal = read_signal(SignalRef(path, "biovid", channels, sep, decimal))
            outcomes.add("read")
        except ClipError as error:
            assert error.stage == "signal" and error.fix
            outcomes.add(error.reason)
            return
        assert all(np.isfinite(c.values).all() and len(c.values) for c in signal.channels)

    fuzz()
    # The fuzzing reaches every outcome.
    assert outcomes >= {"read", "nan", "infinite", "not_a_number", "not_a_table", "missing_column", "duplicate_column",
                        "empty_file"}


@settings(FUZZ, max_examples=200)
@given(st.data())
def test_fuzzed_arrays_and_parquet(tmp_path, data) -> None:
    """Damaged npy, npz and Parquet: bytes of a good file changed, removed or replaced."""
    form = data.draw(st.sampled_from(["npy", "npz", "parquet"]))
    stream = io.BytesIO()
    if form == "npy":
        np.save(stream, np.arange(12.0).reshape(6, 2))
    elif form == "npz":
        np.savez(stream, gsr=np.arange(6.0))
    else:
        papq.write_table(pa.table({"gsr": np.arange(6.0)}), stream)
    raw = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    path = tmp_path / f"x.{form}"
    path.write_bytes(bytes(raw))
    column = 0 if form == "npy" else "gsr"
    try:
        read_signal(SignalRef(path, form, (Channel("gsr", column, "gsr", 4.0),)))
    except ClipError as error:
        assert error.stage == "signal"


def test_no_cell_and_no_name_is_repeated(tmp_path):
    """Messages are written to the store and the report; cells and column names may hold ids."""
    text, arrays, parquet = (tmp_path / f"x.{end}" for end in ("csv", "npz", "parquet"))
    rows = "".join(f"anna_meier,{i}\n" for i in range(3))

    def said(call, *arguments) -> str:
        with pytest.raises(ClipError) as caught:
            call(*arguments)
        assert not any(word in str(caught.value) for word in ("anna", "meier", "bert", "7_LOW"))
        return caught.value.fix

    text.write_text(f"bert_id,7_LOW\n{rows}")
    assert "(row 1, column 1)" in said(tables.read_columns, text, ["bert_id"])
    text.write_text(f"bert_id,7_LOW\n{rows}\nanna_meier,n/v\n")
    assert "(row 4, column 2)" in said(tables.read_columns, text, ["7_LOW"])
    text.write_text(f"bert_id,7_LOW\n{rows}anna_meier\n")
    assert "(row 4)" in said(tables.read_columns, text, ["7_LOW"])
    assert "(row 4)" in said(tables.read_text_column, text, "bert_id")
    assert "number 2 occurs 0 times" in said(tables.read_columns, text, ["7_LOW", "7_LOW_2"])
    assert "0 times among the 2 columns" in said(tables.read_text_column, text, "7_LOW_2")
    np.savez(arrays, anna_meier=np.zeros(3), bert=np.zeros(3))
    assert "2 arrays" in said(tables.read_array, arrays, "7_LOW")
    np.savez(arrays, anna_meier=np.array(["anna"]))
    said(tables.read_array, arrays)
    np.savez(arrays, x=np.zeros(3, [("anna", "f8"), ("bert", "f8")]))
    said(tables.read_array, arrays)
    arrays.write_bytes(b"anna_meier")
    said(tables.read_array, arrays)
    papq.write_table(pa.table({"anna_meier": ["bert"] * 3, "bert": [1.0] * 3}), parquet)
    said(tables.read_parquet, parquet, ["7_LOW"])
    said(tables.read_parquet, parquet, ["anna_meier"])


def test_the_names_of_columns_stay_with_the_error_in_this_process(tmp_path):
    """For the doctor's terminal: the file, the wanted column and the present ones. They are not pickled, so that
    no worker sends them."""
    text, parquet, arrays = (tmp_path / f"x.{end}" for end in ("csv", "parquet", "npz"))
    text.write_text("time;bvp\n1;2\n")
    papq.write_table(pa.table({"time": [1.0], "bvp": [2.0]}), parquet)
    np.savez(arrays, time=np.zeros(3), bvp=np.zeros(3))
    for path, read, more in ((text, tables.read_columns, (["EDA"],)), (parquet, tables.read_parquet, (["EDA"],)),
                             (text, tables.read_text_column, ("EDA", ";")), (arrays, tables.read_array, ("EDA",))):
        with pytest.raises(ClipError) as caught:
            read(path, *more)
        assert str(path) in caught.value.names and all(repr(name) in caught.value.names for name in ("EDA", "time", "bvp"))
        assert "EDA" not in str(caught.value) and copy.copy(caught.value).names == ""


WIDE = ";".join(f"c{i}" for i in range(30))


@pytest.mark.parametrize(("data", "options", "reason"), [
    (b"x;y\n1;2\n", {}, None), (b"y;z\n1;2\n", {}, "missing_column"), (b"x;x\n1;2\n", {}, "duplicate_column"),
    (b"\xef\xbb\xbfx;y\r\n1;2\r\n", {}, None), ("x;y\n1;2\n".encode("utf-16"), {"encoding": "utf-16"}, None),
    ("z;y\n1;2\n".encode("utf-16"), {"encoding": "utf-16"}, "missing_column"), ("µ;x\n1;2\n".encode("latin-1"),
                                                                               {"encoding": "latin-1"}, None),
    (b"x;y [a,b]\n1;2\n", {}, None), (b"x y\n1 2\n", {"sep": " "}, None), (WIDE.encode() + b"\n", {}, "missing_column"),
    ("x;y\n1;2\n".encode("utf-16"), {}, None), (b"", {}, None)])
def test_the_header_alone_tells_a_missing_column(tmp_path, data, options, reason):
    """As reading the whole table does; other errors are left to the reader."""
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    error = signals.column_error(SignalRef(path, "csv", (Channel("gsr", "x", "gsr", 4.0),), **options))
    assert (error and error.reason) == reason
    try:
        tables.read_columns(path, ["x"], **options)
    except ClipError as read:
        assert (str(read), read.names) == (str(error), error.names) if error else read.reason != "missing_column"
    else:
        assert error is None
    assert signals.column_error(SignalRef(tmp_path / "none.csv", "csv", (Channel("gsr", "x", "gsr", 4.0),))) is None


def test_a_message_lists_the_first_names_of_a_wide_table(tmp_path):
    (tmp_path / "x.csv").write_text(WIDE + "\n")
    with pytest.raises(ClipError) as caught:
        tables.read_columns(tmp_path / "x.csv", ["x"])
    assert caught.value.names.endswith("'c11' and 18 more")


def test_text_column(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("1,50\n0,\n1, B1 \n2,\n")
    assert tables.read_text_column(path, "50") == ["", "B1", ""]
    with pytest.raises(ClipError, match="missing_column"):
        tables.read_text_column(path, "51")


# ---- nothing is dropped or guessed

SILENT = {
    "blank line": (b"x;y\n1;2\n\n3;4\n", {}, "blank_line", "empty lines"),
    "blank line of DOS": (b"x;y\r\n1;2\r\n\r\n3;4\r\n", {}, "blank_line", "empty lines"),
    "blank first line": (b"x;y\n\n1;2\n", {}, "blank_line", "empty lines"),
    "blank line beside a cell of two lines": (b"x;y\n1;\"a\nb\"\n\n3;4\n", {}, "blank_line", "empty lines"),
    "blank line among inch marks": (b"x;y\n1;a\n\n2;5\" tube\n3;6\" tube\n4;d\n", {}, "blank_line", "empty lines"),
    "quote never closed": (b"x;y\n1;\"a\n2;b\n3;c\n", {}, "not_a_table", "not closed"),
    "quote closed rows later": (b"x;y\n1;\"a\n2;b\n3;c\"\n4;d\n", {}, "not_a_table", "holds whole rows"),
    "quote before the number": (b"y;x\n\"a;1\n\"b\";2\n", {}, "not_a_table", "quot"),
    "beyond 2^53": (b"x;y\n9007199254740994;2\n", {}, "not_exact", "2^53"),
    "blank line in one column": (b"x\n1\n\n3\n", {}, "blank_line", "empty lines"),
    "decimal comma": (b"x;y\n1,5;2,5\n", {}, "not_a_number", "decimal"),
    "decimal comma alone": (b"x\n1,5\n2,5\n", {}, "not_a_number", "decimal"),
    "thousands": (b"x;y\n1.234.567;2\n", {}, "not_a_number", "decimal"),
    "thousands of commas": (b"x;y\n\"1,234.5\";2\n", {}, "not_a_number", "decimal"),
    "decimal comma between commas": (b"x,y\n1,5,2,5\n", {}, "not_a_table", "decimal"),
    "units under the header": (b"x;y\nmV;uS\n1;2\n", {}, "not_a_number", "units"),
    "header again": (b"x;y\n1;2\nx;y\n3;4\n", {}, "not_a_number", "units or comments"),
    "comment on top": (b"# made by X\nx;y\n1;2\n", {}, "missing_column", "comments"),
    "comment within": (b"x;y\n1;2\n# pause;\n3;4\n", {}, "not_a_number", "comments"),
    "spaces": (b"x y\n1 2\n", {}, "missing_column", "sep"),
    "column twice": (b"x;x\n1;2\n", {}, "duplicate_column", "once"),
    "two marks": (b"x;a,b;y\n1;2,3;4\n", {}, "unknown_separator", "sep"),
    "UTF-16": ("x;y\n1;2\n".encode("utf-16"), {}, "other_encoding", "encoding"),
    "Latin-1": ("µx;x µ\n1;2\n".encode("latin-1"), {"columns": ["µx"]}, "missing_column", "encoding"),
    "another encoding than given": (b"\xff\xfex", {"encoding": "utf-16-be"}, "other_encoding", "encoding"),
    "trailing mark": (b"x;y\n1;2;\n3;4;\n", {}, "not_a_table", "sep"),
}


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_dropped_or_guessed_silently(tmp_path, name):
    data, options, reason, remedy = SILENT[name]
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    with pytest.raises(ClipError) as caught:
        tables.read_columns(path, **{"columns": ["x"], **options})
    assert caught.value.reason == reason and remedy in caught.value.fix


@pytest.mark.parametrize(("data", "options"), [
    (b"x;y\n1;2\n3;4\n\n\n", {}), (b"\xef\xbb\xbfx;y\n1;2\n3;4", {}), (b"x;y;\n1;2;\n3;4;\n", {}),
    (b"\"x\";y\n\"1\";2\n\"3\";4\n", {}),
    (b"x;note\n1;\"moved\nagain, \"\"a bit\"\"\n\"\n3;4\n", {}), (b"x;y\r\n1;\"a\r\n\r\nb\"\r\n3;4\r\n", {}),
    ("x;y\n1;2\n3;4\n".encode("utf-16"), {"encoding": "utf-16"}), ("x;µ\n1;2\n3;4\n".encode("cp1252"), {"encoding": "cp1252"}),
    (b"x;y [a,b]\n1;2\n3;4\n", {}), (b"y|x\n5|1\n6|3\n", {}), (b"x y\n1 2\n3 4\n", {"sep": " "}),
    (b"x;y\n1,0;2,5\n3,0;1,5\n", {"decimal": ","})])
def test_unambiguous_tables_are_read(tmp_path, data, options):
    (tmp_path / "x.csv").write_bytes(data)
    np.testing.assert_array_equal(tables.read_columns(tmp_path / "x.csv", ["x"], **options)["x"], [1.0, 3.0])


def test_lines_within_cells_are_not_rows(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'x;note\n1;"moved\nagain"\n3;4\n')
    assert tables.count_rows(tmp_path / "x.csv", "csv") is None  # unknown without reading
    (tmp_path / "y.csv").write_bytes(b'x;note\n1;"moved again"\n3;4\n')
    assert tables.count_rows(tmp_path / "y.csv", "csv") == 2


def test_whole_numbers_that_no_float_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.array([2**53 + 1, 5]))
    with pytest.raises(ClipError, match="not_exact"):
        tables.read_array(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([2**40, -5]))
    assert tables.read_array(tmp_path / "b.npy")[0] == 2.0**40
    papq.write_table(pa.table({"x": pa.array([2**53 + 1]), "t": pa.array([1], pa.timestamp("ms"))}), tmp_path / "c.parquet")
    for column in ("x", "t"):
        with pytest.raises(ClipError, match="not_a_table"):
            tables.read_parquet(tmp_path / "c.parquet", [column])


@pytest.mark.parametrize("form", ["npy", "npz", "parquet", "csv"])
def test_limits_are_checked_before_anything_is_read(tmp_path, form, monkeypatch):
    from preprocessing.inputs.limits import Limits

    path = tmp_path / f"x.{form}"
    x = np.arange(1000.0)
    {"npy": lambda: np.save(path, x), "npz": lambda: np.savez(path, x=x),
     "csv": lambda: np.savetxt(path, x, header="x", comments=""),
     "parquet": lambda: papq.write_table(pa.table({"x": x}), path)}[form]()
    ref = SignalRef(path, form, (Channel("x", 0 if form == "npy" else "x", "other", 10.0),))
    assert len(read_signal(ref, Limits(max_rows=1000)).channels[0].values) == 1000
    for name in ("read_columns", "read_array", "read_parquet"):
        monkeypatch.setattr(tables, name, lambda *a, **k: pytest.fail("read"))
    with pytest.raises(ClipError, match="too_large.*data.max_rows"):
        read_signal(ref, Limits(max_rows=400))
    if form == "npy":
        np.save(path, np.zeros((600, 520)))
        with pytest.raises(ClipError, match="too_large.*data.max_channels"):
            read_signal(ref)
    with pytest.raises(ClipError, match="too_large.*data.max_channels"):
        read_signal(SignalRef(path, form, ref.channels * 3), Limits(max_channels=2))


@pytest.mark.parametrize("shape", [(3, 750), (1, 500), (4, 30), (2, 64)])
def test_a_transposed_array_is_an_error(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=shape))
    channels = tuple(Channel(f"c{i}", i, "other", 10.0) for i in range(min(3, shape[0])))
    with pytest.raises(ClipError, match="swapped_axes"):
        read_signal(SignalRef(tmp_path / "x.npy", "npy", channels))
    np.save(tmp_path / "x.npy", np.zeros((10, 48)))  # ten samples of 48 channels, which are all used
    read_signal(SignalRef(tmp_path / "x.npy", "npy", tuple(Channel(f"c{i}", i, "fnirs", 1.0) for i in range(48))))
