"""Pretraining depends only on clips, recipe and seed: order, masks, views, and progress reports."""

import json
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest
import torch

from models.mae import training_state
from orchestrator.errors import UserError
from orchestrator.executors import ray_training
from orchestrator.pretraining import data, objectives
from orchestrator.pretraining.checkpoints import Checkpoints, Every
from orchestrator.pretraining.loop import epochs_planned, train_job
from orchestrator.pretraining.objectives import Job, Rank
from tests.helpers.made_shards import made_shards

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


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return made_shards(tmp_path_factory.mktemp("shards"), people=2, clips=4)


def job(out, shards=(), video=None, signal=None, signals=None, seed=0, **changes):
    out.mkdir(exist_ok=True)
    recipe = {part: {**RECIPE[part], **changes.pop(f"of_{part}", {})} for part in ("video", "signal")} | changes
    return Job(name="encoder 1", out=out, shards=list(shards), video=video, signal=signal, signals=signals,
               samples=[f"c{i}" for i in range(6)], lineage={"artefact": "x", "people": []}, recipe=recipe,
               clip={"frames": 16, "rate": 16}, seed=seed)


def epochs(rows):
    return [row for row in rows if row["kind"] == "epoch"]


def sha(folder, name):
    return json.loads((folder / f"{name}.json").read_text())["weights_sha256"]


def test_the_signal_mae_is_a_function_of_its_seed(signals, tmp_path):
    rows = []
    for i, seed in enumerate((0, 0, 1)):
        train_job(job(tmp_path / str(i), signal=SIGNAL, signals=signals, seed=seed), Rank(), rows.append)
    a, b, c = (sha(tmp_path / str(i), "signal") for i in range(3))
    assert a == b != c
    assert [row["epoch"] for row in epochs(rows)] == [1, 2] * 3 and all(np.isfinite(row["loss"]) for row in epochs(rows))
    kept = json.loads((tmp_path / "0" / "curve.json").read_text())
    assert kept == [{name: row[name] for name in kept[0]} for row in epochs(rows)[:2]]


def test_the_video_mae_is_a_function_of_its_seed(shards, tmp_path):
    rows = []
    for i, seed in enumerate((0, 0, 1)):
        train_job(job(tmp_path / str(i), shards, video=VIDEO, seed=seed), Rank(), rows.append)
    a, b, c = (sha(tmp_path / str(i), "video") for i in range(3))
    assert a == b != c and {row["stage"] for row in rows} == {"video MAE"}


def test_two_ranks_share_every_batch_of_one():
    batches = list(data.epoch_batches(10, 4, seed=1, epoch=2))
    assert len(batches) == 3 == data.steps(10, 4)
    ranks = [Rank(rank, 2) for rank in (0, 1)]
    for whole in batches:
        shares = [rank.share(whole) for rank in ranks]
        assert len(shares[0]) == len(shares[1]) == 2 and sorted(np.concatenate(shares)) == sorted(whole)
    assert set(np.concatenate(batches)) == set(range(10)), "an epoch uses every clip"
    assert [Rank(0, w).whole(5) for w in (1, 2, 3, 4)] == [5, 6, 6, 8]


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return np.concatenate(list(data.epoch_batches(9, 3, seed, epoch))).tolist()

    assert order(0, 0) == order(0, 0) and len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9


def test_views_are_a_function_of_their_draw_and_the_cache_changes_none(shards):
    one, two = data.GroupClips(shards, 16, 4, 32), data.GroupClips(shards, 16, 4, 32, cache_bytes=0)
    assert len(one) == 8 and [(s, i) for _, _, s, i in one.index] == [(s, i) for s in (0, 1) for i in range(4)]
    for position in range(8):
        views = [clips.clip(position, np.random.default_rng(position)) for clips in (one, one, two)]
        assert views[0].shape == (16, 32, 32, 3) and views[0].dtype == np.uint8
        assert all(np.array_equal(view, views[0]) for view in views)
    assert not two.cache and two.cached == 0


def test_prefetch_keeps_order_and_passes_errors_on():
    for threads in (1, 3):
        assert list(data.prefetch(lambda x: x * x, list(range(7)), threads)) == [x * x for x in range(7)]
    assert list(data.prefetch(lambda x: x, [])) == []

    def fail(x):
        if x == 2:
            raise ValueError("two")
        return x

    with pytest.raises(ValueError, match="two"):
        list(data.prefetch(fail, [0, 1, 2, 3]))


def test_epochs_are_counted_for_the_bar(tmp_path, signals):
    jobs = [job(tmp_path / "a", video=VIDEO, signal=SIGNAL), job(tmp_path / "b", signal=SIGNAL)]
    assert epochs_planned(jobs) == 2 + 2 + 2


def test_as_video_is_channels_first_in_unit_range():
    clip = np.zeros((1, 2, 3, 3, 3), np.uint8)
    clip[0, 1, 2, 0] = (255, 51, 0)
    video = objectives.as_video(clip, Rank().device)
    assert video.shape == (1, 3, 2, 3, 3) and video[0, :, 1, 2, 0].tolist() == pytest.approx([1.0, 0.2, 0.0])


def test_whole_lines_only_are_followed(tmp_path):
    """The reader may read while a worker writes: an incomplete line waits for its end."""
    lines, stopped, seen = tmp_path / "rows.jsonl", threading.Event(), []
    row = json.dumps({"kind": "epoch", "loss": 0.5})
    lines.write_text(row + "\n" + row[:10])
    watcher = threading.Thread(target=ray_training.follow, args=(lines, seen.append, stopped))
    watcher.start()
    with open(lines, "a") as handle:
        handle.write(row[10:] + "\n")
    stopped.set()
    watcher.join(10)
    assert not watcher.is_alive() and seen == [json.loads(row)] * 2


class Killed(Exception):
    pass


def killed_after(steps, stage):
    """A report that ends the training as a SIGKILL would: nothing is written afterwards."""
    def report(row):
        if row["kind"] == "step" and row["stage"] == stage and row["step"] == steps:
            raise Killed

    return report


@pytest.fixture(scope="module")
def undisturbed(shards, signals, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    train_job(job(out, shards, VIDEO, SIGNAL, signals), Rank(), lambda row: None)
    return out


def kept(folder):
    """The output of a training: weights, and the loss of every step."""
    return {name: (folder / name).read_bytes() for name in ("video.safetensors", "signal.safetensors", "steps.parquet",
                                                            "curve.json")}


@pytest.mark.parametrize("steps, stage, every", [
    (3, "video MAE", {"save_epochs": None, "save_steps": 1}), (4, "video MAE", {}), (2, "signal MAE", {}),
    (3, "signal MAE", {"save_epochs": None, "save_steps": 2}), (1, "video MAE", {}),
    (2, "video MAE", {"save_epochs": None, "save_seconds": 1e-9})])
def test_a_killed_training_resumes_bit_for_bit(shards, signals, undisturbed, tmp_path, steps, stage, every):
    """Optimisers, critic, schedule and curve are in the checkpoint; in mid-epoch as at its end."""
    mine = job(tmp_path, shards, VIDEO, SIGNAL, signals, **every)
    with pytest.raises(Killed):
        train_job(mine, Rank(), killed_after(steps, stage))
    rows = []
    train_job(mine, Rank(), rows.append)
    first = next(row for row in rows if row["kind"] == "resumed" and row["stage"] == stage)
    assert first["step"] >= steps - 2 and [r["step"] for r in rows if r["kind"] == "step" and r["stage"] == stage] == list(
        range(first["step"] + 1, 5))
    assert kept(tmp_path) == kept(undisturbed)


@pytest.mark.parametrize("damage", ["half", "json alone", "no json", "json cut"])
def test_half_a_checkpoint_does_not_count(shards, signals, undisturbed, tmp_path, damage):
    mine = job(tmp_path, shards, VIDEO, SIGNAL, signals, save_steps=1)
    with pytest.raises(Killed):
        train_job(mine, Rank(), killed_after(4, "video MAE"))
    weights, side = tmp_path / "video-00000003.safetensors", tmp_path / "video-00000003.json"
    if damage == "half":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "json alone":
        weights.unlink()
    elif damage == "no json":
        side.unlink()
    else:
        side.write_text(side.read_text()[:40])
    rows = []
    train_job(mine, Rank(), rows.append)
    assert rows[0]["kind"] == "resumed" and rows[0]["step"] == 2
    assert kept(tmp_path) == kept(undisturbed)


def killed_at_rename(mine, number):
    """Train, but SIGKILL this process when checkpoint file `number` is complete but still has its temporary name."""
    torch.set_num_threads(1)
    real, seen = os.replace, []

    def replace(source, target):
        if "video-0" in str(target):
            seen.append(target)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    os.replace = replace
    train_job(mine, Rank(), lambda row: None)


@pytest.mark.medium
@pytest.mark.parametrize("number", [3, 4])  # of the second checkpoint the tensors, the JSON
def test_sigkill_while_a_checkpoint_is_written(shards, signals, undisturbed, tmp_path, number):
    mine = job(tmp_path, shards, VIDEO, SIGNAL, signals, save_epochs=None, save_steps=1)
    process = multiprocessing.get_context("spawn").Process(target=killed_at_rename, args=(mine, number))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and list(tmp_path.glob(".video-*"))
    rows = []
    train_job(mine, Rank(), rows.append)
    assert rows[0]["kind"] == "resumed" and rows[0]["step"] == 1
    assert kept(tmp_path) == kept(undisturbed)


def test_another_batch_starts_again_and_removes_old_checkpoints(shards, tmp_path):
    with pytest.raises(Killed):
        train_job(job(tmp_path, shards, VIDEO, save_steps=1), Rank(), killed_after(4, "video MAE"))
    rows = []
    train_job(job(tmp_path, shards, VIDEO, of_video={"batch": 8}), Rank(), rows.append)
    assert rows[0]["step"] == 0 and Checkpoints(tmp_path, "video", Every()).steps() == [1, 2]


def test_another_kind_of_device_starts_again(shards, tmp_path):
    with pytest.raises(Killed):
        train_job(job(tmp_path, shards, VIDEO, save_steps=1), Rank(), killed_after(4, "video MAE"))
    newest = Checkpoints(tmp_path, "video", Every()).newest()
    side = tmp_path / f"video-{newest:08d}.json"
    said = side.read_text()
    assert '"device": "cpu"' in said
    side.write_text(said.replace('"device": "cpu"', '"device": "cuda"'))
    rows = []
    train_job(job(tmp_path, shards, VIDEO), Rank(), rows.append)
    assert rows[0]["kind"] == "resumed" and rows[0]["step"] == 0


def test_a_replaced_command_writes_no_checkpoints(tmp_path):
    (tmp_path / "owner").write_text("new")
    keep = Checkpoints(tmp_path, "video", Every(), owner="old")
    with pytest.raises(RuntimeError, match="another command"):
        keep.save(1, {}, {})
    assert keep.steps() == []


def test_a_full_disk_is_one_sentence_with_the_checkpoint(shards, tmp_path, monkeypatch):
    mine, real = job(tmp_path, shards, VIDEO, save_steps=1), training_state.save

    def full(path, tensors, facts):
        if facts["steps"] == 3:
            raise OSError(28, "No space left on device")
        real(path, tensors, facts)

    monkeypatch.setattr(training_state, "save", full)
    with pytest.raises(UserError, match=r"is full.*resumes from the last good checkpoint, video-00000002") as told:
        train_job(mine, Rank(), lambda row: None)
    assert "\n" not in str(told.value)


def test_final_weights_on_a_full_disk_are_one_sentence_too(signals, tmp_path, monkeypatch):
    from orchestrator.pretraining import loop

    def full(*words):
        raise ValueError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(loop.checkpoint, "save", full)
    with pytest.raises(UserError, match="The disk is full while writing"):
        train_job(job(tmp_path / "a", signal=SIGNAL, signals=signals), Rank(), lambda row: None)


@pytest.mark.parametrize("kind", ["video", "signal"])
def test_views_and_masks_depend_on_clip_epoch_and_step(shards, signals, tmp_path, monkeypatch, kind):
    """View and mask: independent of rank and of other clips in the batch; different in another step or epoch."""
    monkeypatch.setattr(Rank, "wrap", lambda self, module: module)
    stage = {"video": objectives.VideoStage, "signal": objectives.SignalStage}[kind]
    work = job(tmp_path, shards, VIDEO, SIGNAL, signals)
    one, two = stage(work, Rank(0, 1)), stage(work, Rank(1, 2))
    whole, part = one.load(1, 1, np.array([0, 3, 2, 5])), two.load(1, 1, np.array([3, 5]))
    assert all(np.array_equal(np.asarray(a)[[1, 3]], np.asarray(b)) for a, b in zip(whole, part, strict=True))
    for epoch, step in ((1, 2), (2, 1)):
        other = one.load(epoch, step, np.array([0, 3, 2, 5]))
        assert not all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(whole, other, strict=True))


def test_the_schedule_the_clipping_and_the_precision_reach_every_step(shards, tmp_path, monkeypatch):
    from orchestrator.pretraining import loop

    seen, real = [], loop.training.step

    def step(objective, optimisers, parts, clip, precision):
        rates = {group["lr"] for optimiser in optimisers.values() for group in optimiser.param_groups}
        seen.append((rates, clip, precision))
        return real(objective, optimisers, parts, clip, None)

    monkeypatch.setattr(loop.training, "step", step)
    monkeypatch.setattr(Rank, "autocast", lambda self, wanted: torch.bfloat16)
    rows = []
    train_job(job(tmp_path, shards, VIDEO, of_video={"clip": 0.5, "epochs": 4}), Rank(), rows.append)
    told = [row["lr"] for row in rows if row["kind"] == "step"]
    assert [rates for rates, _, _ in seen] == [{rate} for rate in told] and len(set(told)) > 1
    assert {(clip, precision) for _, clip, precision in seen} == {(0.5, torch.bfloat16)}


def test_a_nan_loss_stops_with_step_clips_and_checkpoint(tmp_path, signals):
    bad = np.load(signals)
    bad[4, 3, 1] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(UserError, match=r"signal MAE of encoder 1 stopped in epoch 1, step [12]: reconstruction is nan.*c4.*"
                                        r"(from the beginning|signal-0000000\d)"):
        train_job(job(tmp_path / "out", signal=SIGNAL, signals=tmp_path / "bad.npy", save_steps=1), Rank(), lambda row: None)


def test_insufficient_memory_is_an_error_with_a_batch_that_fits(tmp_path, signals, monkeypatch):
    from models.mae.signal_mae import SignalMAE

    real = SignalMAE.reconstruct

    def small(self, x, *rest):
        if len(x) > 1:
            raise torch.OutOfMemoryError("made up")
        return real(self, x, *rest)

    monkeypatch.setattr(SignalMAE, "reconstruct", small)
    with pytest.raises(UserError, match=r"4 clips at once; 1 fit: use pretrain.signal.accumulate=4 .*signal.batch=1"):
        train_job(job(tmp_path / "a", signal=SIGNAL, signals=signals), Rank(), lambda row: None)
    monkeypatch.setattr(SignalMAE, "reconstruct", lambda *a: small(None, [1, 2]))
    with pytest.raises(UserError, match="even with one clip"):
        train_job(job(tmp_path / "b", signal=SIGNAL, signals=signals), Rank(), lambda row: None)


def test_a_step_in_parts_is_the_whole_step(shards, signals, undisturbed, tmp_path):
    """Without BatchNorm, whose statistics are each part's."""
    losses = []
    for parts in (1, 2):
        rows = []
        layer = {**SIGNAL, "norm": "layer"}
        train_job(job(tmp_path / str(parts), shards, VIDEO, layer, signals, of_video={"accumulate": parts},
                      of_signal={"accumulate": parts}), Rank(), rows.append)
        losses.append([row["terms"]["reconstruction"] for row in rows if row["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 8


def test_a_step_reports_its_loss_terms(shards, tmp_path):
    rows = []
    train_job(job(tmp_path, shards, VIDEO), Rank(), rows.append)
    step = [row for row in rows if row["kind"] == "step"][1]
    assert set(step["terms"]) == {"reconstruction", "loss_generator", "loss_critic", "fake_score", "wasserstein", "penalty",
                                  "grad_norm_generator", "grad_norm_critic"}
    assert step["step"] == 2 and step["steps"] == 4 and step["eta_s"] > 0 and step["clips_per_s"] > 0 and step["lr"] > 0
