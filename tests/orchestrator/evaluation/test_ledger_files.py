"""A ledger on a pyarrow file system: complete objects, read back after writing, the same results as in a folder."""

import pickle
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, _MockFileSystem

from orchestrator import cli, loso, report
from orchestrator.errors import UserError
from orchestrator.evaluation import run_record
from orchestrator.evaluation.ledger import Ledger, claim
from orchestrator.evaluation.ledger_files import LocalFiles, RemoteFiles, files_at
from orchestrator.plan.folds import Fold
from orchestrator.scores.fold_result import FoldResult
from tests.helpers.roads import TINY, Road


def made(fold, **more):
    return FoldResult(fold=fold, seed=0, subjects=(f"p{fold}",), **more)


FOLDS = [Fold(i, 0, (i,), (8, 9), (7,), None) for i in range(3)]


@pytest.fixture(params=["local", "mock"])
def files(request, tmp_path):
    if request.param == "mock":
        return RemoteFiles(_MockFileSystem(), "bucket/run")
    return RemoteFiles(LocalFileSystem(), str(tmp_path / "far" / "run"))


def spoil(files, name, change):
    data = files._bytes(name)
    with files.filesystem.open_output_stream(files.path(name)) as out:
        out.write(change(data))


def test_what_was_written_is_read_and_stays(files, tmp_path):
    ledger = Ledger(tmp_path / "run", "key", files)
    ledger.write(FOLDS[1], made(1, wall_s=1 / 3))
    ledger.write(FOLDS[1], made(1, wall_s=0.2))  # late
    assert ledger.read(FOLDS[1]).wall_s == 1 / 3
    assert ledger.missing(FOLDS) == [FOLDS[0], FOLDS[2]] and files.names() == ["fold-001-seed-0.json"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: b"[]",
                                    lambda d: d.replace(b"0.5", b"0.6"), lambda d: b"\xff" + d])
def test_a_damaged_object_is_an_absent_fold(files, tmp_path, change):
    ledger = Ledger(tmp_path / "run", "key", files)
    ledger.write(FOLDS[0], made(0, wall_s=0.5))
    spoil(files, "fold-000-seed-0.json", change)
    assert ledger.read(FOLDS[0]) is None
    ledger.write(FOLDS[0], made(0, wall_s=0.7))
    assert ledger.read(FOLDS[0]).wall_s == 0.7


def test_another_runs_folds_are_refused(files, tmp_path):
    claim(Ledger(tmp_path / "run", "key", files))
    Ledger(tmp_path / "run", "key", files).write(FOLDS[0], made(0))
    claim(Ledger(tmp_path / "run", "key", files))
    with pytest.raises(UserError, match="run.ledger"):
        claim(Ledger(tmp_path / "run", "another", files))


class Losing:
    """A file system that truncates the first writes."""

    def __init__(self, inner, times):
        self.inner, self.times, self.type_name, self.opened = inner, times, "s3", []

    def open_output_stream(self, path):
        self.opened.append(path)
        out = self.inner.open_output_stream(path)
        if self.times:
            self.times -= 1
            real = out.write
            return type("Cut", (), {"__enter__": lambda s: s, "__exit__": lambda s, *a: out.close(),
                                    "write": lambda s, data: real(data[:10])})()
        return out

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_the_checksum_is_read_back():
    inner = _MockFileSystem()
    inner.create_dir("bucket/run", recursive=True)
    files = RemoteFiles(Losing(inner, 2), "bucket/run")
    files.write("fold-000-seed-0.json", {"a": 1})
    assert files.filesystem.opened == ["bucket/run/fold-000-seed-0.json"] * 3, "one object a try, no temporary name"
    with pytest.raises(OSError, match="was not read back"):
        RemoteFiles(Losing(inner, 3), "bucket/run").write("fold-001-seed-0.json", {"a": 1})


def test_a_network_that_fails_is_a_sentence():
    class Gone:
        type_name = "s3"

        def get_file_info(self, path):
            raise OSError("no route to host")

    with pytest.raises(UserError, match="no route to host.*check run.ledger"):
        RemoteFiles(Gone(), "bucket/run").holds("lineage.json")


def test_addresses(tmp_path):
    assert isinstance(files_at((tmp_path / "x").as_uri()), LocalFiles)
    far = files_at("s3://bucket/folder/run?region=eu-west-1")
    assert isinstance(far, RemoteFiles) and far.path("a") == "bucket/folder/run/a"
    again = pickle.loads(pickle.dumps(far))  # noqa: S301  our own object, as Ray would carry it
    assert again.filesystem.equals(far.filesystem) and "'allow_delayed_open': True" in str(far.filesystem.__reduce__())
    with pytest.raises(UserError, match="run.ledger=nothing://x cannot be opened"):
        files_at("nothing://x")


def test_a_run_with_its_ledger_elsewhere(ridge, inline, tmp_path, monkeypatch, capsys):
    """The same bytes as with a folder; a run can resume and report, and another run gets an error."""
    monkeypatch.setattr("orchestrator.evaluation.ledger.files_at", lambda uri: RemoteFiles(LocalFileSystem(), uri.removeprefix("x://")))
    words = [*TINY, "model=ridge", "max_folds=2"]
    plain = Road(ridge.root, ridge.store, tmp_path / "plain", words)
    far = Road(ridge.root, ridge.store, tmp_path / "run", [*words, f"run.ledger=x://{tmp_path / 'far'}"])
    assert plain.main() == far.main() == 0
    assert far.summary() == plain.summary() and not (far.run / "ledger").exists()
    assert (far.run / "predictions.parquet").read_bytes() == (plain.run / "predictions.parquet").read_bytes()
    assert len(list((tmp_path / "far").iterdir())) == 2 and str(tmp_path) not in (far.run / "config.yaml").read_text()
    inline["loso"].clear()
    (tmp_path / "far" / "fold-001-seed-0.json").write_text("{}")
    assert far.main() == 0 and inline["loso"] == ["fold-001-seed-0"]
    (far.run / "summary.json").unlink()
    assert cli.run(report.main, far.argv()) == 0 and far.summary() == plain.summary()
    other = Road(ridge.root, ridge.store, tmp_path / "other", [w for w in far.words])
    assert cli.run(loso.main, other.argv("split=kfold", "split.k=3")) == 2 and "holds another run" in capsys.readouterr().err


def test_both_protocols_keep_their_folds_apart(ridge, inline, tmp_path):
    far = Road(ridge.root, ridge.store, tmp_path / "run",
               [*TINY, "model=ridge", "max_folds=3", "protocol=both", f"run.ledger={(tmp_path / 'far').as_uri()}"])
    assert far.main() == 0
    assert sorted(p.name for p in (tmp_path / "far").iterdir()) == ["as_paper", "clean"]


def test_one_shared_subject_gives_no_gap_and_no_error(ridge, inline, tmp_path, capsys):
    one = Road(ridge.root, ridge.store, tmp_path / "run", [*TINY, "model=ridge", "max_folds=1", "protocol=both"])
    assert one.main() == 0
    assert "as_paper and clean cannot be compared" in capsys.readouterr().out


def test_a_protocols_folder_goes_before_the_options_of_a_uri(ridge, tmp_path):
    config = ridge.config("run.ledger=s3://bucket/run/?region=eu-west-1")
    assert run_record.in_folder(config, tmp_path / "clean").run.ledger == "s3://bucket/run/clean?region=eu-west-1"
    assert run_record.in_folder(ridge.config(), tmp_path / "clean").run.ledger is None


def test_keys_in_a_uri_are_not_repeated():
    with pytest.raises(UserError) as caught:
        files_at("nowhere://name:secret@bucket/run?token=hidden")
    assert "nowhere://bucket/run" in str(caught.value)
    assert "secret" not in str(caught.value) and "hidden" not in str(caught.value)


def test_a_copy_under_another_folds_name_does_not_count(files):
    ledger = Ledger(Path("nowhere"), "key", files)
    ledger.write(FOLDS[0], made(0))
    files.write(Ledger.name(FOLDS[1]), files.read(Ledger.name(FOLDS[0])))
    assert ledger.missing(FOLDS) == FOLDS[1:]
