"""The table of paper and default: "this run" is read from the configuration, and every option of a row changes it."""

from copy import deepcopy
from functools import cache

import pytest

from models.registry import MODELS
from orchestrator.config.configuration import compose
from orchestrator.config.defaults import filled, shipped
from orchestrator.config.model_inputs import is_estimator
from orchestrator.config.unread import without_effect
from orchestrator.evaluation.run_record import NOT_CONTENT
from orchestrator.reporting.paper_deviations import deviations, rows
from tests.helpers.made_runs import made_run, takes_entries

deviations = takes_entries(deviations)

pytestmark = pytest.mark.medium
OTHERS = {  # another value for options whose type does not follow from the value
    "split.name": "kfold", "split.list": "own", "frames": "all", "scale": "clip_minmax",
    "pretrain.name": "none", "pretrain.video.betas": [0.5, 0.9], "smae.tokenizer": "step",
    "protocol.val": "fixed_epochs", "protocol.refit": True, "protocol.val_subjects": 5,
    "protocol.seeds": [0, 1], "max_folds": 3,
    "train.optimizer": "adam", "train.monitor": "val_accuracy", "train.stop": "rate", "train.lr_schedule": "cosine",
    "train.signal_mirror": [1, -1], "train.signal_vectors": [[0, 1, 2]], "face.provider": "precomputed", "face.image": "jpeg",
    "keyframe.preset": "paper", "keyframe.norm": "rms", "keyframe.ref": "previous_frame", "encoder.scale": "tiny",
    "embed.pool": "2x2", "embed.dtype": "int8", "model.hpa.token_pool": "2x2", "pretrain.video.mask": "random",
    "pretrain.precision": "bf16", "signal.window_mode": "crop", "signal.envelope": "none", "signal.source": "filtered",
    "data.source": "filtered", "signal.emg_band": [10, 90], "signal.ecg_band": None, "signal.fnirs_band": [0.01, 0.5],
    "signal.emd_options.mode": "hard", "signal.emd_options.method": "ceemdan", "smae.norm": "layer", "smae.pos": "learnt",
    "smae.decoder": "linear", "model.signal_output": "reconstruction", "pretrain.signal.loss_on": "all",
    "model.hpa.embed": "linear", "model.hpa.order": "tape_then_embed", "model.hpa.erpe": "pre_softmax",
    "model.hpa.impl": "naive",
    "model.dcan.fusion": "linear", "model.pooling": "mean_max", "pretrain.fraction": 0.1, "pretrain.subjects": [0, 1],
    "split.test_subjects": 3, "model.weights": "a file"}
LINEAGE = [{"artefact": "encoder 1", "people": ["made/a", "made/b"], "proven": True, "parents": []}]
ALONE = {"split.n": ["split=lnso"], "split.k": ["split=kfold"], "split.list": ["split=fixed"], "split.repeats": ["split=fixed"],
         "split.test_subjects": ["split=fixed"], "split.seed": ["split=kfold"],
         "split.test": ["split=cross_dataset", "split.test=biovid_b"],
         "split.classes": ["split=cross_dataset", "split.test=biovid_b"], "protocol.as_paper_epochs": ["protocol=as_paper"],
         "smae.max_tokens": ["+model.signal.tokenizer=conv"], "smae.conv_layers": ["+model.signal.tokenizer=conv"],
         "smae.conv_kernel": ["+model.signal.tokenizer=conv"]}


@cache
def composed(dataset, *words):
    return compose(dataset, list(words))


def another(key, value):
    if key in OTHERS:
        return f"not {value}" if OTHERS[key] == value else OTHERS[key]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else 7


def table(dataset, config, model, folds=(), **more):
    run = made_run(dataset=dataset, model=model, config=config, lineage=LINEAGE, **more)[0]
    return {row.what: row for row in deviations(run, folds)}


def nested(key, value, config):
    config = deepcopy(config)
    *nodes, leaf = key.split(".")
    node = config
    for name in nodes:
        node[name] = dict(node.get(name) or {})
        node = node[name]
    node[leaf] = value
    return config


@pytest.mark.parametrize("dataset, model", [("biovid_a", "dual"), ("biovid_b", "video"), ("watch", "signal_small"),
                                            ("ai4pain", "signal"), ("watch", "ridge"), ("biovid_a", "resnet3d")])
def test_every_option_of_a_row_changes_what_ran(dataset, model):
    plain = filled(composed(dataset, f"model={model}").model_dump(mode="json"), model)
    asked = 0
    for row in rows(dataset, model, plain):
        for key in row.keys:
            words = [*ALONE.get(key, []), f"model={model}", *(["pretrain=mae"] if key.startswith("pretrain.") and model in
                                                              ("dual", "video", "signal", "signal_small") else [])]
            if key.startswith("model.hpa.") and model == "signal_small":
                words.append("model.use_hpa=true")
            if key in ("model.dcan.dropout", "model.dcan.regressor"):
                words.append("model.dcan.fusion=released")
            config = composed(dataset, *words)
            if key == "protocol.seeds" or not without_effect(config, key):
                given = config.model_dump(mode="json")
                before = table(dataset, given, model)[row.what].ran
                value = another(key, filled(given, model).get(key))
                after = table(dataset, nested(key, value, config.model_dump(mode="json")), model)[row.what].ran
                assert before != after, (row.what, key, before)
                asked += 1
    assert asked > (5 if is_estimator(model) else 25 if model != "resnet3d" else 15)


ELSEWHERE = {  # options with an effect but no row: where they are reported
    "dataset": "title", "task.": "title", "model.name": "title", "protocol.name": "title, and what follows it",
    "encoder.name": "row of the sizes", "encoder.frames": "clip.frames", "synthetic.": "the built-in cohort has no paper",
    "data.root": "where the same recordings lie", "split.root": "the same", "data.allow_partial": "stamp: partial",
    "data.max_": "bounds beyond which a recording is left out, which is counted", "face.hold_mb": "memory; the same crops",
    "face.weights_dir": "the same weights, by their hash", "pretrain.cache_mb": "memory", "pretrain.save_": "checkpoints",
    "pretrain.workers": "the same steps",
    "train.augment": "row of the augmentations, if named there", "embed.batch": "the same tokens but for a last bit",
    "pretrain.checkpoint": "'as its file says', see below", "pretrain.video.warmup_epochs": "name of warmup in the code",
    "encoder.decoder": "a flag of the code, whether there is one", "model.signal.": "smae.*, which it wins over"}


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("dataset", ["biovid_a", "watch"])
def test_every_option_with_an_effect_is_in_a_row_or_elsewhere(dataset, model):
    words = [f"model={model}", "pretrain=mae"]
    config = composed(dataset, *words) if not is_estimator(model) else composed(dataset, f"model={model}")
    ran = filled(config.model_dump(mode="json"), model)
    named = {key for row in rows(dataset, model, ran) for key in row.keys}
    blind = {key for key in ran if key not in named and key.split(".")[0] not in NOT_CONTENT
             and not without_effect(config, key)
             and not any(key == name or (name[-1] in "._" and key.startswith(name)) for name in ELSEWHERE)}
    if "signals" not in MODELS[model].needs:  # signals are prepared with every video, but not read
        blind = {key for key in blind if not key.startswith(("signal.", "data.source"))}
    if model == "dual":  # DCAN pools by itself; another value is an error
        blind -= {"model.pooling", "model.dropout"}
    assert not blind


@pytest.mark.parametrize("dataset, model", [*(("synthetic", model) for model in sorted(MODELS)), ("watch", "signal_small"),
                                            ("biovid_a", "dual"), ("ai4pain", "dual"), ("manifest", "ridge")])
def test_what_is_shipped_is_its_own_default(dataset, model):
    """Defaults are not hard-coded: a run of the default configuration shows them in every row that is not counted."""
    config = composed(dataset, f"model={model}").model_dump(mode="json")
    found = table(dataset, config, model)
    counted = {"parameters", "pretraining subjects"}
    assert all(row.ran == row.default for row in found.values() if row.what not in counted)
    assert all(row.paper for row in found.values())


def test_rows_that_the_model_has_not_are_not_there():
    ridge = table("watch", compose("watch", ["model=ridge"]).model_dump(mode="json"), "ridge")
    assert not {"video encoder", "HPA", "fusion", "signal MAE", "pretraining subjects", "optimiser"} & set(ridge)
    assert ridge["choosing the epoch"].ran == "not used: the model has no epochs"
    video = table("synthetic", compose("synthetic", ["model=video"]).model_dump(mode="json"), "video")
    assert "signal encoder" not in video and "fusion" not in video
    assert video["video encoder"].ran.startswith("ViT-small, 12 layers")
    none = table("synthetic", compose("synthetic", ["pretrain=none"]).model_dump(mode="json"), "dual")
    assert "mask of the video MAE" not in none and none["pretraining subjects"].ran == "none: random weights, seed 0"
    public = compose("synthetic", ["pretrain.checkpoint=/x/marlin.pt"]).model_dump(mode="json")
    found = table("synthetic", public, "dual")
    assert "mask of the video MAE" not in found and found["video encoder"].ran == "as given in its file, trained elsewhere"


def test_the_options_of_the_data_set_are_the_default_there():
    watch = shipped("watch", "signal_small")
    assert (watch["signal.length"], watch["train.optimizer"], watch["pretrain.name"]) == (200, "adamw", "none")
    assert shipped("biovid_a", "dual")["train.optimizer"] == "radam"


def test_training_subjects_are_counted_in_the_folds():
    config = compose("synthetic", ["model=signal"]).model_dump(mode="json")
    _, folds = made_run()
    def fitted(folds):
        return table("synthetic", config, "signal", folds)["training subjects"].ran

    assert fitted(folds) == "5 subjects; epoch chosen on 2 more"
    refitted = [fold | {"refit": True} for fold in folds]
    assert fitted(refitted) == "7 subjects in the end (refit); 5 while the epoch was chosen on 2"
    alone = [fold | {"train_subjects": fold["train_subjects"] + fold["val_subjects"], "val_subjects": []} for fold in folds]
    assert fitted(alone) == "7 subjects; none for validation"
    leaky = [fold | {"val_subjects": [fold["subject"]]} for fold in alone]
    assert fitted(leaky) == "7 subjects; epoch chosen on the test subjects"


def test_as_paper_says_the_rule_it_stopped_by():
    words = ["model=signal", "protocol=as_paper", "train.lr_schedule=cosine", "protocol.as_paper_epochs=40"]
    config = compose("synthetic", words)
    found = table("synthetic", config.model_dump(mode="json"), "signal")
    assert "until the learning rate is down to 1e-6, at most 40 epochs" in found["choosing the epoch"].ran
    assert "cosine" not in found["optimiser"].ran and "halved on plateaus" in found["optimiser"].ran
    assert found["scaling of signals"].ran == "z-score over all subjects, the test subject included, to [-1, 1]"


def test_a_run_without_a_configuration_has_no_table():
    assert deviations(made_run()[0]) == []


def test_an_augmentation_of_a_plugin_is_named():
    config = composed("watch").model_dump(mode="json")
    config["train"] = {**config["train"], "augment": {"dropped": {"share": 0.2}}}
    row = table("watch", config, "signal_small")["augmentation of training signals"]
    assert "dropped.share 0.2" in row.ran and "dropped" not in row.default and row.ran.startswith(row.default)
