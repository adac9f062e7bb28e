import pickle
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest

from preprocessing.datasets import registry, watch
from preprocessing.errors import ClipError, InputError
from preprocessing.signals import watch_file
from preprocessing.signals.signals import WATCH, process_signal, read_signal


@pytest.fixture(scope="module")
def data():
    return registry.load("watch", None)


def test_counts_labels_and_order(data):
    assert data.complete and data.expected == {"subjects": 10, "clips": 2229}
    assert (data.cohort, len(data.class_names), len(data.subjects)) == ("watch", 7, 10)
    labels = np.bincount([r.label for r in data.recordings])
    assert len(labels) == 7 and labels.max() / labels.sum() == pytest.approx(0.169, abs=5e-4)
    keys = [(r.subject, r.sample) for r in data.recordings]
    assert keys == sorted(keys) and len(set(keys)) == 2229
    assert all(r.video is None for r in data.recordings)


def test_windows_are_200_samples_every_100(data):
    first = [r for r in data.recordings if r.session == data.recordings[0].session]
    starts = [r.signal.start_row for r in first]
    assert starts == list(range(0, 100 * len(first), 100))
    windows = [process_signal(read_signal(r.signal), WATCH) for r in first]
    assert all(w.shape == (200, 6) and w.dtype == np.float32 for w in windows)
    np.testing.assert_array_equal(windows[0][100:], windows[1][:100])
    whole = watch_file.read_file(first[0].signal.path)["X"][first[0].signal.item]
    np.testing.assert_array_equal(windows[-1], whole[starts[-1]: starts[-1] + 200].astype(np.float32))
    assert len(whole) - starts[-1] - 200 < 100


def test_one_exercise_and_subject_per_recording(data):
    by_session: dict = {}
    for r in data.recordings:
        by_session.setdefault(r.session, set()).add((r.subject, r.label, r.attributes["side"]))
    assert len(by_session) == 140 and all(len(kinds) == 1 for kinds in by_session.values())


def test_the_file_is_read_once(data, monkeypatch):
    read = []
    original = type(data.recordings[0].signal.path).read_bytes
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: read.append(self) or original(self))
    watch_file._read.cache_clear()
    for r in data.recordings[::100]:
        read_signal(r.signal)
    assert len(read) == 1


def test_another_content_is_refused(data, tmp_path):
    original = data.recordings[0].signal.path.read_bytes()
    fake = tmp_path / watch.FILE
    fake.write_bytes(original[:-1] + b"!")
    with pytest.raises(InputError, match="wrong_hash"):
        registry.load("watch", tmp_path)
    fake.unlink()
    with pytest.raises(InputError, match="seglearn"):
        registry.load("watch", tmp_path)
    with pytest.raises(ClipError, match="missing_file"):
        watch_file.read_file(fake)
    fake.write_bytes(original)
    assert registry.load("watch", tmp_path).complete


def test_the_unpickler_allows_arrays_only():
    array = np.arange(6.0).reshape(2, 3)
    text = pickle.dumps({"x": array}, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(watch_file.ArraysOnly(BytesIO(text)).load()["x"], array)
    for evil in (b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR.",
                 b"c_codecs\nencode\n(Vx\nVrot13\ntR."):
        with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
            watch_file.ArraysOnly(BytesIO(evil)).load()


def test_seglearn_is_never_imported():
    code = "import sys\nfrom preprocessing.datasets import registry\nregistry.load('watch', None)\n"
    code += "print('seglearn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_missing_package_gives_the_install_command(monkeypatch):
    monkeypatch.setattr("importlib.metadata.files", lambda name: None)
    with pytest.raises(InputError, match="doctor --fetch"):
        registry.load("watch", None)
