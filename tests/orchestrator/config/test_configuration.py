"""Composition and checking: everything the contract names, and one sentence for what does not exist."""

import pytest

from orchestrator.config.configuration import choices, compose, composed, nearest, with_protocol
from orchestrator.config.groups import EXPERIMENTS
from orchestrator.errors import UserError

# contract.md, "Overrides": each with a value a user might give.
OVERRIDES = {
    "data.root": "/data/x", "data.allow_partial": "true", "store": "/tmp/s", "store.key": "/tmp/key", "run.dir": "/tmp/r",
    "task": "five", "model": "signal", "encoder": "vit_tiny", "protocol": "as_paper", "protocol.seeds": "3",
    "protocol.val_subjects": "4", "split": "lnso", "max_folds": "2", "strict": "true", "audit": "true", "pretrain": "none",
    "pretrain.fraction": "0.1", "pretrain.subjects": "[0,1,2]", "pretrain.checkpoint": "/tmp/marlin.pt",
    "pretrain.checkpoint_saw": "none", "frames": "all", "synthetic.subjects": "9", "synthetic.clips_per_level": "4",
    "synthetic.effect": "0", "synthetic.seed": "7"}
MODELS = ("dual video signal signal_small lstm transformer convtran resnet3d vit3d vgg_rnn e2e_mer mte_mer "
          "random_forest svm ridge one_number").split()
CHOICES = {
    "model": MODELS, "encoder": ["vit_micro", "vit_tiny", "vit_small", "vit_base", "vit_large"],
    "task": ["bl_pa4", "five", "bl_pa2_pa4", "no_low_high", "exercise"],
    "protocol": ["clean", "as_paper", "exclude_pretrain", "both"], "pretrain": ["mae", "none"],
    "split": ["loso", "lnso", "kfold", "fixed", "cross_dataset"],
    "dataset": ["synthetic", "watch", "biovid_a", "biovid_b", "ai4pain", "ai4pain_2025", "manifest"]}
DEFAULTS = {"synthetic": ("bl_pa4", "dual"), "biovid_a": ("bl_pa4", "dual"), "biovid_b": ("bl_pa2_pa4", "dual"),
            "watch": ("exercise", "signal_small"), "ai4pain": ("no_low_high", "dual")}


def test_every_override_of_the_contract_at_once():
    config = compose("synthetic", [f"{key}={value}" for key, value in OVERRIDES.items()])
    assert (config.data.root, config.run.dir) == ("/data/x", "/tmp/r")
    assert (config.store.dir, config.store.key) == ("/tmp/s", "/tmp/key")
    assert config.data.allow_partial and config.strict and config.audit and config.max_folds == 2
    assert (config.task.name, config.model.name, config.encoder.name) == ("five", "signal", "vit_tiny")
    assert (config.protocol.name, config.protocol.seeds, config.protocol.val_subjects) == ("as_paper", [0, 1, 2], 4)
    assert (config.split.name, config.frames) == ("lnso", "all")
    assert (config.pretrain.name, config.pretrain.fraction, config.pretrain.subjects) == ("none", 0.1, [0, 1, 2])
    assert (config.pretrain.checkpoint, config.pretrain.checkpoint_saw) == ("/tmp/marlin.pt", "none")
    assert config.synthetic.model_dump() | {"levels": None} == {
        "subjects": 9, "clips_per_level": 4, "effect": 0.0, "seed": 7, "levels": None, "size": (640, 480)}


@pytest.mark.parametrize("group", CHOICES)
def test_every_choice_of_the_contract(group):
    assert set(CHOICES[group]) <= set(choices(group))


@pytest.mark.parametrize("dataset", DEFAULTS)
def test_defaults_of_the_contract(dataset):
    config = compose(dataset, [])
    assert (config.task.name, config.model.name) == DEFAULTS[dataset]
    assert config.encoder.name == "vit_small" and config.protocol.name == "clean" and config.split.name == "loso"
    assert config.protocol.seeds == [0] and config.store.dir == "store" and config.frames == "keyframes"
    assert config.pretrain.name == ("none" if dataset == "watch" else "mae")


def test_a_choice_of_the_user_wins_over_the_data_sets():
    config = compose("watch", ["model=random_forest", "task=bl_pa4", "train.patience=9"])
    assert (config.model.name, config.task.name, config.train["patience"]) == ("random_forest", "bl_pa4", 9)


@pytest.mark.parametrize(("dataset", "words", "sentence"), [
    ("biovid", [], r"no data set 'biovid': did you mean .*biovid_a"),
    ("synthetic", ["modle=dual"], r"no option 'modle': did you mean .*model"),
    ("synthetic", ["model=duall"], r"model=duall does not exist: did you mean dual"),
    ("synthetic", ["encoder=tiny"], r"did you mean vit_tiny"),
    ("synthetic", ["protocol.seed=3"], r"did you mean protocol.seeds"),
    ("synthetic", ["learning_rate=0.1"], r"no option 'learning_rate': did you mean train\.lr\?"),
    ("synthetic", ["Learning-Rate=0.1"], r"did you mean train\.lr\?"),
    ("synthetic", ["epochs=5"], r"did you mean train\.max_epochs\?"),
    ("synthetic", ["patience=5"], r"did you mean train\.patience\?"),
    ("synthetic", ["data=/x"], r"data=/x cannot be set: data is a group of options, write for instance data\.root=VALUE"),
    ("synthetic", ["train=5"], r"train is a group of options, write for instance train\."),
    ("synthetic", ["synthetic.clips=3"], r"did you mean .*synthetic.clips_per_level"),
    ("synthetic", ["synthetic.effect"], r"is not an override: write key=value"),
    ("synthetic", ["max_folds=none"], r"max_folds='none' does not fit"),
    ("synthetic", ["max_folds=0"], r"max_folds=0 does not fit"),
    ("synthetic", ["protocol.seeds=[1,1]"], r"protocol.seeds=.*each once"),
    ("synthetic", ["protocol.seeds=0"], r"at least one seed"),
    ("synthetic", ["protocol.seeds=true"], r"protocol.seeds"),
    ("synthetic", ["pretrain.fraction=0.5"], r"pretrain.fraction=0.5 does not fit"),
    ("synthetic", ["frames=some"], r"frames='some' does not fit"),
    ("synthetic", ["synthetic.subjects=[1"], r"The command line does not fit"),
    ("synthetic", ["dataset=watch"], r"once, with --dataset watch"),
    ("synthetic", ["resources.fold_timeout_s=0"], r"fold_timeout_s")])
def test_a_mistake_gets_one_sentence(dataset, words, sentence):
    with pytest.raises(UserError, match=sentence) as info:
        compose(dataset, words)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("path", ["/data/Bio Vid/Part A", "/data/a,b(c)[d]{e}", "/data/it's=here", "C:/x:y", "~/data", "07",
                                  "true", "/data/$HOME/ä"])
def test_a_path_is_taken_as_it_is(path):
    config = compose("biovid_a", [f"data.root={path}", f"store={path}", f"run.dir={path}"])
    assert (config.data.root, config.store.dir, config.run.dir) == (path, path, path)


def test_null_leaves_a_path_out():
    assert compose("biovid_a", ["data.root=null"]).data.root is None


def test_a_subject_list_may_look_like_a_number():
    assert compose("biovid_a", ["data.subjects=67"]).data.subjects == "67"


def test_nearest_shows_choices_where_nothing_is_near():
    assert nearest("qqqq", ["alpha", "beta"]) == "alpha, beta"


def test_a_configuration_cannot_be_changed():
    config = compose("synthetic", [])
    with pytest.raises(ValueError):
        config.max_folds = 3
    assert with_protocol(config, "as_paper").protocol.name == "as_paper" and config.protocol.name == "clean"


def test_a_composition_equals_hydras_own():
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    groups = ["model=signal", "experiment=demo"]
    words = ["train.lr=0.5", "pretrain.seed=3",
             "++model.hpa.drop='a,b'", "++train.augment={jitter: {share: 0.5}}", "data.source=null",
             "keyframe={preset: paper}", "protocol.seeds=[4,5]", "protocol.seeds=[6]"]
    composed("watch", groups)  # the registers give Hydra their entries here
    with initialize_config_dir(str(EXPERIMENTS), version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("config", overrides=["dataset=watch", *groups, *words]), resolve=True)
    assert composed("watch", [*groups, *words]) == expected


def test_a_composition_does_not_change_the_next():
    before = composed("watch", [])
    composed("watch", ["train.lr=0.5", "++train.augment={jitter: {share: 0.5}}"])["train"]["lr"] = 7
    assert composed("watch", []) == before
