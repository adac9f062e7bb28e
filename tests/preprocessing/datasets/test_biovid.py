import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from preprocessing.datasets import biovid, biovid_lists, registry
from preprocessing.errors import InputError
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal
from tests.helpers.layouts import CLASSES, subject_name, write_biovid
from tests.helpers.places import ROOT


def lines_of(root: Path) -> Path:
    return next(root.rglob("samples.csv"))


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("nest", ["", "PartA", "partA", "part_a/PartA", "download/PartA"])
def test_every_spelling_of_the_tree_loads_the_same(tmp_path, doubled, nest):
    write_biovid(tmp_path / nest, doubled=doubled)
    data = registry.load("biovid_a", tmp_path)
    assert (data.name, data.cohort, data.class_names, data.synthetic) == ("biovid_a", "biovid", CLASSES, False)
    assert [s.raw_id for s in data.subjects] == [subject_name(0), subject_name(1)]
    assert [(s.sex, s.age) for s in data.subjects] == [("m", 20), ("f", 21)]
    assert len(data.recordings) == 10
    assert [(r.subject, r.sample) for r in data.recordings] == sorted((r.subject, r.sample) for r in data.recordings)
    for r in data.recordings:
        assert r.label_name == CLASSES[r.label] and f"-{r.label_name}-" in r.sample
        assert r.video.path.is_file() and r.signal.path.is_file()
        assert r.video.path.stem == r.sample and r.signal.path.name == f"{r.sample}_bio.csv"
    assert data.expected == {"subjects": 87, "clips": 8700} and not data.complete
    assert data.notes == ()


def test_the_clip_number_is_in_no_field_but_sample_and_paths(tmp_path):
    data = registry.load("biovid_a", write_biovid(tmp_path))
    for r in data.recordings:
        number = r.sample[-3:]
        rest = [r.subject, r.label_name, r.session, r.split, r.attributes, r.video.fps, r.signal.item]
        rest += [r.signal.channels, r.signal.start_row, r.signal.end_row, r.signal.start_s, r.signal.end_s]
        rest += [r.video.start_s, r.video.end_s]
        assert number not in repr(rest) and not r.attributes
        # All fields but the sample are the same for every clip of a class and subject.
    first, second = (r for r in data.recordings if r.subject == subject_name(0) and r.label in (0, 4))
    assert first.signal.channels == second.signal.channels


def test_channels_of_a_part_and_the_signals_themselves(tmp_path):
    a = registry.load("biovid_a", write_biovid(tmp_path / "a", source="raw"))
    b = registry.load("biovid_b", write_biovid(tmp_path / "PartB", source="filtered", facial=True), source="filtered")
    assert b.expected == {"subjects": 86, "clips": 8600} and b.cohort == "biovid"
    assert not read_signal(a.recordings[0].signal).filtered and read_signal(b.recordings[0].signal).filtered
    for data, n in ((a, 3), (b, 5)):
        x = process_signal(read_signal(data.recordings[0].signal), SignalOptions(emd=False))
        assert x.shape == (400, n) and (x.std(axis=0) > 0).all()
    some = registry.load("biovid_b", tmp_path / "PartB", source="filtered", channels=["ecg", "gsr"])
    assert [c.name for c in some.recordings[0].signal.channels] == ["gsr", "ecg"]
    with pytest.raises(InputError, match="emg_zygomaticus"):
        registry.load("biovid_a", tmp_path / "a", channels=["emg_zygomaticus"])
    four = registry.load("biovid_a", write_biovid(tmp_path / "four", columns=4))
    assert len(read_signal(four.recordings[0].signal).channels) == 3


def test_a_subject_has_one_identity_in_both_parts(tmp_path):
    write_biovid(tmp_path / "PartA")
    write_biovid(tmp_path / "PartB", facial=True)
    a, b = registry.load("biovid_a", tmp_path), registry.load("biovid_b", tmp_path)
    assert (a.cohort, a.subjects) == (b.cohort, b.subjects)
    assert "PartA" in str(a.recordings[0].video.path) and "PartB" in str(b.recordings[0].video.path)


def test_the_other_part_alone_is_refused(tmp_path):
    write_biovid(tmp_path / "PartB")
    with pytest.raises(InputError, match="biovid_b"):
        registry.load("biovid_a", tmp_path)
    with pytest.raises(InputError, match="biovid_b"):
        registry.load("biovid_a", tmp_path / "PartB")


def test_missing_modalities_become_none_and_a_note(tmp_path):
    write_biovid(tmp_path)
    data = registry.load("biovid_a", tmp_path)
    data.recordings[0].video.path.unlink()
    data.recordings[1].signal.path.unlink()
    again = registry.load("biovid_a", tmp_path)
    assert [r.video is None for r in again.recordings[:3]] == [True, False, False]
    assert [r.signal is None for r in again.recordings[:3]] == [False, True, False]
    assert len(again.notes) == 2 and all("1 of 10" in note for note in again.notes)
    shutil.rmtree(tmp_path / "video")
    assert all(r.video is None for r in registry.load("biovid_a", tmp_path).recordings)
    assert registry.load("biovid_a", tmp_path, needs=["signal"]).recordings
    with pytest.raises(InputError, match="video"):
        registry.load("biovid_a", tmp_path, needs=("video", "signal"))
    with pytest.raises(InputError, match="biosignals_filtered"):
        registry.load("biovid_a", tmp_path, source="filtered")


def test_without_samples_csv_the_file_names_are_used(tmp_path):
    write_biovid(tmp_path, doubled=True)
    want = registry.load("biovid_a", tmp_path)
    shutil.rmtree(tmp_path / "starting_point")
    got = registry.load("biovid_a", tmp_path)
    assert got.recordings == want.recordings and "samples.csv is absent" in got.notes[0]


def test_subject_lists(tmp_path):
    kept, dropped = biovid_lists.HOLD_OUT_26[7], biovid_lists.DROPPED_BY_67[1]
    write_biovid(tmp_path, subjects=2)
    for path in [*tmp_path.rglob("*")][::-1]:
        new = path.name.replace(subject_name(0), kept).replace(subject_name(1), dropped)
        path.rename(path.with_name(new))
    table = lines_of(tmp_path)
    table.write_text(table.read_text().replace(subject_name(0), kept).replace(subject_name(1), dropped))
    def subjects(name):
        return {s.raw_id for s in registry.load("biovid_a", tmp_path, subjects=name).subjects}
    assert subjects("all") == {kept, dropped}
    assert subjects(67) == {kept}  # an override on the command line arrives as a number
    assert subjects("hold_out_26") == {kept} and subjects("hold_out_61") == {dropped}
    assert registry.load("biovid_a", tmp_path, subjects="67").expected == {"subjects": 67, "clips": 6700}
    with pytest.raises(InputError, match="hold_out_61"):
        registry.load("biovid_a", tmp_path, subjects="68")


def test_the_published_lists_themselves():
    ids = [*biovid_lists.DROPPED_BY_67, *biovid_lists.HOLD_OUT_26, *biovid_lists.SHOWN_IN_PAPER]
    assert all(biovid.SUBJECT.fullmatch(i) for i in ids)
    lists = (biovid_lists.DROPPED_BY_67, biovid_lists.HOLD_OUT_26, biovid_lists.SHOWN_IN_PAPER)
    assert [len(set(names)) for names in lists] == [len(names) for names in lists] == [20, 26, 7]


def test_raw_ids_are_in_one_file_only():
    pattern = re.compile(r"\d{6}_[mw]_\d{2}")
    files = [p for room in ("preprocessing", "models", "orchestrator", "tests", "experiments", "docs", "benchmarks")
             for p in (ROOT / room).rglob("*") if p.suffix in (".py", ".md", ".yaml", ".json", ".csv")]
    assert len(files) > 20
    assert {p.name for p in files if pattern.search(p.read_text(errors="replace"))} == {"biovid_lists.py"}


def test_a_duplicate_part_is_an_error(tmp_path):
    write_biovid(tmp_path / "PartA", video=False)
    write_biovid(tmp_path / "partA")
    with pytest.raises(InputError, match="holds part A twice, as .*PartA and .*partA"):
        registry.load("biovid_a", tmp_path)
    assert registry.load("biovid_a", tmp_path / "partA").recordings


def test_a_synthetic_tree_has_its_own_expected_counts(tmp_path):
    write_biovid(tmp_path)
    (tmp_path / "SYNTHETIC.json").write_text(json.dumps({"subjects": 2, "clips": 10, "seed": 0}))
    data = registry.load("biovid_a", tmp_path)
    assert data.synthetic and data.complete and data.expected == {"subjects": 2, "clips": 10}
    (tmp_path / "SYNTHETIC.json").write_text(json.dumps({"expected": {"subjects": 2, "clips": 10}}))
    assert registry.load("biovid_a", tmp_path).complete
    (tmp_path / "SYNTHETIC.json").write_text(json.dumps({"subjects": 2, "clips": 11}))
    assert not registry.load("biovid_a", tmp_path).complete
    for text in ("{", "[]", "{}", '{"subjects": "x", "clips": 1}', "[" * 100000,
                 '{"subjects": 2, "clips": 10, "cohort": 5}', '{"subjects": 2, "clips": 10, "cohort": ".."}'):
        (tmp_path / "SYNTHETIC.json").write_text(text)
        with pytest.raises(InputError, match="SYNTHETIC.json"):
            registry.load("biovid_a", tmp_path)


@pytest.mark.parametrize("part", ["A", "B"])
def test_the_synthetic_generator_writes_this_layout(tmp_path, part):
    from preprocessing.synthetic.cohort import generate

    root = generate(tmp_path / "tree", part=part, subjects=2, clips_per_level=1, jobs=1, videos=False)
    for source in ("raw", "filtered"):
        data = registry.load(f"biovid_{part.lower()}", root, source=source)
        assert data.synthetic and data.complete and len(data.recordings) == 10
        for r in data.recordings[::4]:
            x = process_signal(read_signal(r.signal), SignalOptions(emd=False))
            assert x.shape == (400, {"A": 3, "B": 5}[part]) and np.isfinite(x).all()
            alive = x.std(axis=0) > 0
            # The provider's gating leaves 1e-22 between bursts: a filtered EMG without a burst is exactly 0.
            assert alive[:2].all() and (alive.all() or source == "filtered") and not x[:, ~alive].any()


BAD_ROWS = {
    "repeated": (lambda rows: [*rows, rows[1]], "is a duplicate"),
    "class and name": (lambda rows: [rows[0], rows[1].replace("\t0\tBL1", "\t4\tBL1"), *rows[2:]], "line 2"),
    "class number": (lambda rows: [rows[0], rows[1].replace("\t0\tBL1", "\t7\tBL1"), *rows[2:]], "line 2"),
    "another subject's": (lambda rows: [rows[0], rows[1].replace(f"{subject_name(0)}-", f"{subject_name(1)}-")],
                          "line 2"),
    "a cell missing": (lambda rows: [*rows[:3], rows[3].rsplit("\t", 1)[0]], "line 4"),
    "a column missing": (lambda rows: [row.rsplit("\t", 1)[0] for row in rows], "sample_name"),
    "commas": (lambda rows: [row.replace("\t", ",") for row in rows], "lacks"),
    "no rows": (lambda rows: rows[:1], "no clip"),
    "nothing": (lambda rows: [], "lacks"),
    "climbing": (lambda rows: [rows[0], rows[1].replace(subject_name(0), "../x")], "path"),
    "NUL": (lambda rows: [rows[0], rows[1].replace(subject_name(0), "a\0b")], "control"),
    "case twins": (lambda rows: [*rows, *(row.replace("_m_", "_M_") for row in rows[1:] if "_m_" in row)], "case"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_samples_csv(tmp_path, name):
    change, message = BAD_ROWS[name]
    table = lines_of(write_biovid(tmp_path))
    table.write_text("\n".join(change(table.read_text().splitlines())))
    with pytest.raises(InputError, match=message) as info:
        registry.load("biovid_a", tmp_path)
    assert str(tmp_path) in str(info.value)


def test_samples_csv_that_is_no_text(tmp_path):
    lines_of(write_biovid(tmp_path)).write_bytes(b"\xff\xfe\x00subject")
    with pytest.raises(InputError, match="UTF-8"):
        registry.load("biovid_a", tmp_path)


def test_links_that_leave_the_root(tmp_path):
    outside = write_biovid(tmp_path / "outside")
    root = write_biovid(tmp_path / "root")
    clip = registry.load("biovid_a", root).recordings[0].video.path
    clip.unlink()
    clip.symlink_to(outside / clip.relative_to(root))
    with pytest.raises(InputError, match="leads outside"):
        registry.load("biovid_a", root)
    clip.unlink()
    clip.symlink_to(clip.parent / f"{clip.stem[:-3]}other.mp4")  # inside: allowed
    assert registry.load("biovid_a", root).recordings[0].video.path == clip
    shutil.rmtree(root / "video")
    (root / "video").symlink_to(outside / "video")
    with pytest.raises(InputError, match="leads outside"):
        registry.load("biovid_a", root)
    (tmp_path / "link").symlink_to(outside)  # the root itself may be a link
    assert len(registry.load("biovid_a", tmp_path / "link").recordings) == 10


def test_empty_wrong_and_ambiguous_roots(tmp_path):
    with pytest.raises(InputError, match="biosignals_raw"):
        registry.load("biovid_a", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="should look like"):
        registry.load("biovid_a", tmp_path / "file")
    (tmp_path / "video").mkdir()
    with pytest.raises(InputError, match="samples.csv"):
        registry.load("biovid_a", tmp_path)
    (tmp_path / "video").rmdir()
    write_biovid(tmp_path / "one")
    write_biovid(tmp_path / "two")
    with pytest.raises(InputError, match="twice"):
        registry.load("biovid_a", tmp_path)
    with pytest.raises(InputError, match="source"):
        registry.load("biovid_a", tmp_path / "one", source="cooked")


def test_full_size_counts_are_complete(tmp_path):
    """87 subjects with 100 clips each, names only."""
    lines = ["subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"]
    for i in range(87):
        subject = f"{i:06d}_{'mw'[i % 2]}_{i % 50 + 20:02d}"
        folder = tmp_path / "video" / subject
        folder.mkdir(parents=True)
        (folder / f"{subject}-{CLASSES[0]}-001.mp4").touch()
        for c, cls in enumerate(CLASSES):
            for k in range(20):
                lines.append(f"{i}\t{subject}\t{c}\t{cls}\t{k}\t{subject}-{cls}-{20 * c + k + 1:03d}")
    (tmp_path / "starting_point").mkdir()
    (tmp_path / "starting_point" / "samples.csv").write_text("\n".join(lines))
    data = registry.load("biovid_a", tmp_path)
    assert data.complete and np.bincount([r.label for r in data.recordings]).tolist() == [1740] * 5
    next((tmp_path / "video").rglob("*.mp4")).unlink()  # a subject without files
    data = registry.load("biovid_a", tmp_path)
    assert not data.complete and "1 of 87 subjects have no file at all." in data.notes


def test_a_list_in_another_coding_and_blank_lines(tmp_path):
    table = lines_of(write_biovid(tmp_path))
    text = table.read_text()
    table.write_text(text.replace("\n", "\n\n", 2), encoding="utf-8-sig")
    assert "2 blank lines of samples.csv were skipped." in registry.load("biovid_a", tmp_path).notes
    table.write_text(text, encoding="utf-16")
    with pytest.raises(InputError, match="samples.csv is UTF-16 text"):
        registry.load("biovid_a", tmp_path)
    table.write_bytes(text.replace("BL1", "BL\xe91", 1).encode("latin-1"))
    with pytest.raises(InputError, match="line 2 holds a byte that is not UTF-8 .*Latin-1"):
        registry.load("biovid_a", tmp_path)
    table.write_text("\n".join(line + "\t0" if i else line + "\tclass_id" for i, line in enumerate(text.splitlines())))
    with pytest.raises(InputError, match="the column class_id twice"):
        registry.load("biovid_a", tmp_path)
