"""Size limits are not part of a shard's key: only shards that a changed limit could affect are made again."""

from dataclasses import asdict

import numpy as np
import pytest

from orchestrator.cohort import cohort
from orchestrator.config.configuration import compose
from orchestrator.files.storage import read_checked
from orchestrator.stages import make_clips
from orchestrator.stores import clip_store
from preprocessing.inputs.limits import Limits

ROWS = {"p0": 60, "p1": 60, "p2": 80}  # by subject; arrays of three columns, two of them named


@pytest.fixture
def asked(tmp_path):
    """(store, limits) -> configuration over one small cohort; pseudonyms are the same in every store."""
    lines = ["subject,sample,label,signal_path,fs,channels"]
    for i, (name, rows) in enumerate([(name, rows) for name, rows in ROWS.items() for _ in range(2)]):
        np.save(tmp_path / f"{i}.npy", 4 + np.sin(np.arange(rows * 3.0).reshape(rows, 3) + i))
        channels = ",".join(f'{{""name"": ""{c}"", ""column"": {c}, ""kind"": ""other""}}' for c in range(2))
        lines.append(f'{name},s{i},{i % 2},{i}.npy,{rows / 6},"[{channels}]"')
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    (tmp_path / "key").write_text("0" * 64)

    def ask(store: str, **limits: int):
        words = [f"data.{name}={value}" for name, value in limits.items()]
        return compose("manifest", [f"data.root={tmp_path}", f"store={tmp_path / store}", f"store.key={tmp_path / 'key'}",
                                    *words])

    return ask


def made(config) -> tuple[dict, list]:
    """What the store then holds: the shards' hashes and what is left out."""
    store = make_clips.ensure(config, cohort.load(config))
    return {subject: side["sha256"] for subject, side in store.sides.items()}, store.quarantine()


def test_only_whom_a_limit_left_out_is_made_again_when_it_is_raised(asked, inline, capsys):
    done = inline["preprocess"]
    first, out = made(asked("one", max_rows=70))
    assert done == [0, 1, 2] and {(row["reason"], row["fix"].count("data.max_rows is 70")) for row in out} == {("too_large", 1)}
    for limits, again, left_out in (({"max_rows": 75}, [2], 2), ({"max_rows": 80}, [2], 0), ({"max_rows": 90}, [], 0),
                                    ({}, [], 0), ({"max_rows": 80}, [], 0), ({"max_rows": 79}, [2], 2),
                                    ({"max_channels": 2, "max_rows": 79}, [0, 1, 2], 6)):
        done.clear()
        capsys.readouterr()
        shards, out = made(asked("one", **limits))
        said = capsys.readouterr().out
        assert (done, len(out)) == (again, left_out), limits
        assert "damaged" not in said and (f"{len(again)} subjects are made again, because" in said) == bool(again)
    assert len({job.path.parent for words in ({}, {"max_rows": 9}) for job in
                clip_store.plan_shards(asked("one", **words), cohort.load(asked("one")))}) == 1


@pytest.mark.parametrize("history", [
    [{"max_rows": 70}, {}], [{}, {"max_rows": 70}], [{"max_channels": 2}, {"max_rows": 70}],
    [{"max_rows": 59}, {"max_rows": 79}, {"max_rows": 60}], [{"max_channels": 1}, {"max_channels": 3, "max_rows": 70}, {}],
    [{"max_rows": 70, "max_channels": 2}, {"max_rows": 70}, {"max_rows": 80, "max_channels": 3}]])
def test_whatever_came_before_the_store_is_what_a_fresh_one_is(asked, inline, history):
    for limits in history:
        found = made(asked("one", **limits))
    assert found == made(asked("fresh", **history[-1]))


@pytest.mark.parametrize(("then", "now", "reasons", "stale"), [
    ({}, {}, ["too_large"], False), ({}, {"max_pixels": 50_000_000}, ["corrupt"], False),
    ({}, {"max_pixels": 50_000_000}, ["corrupt", "too_large"], True), ({}, {"max_pixels": 30_000_000}, [], True),
    ({"max_pixels": 1}, {"max_channels": 9}, [], True)])
def test_what_could_differ(then, now, reasons, stale):
    side = {"limits": asdict(Limits(**then)), "quarantine": [{"reason": reason} for reason in reasons]}
    assert clip_store._could_differ(side, Limits(**now)) == stale


def test_a_shard_that_is_cut_is_damaged_and_not_of_other_limits(asked, inline, capsys):
    config = asked("one")
    made(config)
    job = clip_store.plan_shards(config, cohort.load(config))[0]
    job.path.write_bytes(job.path.read_bytes()[:-9])
    assert not clip_store.other_limits(job) and read_checked(job.path.with_suffix(".json"))["limits"] == asdict(Limits())
    capsys.readouterr()
    made(config)
    assert "made again: 1 clip shards" in capsys.readouterr().out and inline["preprocess"] == [0, 1, 2, 0]
