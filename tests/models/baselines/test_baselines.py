"""The comparison models: shapes, gradients, weight files, the estimators' interface, and fits on training rows only."""

import hashlib

import numpy as np
import pytest
import torch

from models import build
from models.baselines.video_nets import ResNet3D
from models.baselines.window_statistics import STATISTICS, window_statistics
from models.classifier.training import ClassifierRecipe, fit_classifier, predict_proba
from models.errors import ModelError
from models.registry import MODELS
from tests.helpers.slopes import check_slope

pytestmark = pytest.mark.medium
SIZES = {"n_channels": 3, "signal_length": 40, "frames": 4, "image_size": 32, "token_dim": None, "token_grid": (8, 14, 14)}
SMALL = {  # the default widths are those of the papers, too slow for a test
    "vit3d": {"width": 32, "depth": 2, "heads": 4, "mlp": 64},
    "vgg_rnn": {"backbone": "test_resnet", "width": 8},
    "e2e_mer": {"backbone": "test_resnet", "width": 8, "signal_width": 8},
    "mte_mer": {"backbone": "test_resnet", "width": 8, "layers": 2, "label_width": 6},
}
ESTIMATORS = [name for name, model in MODELS.items() if model.estimator]
NEEDS = {
    "lstm": {"signals"}, "transformer": {"signals"}, "convtran": {"signals"},
    "resnet3d": {"video"}, "vit3d": {"video"}, "vgg_rnn": {"video"},
    "e2e_mer": {"video", "signals"}, "mte_mer": {"video", "signals"},
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_table_of_names_is_whole():
    assert {name for name, model in MODELS.items() if model.family == "network"} == set(NEEDS)
    assert all(MODELS[name].needs == NEEDS[name] for name in NEEDS)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_networks_have_shape_gradients_and_a_seed(name):
    model, twin = (build(name, n_classes=4, seed=5, **SIZES, **SMALL.get(name, {})) for _ in range(2))
    assert model.needs == NEEDS[name]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
    batch = {"signals": torch.randn(2, 40, 3), "video": torch.rand(2, 3, 4, 32, 32)}
    logits = model({key: value for key, value in batch.items() if key in model.needs})
    assert logits.shape == (2, 4) and torch.isfinite(logits).all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not idle, idle
    changed = {key: value.flip(1) if key == "signals" else value.flip(2) for key, value in batch.items()}
    with torch.no_grad():
        assert not torch.allclose(model(batch), model(changed))  # the output depends on the input


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_gradients_of_networks_are_right(name):
    torch.manual_seed(0)
    model = build(name, n_classes=3, seed=5, **SIZES, **SMALL.get(name, {})).double()
    if "video" in model.needs:  # away from timm's initial zeros, where ReLU has a kink; BatchNorm fixed
        model.eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    batch = {"signals": torch.randn(3, 40, 3).double(), "video": torch.rand(3, 3, 4, 32, 32).double()}
    check_slope(model, lambda: torch.nn.functional.cross_entropy(model(batch), torch.tensor([0, 2, 1])))


def test_sizes_that_the_specification_states():
    assert n_parameters(build("convtran", n_classes=3, n_channels=5, signal_length=400)) == 21_643
    assert n_parameters(build("convtran", n_classes=3, n_channels=48, signal_length=200)) == 62_475
    lstm = build("lstm", n_classes=3, n_channels=5)
    assert lstm.head.in_features == 384 and [block[0].out_channels for block in lstm.convs] == [128, 256, 128]
    with torch.device("meta"):
        vit = build("vit3d", n_classes=3)
        vgg, e2e = build("vgg_rnn", n_classes=3), build("e2e_mer", n_classes=3, n_channels=5)
    assert vgg.rnn.input_size == 4096 and (e2e.rnn.input_size, e2e.rnn.hidden_size, e2e.rnn.num_layers) == (2176, 256, 2)
    assert vit.embed.weight.shape == (1024, 3, 2, 16, 16) and vit.positions.shape == (1568, 1024)
    assert len(vit.blocks) == 6 and vit.blocks[0].mlp.fc1.out_features == 2048


@pytest.mark.parametrize("name", ["lstm", "transformer", "convtran"])
def test_signal_networks_learn_a_planted_signal(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    signals = rng.normal(size=(120, 40, 3)).astype(np.float32)
    signals[:, 10:20, 1] += 3 * labels[:, None]
    model = build(name, n_classes=2, seed=0, **SIZES)
    recipe = ClassifierRecipe(max_epochs=12, patience=12, batch_size=16, lr=5e-3)
    fit_classifier(model, {"signals": signals}, labels, np.arange(80), np.arange(80, 100), recipe, seed=0)
    test = np.arange(100, 120)
    assert (predict_proba(model, {"signals": signals}, test).argmax(1) == labels[test]).mean() >= 0.85


def test_the_training_loop_feeds_clips():
    clips = np.random.default_rng(0).integers(0, 256, (6, 4, 32, 32, 3), dtype=np.uint8)
    arrays = {"video": clips, "signals": np.zeros((6, 40, 3), np.float32)}
    model = build("e2e_mer", n_classes=2, seed=0, **SIZES, **SMALL["e2e_mer"])
    recipe, labels = ClassifierRecipe(max_epochs=1), np.array([0, 1] * 3)
    result = fit_classifier(model, arrays, labels, np.arange(4), val_rows=np.arange(4, 6), recipe=recipe, seed=0)
    assert np.isfinite(result.best) and predict_proba(model, arrays, np.arange(6)).shape == (6, 2)


# ---- weight files


def test_weights_come_from_a_local_file_only(tmp_path):
    from safetensors.torch import save_file

    state = ResNet3D(3).backbone.state_dict()
    published = {**state, "fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}  # with a head, which is ignored
    save_file(state, tmp_path / "r3d.safetensors")
    torch.save(published, tmp_path / "r3d.pt")
    for name in ("r3d.safetensors", "r3d.pt"):
        loaded = build("resnet3d", n_classes=3, weights=str(tmp_path / name)).backbone.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())
    save_file({key: value for key, value in state.items() if "layer3" not in key}, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match="does not match VideoResNet at 'layer3"):
        build("resnet3d", n_classes=3, weights=str(tmp_path / "part.safetensors"))
    with pytest.raises(ModelError, match="does not exist"):
        build("resnet3d", n_classes=3, weights=str(tmp_path / "absent.pt"))


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    import pickle

    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (marker.write_text, ("owned",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    torch.save({"stem": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        assert (tmp_path / name).stat().st_size > 0
        with pytest.raises(ModelError, match="not a plain file of tensors"):
            build("resnet3d", n_classes=3, weights=str(tmp_path / name))
    assert not marker.exists()


# ---- window statistics


def test_window_statistics_by_hand():
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(3, 50, 2)).astype(np.float32)
    table = window_statistics(signals)
    assert table.shape == (3, 10 * 2) and table.dtype == np.float64 and len(STATISTICS) == 10
    x = signals[1, :, 1].astype(np.float64)
    expected = {
        "mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max(),
        "slope": np.polyfit(np.arange(50), x, 1)[0], "rms": np.sqrt((x**2).mean()), "median": np.median(x),
        "q25": np.percentile(x, 25), "q75": np.percentile(x, 75), "roughness": np.sqrt(np.mean(np.diff(x) ** 2)),
    }
    np.testing.assert_allclose(table[1, 10:], [expected[name] for name in STATISTICS])
    np.testing.assert_array_equal(window_statistics(signals[1:2]), table[1:2])  # a row depends on itself only
    many = np.tile(signals, (400, 1, 1))
    np.testing.assert_allclose(window_statistics(many)[-3:], table)  # more rows than in one pass
    with pytest.raises(ValueError, match="n, L, C"):
        window_statistics(signals[0])


# ---- estimators


def cohort(n=150, effect=2.0):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    signals = rng.normal(size=(n, 60, 2)).astype(np.float32)
    signals[:, :, 1] += effect * labels[:, None]
    peak = 10 + 20 * labels
    signals[np.arange(n), peak, 0] += 20
    numbers = np.stack([5.5 + 0 * labels, 138 + 0 * labels, 16 + 10 * labels], 1).astype(np.float64)
    return {"signals": signals, "numbers": numbers}, labels


TINY = {"random_forest": {"trees": 20}}
TRAIN, TEST = np.arange(100), np.arange(100, 150)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_learn_and_are_repeatable(name):
    arrays, labels = cohort()
    first, second = (build(name, n_classes=3, seed=4, **TINY.get(name, {})).fit(arrays, labels, TRAIN) for _ in range(2))
    found = first.predict_proba(arrays, TEST)
    assert found.shape == (50, 3) and found.dtype == np.float64 and first.needs == {"signals"}
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found.argmax(1) == labels[TEST]).mean() >= 0.9
    np.testing.assert_array_equal(found, second.predict_proba(arrays, TEST))
    np.testing.assert_allclose(first.predict_proba(arrays, TEST[::-1]), found[::-1])
    assert first.weights_sha256() == second.weights_sha256()
    other = build(name, n_classes=3, seed=4, **TINY.get(name, {})).fit(arrays, labels, TRAIN[:60])
    assert other.weights_sha256() != first.weights_sha256()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_read_their_rows_alone(name):
    arrays, labels = cohort()
    poisoned = {key: value.copy() for key, value in arrays.items()}
    for value in poisoned.values():
        value[100:] = 1e6
    options = TINY.get(name, {})
    clean = build(name, n_classes=3, **options).fit(arrays, labels, TRAIN)
    dirty = build(name, n_classes=3, **options).fit(poisoned, np.where(np.arange(150) < 100, labels, 0), TRAIN)
    assert clean.weights_sha256() == dirty.weights_sha256()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_classes_without_a_sample(name):
    arrays, labels = cohort()
    options = TINY.get(name, {})
    two = np.flatnonzero(labels != 1)[:60]
    found = build(name, n_classes=3, **options).fit(arrays, labels, two).predict_proba(arrays, TEST)
    assert (found[:, 1] == 0).all() and found.shape == (50, 3)
    np.testing.assert_allclose(found.sum(1), 1)
    one = build(name, n_classes=3, **options).fit(arrays, labels, np.flatnonzero(labels == 2))
    np.testing.assert_array_equal(one.predict_proba(arrays, TEST), np.tile([0.0, 0.0, 1.0], (50, 1)))
    assert len(one.weights_sha256()) == 64


def test_binary_margins_have_the_right_sign():
    arrays, labels = cohort()
    pick = labels != 1
    arrays, labels = {key: value[pick] for key, value in arrays.items()}, labels[pick] // 2
    for name in ("svm", "ridge"):
        found = build(name, n_classes=2).fit(arrays, labels, np.arange(60)).predict_proba(arrays, np.arange(60, 90))
        assert (found.argmax(1) == labels[60:90]).mean() >= 0.9


@pytest.mark.parametrize(("feature", "good"), [("n_keyframes", True), ("clip_length", False), ("n_frames", False)])
def test_one_number_from_the_clip(feature, good):
    arrays, labels = cohort()
    control = build("one_number", n_classes=3, feature=feature)
    assert control.needs == {"numbers"}
    accuracy = (control.fit(arrays, labels, TRAIN).predict_proba(arrays, TEST).argmax(1) == labels[TEST]).mean()
    assert accuracy == 1.0 if good else accuracy < 0.6


def test_one_number_finds_the_skin_conductance_channel():
    control = build("one_number", n_classes=2, channels=("ecg", "GSR", "emg"))
    signals = np.zeros((2, 11, 3), np.float32)
    signals[0, 5, 1] = signals[1, 10, 1] = 1
    signals[:, 2, 0] = 9
    np.testing.assert_allclose(control.features({"signals": signals}, np.arange(2)).ravel(), [0.5, 1.0])


def test_weights_hash_is_over_names_shapes_and_bytes():
    arrays, labels = cohort()
    ridge = build("ridge", n_classes=3).fit(arrays, labels, TRAIN)
    digest = hashlib.sha256()
    for name in sorted(ridge.fitted()):
        value = np.ascontiguousarray(ridge.fitted()[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode() + value.tobytes())
    assert ridge.weights_sha256() == digest.hexdigest()
    assert set(ridge.fitted()) == {"classes", "coef", "intercept", "scaler.mean", "scaler.scale"}


def test_mistakes_are_refused():
    arrays, labels = cohort()
    with pytest.raises(ModelError, match="no model called 'cnn'"):
        build("cnn", n_classes=3)
    with pytest.raises(ModelError, match="no feature 'weekday'"):
        build("one_number", n_classes=3, feature="weekday")
    with pytest.raises(ValueError, match=r"0\.\.1"):
        build("ridge", n_classes=2).fit(arrays, labels, TRAIN)
    with pytest.raises(ValueError, match="fit first"):
        build("ridge", n_classes=3).predict_proba(arrays, TEST)
    with pytest.raises(ValueError, match="tubelets"):
        build("vit3d", n_classes=3, frames=5)
    assert build("ridge", n_classes=3).needs == {"signals"}
