"""The token store: keys, shapes, damage, and rows gathered from mapped files."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from orchestrator import cli, loso
from orchestrator.cohort.lineage import Lineage
from orchestrator.config.model_inputs import needs
from orchestrator.files.storage import read_json, with_checksum, write_json
from orchestrator.plan import folds
from orchestrator.pretraining import embedding
from orchestrator.stores import encoder_store as encoders
from orchestrator.stores import token_store
from orchestrator.stores.clip_store import ClipStore, plan_shards
from orchestrator.stores.token_store import Tokens
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, Road, hashes, snapshot


@pytest.fixture(scope="module")
def planned(road):
    people = road.cohort()
    store = ClipStore(road.store, plan_shards(road.config(), people))
    groups = folds.make_plan(road.config(), people.people).groups
    found = [encoders.open_encoder(p) for p in encoders.plan_encoders(road.config(), people, store, groups,
                                                                      needs(road.config()))]

    def plan(*words, encoders=found):
        return token_store.plan_tokens(road.config(*words), people, store, encoders)

    plan.encoders = found
    return plan


def test_one_file_per_subject_and_encoder(road, planned):
    jobs = planned()
    assert len(jobs) == 2 * PEOPLE and len({job.path for job in jobs}) == 2 * PEOPLE
    for job in jobs:
        tokens = np.load(job.path)
        assert tokens.shape == (2 * CLIPS_PER_LEVEL, 8, 16) and tokens.dtype == np.float16 and np.isfinite(tokens).all()
    (grid, width) = token_store.token_shape(road.config(), planned.encoders[0])
    assert (grid, width) == ((8, 1, 1), 16)


@pytest.mark.parametrize("word", ["embed.pool=none", "embed.batch=2", "clip.rate=8", "embed.dtype=int8"])
def test_what_changes_tokens(planned, word):
    assert {j.key for j in planned()}.isdisjoint(j.key for j in planned(word))


@pytest.mark.parametrize("word", ["train.lr=0.1", "protocol.seeds=3", "model=video", "resources.cpus=1"])
def test_what_does_not(planned, word):
    assert [j.key for j in planned()] == [j.key for j in planned(word)]


def test_int8_runs_through_in_half_the_disk(road, inline, tmp_path):
    mine = road.copy(tmp_path, run=False)
    full = {p.name.split("-")[0]: np.load(p) for p in sorted(mine.store.glob("tokens/*/*.npy"))}
    assert mine.main("embed.dtype=int8", "max_folds=1") == 0
    files = sorted(mine.store.glob(f"tokens/*/*{token_store.INT8}"))
    assert len(files) == 2 * PEOPLE == len(inline["embed"])
    for path in files:
        back = Tokens([path], [len(np.load(path))])
        assert np.load(path).dtype == np.int8 and back.dtype == np.float16 and back[[0]].dtype == np.float16
        assert back.shape[1:] == full[path.name.split("-")[0]].shape[1:]
    scales = token_store.scales_of(files[0])
    scales.write_bytes(scales.read_bytes()[:-4])
    assert mine.main("embed.dtype=int8", "max_folds=1") == 0
    assert len(inline["embed"]) == 2 * PEOPLE + 1, "a damaged scale is a damaged file"


def test_a_token_in_int8_is_off_by_half_a_step_at_most():
    tokens = np.random.default_rng(0).normal(size=(3, 5, 16)).astype(np.float16) * np.array([1e-3, 1, 50, 0, 1])[:, None]
    stored, scales = token_store.quantise(tokens)
    assert stored.dtype == np.int8 and scales.shape == (3, 5) and scales.dtype == np.float32
    error = np.abs(stored * scales[..., None] - tokens.astype(np.float32))
    assert (error <= 0.5001 * scales[..., None]).all() and np.abs(stored).max() == 127
    assert (stored[:, 3] == 0).all() and (scales[:, 3] == 0).all()


def test_size_and_time_are_reported_and_a_small_disk_is_refused(road, inline, tmp_path, monkeypatch, capsys):
    from orchestrator.errors import UserError
    from orchestrator.files import storage

    mine = road.copy(tmp_path, run=False)
    shutil.rmtree(mine.store / "tokens")
    monkeypatch.setattr(storage, "free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match="The token store needs about 0.00 GB but .* free: choose another disk with store=DIR"):
        mine.main("max_folds=1")
    assert f"{2 * PEOPLE} files to do: {2 * PEOPLE * 2 * CLIPS_PER_LEVEL} clips, 0.0 MB, about" in capsys.readouterr().out
    assert inline["embed"] == [] and not list(mine.store.glob("tokens/*/*"))


def test_the_message_of_a_worker_comes_back_as_text(road, monkeypatch):
    """Ray Data would wrap an exception, and retry: no memory on the GPU, or no space on the disk."""
    from types import SimpleNamespace

    from orchestrator.files.storage import atomic_path

    def no_memory(*words):
        raise torch.OutOfMemoryError("made up")

    def no_room(*words):
        with atomic_path(road.store / "x"):
            raise OSError("4000000 requested and 522176 written")

    worker = embedding.EmbedWorker({}, road.config("embed.batch=8"))
    worker.loaded = (0, None)
    for write, said in ((no_memory, "use embed.batch=4"), (no_room, "The disk is full while writing")):
        monkeypatch.setattr(embedding, "write_tokens", write)
        answer = worker({"item": SimpleNamespace(encoder=0)})
        assert answer["clips"] == 0 and said in answer["mistake"] and "\n" not in answer["mistake"]


def test_equal_weights_under_another_architecture_are_other_tokens(planned):
    """Heads stand in no tensor's shape: random weights of 2 and of 4 heads are equal, what they encode is not."""
    from dataclasses import replace

    others = [replace(e, plan=replace(e.plan, video={**e.plan.video, "heads": 4})) for e in planned.encoders]
    assert {j.key for j in planned()}.isdisjoint(j.key for j in planned(encoders=others))


def test_a_file_records_its_lineage_and_the_check_reads_the_file(road, inline, tmp_path, capsys):
    mine = road.copy(tmp_path, run=False)
    record = read_json(road.run / "lineage.json")
    encoder, (tested,) = record["encoders"][record["folds"][0]["encoder"]], record["folds"][0]["test"]
    changed = 0
    for side in sorted(mine.store.glob("tokens/*/*.json")):
        value = read_json(side)
        (seen,) = value["lineage"]["parents"]
        assert value["lineage"]["artefact"] == f"tokens of {seen['artefact']}" and len(seen["people"]) == 2
        if seen == encoder["lineage"]:
            seen["people"].append(tested)
            write_json(side, with_checksum(value))
            changed += 1
    assert changed == PEOPLE
    assert cli.run(loso.main, mine.argv("max_folds=1")) == 2
    said = capsys.readouterr().err
    assert f"Test subject {tested} leaked into training through tokens of encoder" in said and "Traceback" not in said


def test_whom_the_tokens_saw_is_in_their_key_and_the_signal_mae_beside_them_is_not(planned):
    from dataclasses import replace

    first, *others = planned.encoders
    met = replace(first, lineage=Lineage("encoder 1", frozenset({"x/another"})))
    keys = [job.key for job in planned(encoders=[met, *others])]
    assert sum(a != b for a, b in zip(keys, [job.key for job in planned()], strict=True)) == PEOPLE
    public = Lineage("a public file", frozenset({"x/y"}), proven=False)
    foreign = replace(first, plan=replace(first.plan, foreign=object()), lineage=replace(met.lineage, parents=(public,)))
    assert token_store.lineage_of(foreign) == Lineage("tokens of a public file", parents=(public,))


@pytest.mark.parametrize("damage", ["npy gone", "npy cut", "npy other", "json gone", "json cut", "json changed"])
def test_a_damaged_token_file_is_made_again_byte_for_byte(road, inline, tmp_path, damage):
    mine = road.copy(tmp_path)
    before, ledger = hashes(mine.store / "tokens"), snapshot(mine.run / "ledger")
    suffix, how = damage.split()
    files = sorted(mine.store.glob(f"tokens/*/*.{suffix}"))
    if how == "gone":
        files[0].unlink()
    else:
        data = files[0].read_bytes()
        files[0].write_bytes({"cut": data[:-8], "other": files[1].read_bytes(),
                              "changed": data.replace(b'"pool"', b'"p00l"')}[how])
    assert hashes(mine.store / "tokens") != before
    assert mine.main() == 0
    assert len(inline["embed"]) == 1 and inline["preprocess"] == inline["pretrain"] == inline["loso"] == []
    assert hashes(mine.store / "tokens") == before and snapshot(mine.run / "ledger") == ledger
    assert mine.summary() == road.summary()


def test_another_pooling_leaves_the_first_in_its_place(road, inline, tmp_path):
    """Two runs that share a store must not take each other's tokens away."""
    mine = road.copy(tmp_path, run=False)
    before = snapshot(mine.store / "tokens")
    other = Road(mine.root, mine.store, tmp_path / "other")
    assert other.main("embed.pool=none", "max_folds=1") == 0
    assert len(inline["embed"]) == 2 * PEOPLE
    after = snapshot(mine.store / "tokens")
    assert {name: after[name] for name in before} == before and len(after) == 2 * len(before)


class TestTokens:
    @pytest.fixture
    def files(self, tmp_path):
        arrays = [np.random.default_rng(i).normal(size=(n, 3, 4)).astype(np.float16) for i, n in enumerate((2, 0, 4, 1))]
        for i, array in enumerate(arrays):
            np.save(tmp_path / f"{i}.npy", array)
        return Tokens([tmp_path / f"{i}.npy" for i in range(4)], [2, 0, 4, 1]), np.concatenate(arrays)

    def test_rows_in_any_order(self, files):
        tokens, whole = files
        assert len(tokens) == 7 and tokens.shape == (7, 3, 4) and tokens.dtype == np.float16
        for rows in ([0], [6, 0, 3, 3], [], [5, 2, 4, 1, 0, 6, 3], 4):
            assert np.array_equal(tokens[rows], whole[np.atleast_1d(np.array(rows, dtype=int))])

    def test_a_copy_in_another_process_maps_again(self, files):
        tokens, whole = files
        _ = tokens[[0]]
        sent = pickle.dumps(tokens)
        assert len(sent) < 2000, "the arrays themselves went along"
        assert np.array_equal(pickle.loads(sent)[list(range(7))], whole)  # noqa: S301

    def test_a_file_that_went_away_is_an_error(self, files):
        tokens, _ = files
        shutil.rmtree(tokens.paths[0].parent)
        with pytest.raises(OSError):
            tokens[[2]]
