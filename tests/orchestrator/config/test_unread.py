"""A word of the command line that nothing reads is refused in one sentence; what shipped files set is not judged."""

import pytest

from models.errors import ModelError
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.stages import check_options

pytestmark = pytest.mark.medium
ESTIMATORS = ("random_forest", "svm", "ridge", "one_number")


def check(dataset: str, *words: str, stage: str = "") -> list[str]:
    config = compose(dataset, list(words))
    check_options.check(config, list(words), stage)
    return check_options.remarks(config, list(words), stage)


@pytest.mark.parametrize("model", ESTIMATORS)
@pytest.mark.parametrize("word", ["train.lr=0.01", "train.max_epochs=3", "encoder=vit_tiny", "encoder.depth=2", "smae.dim=8",
                                  "embed.batch=2", "clip.frames=8", "pretrain.seed=3", "pretrain.video.epochs=2",
                                  "pretrain.fraction=0.3", "pretrain.checkpoint=/tmp/x.pt", "keyframe.preset=paper",
                                  "face.size=112", "frames=all", "protocol.val_subjects=2", "model.dcan.dim=8"])
def test_an_estimator_reads_no_options_of_networks_and_videos(model, word):
    with pytest.raises(UserError, match=": leave it out, or use model=") as info:
        check("synthetic", f"model={model}", word)
    assert str(info.value).startswith(f"{word} has no effect with model={model}") and "\n" not in str(info.value)


@pytest.mark.parametrize(("words", "said"), [
    (["model=signal", "encoder=vit_tiny"], "encoder=vit_tiny has no effect with model=signal"),
    (["model=signal", "pretrain.checkpoint=/x.pt"], "uses no video encoder"),
    (["model=video", "smae.dim=8"], "has no effect with model=video"),
    (["model=video", "scale=subject_z"], "reads no signals"),
    (["model=video", "train.signal_noise=0.1"], "reads no signals"),
    (["model=lstm", "pretrain.signal.epochs=3"], "uses no encoder"),
    (["model=lstm", "pretrain.workers=1"], "uses no encoder"), (["model=lstm", "train.lr_signal=0.1"], "no signal encoder"),
    (["model=signal_small", "smae.dim=8"], "whose model.signal.dim=64 is used instead"),
    (["model=signal_small", "model.hpa.filters=8"], "model.use_hpa=false"),
    (["model=signal", "model.hpa.token_pool=temporal"], "reads no tokens"),
    (["model=ridge", "model.trees=3"], "use model=random_forest"),
    (["model=dual", "model.trees=3"], "use model=random_forest"),
    (["model.dcan.fusion=linear", "model.dcan.hidden=8"], "model.dcan.fusion=linear"),
    (["pretrain=none", "pretrain.signal.epochs=3"], "pretrain=none"), (["pretrain.checkpoint_saw=none"], "pretrain.checkpoint"),
    (["split.k=3"], "split=cross_dataset or split=kfold"), (["split=lnso", "split.test_subjects=3"], "split=fixed"),
    (["protocol=as_paper", "protocol.val_subjects=2"], "protocol=as_paper"),
    (["protocol.val=fixed_epochs", "protocol.refit=true"], "protocol.val=fixed_epochs"),
    (["face.precomputed_dir=/x"], "face.provider=litert"), (["face.quality=90"], "face.image=png"),
    (["data.root=/x"], "--dataset synthetic")])
def test_a_key_that_this_configuration_never_reads(words, said):
    with pytest.raises(UserError, match="has no effect with") as info:
        check("synthetic", *words)
    assert said in str(info.value) and "\n" not in str(info.value)


@pytest.mark.parametrize(("dataset", "word"), [("watch", "synthetic.seed=3"), ("biovid_a", "synthetic.subjects=9"),
                                               ("watch", "data.source=filtered"), ("manifest", "data.subjects=67")])
def test_a_key_of_another_data_set(dataset, word):
    with pytest.raises(UserError, match=f"has no effect with --dataset {dataset}"):
        check(dataset, word)


def test_keys_of_a_sweep_and_of_the_folds():
    for stage, word in (("loso", "sweep.halves=true"), ("sweep", "audit=true"), ("sweep", "pretrain.video.mask_ratio=0.5")):
        with pytest.raises(UserError, match="has no effect with"):
            check("synthetic", word, stage=stage)
        check("synthetic", word)


@pytest.mark.parametrize("words", [
    ["experiment=demo", "model=ridge"], ["experiment=demo", "model=signal"], ["experiment=video_alone", "model=svm"],
    ["model=ridge", "resources.folds_per_gpu=2", "resources.cpus=1", "data.max_pixels=100", "max_folds=2", "strict=true"],
    ["model=ridge", "signal.length=100", "scale=subject_z", "model.alpha=2"], ["model=resnet3d", "encoder.image_size=112"],
    ["model=video", "pretrain=none", "pretrain.seed=4"], ["model=one_number", "model.feature=n_keyframes", "frames=all"],
    ["split=fixed", "split.test_subjects=2"], ["model=signal_small", "model.use_hpa=true", "model.hpa.filters=8"]])
def test_what_is_read_or_shipped_passes(words):
    assert check("synthetic", *words) == []


def test_options_that_an_estimator_does_not_read_give_a_note():
    said = check("watch", "model=ridge", "pretrain=none", "protocol.val=fixed_epochs", "protocol.refit=false")
    assert len(said) == 3 and all("has no effect with model=ridge" in text for text in said)
    assert check("watch", "model=signal_small", "pretrain=none", "protocol.val=fixed_epochs") == []


@pytest.mark.parametrize(("words", "why"), [
    (["model=video", "pretrain.signal.epochs=3"], "has no signal encoder"),
    (["model=signal", "pretrain.video.epochs=3"], "uses no video encoder"),
    (["model=signal_small", "pretrain.video.mask_ratio=0.5"], "uses no video encoder")])
def test_the_recipe_of_the_other_streams_encoder_gives_a_note(words, why):
    assert [text for text in check("synthetic", *words) if why in text]


def test_the_last_of_two_equal_keys_is_used_and_reported():
    config = compose("synthetic", words := ["encoder=vit_tiny", "encoder=vit_small", "store=/a", "store.dir=/b"])
    assert (config.encoder.name, config.store.dir) == ("vit_small", "/b")
    assert check_options.remarks(config, words) == [
        "encoder is given more than once: the last value is used, encoder=vit_small",
        "store.dir is given more than once: the last value is used, store.dir=/b"]


def test_a_shipped_warm_up_that_is_too_long_is_reported():
    assert "the learning rate only rises" in check("synthetic", "pretrain.video.epochs=3")[0]
    assert check("synthetic", "experiment=demo", "pretrain.video.epochs=5") == []


@pytest.mark.parametrize("words", [
    ["encoder.image_size=100"], ["encoder.patch=15"], ["encoder.heads=5"], ["clip.frames=15"], ["encoder.tubelet=3"],
    ["smae.heads=3"], ["model.signal.heads=7"], ["model.hpa.heads=3"], ["model=transformer", "model.heads=3"],
    ["model=vit3d", "model.tubelet=[3,16,16]"], ["model=convtran", "model.hpa.emb=9"], ["model.dropout=0.1"],
    ["pretrain.video.warmup=201"], ["pretrain.video.mask_ratio=0.001"], ["pretrain.signal.mask_ratio=0.8"],
    ["embed.pool=2x2", "encoder.image_size=48"], ["model.dcan.dropout=0.1"]])
def test_sizes_that_do_not_go_together_are_one_sentence(words):
    with pytest.raises((UserError, ModelError)) as info:
        check("synthetic", *words)
    assert "\n" not in str(info.value) and str(info.value).endswith(".")


@pytest.mark.parametrize("word", ["train.max_epochs=5", "train.patience=2", "train.monitor=val_accuracy", "train.plateau=true",
                                  "train.lr_schedule=cosine", "train.lr_decay=0.9", "train.stop=rate"])
def test_what_the_released_rule_stands_for_is_not_read_by_as_paper(word):
    with pytest.raises(UserError, match="no effect with protocol=as_paper, which stops as the released code does"):
        check("synthetic", "model=signal", "protocol=as_paper", word)
    assert check("synthetic", "model=signal", "protocol=both", word) == []


def test_patience_is_not_read_where_the_rate_stops():
    for word in ("train.patience=2", "train.plateau=true"):
        with pytest.raises(UserError, match="no effect with train.stop=rate"):
            check("synthetic", "model=signal", "train.stop=rate", word)


def test_epochs_of_as_paper_are_read_where_it_runs():
    for protocol in ("as_paper", "both"):
        assert check("synthetic", "model=signal", f"protocol={protocol}", "protocol.as_paper_epochs=9") == []
    for words in (["protocol=clean"], ["protocol=exclude_pretrain"], ["protocol=as_paper", "model=ridge"]):
        with pytest.raises(UserError, match="protocol.as_paper_epochs=9 has no effect"):
            check("synthetic", *words, "protocol.as_paper_epochs=9")
    for value in ("0", "-1", "1.5", "nan", "null"):
        with pytest.raises(UserError, match="protocol.as_paper_epochs"):
            compose("synthetic", ["protocol=as_paper", f"protocol.as_paper_epochs={value}"])
