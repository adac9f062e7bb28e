import json
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.datasets import manifest, registry
from preprocessing.errors import ClipError, InputError
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal
from tests.helpers.layouts import write_manifest
from tests.helpers.places import ROOT

EDA = json.dumps([{"name": "eda", "column": "EDA", "kind": "eda", "unit": "uS"}])
ROW = {"subject": "p1", "sample": "a", "label": 0, "signal_path": "p1.csv", "channels": EDA, "fs": 4}


def load(folder, *rows: dict):
    return registry.load("manifest", write_manifest(folder, list(rows)))


def test_every_field(tmp_path):
    (tmp_path / "frames").mkdir()
    full = ROW | {"label_name": "none", "dataset": "lab", "session": "s1", "split": "train", "start_s": 1.5, "end_s": 6,
                  "video_path": "frames", "video_fps": 12.5, "signal_format": "csv", "sep": ";", "decimal": ",",
                  "sex": "W", "age": 33, "exclude_reason": ""}
    other = full | {"subject": "p2", "label": "1", "label_name": "pain", "video_path": "", "sex": "m", "age": 40,
                    "sha256": "AB" * 32}
    dropped = full | {"subject": "p3", "exclude_reason": "asked to withdraw"}
    data = load(tmp_path, other, dropped, full)
    assert (data.cohort, data.class_names, data.complete) == ("lab", ("none", "pain"), True)
    assert [(s.raw_id, s.sex, s.age) for s in data.subjects] == [("p1", "f", 33), ("p2", "m", 40)]
    first, second = data.recordings
    assert (first.sample, first.label, first.label_name, first.session, first.split) == ("a", 0, "none", "s1", "train")
    assert (first.video.kind, first.video.fps, first.video.start_s, first.video.end_s) == ("frames", 12.5, 1.5, 6.0)
    assert (first.signal.format, first.signal.sep, first.signal.decimal) == ("csv", ";", ",")
    assert first.signal.channels[0].fs == 4.0 and first.signal.channels[0].unit == "uS"
    assert first.attributes == {} and second.attributes == {"sha256": "ab" * 32} and second.video is None
    assert data.notes == ("1 rows were excluded: asked to withdraw.", "1 of 2 samples have no video.",
                          "1 rows fill video_fps without a video_path: these cells are ignored.")


def test_parquet_gives_the_same_as_csv(tmp_path):
    rows = [ROW | {"start_s": 0.5, "age": 30}, ROW | {"subject": "p2", "label": 1, "start_s": None, "age": None}]
    want = load(tmp_path / "csv", *[{k: v for k, v in row.items()} for row in rows])
    (tmp_path / "parquet").mkdir()
    table = {key: [row[key] for row in rows] for key in rows[0]}
    table["channels"] = [json.loads(EDA)] * 2  # nested, not text
    table["label"] = [0.0, 1.0]  # as pandas leaves integers beside an empty cell
    papq.write_table(pa.table(table), tmp_path / "parquet" / "manifest.parquet")
    got = registry.load("manifest", tmp_path / "parquet")
    assert got.subjects == want.subjects
    assert [(r.label, r.signal.start_s, r.signal.channels) for r in got.recordings] == \
           [(r.label, r.signal.start_s, r.signal.channels) for r in want.recordings]
    assert registry.load("manifest", tmp_path / "parquet" / "manifest.parquet").recordings == got.recordings


def test_semicolons_decimal_commas_and_two_rates(tmp_path):
    """PainMonit's spelling in one row, WESAD's chest and wrist in the other."""
    lines = ["Seconds;EDA"] + [f"{i / 250:.3f};{i % 100 / 10}".replace(".", ",") for i in range(5000)]
    (tmp_path / "p1.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "p2.npz", chest=np.arange(7000.0), wrist=np.arange(40.0))
    two = json.dumps([{"name": "ecg", "column": "chest", "kind": "ecg", "fs": 700},
                      {"name": "eda", "column": "wrist", "kind": "eda", "fs": 4}])
    data = load(tmp_path / ".", ROW | {"fs": 250, "sep": ";", "decimal": ",", "start_s": 10, "end_s": 15})
    signal = read_signal(data.recordings[0].signal)
    np.testing.assert_allclose(signal.channels[0].values, np.arange(2500, 3750) % 100 / 10)
    wesad = ROW | {"subject": "p2", "signal_path": "p2.npz", "channels": two, "start_s": 2, "end_s": 7}
    data = load(tmp_path, wesad)
    signal = read_signal(data.recordings[0].signal)
    np.testing.assert_array_equal(signal.channels[0].values, np.arange(1400, 4900))
    np.testing.assert_array_equal(signal.channels[1].values, np.arange(8, 28))
    assert process_signal(signal, SignalOptions()).shape == (400, 2)


def test_a_bad_file_does_not_affect_other_rows(tmp_path):
    text = "EDA\n" + "\n".join(str(i) for i in range(40))
    for name, body in (("p1", text), ("p2", text.replace("\n7\n", "\nseven\n")), ("p3", text)):
        (tmp_path / f"{name}.csv").write_text(body)
    rows = [ROW | {"subject": f"p{i}", "signal_path": f"p{i}.csv"} for i in (1, 2, 3, 4)]
    outcome = []
    for r in load(tmp_path, *rows).recordings:
        try:
            outcome.append(len(read_signal(r.signal).channels[0].values))
        except ClipError as error:
            outcome.append(error.reason)
    assert outcome == [40, "not_a_number", 40, "missing_file"]


BAD_CELLS = {
    "subject": ["", "..", "a/b", "a\\b", "a\0b", "a\nb", "."],
    "sample": ["", "../x", "a\0"],
    "label": ["", "-1", "0.5", "pain", "nan", "1e9", "inf"],
    "signal_path": ["../p1.csv", "/etc/passwd", "a/../../b.csv", "C:\\x.csv", "\\\\host\\x.csv", "~/x.csv", "a\0b.csv",
                    "x.pkl", "x"],
    "video_path": ["../x.mp4", "/x.mp4", "a\0.mp4"],
    "start_s": ["-1", "x", "nan", "inf"],
    "end_s": ["0", "x"],
    "video_fps": ["0", "-25", "x"],
    "signal_format": ["pickle", "mat", "CSV"],
    "sep": ["a", ";;", "\"", "5"],
    "decimal": [";", "x"],
    "fs": ["0", "-4", "x", "1e9", ""],
    "sex": ["x", "0"],
    "age": ["-1", "200", "old"],
    "sha256": ["abc", "z" * 64],
    "channels": ["", "{", "{}", "[]", "[1]", '[{"name": ""}]', '[{"name": "a", "kind": "brain"}]', '[{"nom": "a"}]',
                 '[{"name": "a"}, {"name": "a"}]', '[{"name": "a", "fs": true}]', '[{"name": "a", "column": 1.5}]',
                 '[{"name": "a", "kind": ["ecg"]}]', "[" * 50000, '[{"name": "a", "fs": NaN}]'],
    "label_name": ["a\0b"],
    "dataset": ["../x"],
}


@pytest.mark.parametrize(("column", "cell"), [(c, cell) for c, cells in BAD_CELLS.items() for cell in cells])
def test_a_bad_cell_is_one_sentence_with_its_row(tmp_path, column, cell):
    row = ROW | {"video_path": "v.mp4", "subject": "p2"} | {column: cell}
    with pytest.raises(InputError) as info:
        load(tmp_path, ROW, row)
    message = str(info.value)
    assert str(tmp_path) in message and "\0" not in message
    assert "row 2" in message or column == "dataset"


BAD_TABLES = {
    "same sample": ([ROW, ROW], "row 2: the sample of row 1"),
    "two splits": ([ROW | {"split": "train"}, ROW | {"sample": "b", "split": "test"}], "two splits"),
    "split half filled": ([ROW | {"split": "train"}, ROW | {"sample": "b", "split": ""}], "two splits"),
    "case": ([ROW, ROW | {"subject": "P1"}], "differ only by case"),
    "Unicode": ([ROW | {"subject": unicodedata.normalize(form, "Zoë")} for form in ("NFC", "NFD")], "Unicode form"),
    "sample case": ([ROW, ROW | {"sample": "A"}], "differ only by case"),
    "gap in labels": ([ROW, ROW | {"sample": "b", "label": 2}], "without gaps"),
    "label names": ([ROW | {"label_name": "x"}, ROW | {"sample": "b", "label_name": "y"}], "one label_name"),
    "shared name": ([ROW | {"label_name": "x"}, ROW | {"sample": "b", "label": 1, "label_name": "x"}], "same label_name"),
    "sexes": ([ROW | {"sex": "f"}, ROW | {"sample": "b", "sex": "m"}], "sex or age differ"),
    "cohorts": ([ROW | {"dataset": "x"}, ROW | {"sample": "b", "dataset": "y"}], "mixes"),
    "channels": ([ROW, ROW | {"sample": "b", "channels": EDA.replace('"eda"', '"gsr"')}], "channels differ"),
    "all excluded": ([ROW | {"exclude_reason": "x"}], "all are excluded"),
    "hash of a folder": ([ROW | {"video_path": ".", "video_fps": 5, "sha256": "0" * 64}], "is a folder"),
    "nothing in it": ([{"subject": "p", "sample": "s", "label": 0}], "neither"),
    "unknown column": ([ROW | {"pain": 3}], "unknown column 'pain'"),
    "no label column": ([{"subject": "p", "sample": "s"}], "lacks the column label"),
    "frames without a rate": ([ROW | {"video_path": "."}], "video_fps"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table(tmp_path, name):
    rows, message = BAD_TABLES[name]
    with pytest.raises(InputError, match=message):
        load(tmp_path, *rows)


SPELT = [("7", "07"), ("7", "7.0"), ("S1", "S01"), ("S_1", "S-1"), ("P 1", "P  1"), ("P1", "P1\u200b"), ("P\u00a01", "P1"),
         ("Anna", "\u0410nna"), ("７", "7"), ("100", "1e2"), ("Zoe", "Zoë")]


@pytest.mark.parametrize(("one", "other"), SPELT)
@pytest.mark.parametrize("column", ["subject", "sample"])
def test_one_name_in_two_spellings_is_an_error_unless_every_row_is_marked_distinct(tmp_path, column, one, other):
    rows = [ROW | {column: one}, ROW | {column: other}, ROW | {"subject": "x", "sample": "x", "label": 1}]
    with pytest.raises(InputError, match=f"may be one {column} spelt in two ways .*distinct"):
        load(tmp_path, *rows)
    with pytest.raises(InputError, match="spelt in two ways"):
        load(tmp_path, rows[0] | {"distinct": "yes"}, *rows[1:])
    with pytest.raises(InputError, match="neither yes nor no"):
        load(tmp_path, rows[0] | {"distinct": "perhaps"}, *rows[1:])
    data = load(tmp_path, *(row | {"distinct": "yes"} for row in rows[:2]), rows[2] | {"distinct": "no"})
    assert {getattr(r, column) for r in data.recordings} == {one, other, "x"}


def test_classes_sessions_and_channels_in_two_spellings(tmp_path):
    second = ROW | {"sample": "b", "label": 1}
    with pytest.raises(InputError, match="same label_name in two spellings"):
        load(tmp_path, ROW | {"label_name": "Pain"}, second | {"label_name": "pain_"})
    with pytest.raises(InputError, match="may be one session"):
        load(tmp_path, ROW | {"session": "1"}, second | {"session": "01"})
    two = json.dumps([{"name": "eda", "column": "EDA"}, {"name": "EDA ", "column": "eda"}])
    with pytest.raises(InputError, match="may be one channel"):
        load(tmp_path, ROW | {"channels": two})
    data = load(tmp_path, ROW | {"label_name": "-1"}, second | {"label_name": "1"})  # a sign distinguishes classes
    assert data.class_names == ("-1", "1")


@pytest.mark.parametrize(("word", "means"), [("training", "train"), ("Train", "train"), ("testing", "test"), ("TEST", "test"),
                                             ("val", "validation"), ("valid", "validation"), ("dev", "validation")])
def test_words_of_the_split(tmp_path, word, means):
    assert load(tmp_path, ROW | {"split": word}).recordings[0].split == means


def test_a_split_is_a_known_word_in_every_row(tmp_path):
    with pytest.raises(InputError, match="row 1: split 'holdout' is none of train, training"):
        load(tmp_path, ROW | {"split": "holdout"})
    with pytest.raises(InputError, match=r"row 2: the cell 'split' is empty \(1 of 2 are\)"):
        load(tmp_path, ROW | {"split": "train"}, ROW | {"subject": "p2"})


def test_cells_without_effect_are_noted(tmp_path):
    rows = [ROW | {"sep": ";", "signal_path": "p1.npy", "channels": EDA.replace('"EDA"', "0")},
            ROW | {"subject": "p2", "signal_path": "", "video_path": "v.mp4"}]
    assert load(tmp_path, *rows).notes[-2:] == (
        "1 rows fill signal_format, sep, decimal, encoding, channels, fs without a signal_path: these cells are ignored.",
        "1 rows give sep, decimal or encoding for a signal file that is not text: these cells are ignored.")
    with pytest.raises(InputError, match="every channel gives a different fs"):
        load(tmp_path, ROW | {"channels": EDA.replace("}", ', "fs": 8}')})
    for word in ("no", "NA", "0", "nan"):
        with pytest.raises(InputError, match="is not a reason"):
            load(tmp_path, ROW, ROW | {"subject": "p2", "exclude_reason": word})
    with pytest.raises(InputError, match="sex 'mujer' must be one of"):
        load(tmp_path, ROW | {"sex": "mujer"})


HEADER = "subject,sample,label,signal_path,channels,fs"
LINE = 'zoë,a,0,p1.csv,"[{""name"": ""EDA""}]",4'
LISTS = {
    "utf-16": (f"{HEADER}\n{LINE}\n".encode("utf-16"), "UTF-16"),
    "utf-16-le without a mark": (f"{HEADER}\n{LINE}\n".encode("utf-16-le"), "UTF-16"),
    "latin-1": (f"{HEADER}\n{LINE}\n".encode("latin-1"), "line 2 holds a byte .*0xeb.*Latin-1 or Windows-1252"),
    "semicolons": (f"{HEADER}\n".replace(",", ";").encode(), "separated by semicolons; save the manifest with commas"),
    "tabs": (f"{HEADER}\n".replace(",", "\t").encode(), "separated by tabs"),
    "a comma too many": (f"{HEADER},\n{LINE},\n".encode(), "a column without a name .number 7."),
    "trailing cell": (f"{HEADER}\n{LINE},\n".encode(), "row 1: 7 cells where the header has 6"),
    "first line blank": (f"\n{HEADER}\n{LINE}\n".encode(), "the first line is blank"),
    "decimal comma": (f'{HEADER},start_s\n{LINE},"1,5"\n'.encode(), "start_s '1,5' .* with a decimal point"),
}


@pytest.mark.parametrize("name", LISTS)
def test_errors_of_a_table_name_the_remedy(tmp_path, name):
    data, message = LISTS[name]
    (tmp_path / "manifest.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        registry.load("manifest", tmp_path)


def test_blank_lines_are_counted_and_a_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(f"{HEADER}\r\n\r\n{LINE}\r\n,,,,,\r\n".encode("utf-8-sig"))
    data = registry.load("manifest", tmp_path)
    assert data.notes[0] == "2 blank lines of the manifest were skipped." and data.subjects[0].raw_id == "zoë"
    assert data.table == tmp_path / "manifest.csv"


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"subject,sample,label\n\"", b"subject,sample,label\na,b\n",
                                  b"subject,sample,label,label\n", b"subject,sample,label\n" + b"a" * 200000])
def test_a_manifest_that_is_no_table(tmp_path, text):
    (tmp_path / "manifest.csv").write_bytes(text)
    with pytest.raises(InputError, match="manifest.csv"):
        registry.load("manifest", tmp_path)


def test_which_file(tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="Parquet"):
        registry.load("manifest", tmp_path)
    (tmp_path / "manifest.csv").touch()
    with pytest.raises(InputError, match="both"):
        registry.load("manifest", tmp_path)
    with pytest.raises(InputError, match="neither"):
        (tmp_path / "x.xlsx").touch()
        registry.load("manifest", tmp_path / "x.xlsx")


def test_links(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "p1.csv").write_text("EDA\n1\n")
    (root / "p1.csv").symlink_to(outside / "p1.csv")
    with pytest.raises(InputError, match="leads outside"):
        load(root, ROW)
    (root / "p1.csv").unlink()
    (root / "p1.csv").symlink_to(root / "p1.csv")  # a link to itself: an absent file, not a crash
    with pytest.raises(ClipError, match="missing_file"):
        read_signal(load(root, ROW).recordings[0].signal)
    (root / "p1.csv").unlink()
    (root / "real.csv").write_text("EDA\n1\n")
    (root / "p1.csv").symlink_to("real.csv")
    assert read_signal(load(root, ROW).recordings[0].signal).channels[0].values == [1.0]


def test_links_among_the_frames_of_a_folder(tmp_path):
    outside, root = tmp_path / "outside.png", tmp_path / "root"
    (root / "frames").mkdir(parents=True)
    outside.write_bytes(b"x")
    (root / "frames" / "1.png").write_bytes(b"x")
    (root / "frames" / "2.png").symlink_to("1.png")
    row = ROW | {"video_path": "frames", "video_fps": 5}
    assert load(root, row).recordings[0].video.kind == "frames"
    (root / "frames" / "3.png").symlink_to(outside)
    with pytest.raises(InputError, match="row 1: the link .* leads outside"):
        load(root, row)


def test_the_name_of_the_cohort(tmp_path):
    assert load(tmp_path, ROW).cohort == "manifest"
    assert registry.load("manifest", tmp_path, cohort="lab").cohort == "lab"


# ---- fuzzing: nothing but the project's own errors, whatever the bytes

WORDS = st.sampled_from(["p1", "p2", "P1", "0", "1", "-1", "1.5", "nan", "1e400", "..", "../x", "/etc/passwd", "\0",
                         "", "a/b", "csv", "npy", "pickle", ";", ",", "\t", "tab", "f", "m", "é", "e\u0301",
                         "\ud7ff", "\u202e", " ", "x" * 300, EDA, "[]", "{", '[{"name": 1}]',
                         '[{"name": "a", "fs": 4}]', "p1.csv", "manifest.csv"])
CELLS = st.one_of(WORDS, WORDS, st.text(max_size=12), st.integers().map(str), st.floats().map(str))
COLUMNS = st.lists(st.sampled_from([*manifest.REQUIRED, *manifest.OPTIONAL, "other"]), max_size=4)
GOOD = {"subject": "p1", "label": "0", "signal_path": "p1.csv", "channels": EDA, "fs": "4", "video_path": "v.mp4"}
SPOILT = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7), CELLS), max_size=3)


@st.composite
def spoilt_tables(draw) -> bytes:
    """A valid table with a few cells of any row (0: the header) replaced, cells lost, any coding; or plain bytes."""
    kind = draw(st.sampled_from(["table"] * 12 + ["cut", "utf-16", "utf-8-sig", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    header = [*manifest.REQUIRED, "signal_path", "channels", "fs", *draw(COLUMNS)]
    if draw(st.integers(0, 3)):
        header = list(dict.fromkeys(header))
    lines = [list(header)]
    for k in range(draw(st.integers(0, 4))):
        lines.append([GOOD.get(c, f"s{k}" if c == "sample" else "") for c in header])
    for row, column, cell in draw(SPOILT):
        if row < len(lines) and column < len(lines[row]):
            lines[row][column] = cell
    text = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)
    data = text.encode(kind if kind.startswith("utf") else "utf-8", errors="replace")
    return data[: draw(st.integers(0, len(data)))] if kind == "cut" else data


FUZZ = settings(max_examples=1000, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.mark.medium
def test_a_thousand_fuzzed_csv_manifests(tmp_path):
    accepted: list[int] = []

    @FUZZ
    @given(spoilt_tables())
    def fuzz(data: bytes) -> None:
        (tmp_path / "manifest.csv").write_bytes(data)
        try:
            loaded = registry.load("manifest", tmp_path)
        except InputError as error:
            assert str(tmp_path) in str(error)
            return
        accepted.append(len(loaded.recordings))
        for r in loaded.recordings:
            for ref in (r.video, r.signal):
                assert ref is None or tmp_path in ref.path.parents or ref.path == tmp_path
            if r.signal is not None:
                try:
                    read_signal(r.signal)
                except ClipError as error:
                    assert error.stage == "signal"

    fuzz()
    assert len(accepted) >= 100  # many of the tables are valid


@settings(FUZZ, max_examples=200)
@given(st.data())
def test_fuzzed_parquet_manifests(tmp_path, data):
    if data.draw(st.booleans()):
        raw = data.draw(st.binary(max_size=300))
        (tmp_path / "manifest.parquet").write_bytes(b"PAR1" + raw + b"PAR1")
    else:
        cells = st.one_of(st.none(), st.text(max_size=8), WORDS)
        n = data.draw(st.integers(0, 3))
        kinds = [st.lists(k, min_size=n, max_size=n) for k in
                 (cells, st.integers(-9, 9), st.floats(), st.booleans(), st.lists(st.integers(0, 3), max_size=2))]
        names = [*manifest.REQUIRED, *data.draw(COLUMNS)]
        columns = {name: data.draw(st.one_of(kinds)) for name in names}
        try:
            papq.write_table(pa.table(columns), tmp_path / "manifest.parquet")
        except (pa.ArrowException, UnicodeEncodeError):
            return
    try:
        registry.load("manifest", tmp_path)
    except InputError as error:
        assert str(tmp_path) in str(error)


@pytest.mark.parametrize("cell", ["0_1", "1_000", "١", "１", "0x1", "nan", "inf", "1e999", "True", "1 0", "--1", "²"])
def test_a_number_is_written_in_plain_digits(cell):
    with pytest.raises(InputError, match="must be a whole number"):
        manifest.number({"label": cell}, "label", "here", whole=True)


def test_numbers_in_plain_digits():
    assert [manifest.number({"fs": cell}, "fs", "here") for cell in ("1", "+1", "007", "1e0", "2.5", ".5", "5.")] == [
        1, 1, 7, 1, 2.5, 0.5, 5]


# ---- the examples of the page

PAGE = (ROOT / "docs" / "how-to" / "manifest.md").read_text()
EXAMPLES = re.findall(r"^```\n(subject,.*?)^```", PAGE, re.S | re.M)


def test_the_page_has_an_example_with_video_and_one_of_signals_only():
    assert ["video_path" in one for one in EXAMPLES] == [True, False]
    assert all(column in manifest.REQUIRED + manifest.OPTIONAL for one in EXAMPLES for column in one.splitlines()[0].split(","))


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_page_is_read(tmp_path, text):
    """Each row gives the values of its own window, in the unit and at the rate that it says."""
    (tmp_path / "manifest.csv").write_text(text)
    for name in set(re.findall(r"bio/[\w-]+\.csv", text)):
        (tmp_path / "bio").mkdir(exist_ok=True)
        (tmp_path / name).write_text("time,EDA\n" + "".join(f"{i / 4},{i}\n" for i in range(4 * 360)))
    data = registry.load("manifest", tmp_path)
    assert data.notes == () and len(data.recordings) == len(text.splitlines()) - 1
    for recording in data.recordings:
        (channel,) = read_signal(recording.signal).channels
        start = round(4 * (recording.signal.start_s or 0))
        assert channel.values[0] == start and (channel.name, channel.kind) == ("eda", "eda")
        if recording.video is None:
            assert channel.fs == 4 and len(channel.values) == 4 * 30
