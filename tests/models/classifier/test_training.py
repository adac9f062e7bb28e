"""Stage 2 training: it learns, it is a pure function of its arguments, it restores the best epoch, batches are safe."""

import numpy as np
import pytest
import torch

from models.classifier.batches import Batches
from models.classifier.classifier import build_classifier
from models.classifier.training import ClassifierRecipe, fit_classifier, predict_proba, shuffled, snapshot, spans

pytestmark = pytest.mark.medium
GRID, DIM, LENGTH = (2, 2, 2), 6, 24


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def planted(n=120, effect=2.0, seed=0):
    """Class k raises token channel 0 of the second time slice and a bump in signal channel 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    tokens = rng.normal(size=(n, 8, DIM)).astype(np.float16)
    signals = rng.normal(size=(n, LENGTH, 2)).astype(np.float32)
    tokens[:, 4:, 0] += (effect * labels[:, None]).astype(np.float16)
    signals[:, 8:16, 1] += effect * labels[:, None]
    return {"tokens": tokens, "signals": signals}, labels


def small(name="dual", seed=1, **options):
    return build_classifier(
        name, 3, token_dim=DIM, token_grid=GRID, n_channels=2, signal_length=LENGTH, seed=seed,
        hpa={"ff": 16, "filters": 8, "dropout": 0.1, **options.pop("hpa", {})}, dcan={"dim": 16, "hidden": 16},
        signal={"dim": 16, "depth": 1, "heads": 2, "ff": 16}, **options,
    )


def fit(model, recipe, arrays, labels, train=range(80), val=range(80, 120), seed=3, **more):
    val_rows = None if val is None else np.array(val)
    return fit_classifier(model, arrays, labels, np.array(train), val_rows=val_rows, recipe=recipe, seed=seed, **more)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- it learns


@pytest.mark.parametrize("name", ["dual", "video", "signal", "signal_small"])
def test_a_tiny_classifier_separates_a_planted_signal(name):
    arrays, labels = planted(160)
    model = small(name)
    result = fit(model, ClassifierRecipe(max_epochs=25, batch_size=16, lr=3e-3), arrays, labels, range(100), range(100, 130))
    test = np.arange(130, 160)
    accuracy = (predict_proba(model, arrays, test).argmax(1) == labels[test]).mean()
    assert accuracy >= 0.8, (accuracy, result.history[-1])


def test_without_an_effect_it_stays_near_chance():
    arrays, labels = planted(320, effect=0.0)
    model = small("signal_small")
    fit(model, ClassifierRecipe(max_epochs=3), arrays, labels, range(80), range(80, 120))
    accuracy = (predict_proba(model, arrays, np.arange(120, 320)).argmax(1) == labels[120:]).mean()
    assert accuracy < 1 / 3 + 4 * np.sqrt(2 / 9 / 200)


# ---- the loop


def test_best_epoch_is_restored_and_counted_from_one():
    arrays, labels = planted()
    states = []
    model = small()
    recipe = ClassifierRecipe(max_epochs=12, patience=3, lr=2e-2)
    result = fit(model, recipe, arrays, labels, on_epoch=lambda row: states.append(snapshot(model)))
    losses = [row["val_loss"] for row in result.history]
    assert result.epochs == int(np.argmin(losses)) + 1 and result.best == min(losses)
    assert len(losses) == min(12, result.epochs + 3)
    assert all(torch.equal(v, states[result.epochs - 1][k]) for k, v in model.state_dict().items())
    assert not model.training
    probabilities = predict_proba(model, arrays, np.arange(80, 120))
    restored = -np.log(probabilities[np.arange(40), labels[80:120]]).mean()
    assert restored == pytest.approx(result.best, rel=1e-5)


def test_val_accuracy_can_be_the_monitor():
    arrays, labels = planted(effect=0.7)
    result = fit(small(), ClassifierRecipe(max_epochs=8, patience=8, monitor="val_accuracy"), arrays, labels)
    accuracies = [row["val_accuracy"] for row in result.history]
    assert result.epochs == int(np.argmax(accuracies)) + 1 and result.best == max(accuracies)


def test_without_validation_rows_it_runs_every_epoch_and_keeps_the_last():
    arrays, labels = planted()
    seen = []
    model = small()
    result = fit(model, ClassifierRecipe(max_epochs=4), arrays, labels, range(120), None, on_epoch=seen.append)
    assert result.epochs == 4 == len(result.history) == len(seen)
    assert result.best == result.history[-1]["train_loss"] and "val_loss" not in seen[0]


def test_a_refit_follows_the_same_path_as_the_first_fit():
    """The weights after n epochs do not depend on max_epochs."""
    arrays, labels = planted()
    first, second = small(), small()
    states = []
    fit(first, ClassifierRecipe(max_epochs=5), arrays, labels, range(80), None,
        on_epoch=lambda row: states.append(snapshot(first)))
    fit(second, ClassifierRecipe(max_epochs=3), arrays, labels, range(80), None)
    assert all(torch.equal(v, states[2][k]) for k, v in second.state_dict().items())


def test_on_epoch_may_stop_the_training():
    class Stop(Exception):
        pass

    def stop(row):
        if row["epoch"] == 2:
            raise Stop

    arrays, labels = planted()
    with pytest.raises(Stop):
        fit(small(), ClassifierRecipe(), arrays, labels, on_epoch=stop)


def test_plateau_lowers_the_rate():
    arrays, labels = planted(effect=0.0)
    recipe = ClassifierRecipe(max_epochs=40, patience=4, plateau=True, lr=1e-2)
    result = fit(small("video"), recipe, arrays, labels)
    rates = [row["lr"] for row in result.history]
    assert len(rates) == result.epochs + 4  # it overfitted noise and waited four epochs, two of them at half the rate
    assert rates[0] == 1e-2 and rates[-1] == rates[-2] == rates[-3] / 2


def test_the_cosine_schedule_ends_at_0_after_the_epochs_it_was_given():
    arrays, labels = planted()
    recipe = ClassifierRecipe(max_epochs=4, lr=1e-3, lr_schedule="cosine", patience=9)
    rates = [row["lr"] for row in fit(small("signal"), recipe, arrays, labels).history]
    np.testing.assert_allclose(rates, [1e-3 * (1 + np.cos(np.pi * done / 4)) / 2 for done in range(4)])
    with pytest.raises(ValueError, match="lr_schedule"):
        fit(small("signal"), ClassifierRecipe(lr_schedule="sine"), arrays, labels)


def test_lr_decay_lowers_the_rate_after_every_epoch():
    arrays, labels = planted()
    result = fit(small("video"), ClassifierRecipe(max_epochs=3, lr=1e-3, lr_decay=0.5), arrays, labels)
    assert [row["lr"] for row in result.history] == [1e-3, 5e-4, 2.5e-4]


def test_lr_signal_applies_to_the_signal_encoder_alone():
    arrays, labels = planted()
    model, start = small(), small()
    fit(model, ClassifierRecipe(max_epochs=1, lr_signal=0.0), arrays, labels)
    moved = {
        name: not torch.equal(p, q)
        for (name, p), q in zip(model.named_parameters(), start.parameters(), strict=True)
    }
    encoder = {name: flag for name, flag in moved.items() if name.startswith("signal_encoder")}
    assert encoder and not any(encoder.values())
    assert all(flag for name, flag in moved.items() if name.startswith("fusion.head"))


@pytest.mark.parametrize("change", [{"optimizer": "adam"}, {"optimizer": "adamw", "weight_decay": 0.1},
                                    {"grad_clip": 0.01}, {"label_smoothing": 0.2}, {"lr": 1e-4}, {"batch_size": 7},
                                    {"weight_decay": 0.1}, {"signal_mix": 0.1}, {"signal_noise": 0.1},
                                    {"signal_stretch": 0.1}, {"signal_shift": 3.0}, {"signal_mirror": [-1, 1]},
                                    {"signal_scale": 0.1}, {"lr_schedule": "cosine"}])
def test_every_option_of_the_recipe_changes_the_result(change):
    arrays, labels = planted()
    plain, changed = small("signal_small"), small("signal_small")
    fit(plain, ClassifierRecipe(max_epochs=2), arrays, labels)
    fit(changed, ClassifierRecipe(**{"max_epochs": 2, **change}), arrays, labels)
    assert not same_weights(plain, changed)


@pytest.mark.parametrize("name", ["radam", "adam", "adamw"])
def test_training_in_one_vector_equals_the_plain_optimizer(name):
    """The same steps written with torch's optimiser on the parameters themselves."""
    arrays, labels = planted()
    model, plain = (small("signal_small", hpa={"dropout": 0.0}, dropout=0.0) for _ in range(2))
    kinds = {"radam": torch.optim.RAdam, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[name](plain.parameters(), lr=1e-3, weight_decay=0.01)
    for epoch in (1, 2, 3):
        order = shuffled(80, 3, epoch)
        for start in range(0, 80, 16):
            rows = order[start : start + 16]
            optimizer.zero_grad()
            logits = plain.train()({"signals": torch.from_numpy(arrays["signals"][rows])})
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()
            optimizer.step()
    recipe = ClassifierRecipe(optimizer=name, max_epochs=3, batch_size=16, weight_decay=0.01)
    fit(model, recipe, arrays, labels, range(80), None)
    for (key, ours), theirs in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4, msg=key)
    storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert len(storages) == len(list(model.parameters()))  # every parameter owns its memory again


# ---- purity


def test_the_result_depends_on_its_arguments_alone():
    arrays, labels = planted()
    recipe = ClassifierRecipe(max_epochs=3)
    first, second = small(), small()
    torch.manual_seed(1)
    np.random.seed(1)
    fit(first, recipe, arrays, labels)
    torch.manual_seed(99)
    np.random.seed(99)
    torch.rand(17)
    before = torch.get_rng_state()
    fit(second, recipe, arrays, labels)
    assert torch.equal(torch.get_rng_state(), before)  # and is not changed
    assert same_weights(first, second)
    third = small()
    fit(third, recipe, arrays, labels, seed=4)
    assert not same_weights(first, third)


def test_rows_outside_the_lists_are_never_read():
    arrays, labels = planted()
    recipe = ClassifierRecipe(max_epochs=2)
    first, second = small(), small()
    fit(first, recipe, arrays, labels, range(60), range(60, 90))
    poisoned = {name: array.copy() for name, array in arrays.items()}
    for array in poisoned.values():
        array[90:] = np.nan
    other = labels.copy()
    other[90:] = 2 - other[90:]
    fit(second, recipe, poisoned, other, range(60), range(60, 90))
    assert same_weights(first, second)


def test_memory_maps_and_streaming_give_the_same_weights(tmp_path, monkeypatch):
    arrays, labels = planted()
    recipe = ClassifierRecipe(max_epochs=2)
    kept, streamed = small(), small()
    fit(kept, recipe, arrays, labels)
    np.save(tmp_path / "tokens.npy", arrays["tokens"])
    mapped = {**arrays, "tokens": np.load(tmp_path / "tokens.npy", mmap_mode="r")}
    assert not mapped["tokens"].flags.writeable
    monkeypatch.setattr("models.classifier.batches.KEEP_BYTES", 0)
    fit(streamed, recipe, mapped, labels)
    assert same_weights(kept, streamed)


@pytest.mark.parametrize("pool", ["none", "2x2", "temporal"])
def test_kept_batches_equal_streamed_ones(pool):
    arrays, _ = planted()
    model = small(hpa={"token_pool": pool})
    rows = np.array([5, 3, 77, 12])
    kept, streamed = (Batches(model, arrays, rows, torch.device("cpu"), keep) for keep in (1 << 20, 0))
    assert set(kept.kept) == {"tokens", "signals"} and not streamed.kept
    (a, index_a), (b, index_b) = kept.take(np.array([2, 0])), streamed.take(np.array([2, 0]))
    assert index_a.tolist() == index_b.tolist() == [77, 5]
    for name in a:
        assert a[name].dtype == torch.float32
        torch.testing.assert_close(a[name], b[name], atol=0, rtol=0)
    torch.testing.assert_close(a["signals"], torch.from_numpy(arrays["signals"][[77, 5]]))


def test_uint8_clips_become_pixels_between_0_and_1():
    class Model(torch.nn.Module):
        needs = frozenset({"video"})

    clips = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5, 3), dtype=np.uint8)
    batch, _ = Batches(Model(), {"video": clips}, np.array([2]), torch.device("cpu")).take(np.array([0]))
    assert batch["video"].shape == (1, 3, 2, 4, 5)
    assert float(batch["video"][0, 1, 0, 3, 4]) == pytest.approx(clips[2, 0, 3, 4, 1] / 255)


# ---- batches


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    assert np.array_equal(shuffled(50, 3, 1), shuffled(50, 3, 1))
    assert not np.array_equal(shuffled(50, 3, 1), shuffled(50, 3, 2))
    assert not np.array_equal(shuffled(50, 3, 1), shuffled(50, 4, 1))
    assert sorted(shuffled(50, 3, 1)) == list(range(50))
    assert shuffled(6, 0, 1).tolist() == [1, 4, 3, 0, 2, 5]  # pinned: a changed generator would change every result


def test_no_batch_of_one():
    for n in range(2, 70):
        for size in (2, 7, 32):
            sizes = [s.stop - s.start for s in spans(n, size)]
            assert sum(sizes) == n and min(sizes) >= 2 and max(sizes) <= size + 1
    arrays, labels = planted()
    result = fit(small(), ClassifierRecipe(max_epochs=1, batch_size=8), arrays, labels, range(17))
    assert np.isfinite(result.history[0]["train_loss"])


def test_predictions_do_not_depend_on_the_batch_and_keep_the_mode():
    arrays, labels = planted()
    model = small()
    model.train()
    rows = np.array([7, 3, 9, 100, 50])
    whole, single = predict_proba(model, arrays, rows), predict_proba(model, arrays, rows, batch_size=1)
    assert model.training and whole.dtype == np.float64 and whole.shape == (5, 3)
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(whole, single, atol=1e-5)
    np.testing.assert_allclose(predict_proba(model, arrays, rows[::-1]), whole[::-1], atol=1e-5)


def test_mistakes_are_refused():
    arrays, labels = planted()
    recipe = ClassifierRecipe(max_epochs=1)
    with pytest.raises(ValueError, match="two rows"):
        fit(small(), recipe, arrays, labels, range(1))
    with pytest.raises(ValueError, match="none of them may be a training row"):
        fit(small(), recipe, arrays, labels, range(50), range(49, 60))
    with pytest.raises(ValueError, match=r"lack \['signals'\]"):
        fit(small(), recipe, {"tokens": arrays["tokens"]}, labels)
    with pytest.raises(ValueError, match="differ in length"):
        fit(small(), recipe, arrays, labels[:-1])
    with pytest.raises(ValueError, match="optimizer"):
        fit(small(), ClassifierRecipe(optimizer="sgd"), arrays, labels)
    with pytest.raises(ValueError, match="monitor"):
        fit(small(), ClassifierRecipe(monitor="test_accuracy"), arrays, labels)
    with pytest.raises(ValueError, match="batch_size"):
        fit(small(), ClassifierRecipe(batch_size=1), arrays, labels)
    with pytest.raises(ValueError, match="max_epochs"):
        fit(small(), ClassifierRecipe(max_epochs=0), arrays, labels)
    late = {**arrays, "signals": arrays["signals"].copy()}
    late["signals"][100] = np.inf
    with pytest.raises(FloatingPointError, match="the validation loss"):
        fit(small(), recipe, late, labels)
    with pytest.raises(FloatingPointError, match="the training loss is not finite in epoch 1: lower train.lr"):
        fit(small(), recipe, {**arrays, "signals": np.full_like(arrays["signals"], np.nan)}, labels)
    with pytest.raises(ValueError, match="no rows"):
        predict_proba(small(), arrays, np.array([], int))


# ---- the released code's rule of stopping


def test_the_released_rule_halves_the_rate_on_plateaus_of_the_training_loss_down_to_1e_6(monkeypatch):
    """The training loss is constant, so the rate is halved after 8 epochs, from 1e-5 four times: 33 epochs."""
    arrays, labels = planted()
    monkeypatch.setattr("models.classifier.training.train_epoch", lambda *a: {"train_loss": 1.0, "train_accuracy": 0.5})
    result = fit(small("signal"), ClassifierRecipe(stop="rate", lr=1e-5, max_epochs=1000, patience=1), arrays, labels)
    rates = [row["lr"] for row in result.history]
    assert len(rates) == 1 + 4 * 8 and rates[:9] == [1e-5] * 9 and rates[9] == 0.5e-5 and rates[-1] == 1e-5 / 8
    assert len(fit(small("signal"), ClassifierRecipe(stop="rate", lr=1e-5, max_epochs=5), arrays, labels).history) == 5


def test_the_released_rule_goes_on_while_the_training_loss_falls(monkeypatch):
    falling = iter(range(100, 0, -1))
    arrays, labels = planted()
    monkeypatch.setattr("models.classifier.training.train_epoch",
                        lambda *a: {"train_loss": next(falling), "train_accuracy": 0.5})
    result = fit(small("signal"), ClassifierRecipe(stop="rate", lr=1e-5, max_epochs=60, patience=1), arrays, labels)
    assert len(result.history) == 60 and {row["lr"] for row in result.history} == {1e-5}


def test_the_released_rule_keeps_the_epoch_with_the_best_accuracy_and_a_refit_runs_every_epoch():
    arrays, labels = planted(effect=0.5)
    recipe = ClassifierRecipe(stop="rate", monitor="val_accuracy", max_epochs=6)
    result = fit(small("signal"), recipe, arrays, labels)
    accuracies = [row["val_accuracy"] for row in result.history]
    assert result.epochs == 1 + int(np.argmax(accuracies)) and result.best == max(accuracies)
    again = fit(small("signal"), ClassifierRecipe(stop="rate", lr=1e-6, max_epochs=3), arrays, labels, range(80), None)
    assert len(again.history) == 3
    with pytest.raises(ValueError, match="unknown stop"):
        fit(small("signal"), ClassifierRecipe(stop="never"), arrays, labels)
