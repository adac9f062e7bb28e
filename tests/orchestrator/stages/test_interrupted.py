"""A run that ends at any write, a fold that is given up, two workers on one fold: the same command then makes it whole.

Ends here are exceptions at the moment of a rename, in this process; tests/faults kills processes.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from orchestrator import cli, report
from orchestrator.evaluation import scheduler
from orchestrator.evaluation.ledger import Ledger
from orchestrator.files.storage import intact, read_json
from orchestrator.plan.folds import Fold
from orchestrator.scores.fold_result import FoldResult, Prediction
from tests.helpers.roads import TINY, Road, snapshot, without_times

pytestmark = pytest.mark.ci
WORDS = [*TINY, "model=ridge", "max_folds=2"]


class Ended(BaseException):
    """Nothing catches it, as nothing survives SIGKILL."""


@pytest.fixture
def made(ridge, inline, tmp_path):
    return Road(ridge.root, ridge.store, tmp_path / "run", list(WORDS))


def ending_at(monkeypatch, n: int, after: bool) -> list[str]:
    """From here on the n-th rename does not happen, or is the last thing that happens. Returns the names renamed to."""
    real, seen = os.replace, []

    def replace(source, target, **words):
        seen.append(os.path.basename(target))
        if len(seen) == n and not after:
            raise Ended
        real(source, target, **words)
        if len(seen) == n:
            raise Ended

    monkeypatch.setattr(os, "replace", replace)
    return seen


def test_ended_at_every_write_of_a_run(made, monkeypatch, tmp_path):
    assert made.main() == 0
    assert Road(made.root, made.store, tmp_path / "warm", list(WORDS)).main() == 0  # the shards' hashes are remembered now
    with monkeypatch.context() as patch:
        names = ending_at(patch, 10**6, True)
        again = Road(made.root, made.store, tmp_path / "count", list(WORDS))
        assert again.main() == 0
    assert {"lineage.json", "fold-000-seed-0.json", "fold-001-seed-0.json", "summary.json", "report.html"} <= set(names)
    for n in range(1, len(names) + 1):
        mine = Road(made.root, made.store, tmp_path / f"run{n}", list(WORDS))
        with monkeypatch.context() as patch, pytest.raises(Ended):
            ending_at(patch, n, after=bool(n % 2))
            mine.main()
        finished = snapshot(mine.run / "ledger") if mine.run.exists() else {}
        assert all(intact(read_json(mine.run / "ledger" / name)) for name in finished)
        assert mine.main() == 0
        now = snapshot(mine.run / "ledger")
        assert {name: now[name] for name in finished} == finished, "a finished fold was written again"
        assert (mine.run / "predictions.parquet").read_bytes() == (made.run / "predictions.parquet").read_bytes()
        assert mine.summary() == made.summary()


def test_a_fold_given_up_is_code_3_and_is_tried_again_alone(made, inline, monkeypatch, capsys):
    grid, whole = scheduler.run_grid, Road(made.root, made.store, made.run.parent / "whole", list(WORDS))
    assert whole.main() == 0

    def gives_up(config, stage, run, names, planned, work, scratch):
        grid(config, stage, run, names=names[1:], planned=planned, work=work, scratch=scratch)
        return {names[0]: "RuntimeError: three times"}

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "run_grid", gives_up)
        assert made.main() == 3
    found = made.summary()
    assert (found["n_planned"], found["n_folds"], found["n_failed"]) == (2, 1, 1)
    assert found["accuracy_mean"] == found["folds"][0]["accuracy"] and found["folds"][0]["fold"] == 1
    said = capsys.readouterr().out
    assert "fold 0 seed 0 failed: RuntimeError: three times" in said and "on 1 of 2 folds" in said
    assert "The mean is over 1 of 2 planned folds" in (made.run / "report.html").read_text()
    inline["loso"].clear()
    assert made.main() == 0 and inline["loso"] == ["fold-000-seed-0"]
    assert made.summary() == whole.summary()


def test_fewer_folds_than_planned_are_code_3_for_report_too_and_damage_is_reported(made, inline, capsys):
    """An entry that is missing, truncated or changed: report says so and how many are left; the same command fits it again."""
    assert made.main() == 0
    assert cli.run(report.main, made.argv()) == 0
    entry, other = (made.run / "ledger" / f"fold-00{i}-seed-0.json" for i in range(2))
    text = entry.read_text()
    for damage, why in ((None, "it has no ledger entry"), (text[:-9], "is not valid (truncated or edited"),
                        (text.replace('"seed": 0', '"seed": 1'), "is not valid (truncated or edited"),
                        (other.read_text(), "is not valid (it belongs to another fold)")):
        entry.unlink()
        if damage is not None:
            entry.write_text(damage)
        capsys.readouterr()
        assert cli.run(report.main, made.argv()) == 3
        found, said = made.summary(), capsys.readouterr().out
        assert (found["n_planned"], found["n_folds"], found["n_failed"]) == (2, 1, 1)
        assert why in said and "on 1 of 2 folds" in said
        page = (made.run / "report.html").read_text()
        assert "The mean is over 1 of 2 planned folds" in page and why.replace("'", "&#39;") in page
        inline["loso"].clear()
        assert made.main() == 0 and inline["loso"] == ["fold-000-seed-0"]
        told, noted = capsys.readouterr().out, (made.run / "report.html").read_text()
        assert ("fold 0 seed 0 is not valid" in told) == (damage is not None)
        assert ("fold 0 seed 0 is not valid" in noted) == (damage is not None)
        assert cli.run(report.main, made.argv()) == 0 and made.summary()["n_failed"] == 0
        entry.write_text(text)  # with the first fit's time, so that every round begins alike


@pytest.mark.parametrize(("name", "spoil"), [
    ("facts.json", lambda text: text[:-20]), ("lineage.json", lambda text: text[: len(text) // 2]),
    ("facts.json", lambda text: "[]"), ("facts.json", lambda text: "{}"),
    ("lineage.json", lambda text: text.replace('"leaky": false', '"leaky": true', 1)),
    ("facts.json", lambda text: text.replace('"n_planned": 2', '"n_planned": 1')), ("lineage.json", lambda text: "")])
def test_a_runs_own_files_that_were_changed_are_refused_by_report_and_written_anew(made, inline, capsys, name, spoil):
    assert made.main() == 0
    path, inline["loso"][:] = made.run / name, []
    whole = without_times(read_json(path))
    path.write_text(spoil(path.read_text()))
    assert cli.run(report.main, made.argv()) == 2
    assert f"{name} was truncated or changed after it was written: run the same" in capsys.readouterr().err
    readable = read_json(path) is not None
    assert made.main() == 0 and inline["loso"] == [] and without_times(read_json(path)) == whole | (
        {} if readable else {"notes": [*whole["notes"], f"{name} of this run was damaged and was written again."]}
        if name == "facts.json" else {})
    assert (f"{name} of this run was damaged and is written again" in capsys.readouterr().out) != readable


def test_many_workers_finish_the_same_fold(tmp_path):
    """A trial thought dead that ends after its second try: one whole entry, whoever comes first or last."""
    ledger, fold = Ledger(tmp_path / "run", "key"), Fold(0, 0, (0,), (1,), (2,), None)
    row = Prediction(sample="c", subject="p0", y_true=1, y_pred=1, prob=(0.1, 0.9))
    result = FoldResult(fold=0, seed=0, subjects=("p0",), predictions=(row,) * 1000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ledger.write(fold, replace(result, wall_s=float(i))), range(40)))
    entry = ledger.read(fold)
    assert entry is not None and entry.predictions == result.predictions
    before = (ledger.files.folder / ledger.name(fold)).read_bytes()
    ledger.write(fold, replace(result, predictions=(), wall_s=99.0))
    assert (ledger.files.folder / ledger.name(fold)).read_bytes() == before
    assert [p.name for p in ledger.files.folder.iterdir()] == ["fold-000-seed-0.json"]


def test_the_table_comes_from_the_ledger_alone(made):
    """Whatever else is lost, the same command writes it again from the folds, byte for byte."""
    assert made.main() == 0
    before = {name: (made.run / name).read_bytes() for name in ("predictions.parquet", "folds.parquet")}
    summary = made.summary()
    for path in made.run.iterdir():
        if path.is_file():
            path.unlink()
    assert made.main() == 0 and made.summary() == summary
    assert {name: (made.run / name).read_bytes() for name in before} == before
