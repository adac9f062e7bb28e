"""The complete stage 2: the ablations of Tables 5 and 6, pooling, stored tokens against clips, pretrained signal weights."""

import re

import pytest
import torch

from models import build
from models.classifier.classifier import SMALL_SIGNAL, build_classifier
from models.classifier.token_pool import TokenPool
from models.errors import ModelError
from models.mae.signal_mae import SignalMAE
from models.mae.video_mae import VideoMAE
from models.registry import MODELS, SIGNALS, TOKENS
from tests.helpers.pairs import pairs
from tests.helpers.slopes import check_slope

GRID, DIM, LENGTH, CHANNELS = (2, 4, 4), 12, 40, 3
SIZES = {"n_classes": 3, "token_dim": DIM, "token_grid": GRID, "n_channels": CHANNELS, "signal_length": LENGTH}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def batch(n=4):
    return {"tokens": torch.randn(n, 32, DIM), "signals": torch.randn(n, LENGTH, CHANNELS)}


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def models_named(told):
    """The values of model= in an error message."""
    return set(re.findall(r"model=(\w+)", str(told.value)))


def classifiers(stream):
    """Registered models of this family that read the stream."""
    return {name for name, model in MODELS.items() if model.family == "classifier" and stream <= model.needs}


def train_once(model, data):
    logits = model(data)
    assert logits.shape == (len(logits), 3)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 3).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not idle, idle
    return logits


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("dual", {"tokens", "signals"}),
        ("video", {"tokens"}),
        ("signal", {"signals"}),
        ("signal_small", {"signals"}),
    ],
)
@pytest.mark.parametrize("use_hpa", [True, False])
@pytest.mark.parametrize("use_dcan", [True, False])
def test_the_rows_of_tables_5_and_6(name, needs, use_hpa, use_dcan):
    model = build(name, use_hpa=use_hpa, use_dcan=use_dcan, **SIZES)
    assert model.needs == needs
    data = {key: value for key, value in batch().items() if key in needs}
    train_once(model, data)
    assert (model.video_hpa is not None) == (use_hpa and "tokens" in needs)
    assert (model.signal_hpa is not None) == (use_hpa and "signals" in needs)
    assert (model.fusion is not None) == (use_dcan and name == "dual")
    widths = {key: value.shape[1] for key, value in model.features(data).items()}
    assert set(widths) == {"fused", *("video" for _ in needs & {"tokens"}), *("signal" for _ in needs & {"signals"})}
    if model.fusion is None:
        assert widths["fused"] == sum(width for key, width in widths.items() if key != "fused")


@pytest.mark.parametrize("name", ["video", "signal", "signal_small", "dual"])
def test_means_and_largest_values_of_a_stream_go_to_the_head(name):
    model = build(name, use_dcan=False, pooling="mean_max", dropout=0.0, **SIZES).eval()
    data = batch()
    train_once(model, data)
    stream = model.streams(data)[-1]
    pooled = torch.cat([stream.mean(1), stream.max(1).values], -1)
    torch.testing.assert_close(model.features(data)["signal" if name != "video" else "video"], pooled)
    torch.testing.assert_close(model(data), model.head(model.features(data)["fused"]))
    assert build(name, use_dcan=False, pooling="mean", **SIZES).head.in_features * 2 == model.head.in_features


def test_dropout_in_front_of_the_head_acts_while_training_alone():
    model, data = build("signal_small", dropout=0.9, **SIZES), batch()
    data["signals"] = data["signals"][:1].expand_as(data["signals"])  # one window: BatchNorm sees the same statistics
    assert not torch.allclose(*(model.train()(data) for _ in range(2)))
    torch.testing.assert_close(*(model.eval()(data) for _ in range(2)))


@pytest.mark.parametrize(("name", "use_dcan"), [("video", True), ("signal", True), ("dual", False)])
def test_all_tokens_distinguish_what_their_mean_does_not(name, use_dcan):
    options = {"use_hpa": False, "use_dcan": use_dcan, **SIZES}
    model = build(name, pooling="tokens", **options).eval()
    data = {key: value for key, value in batch().items() if key in model.needs}
    train_once(model, data)
    assert model.features(data)["fused"].shape[1] == sum(s.shape[1] * s.shape[2] for s in model.streams(data))
    if name == "video":
        moved = {"tokens": data["tokens"].flip(1)}
        mean = build(name, **options).eval()
        assert torch.allclose(mean(moved), mean(data), atol=1e-6)
        assert not torch.allclose(model(moved), model(data), atol=1e-3)


def test_a_pooling_that_does_not_exist_or_does_nothing_is_refused():
    with pytest.raises(ModelError, match="mean_max"):
        build_classifier("signal", pooling="largest", **SIZES)
    with pytest.raises(ModelError, match="use_dcan"):
        build_classifier("dual", dropout=0.5, **SIZES)


@pytest.mark.parametrize("pool", ["none", "2x2", "temporal"])
@pytest.mark.parametrize(
    "dcan", [{}, {"fusion": "linear"}, {"fusion": "released"}, {"compress": 4}, {"scale": False}, {"layers": 1}]
)
def test_pooling_and_fusion_options(pool, dcan):
    dcan = {**dcan, "regressor": False} if dcan.get("fusion") == "released" else {"dim": 8, "hidden": 12, **dcan}
    model = build_classifier("dual", hpa={"token_pool": pool}, dcan=dcan, **SIZES)
    assert model.video_hpa.length == {"none": 32, "2x2": 8, "temporal": 2}[pool]
    train_once(model, batch())


@pytest.mark.parametrize(*pairs(name=["dual", "video", "signal", "signal_small"], use_hpa=[True, False],
                                use_dcan=[True, False], pool=["none", "2x2", "temporal"]))
def test_gradients_are_right_through_the_whole_classifier(name, use_hpa, use_dcan, pool):
    sizes = {"emb": 4, "heads": 2, "ff": 6, "filters": 3}
    model = build(name, use_hpa=use_hpa, use_dcan=use_dcan, hpa={**sizes, "token_pool": pool},
                  dcan={"dim": 8, "hidden": 6}, signal={"dim": 8, "depth": 1, "heads": 2, "ff": 6}, **SIZES).double()
    model.video_tokens = lambda data: model.pool(data["tokens"])  # which otherwise converts stored tokens to float32
    data = {key: value.double() for key, value in batch().items()}
    check_slope(model, lambda: torch.nn.functional.cross_entropy(model(data), torch.tensor([0, 1, 2, 0])))


@pytest.mark.parametrize("pool", ["none", "2x2", "temporal"])
def test_pooling_gradcheck(pool):
    tokens = torch.randn(2, 32, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TokenPool(GRID, pool), (tokens,))


def test_default_sizes_are_the_papers():
    model = build_classifier("dual", 3, token_dim=384, n_channels=5, signal_length=400)
    assert n_parameters(model.video_hpa) == 428_376
    assert n_parameters(model.signal_hpa) == 82_008
    assert n_parameters(model.fusion) == 827_907
    head = 64 * 5 + 5  # spec section 4 counts E_ts with its linear head, which stage 2 does not carry
    assert n_parameters(model.signal_encoder) + head == 101_125
    assert n_parameters(model) == 428_376 + 82_008 + 827_907 + 101_125 - head


def test_pooling_averages_the_right_cells():
    t, h, w, d = 2, 4, 6, 3
    x = torch.randn(5, t * h * w, d)
    cells = x.view(5, t, h, w, d)
    spatial = TokenPool((t, h, w), "2x2")(x)
    assert spatial.shape == (5, t * h * w // 4, d)
    torch.testing.assert_close(spatial[:, 0], cells[:, 0, 0:2, 0:2].mean((1, 2)))
    torch.testing.assert_close(spatial[:, 6 + 3 + 2], cells[:, 1, 2:4, 4:6].mean((1, 2)))  # t=1, second row, last column
    temporal = TokenPool((t, h, w), "temporal")(x)
    torch.testing.assert_close(temporal, cells.mean((2, 3)))
    for kind, pooled in (("2x2", spatial), ("temporal", temporal)):
        torch.testing.assert_close(TokenPool((t, h, w), kind)(pooled), pooled)  # already pooled: unchanged
    with pytest.raises(ValueError, match="even grid"):
        TokenPool((2, 3, 4), "2x2")
    with pytest.raises(ValueError, match="pooling"):
        TokenPool((2, 4, 4), "max")
    with pytest.raises(ValueError, match="expected 48"):
        TokenPool((t, h, w))(x[:, :7])


@pytest.fixture(scope="module")
def video_case():
    torch.manual_seed(3)
    mae = VideoMAE("micro", image_size=32, frames=4, decoder=False)
    model = build_classifier("dual", 3, token_dim=mae.dim, token_grid=mae.grid, n_channels=3, signal_length=40).eval()
    torch.nn.init.normal_(model.video_hpa.attention.relative_bias, std=0.1)
    with torch.no_grad():
        model.fusion.head.weight *= 20  # else all probabilities of an untrained model are near 1/3
    clips = torch.rand(64, 3, 4, 32, 32)
    with torch.no_grad():
        tokens = mae.eval().encode(clips)
    return mae, model, clips, torch.randn(64, 40, 3), tokens


def test_stored_tokens_give_the_clips_result(video_case, record_property):
    mae, model, clips, signals, tokens = video_case
    with torch.no_grad():
        stored = model({"tokens": tokens, "signals": signals})
        half = model({"tokens": tokens.half(), "signals": signals})
        model.attach_video_encoder(mae)
        assert model.needs == {"video", "signals"}
        live = model({"video": clips, "signals": signals})
    model._video_encoder.clear()
    torch.testing.assert_close(stored, live, atol=1e-5, rtol=1e-5)
    assert float(live.softmax(-1).std(0).max()) > 0.2  # the clips differ
    assert float((half.softmax(-1) - live.softmax(-1)).abs().max()) < 1e-2
    agreement = float((half.argmax(-1) == live.argmax(-1)).double().mean())
    record_property("float16_argmax_agreement", agreement)
    print(f"float16 tokens: argmax agreement {agreement:.4f} over {len(live)} clips")
    assert agreement >= 0.95


def test_the_attached_encoder_stays_frozen_and_outside_the_state(video_case):
    mae, model, clips, signals, _ = video_case
    names = set(model.state_dict())
    model.attach_video_encoder(mae)
    model.train()
    model({"video": clips[:4], "signals": signals[:4]}).sum().backward()
    assert not mae.training and all(p.grad is None for p in mae.parameters())
    assert set(model.state_dict()) == names
    model._video_encoder.clear()
    model.eval()


def test_an_encoder_that_does_not_fit_is_refused(video_case):
    mae = video_case[0]
    with pytest.raises(ModelError, match="token_dim"):
        build_classifier("video", 3, token_dim=mae.dim + 1, token_grid=mae.grid).attach_video_encoder(mae)
    with pytest.raises(ModelError, match="reads signals only") as told:
        build_classifier("signal", 3, n_channels=3, signal_length=40).attach_video_encoder(mae)
    assert models_named(told) == classifiers(TOKENS)


@pytest.mark.parametrize(("name", "tokens"), [("dual", {}), ("signal", {}), ("signal_small", SMALL_SIGNAL)])
def test_pretrained_signal_weights_are_taken_over(name, tokens):
    options = {**tokens, "dim": 16, "depth": 1, "heads": 2, "ff": 8, "pos": "fixed"}
    mae = SignalMAE(CHANNELS, LENGTH, **options)
    model = build_classifier(name, signal=options, **SIZES)
    before = {k: v.clone() for k, v in model.signal_encoder.state_dict().items()}
    model.load_signal_encoder(mae.state_dict())
    after = model.signal_encoder.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in after)
    x = torch.randn(2, LENGTH, CHANNELS)
    torch.testing.assert_close(model.signal_encoder.eval().encode(x), mae.eval().encode(x))
    other = SignalMAE(CHANNELS + 1, LENGTH, **options)
    with pytest.raises(ModelError, match="embed"):
        model.load_signal_encoder(other.state_dict())
    without_positions = build_classifier(name, signal={**options, "pos": "none"}, **SIZES)
    with pytest.raises(ModelError, match="at 'positions'"):
        without_positions.load_signal_encoder(mae.state_dict())
    with pytest.raises(ModelError, match="reads video tokens only") as told:
        build_classifier("video", **SIZES).load_signal_encoder(mae.state_dict())
    assert models_named(told) == classifiers(SIGNALS)


@pytest.mark.parametrize("name", ["dual", "signal", "signal_small"])
def test_the_reconstruction_can_be_passed_on_as_in_the_released_code(name):
    options = {"dim": 16, "depth": 1, "heads": 2, "ff": 8, "decoder": "linear", "pos": "none"}
    model = build_classifier(name, signal=options, signal_output="reconstruction", use_hpa=True, **SIZES)
    assert model.signal_hpa.in_dim == CHANNELS and model.signal_hpa.length == LENGTH
    train_once(model, batch())
    mae = SignalMAE(CHANNELS, LENGTH, **{**(SMALL_SIGNAL if name == "signal_small" else {}), **options}).eval()
    model.load_signal_encoder(mae.state_dict())
    x = torch.randn(2, LENGTH, CHANNELS)
    everything = torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(model.signal_encoder.eval().encode(x), mae.reconstruct(x, everything))
    with pytest.raises(ModelError, match="checkpoint does not match"):  # it needs D_ts too
        model.load_signal_encoder({k: v for k, v in mae.state_dict().items() if not k.startswith("head")})
    with pytest.raises(ModelError, match="latent or reconstruction"):
        build_classifier(name, signal_output="both", **SIZES)


def test_the_released_signal_stream_has_the_specifications_size():
    model = build_classifier("signal", 3, n_channels=5, signal_length=2800, signal_output="reconstruction",
                             signal={"dim": 128, "ff": 256, "pos": "none", "decoder": "linear"})  # fmt: skip
    assert n_parameters(model.signal_hpa) == 59_992 and n_parameters(model.signal_encoder) == 398_853


def test_padding_is_passed_to_the_signal_encoder():
    model = build_classifier("signal", use_hpa=False, **SIZES).eval()
    data, keep = batch(), torch.ones(4, LENGTH, dtype=torch.bool)
    torch.testing.assert_close(model(data), model({**data, "keep": keep}))
    keep[:, 30:] = False
    assert not torch.allclose(model(data), model({**data, "keep": keep}))


def test_seed_fixes_the_weights_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    first, second = (build_classifier("dual", seed=7, **SIZES).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[k], second[k]) for k in first)
    third = build_classifier("dual", seed=8, **SIZES).state_dict()
    assert any(not torch.equal(first[k], third[k]) for k in first)


def test_naive_and_fused_whole_models_agree():
    fused = build_classifier("dual", **SIZES).eval()
    naive = build_classifier("dual", hpa={"impl": "naive"}, **SIZES).eval()
    naive.load_state_dict(fused.state_dict())
    data = batch()
    torch.testing.assert_close(fused(data), naive(data), atol=1e-5, rtol=1e-5)


def test_mistakes_are_refused():
    with pytest.raises(ModelError, match="there is no classifier 'triple'"):
        build_classifier("triple", 3)
    with pytest.raises(ValueError, match="token_dim"):
        build_classifier("dual", 3, n_channels=3, signal_length=40)
    with pytest.raises(ValueError, match="n_channels"):
        build_classifier("signal", 3)
