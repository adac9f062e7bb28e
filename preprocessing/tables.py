"""Numbers out of users' files: CSV, TSV, npy, npz and Parquet, without pickle. Every defect is a ClipError.

A ClipError's text goes into the store and the report: it gives positions in the file, never a cell or a column's name,
which may be raw ids (AI4Pain 2025 names its columns by trial).
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from preprocessing.errors import ClipError
from preprocessing.paths import is_file

SEPARATORS = ("\t", ";", ",", "|")


def bad(reason: str, fix: str) -> ClipError:
    return ClipError("signal", reason, fix)


def read_columns(
    path: Path, columns: Sequence[str], sep: str | None = None, decimal: str = "."
) -> dict[str, np.ndarray]:
    """Named columns of a text table as float64 (rows,), blanks in header and cells stripped, empty cells NaN.

    sep None: the separator that occurs most often in the header. Only the named columns must be numeric, in any
    order. ClipError: missing_file, empty_file, missing_column, duplicate_column, not_a_number, not_a_table.
    """
    data = read_bytes(path)
    head, _, body = data.partition(b"\n")
    sep, header = split_header(head, sep)
    check_columns(header, columns)
    if not body.strip():
        raise bad("empty_file", "The table has a header but no rows; copy the file again.")
    # Positions as names: a header may repeat names in columns that nobody asks for.
    index = {name: str(header.index(name)) for name in columns}
    try:
        table = pacsv.read_csv(
            pa.py_buffer(body),
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=len(body) + 1, column_names=[str(i) for i in range(len(header))]
            ),
            parse_options=pacsv.ParseOptions(delimiter=sep),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(index.values()),
                column_types={position: pa.float64() for position in index.values()},
                decimal_point=decimal,
            ),
        )
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        if "conversion error" in str(error):
            fix = f"A cell that should be a number is text{place(error)}; repair the file."
            raise bad("not_a_number", fix) from None
        raise bad("not_a_table", f"The table is broken off or uneven{place(error)}; copy it again.") from None
    return {name: _to_numpy(table[position]) for name, position in index.items()}


def read_text_column(path: Path, column: str, sep: str = ",") -> list[str]:
    """One column of a text table as stripped text, "" where empty. ClipErrors as `read_columns`."""
    data = read_bytes(path)
    head, _, body = data.partition(b"\n")
    sep, header = split_header(head, sep)
    check_columns(header, (column,))
    position = str(header.index(column))
    try:
        table = pacsv.read_csv(
            pa.py_buffer(body),
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=len(body) + 1, column_names=[str(i) for i in range(len(header))]
            ),
            parse_options=pacsv.ParseOptions(delimiter=sep),
            convert_options=pacsv.ConvertOptions(include_columns=[position], column_types={position: pa.string()}),
        )
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise bad("not_a_table", f"The table is broken off or uneven{place(error)}; copy it again.") from None
    return [(value or "").strip() for value in table[position].to_pylist()]


def read_header(path: Path, sep: str | None = None) -> list[str]:
    """Column names of a text table, stripped."""
    with open_checked(path) as stream:
        return split_header(stream.readline(1 << 20).rstrip(b"\n"), sep)[1]


def split_header(head: bytes, sep: str | None) -> tuple[str, list[str]]:
    """(separator, names) of a header line."""
    text = head.decode("utf-8-sig", errors="replace").rstrip("\r")
    if sep is None:
        sep = max(SEPARATORS, key=text.count)
    try:
        names = next(csv.reader(io.StringIO(text), delimiter=sep), [])
    except (csv.Error, TypeError):
        raise bad("not_a_table", "The first line of the table is no header; copy the file again.") from None
    return sep, [name.strip() for name in names]


def read_array(path: Path, item: str | int | None = None) -> np.ndarray:
    """The array of an .npy, or array `item` of an .npz, as float64 (rows,) or (rows, columns); pickles are refused."""
    with open_checked(path) as stream:
        try:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                array = loaded
            else:
                if item is None and len(loaded.files) == 1:
                    item = loaded.files[0]
                if item not in loaded.files:
                    raise bad("missing_column", f"None of the npz file's {len(loaded.files)} arrays has the name that was "
                                                "asked for; correct the name.")
                array = loaded[str(item)]
        except ClipError:
            raise
        except Exception:  # np.load and zipfile raise a dozen types on damaged files
            raise bad("not_an_array", "The file is damaged or holds Python objects; export it as plain numbers.") from None
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
        raise bad("not_an_array", f"The array must be numeric with 1 or 2 axes, not {array.dtype.name} with {array.ndim}.")
    return array.astype(np.float64)


def read_parquet(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Named columns of a Parquet file as float64 (rows,), nulls NaN."""
    data = read_bytes(path)
    try:
        file = papq.ParquetFile(pa.BufferReader(data))
        check_columns(file.schema_arrow.names, columns)
        table = file.read(columns=list(columns), use_threads=False)
        return {name: _to_numpy(table[name].cast(pa.float64())) for name in columns}
    except (pa.ArrowException, ValueError, KeyError, OSError):
        raise bad("not_a_table", "The Parquet file is damaged or its columns are no numbers; write it again.") from None


def check_columns(header: Sequence[str], columns: Sequence[str]) -> None:
    """ClipError missing_column | duplicate_column where one of `columns` is not there exactly once."""
    for number, name in enumerate(columns, start=1):
        if header.count(name) != 1:
            reason = "missing_column" if name not in header else "duplicate_column"
            raise bad(reason, f"Of the {len(columns)} columns asked for, number {number} is there {header.count(name)} times "
                              f"among the file's {len(header)}; it must be there once.")


def place(error: Exception) -> str:
    """Where Arrow stopped, without what stood there: row 1 is the first below the header, blank lines not counted."""
    column, row = (re.search(rf"{word} #(\d+):", str(error)) for word in ("In CSV column", "Row"))
    found = ([f"row {row[1]}"] if row else []) + ([f"column {int(column[1]) + 1}"] if column else [])
    return f" ({', '.join(found)})" if found else ""


def open_checked(path: Path) -> io.BufferedReader:
    """An open regular file; ClipError missing_file | unreadable_file | empty_file."""
    if not is_file(path):
        raise bad("missing_file", "The signal file is absent or no regular file; restore it.")
    try:
        stream = open(path, "rb")
        if not stream.peek(1):
            stream.close()
            raise bad("empty_file", "The signal file is empty; copy it again.")
        return stream
    except OSError as error:
        raise bad("unreadable_file", f"The signal file cannot be read ({error.strerror}).") from None


def read_bytes(path: Path) -> bytes:
    with open_checked(path) as stream:
        return stream.read()


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)
