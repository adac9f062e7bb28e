import numpy as np
import pytest

from preprocessing.datasets import registry
from preprocessing.errors import ClipError, InputError
from preprocessing.signals.signals import SignalOptions, process_signal, read_signal, source_files
from tests.helpers.layouts import write_2025


def test_one_column_per_trial(tmp_path):
    data = registry.load("ai4pain_2025", write_2025(tmp_path))
    assert (data.cohort, data.class_names) == ("ai4pain_2025", ("No pain", "Low", "High"))
    assert [s.raw_id for s in data.subjects] == ["7", "8"] and data.notes == () and data.complete
    assert np.bincount([r.label for r in data.recordings]).tolist() == [8, 4, 4]
    assert {(r.subject, r.split) for r in data.recordings} == {("7", "train"), ("8", "validation")}
    assert all(r.video is None for r in data.recordings)
    sensors = [(c.name, c.kind) for c in data.recordings[0].signal.channels]
    assert sensors == [("bvp", "bvp"), ("eda", "eda"), ("resp", "resp"), ("spo2", "spo2")]


def test_values_are_the_first_ten_seconds_of_the_own_column(tmp_path):
    write_2025(tmp_path)
    data = registry.load("ai4pain_2025", tmp_path)
    trial = next(r for r in data.recordings if r.sample == "7_low_02")
    signal = read_signal(trial.signal)
    for channel, sensor in zip(signal.channels, ("Bvp", "Eda", "Resp", "SpO2"), strict=True):
        rows = [line.split(",") for line in (tmp_path / "train" / sensor / "7.csv").read_text().splitlines()]
        column = [name.lower() for name in rows[0]].index("7_low_2")
        np.testing.assert_array_equal(channel.values, [float(row[column]) for row in rows[1:1001]])
    assert [str(p.relative_to(tmp_path / "train")) for p in source_files(trial.signal)] == [
        "Bvp/7.csv", "Eda/7.csv", "Resp/7.csv", "SpO2/7.csv"]
    shapes = {process_signal(read_signal(r.signal), SignalOptions(length=200)).shape for r in data.recordings}
    assert shapes == {(200, 4)}
    longest = next(r for r in data.recordings if r.sample == "7_baseline_01")  # 1,020 rows: shortened like all others
    assert [len(c.values) for c in read_signal(longest.signal).channels] == [1000] * 4
    flat = process_signal(read_signal(longest.signal), SignalOptions(length=200))[:, 3]
    np.testing.assert_array_equal(flat, 97.0)


def test_the_2026_edition_is_recognised_by_its_column_names(tmp_path):
    data = registry.load("ai4pain_2025", write_2025(tmp_path, ("Baseline", "ARM", "HAND")))
    assert (data.cohort, data.class_names) == ("ai4pain_2026", ("No pain", "Arm", "Hand"))
    assert np.bincount([r.label for r in data.recordings]).tolist() == [4, 4, 4]
    with pytest.raises(InputError, match="mixes"):
        registry.load("ai4pain_2025", write_2025(tmp_path / "mixed", ("LOW", "ARM")))


def test_short_interrupted_and_missing_sensors(tmp_path):
    write_2025(tmp_path)
    path = tmp_path / "train" / "Resp" / "7.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    rows[500][3] = "NaN"  # a hole inside: not padding
    for row in rows[400:]:
        row[4] = ""
    path.write_text("\n".join(",".join(row) for row in rows))
    (tmp_path / "validation" / "SpO2" / "8.csv").unlink()
    data = registry.load("ai4pain_2025", tmp_path)
    outcome = {}
    for r in data.recordings:
        if r.subject == "8":
            assert r.signal is None
            continue
        try:
            outcome[rows[0].index(r.signal.channels[2].column.split("::")[1])] = len(read_signal(r.signal).channels)
        except ClipError as error:
            outcome[rows[0].index(r.signal.channels[2].column.split("::")[1])] = error.reason
    assert outcome == {0: 4, 1: 4, 2: 4, 3: "nan", 4: "short_file", 5: 4, 6: 4, 7: 4}
    assert data.notes == ("8 of 16 trials have no SpO2 column.",)


def test_unknown_and_duplicate_columns_and_two_splits(tmp_path):
    write_2025(tmp_path)
    path = tmp_path / "train" / "Bvp" / "7.csv"
    text = path.read_text()
    path.write_text(text.replace("7_LOW_1", "9_LOW_1"))
    data = registry.load("ai4pain_2025", tmp_path)
    assert any("1 columns are not a labelled trial" in note for note in data.notes)
    path.write_text(text.replace("7_LOW_2", "7_low_1"))
    with pytest.raises(InputError, match="differ only in case"):
        registry.load("ai4pain_2025", tmp_path)
    path.write_text("")
    data = registry.load("ai4pain_2025", tmp_path)
    assert any("excluded (empty_file)" in note for note in data.notes)
    (tmp_path / "validation" / "Bvp" / "7.csv").write_text(text)
    with pytest.raises(InputError, match="both train and validation"):
        registry.load("ai4pain_2025", tmp_path)
