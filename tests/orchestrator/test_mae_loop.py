"""Pretraining is a pure function of clips, recipe and seed: order, masks, views, and the reports on the way."""

import json
import threading

import numpy as np
import pytest

from orchestrator import mae_data, mae_loop, pretrain
from orchestrator.mae_loop import Job, Rank, epochs_planned, train_job

VIDEO = {"scale": "micro", "image_size": 32, "depth": 1, "dim": 16, "heads": 2, "decoder_depth": 1, "frames": 16}
SIGNAL = {"n_channels": 2, "length": 16, "dim": 16, "depth": 1, "heads": 2, "ff": 16}
RECIPE = {"video": {"epochs": 2, "batch": 4, "lr": 0.01, "warmup": 1, "mask": "tube", "mask_ratio": 0.5, "adv_weight": 0.01,
                    "gp": 10.0},
          "signal": {"epochs": 2, "batch": 4, "lr": 0.01, "mask_ratio": 0.3, "mask_length": 3}}


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    path = tmp_path_factory.mktemp("signals_npy") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(6, 16, 2)).astype(np.float32))
    return path


def job(out, shards=(), video=None, signal=None, signals=None, seed=0):
    out.mkdir()
    return Job("encoder 1", out, list(shards), video, signal, signals, {"artefact": "x", "people": []}, RECIPE,
               {"frames": 16, "rate": 16}, seed)


def sha(folder, name):
    return json.loads((folder / f"{name}.json").read_text())["weights_sha256"]


def test_the_signal_mae_is_a_function_of_its_seed(signals, tmp_path):
    rows = []
    for i, seed in enumerate((0, 0, 1)):
        train_job(job(tmp_path / str(i), signal=SIGNAL, signals=signals, seed=seed), Rank(), rows.append)
    a, b, c = (sha(tmp_path / str(i), "signal") for i in range(3))
    assert a == b != c
    assert [row["epoch"] for row in rows] == [1, 2] * 3 and all(np.isfinite(row["loss"]) for row in rows)
    assert json.loads((tmp_path / "0" / "curve.json").read_text()) == rows[:2]


def test_the_video_mae_is_a_function_of_its_seed(road, tmp_path):
    shards = [(i, path) for i, path in enumerate(sorted(road.store.glob("clips/*/s*.parquet"))[:2])]
    rows = []
    for i, seed in enumerate((0, 0, 1)):
        train_job(job(tmp_path / str(i), shards, video=VIDEO, seed=seed), Rank(), rows.append)
    a, b, c = (sha(tmp_path / str(i), "video") for i in range(3))
    assert a == b != c and {row["stage"] for row in rows} == {"video MAE"}


def test_two_ranks_share_every_batch_of_one():
    batches = list(mae_data.epoch_batches(10, 4, seed=1, epoch=2))
    assert len(batches) == 3 == mae_data.steps(10, 4)
    ranks = [Rank(rank, 2) for rank in (0, 1)]
    for whole in batches:
        shares = [rank.share(whole) for rank in ranks]
        assert len(shares[0]) == len(shares[1]) == 2 and sorted(np.concatenate(shares)) == sorted(whole)
    assert set(np.concatenate(batches)) == set(range(10)), "an epoch leaves nobody out"
    assert [Rank(0, w).whole(5) for w in (1, 2, 3, 4)] == [5, 6, 6, 8]


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return np.concatenate(list(mae_data.epoch_batches(9, 3, seed, epoch))).tolist()

    assert order(0, 0) == order(0, 0) and len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9


def test_views_are_a_function_of_their_draw_and_the_cache_changes_none(road, monkeypatch):
    shards = [(i, path) for i, path in enumerate(sorted(road.store.glob("clips/*/s*.parquet"))[:2])]
    one, two = (mae_data.GroupClips(shards, 16, 4, 32) for _ in range(2))
    assert len(one) == 8 and [(s, i) for _, _, s, i in one.index] == [(s, i) for s in (0, 1) for i in range(4)]
    monkeypatch.setattr(mae_data, "CACHE_BYTES", 0)
    for position in range(8):
        views = [clips.clip(position, np.random.default_rng(position)) for clips in (one, one, two)]
        assert views[0].shape == (16, 32, 32, 3) and views[0].dtype == np.uint8
        assert all(np.array_equal(view, views[0]) for view in views)
    assert not two.cache and two.cached == 0


def test_prefetch_keeps_order_and_passes_errors_on():
    assert list(mae_data.prefetch(lambda x: x * x, list(range(7)))) == [x * x for x in range(7)]
    assert list(mae_data.prefetch(lambda x: x, [])) == []

    def fail(x):
        if x == 2:
            raise ValueError("two")
        return x

    with pytest.raises(ValueError, match="two"):
        list(mae_data.prefetch(fail, [0, 1, 2, 3]))


def test_epochs_are_counted_for_the_bar(tmp_path, signals):
    jobs = [job(tmp_path / "a", video=VIDEO, signal=SIGNAL), job(tmp_path / "b", signal=SIGNAL)]
    assert epochs_planned(jobs) == 2 + 2 + 2


def test_as_video_is_channels_first_in_unit_range():
    clip = np.zeros((1, 2, 3, 3, 3), np.uint8)
    clip[0, 1, 2, 0] = (255, 51, 0)
    video = mae_loop.as_video(clip, Rank().device)
    assert video.shape == (1, 3, 2, 3, 3) and video[0, :, 1, 2, 0].tolist() == pytest.approx([1.0, 0.2, 0.0])


def test_the_bar_follows_whole_lines_only(tmp_path):
    """The watcher may read while a worker writes: half a line waits for its end."""
    lines, stopped, notes = tmp_path / "epochs.jsonl", threading.Event(), []
    row = json.dumps({"stage": "video MAE", "encoder": "encoder 1", "loss": 0.5})
    lines.write_text(row + "\n" + row[:10])
    watcher = threading.Thread(target=pretrain._follow, args=(lines, lambda n, note: notes.append(note), stopped))
    watcher.start()
    with open(lines, "a") as handle:
        handle.write(row[10:] + "\n")
    stopped.set()
    watcher.join(10)
    assert not watcher.is_alive() and notes == ["video MAE of encoder 1: loss 0.5"] * 2
