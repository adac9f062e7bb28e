"""Read numbers from users' files: CSV, TSV, npy, npz and Parquet, without pickle. Every error is a ClipError.

The text of a ClipError is written to the store and the report. It gives positions in the file, never a cell or a column
name: these may be raw ids (AI4Pain 2025 names its columns by trial). The names are in ClipError.names, which only the
doctor and the store's folder private/ show.
"""

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from preprocessing.errors import ClipError
from preprocessing.inputs.limits import Limits
from preprocessing.inputs.paths import is_file

EXACT = 2**53  # whole numbers up to here are exact in float64
LARGEST = np.finfo(np.float32).max  # larger values would be infinite in the store; signals.py reports them
SEPARATORS = ("\t", ";", ",", "|")
TEXTS = ("csv", "tsv", "ai4pain", "biovid", "biovid_filtered")
SHOWN = 12  # names of a file that a message lists


def bad(reason: str, fix: str, names: str = "") -> ClipError:
    return ClipError("signal", reason, fix, names)


def read_columns(
    path: Path, columns: Sequence[str], sep: str | None = None, decimal: str = ".", encoding: str = "utf-8"
) -> dict[str, np.ndarray]:
    """Named columns of a text table as float64 (rows,), blanks in header and cells stripped, empty cells NaN.

    sep None: the separator found in the header; of several the one that also fits the first row, else sep must be given.
    Only the named columns must be numeric; their order is free. ClipError: missing_file, empty_file, missing_column,
    duplicate_column, not_a_number, not_a_table, blank_line, other_encoding, unknown_separator.
    """
    data = decoded(read_bytes(path), encoding)
    head, _, body = data.partition(b"\n")
    sep, header = split_header(head, sep, body)
    check_header(header, columns, head, path)
    if not body.strip():
        raise bad("empty_file", "The table has a header but no rows; copy the file again.")
    # Positions as names: a header may repeat the names of columns that are not used.
    index = {name: str(header.index(name)) for name in columns}
    try:
        table = _parsed(body, sep, len(header), dict.fromkeys(index.values(), pa.float64()), decimal)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        if "conversion error" in str(error):
            raise bad("not_a_number", f"A cell that should be a number is text{place(error)}: repair the file, remove lines "
                                      "of units or comments, or set sep and decimal (which is "
                                      f"{'a comma' if decimal == ',' else 'a point'} now).") from None
        raise bad("not_a_table", f"The table is incomplete, or has uneven rows{place(error)}: copy it again, or set "
                                 "sep and decimal.") from None
    check_lines(table.num_rows, body, sep, len(header))
    found = {name: _to_numpy(table[position]) for name, position in index.items()}
    if any(((size > EXACT) & (size <= LARGEST)).any() for size in map(np.abs, found.values())):
        raise bad("not_exact", "The table holds numbers beyond 2^53, which cannot be samples; correct the column.")
    return found


def check_lines(rows: int, body: bytes, sep: str, n_columns: int) -> None:
    """ClipError where a line of `body` gave no row: readers skip empty lines, and all later samples would be shifted.

    A cell in quotes may have several lines, unless they look like rows behind a missing closing quotation mark.
    """
    body = body.rstrip(b"\r\n")
    lines = body.count(b"\n") + 1
    if rows == lines:
        return
    counts = f"The table has {lines} lines below its header but {rows} rows"
    records = []
    try:
        for record in csv.reader(io.StringIO(body.decode("utf-8", "replace"), newline=""), delimiter=sep, strict=True):
            records.append(bool(record))
            if any(line.count(sep) >= n_columns - 1 for cell in record for line in re.split(r"\r?\n", cell)[1:] if sep in line):
                raise bad("not_a_table", f"{counts}: a cell in quotes holds whole rows, close its quotation mark.")
    except csv.Error:
        raise bad("not_a_table", f"{counts}: a quotation mark is not closed, close it or remove it.") from None
    if not all(records) or len(records) != rows:
        raise bad("blank_line", f"{counts}: remove the empty lines, or fill in the missing values.")


def decoded(data: bytes, encoding: str = "utf-8") -> bytes:
    """The text in UTF-8. ClipError other_encoding where the data are not in `encoding`."""
    if encoding in ("utf-8", "utf8", "ascii"):
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise bad("other_encoding", "The table is UTF-16 text: set encoding to utf-16, or save it as UTF-8.")
        return data
    try:
        return data.decode(encoding).encode("utf-8")
    except (UnicodeError, LookupError, ValueError):
        raise bad("other_encoding", f"The table is not {encoding} text: correct encoding, or save it as UTF-8.") from None


def check_header(header: Sequence[str], columns: Sequence[str], head: bytes, path: Path) -> None:
    """`check_columns`, with the probable reason added where a column is missing."""
    try:
        check_columns(header, columns, path)
    except ClipError as error:
        if error.reason != "missing_column":
            raise
        try:
            head.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise bad("missing_column", error.fix + " The first line is not UTF-8 text: set encoding, for example "
                                                    "to latin-1.", error.names) from None
        raise bad("missing_column", error.fix + " The first line must be the header, without comments above it: set sep or "
                                                "encoding if it is.", error.names) from None


def read_text_column(path: Path, column: str, sep: str = ",") -> list[str]:
    """One column of a text table as stripped text, "" where empty. ClipErrors as `read_columns`."""
    data = read_bytes(path)
    head, _, body = data.partition(b"\n")
    sep, header = split_header(head, sep)
    check_header(header, (column,), head, path)
    position = str(header.index(column))
    try:
        table = _parsed(body, sep, len(header), {position: pa.string()})
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise bad("not_a_table", f"The table is incomplete, or has uneven rows{place(error)}; copy it again.") from None
    check_lines(table.num_rows, body, sep, len(header))
    return [(value or "").strip() for value in table[position].to_pylist()]


def _parsed(body: bytes, sep: str, n_columns: int, types: Mapping[str, pa.DataType], decimal: str = ".") -> pa.Table:
    """The columns at these positions ("0", "1", ...) of the rows in `body`."""
    return pacsv.read_csv(
        pa.py_buffer(body),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=len(body) + 1,
                                       column_names=[str(i) for i in range(n_columns)]),
        parse_options=pacsv.ParseOptions(delimiter=sep),
        convert_options=pacsv.ConvertOptions(include_columns=list(types), column_types=dict(types), decimal_point=decimal))


def read_header(path: Path, sep: str | None = None) -> list[str]:
    """Column names of a text table, stripped."""
    with open_checked(path) as stream:
        return split_header(stream.readline(1 << 20).rstrip(b"\n"), sep)[1]


def split_header(head: bytes, sep: str | None, body: bytes = b"") -> tuple[str, list[str]]:
    """(separator, names) of a header line. body: the lines after it, used to recognise the separator."""
    text = head.decode("utf-8-sig", errors="replace").rstrip("\r")
    if sep is None:
        sep = max(SEPARATORS, key=text.count)
        if body and sum(mark in text for mark in SEPARATORS) > 1:
            first = body[: body.find(b"\n")] if b"\n" in body else body
            fit = [mark for mark in SEPARATORS if mark in text and text.count(mark) == first.count(mark.encode())]
            if len(fit) != 1 and not (sep in fit and '"' in text):
                raise bad("unknown_separator", "The first line holds several possible separators: set sep.")
            sep = fit[0] if len(fit) == 1 else sep
    try:
        names = next(csv.reader(io.StringIO(text), delimiter=sep), [])
    except (csv.Error, TypeError):
        raise bad("not_a_table", "The first line of the table is not a header; copy the file again.") from None
    return sep, [name.strip() for name in names]


def read_array(path: Path, item: str | int | None = None) -> np.ndarray:
    """The array of an .npy, or array `item` of an .npz, as float64 (rows,) or (rows, columns); pickles are never read."""
    with open_checked(path) as stream:
        try:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                array = loaded
            else:
                if item is None and len(loaded.files) == 1:
                    item = loaded.files[0]
                if item not in loaded.files:
                    raise bad("missing_column", f"None of the {len(loaded.files)} arrays of the npz file has the given "
                                                "name (the doctor shows the names); correct the name.",
                              f"{path} has no array {item!r}, it has {listed(loaded.files)}")
                array = loaded[str(item)]
        except ClipError:
            raise
        except Exception:  # np.load and zipfile raise many types on damaged files
            raise bad("not_an_array", "The file is damaged or holds Python objects; export it as plain numbers.") from None
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
        raise bad("not_an_array", f"The array must be numeric and 1-D or 2-D, not {array.dtype.name} and {array.ndim}-D.")
    if array.dtype.kind in "iu" and array.size and max(abs(int(array.min())), abs(int(array.max()))) > EXACT:
        raise bad("not_exact", "The array holds whole numbers beyond 2^53, which cannot be samples; correct the column.")
    return array.astype(np.float64)


def trim(values: np.ndarray) -> np.ndarray:
    """values (n,) without the empty cells that pad a shorter column at its end."""
    filled = np.flatnonzero(~np.isnan(values))
    return values[: filled[-1] + 1] if len(filled) else values[:0]


def check_size(path: Path, format: str, limits: Limits) -> None:
    """ClipError too_large for a file with more rows (or an array with more columns) than the limits allow: by the header of an
    array or a Parquet file, by the size and the lines of a text table. Where that fails, the reader reports the error."""
    rows, width = 0, 0
    try:
        if format == "npy":
            with open(path, "rb") as stream:
                shape = _npy_shape(stream)
        elif format == "npz":
            with zipfile.ZipFile(path) as archive:
                shapes = []
                for member in archive.namelist():
                    with archive.open(member) as stream:
                        shapes.append(_npy_shape(stream))
            shape = max(shapes, key=lambda s: s[0] if s else 0, default=())
            width = max((s[1] for s in shapes if len(s) > 1), default=0)
        elif format == "parquet":
            shape = (papq.read_metadata(path).num_rows,)
        else:
            shape = (_least_rows(path, limits.max_rows),)
        rows, width = shape[0] if shape else 0, max(width, shape[1] if len(shape) > 1 else 0)
    except Exception:  # damaged or missing: the reader reports it
        return
    for found, most, what in ((rows, limits.max_rows, "rows"), (width, limits.max_channels, "channels")):
        if found > most and not (what == "channels" and rows < width):  # then time runs along the other axis: another error
            least = "" if format in ("npy", "npz", "parquet") else "at least "
            raise bad("too_large", f"The signal file has {least}{found} {what} and data.max_{what} is {most}: split it, "
                                   f"or raise data.max_{what}.")


def count_rows(path: Path, format: str) -> int | None:
    """Rows of a signal file, from its header or its lines; None where they are unknown (several arrays, a damaged file)."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return _count_rows(path, format, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=1 << 16)  # several steps of a command need the same files, and many windows one file
def _count_rows(path: Path, format: str, stamp: tuple[int, int]) -> int | None:
    try:
        if format == "npy":
            with open(path, "rb") as stream:
                return _npy_shape(stream)[0]
        if format == "npz":
            with zipfile.ZipFile(path) as archive:
                if len(archive.namelist()) != 1:
                    return None
                with archive.open(archive.namelist()[0]) as stream:
                    return _npy_shape(stream)[0]
        if format == "parquet":
            return papq.read_metadata(path).num_rows
        data = read_bytes(path).rstrip(b"\r\n")
        return None if b'"' in data and _broken_cells(data) else max(0, data.count(b"\n"))
    except Exception:  # the reader reports the error
        return None


def _broken_cells(data: bytes) -> bool:
    """Whether there are line ends between quotation marks: then lines are not rows."""
    return any(b"\n" in part for part in data.split(b'"')[1::2])


def _npy_shape(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)[0]


def _least_rows(path: Path, most: int) -> int:
    """Rows below the header of a text table: 0 where the file size shows that there are few enough, else the lines, counted
    without keeping them in memory, until there are too many."""
    if path.stat().st_size < 2 * most:  # a row has at least a digit and a line end
        return 0
    lines = 0
    with open(path, "rb") as stream:
        while (block := stream.read(1 << 20)) and lines <= most + 1:
            lines += block.count(b"\n")
    return max(0, lines - 1)


def read_parquet(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Named columns of a Parquet file as float64 (rows,), nulls NaN."""
    data = read_bytes(path)
    try:
        file = papq.ParquetFile(pa.BufferReader(data))
        check_columns(file.schema_arrow.names, columns, path)
        table = file.read(columns=list(columns), use_threads=False)
        return {name: _to_numpy(table[name].cast(pa.float64())) for name in columns}
    except (pa.ArrowException, ValueError, KeyError, OSError):
        raise bad("not_a_table", "The Parquet file is damaged or its columns are not numeric; write it again.") from None


def column_error(path: Path, format: str, columns: tuple[str, ...], sep: str | None, encoding: str) -> ClipError | None:
    """The missing_column or duplicate_column that reading this table would raise, by its header alone; None for arrays, and
    where the header cannot be read: the reader reports that."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return _column_error(path, (stat.st_mtime_ns, stat.st_size), format, columns, sep, encoding)


@lru_cache(maxsize=1 << 16)  # several steps of a command need the same files, and many windows one file
def _column_error(path: Path, stamp: tuple[int, int], format: str, columns: tuple[str, ...], sep: str | None,
                  encoding: str) -> ClipError | None:
    try:
        if format == "parquet":
            check_columns(papq.read_schema(path).names, columns, path)
        elif format in TEXTS:
            head, body = _first_lines(path, encoding)
            check_header(split_header(head, sep, body)[1], columns, head, path)
    except ClipError as error:
        return error if error.reason in ("missing_column", "duplicate_column") else None
    except Exception:  # the reader reports it
        return None
    return None


def _first_lines(path: Path, encoding: str) -> tuple[bytes, bytes]:
    """The header and the line below it, in UTF-8."""
    with open_checked(path) as stream:
        if encoding in ("utf-8", "utf8", "ascii"):
            head, body = (stream.readline(1 << 20).rstrip(b"\n") for _ in range(2))
            return decoded(head), body
        text = io.TextIOWrapper(stream, encoding, newline="\n")
        head, body = (text.readline(1 << 20).rstrip("\n").encode("utf-8") for _ in range(2))
        return head, body


def listed(names: Sequence[str]) -> str:
    """The first names of a file, for a person at the terminal."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more if names else "none"


def check_columns(header: Sequence[str], columns: Sequence[str], path: Path) -> None:
    """ClipError missing_column | duplicate_column where one of `columns` does not occur exactly once."""
    for number, name in enumerate(columns, start=1):
        if header.count(name) != 1:
            reason = "missing_column" if name not in header else "duplicate_column"
            raise bad(reason, f"Of the {len(columns)} columns to be read, number {number} occurs {header.count(name)} times "
                              f"among the {len(header)} columns of the file (the doctor shows their names); it must occur "
                              "once.", f"{path} has column {name!r} {header.count(name)} times, its columns are "
                                       f"{listed(header)}")


def place(error: Exception) -> str:
    """The position of Arrow's error, without the cell: row 1 is the first below the header, blank lines not counted."""
    column, row = (re.search(rf"{word} #(\d+):", str(error)) for word in ("In CSV column", "Row"))
    found = ([f"row {row[1]}"] if row else []) + ([f"column {int(column[1]) + 1}"] if column else [])
    return f" ({', '.join(found)})" if found else ""


def open_checked(path: Path) -> io.BufferedReader:
    """An open regular file; ClipError missing_file | unreadable_file | empty_file."""
    if not is_file(path):
        raise bad("missing_file", "The signal file is missing or not a regular file; restore it.")
    try:
        stream = open(path, "rb")
        if not stream.peek(1):
            stream.close()
            raise bad("empty_file", "The signal file is empty; copy it again.")
        return stream
    except OSError as error:
        raise bad("unreadable_file", f"The signal file cannot be read ({error.strerror}): give this account read "
                                     "access.") from None


def read_bytes(path: Path) -> bytes:
    with open_checked(path) as stream:
        return stream.read()


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)
