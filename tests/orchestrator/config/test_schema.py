"""The table of options: every value is of its kind and within its bounds, or refused in one sentence."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import cli
from orchestrator.config.configuration import _flat, compose
from orchestrator.config.defaults import filled
from orchestrator.config.schema import OPTIONS, TABLE, check_values, check_word, repeated
from orchestrator.errors import UserError

pytestmark = pytest.mark.medium
NUMBERS = [option for option in OPTIONS if option.kind in ("whole", "number")]


def nested(key: str, value) -> dict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def inside(option):
    """A value that fits, from the bounds."""
    low = option.least if option.least is not None else option.above
    value = low if option.least is not None else (low + min(1, option.most if option.most is not None else option.below)) / 2
    value = int(value) if option.kind == "whole" else float(value)
    return value if option.many is None else [value + i if option.once else value for i in range(option.many[0])]


def wrong(option):
    """Values that never fit: no number, no finite one, another kind, or beyond a bound."""
    values = [math.nan, math.inf, -math.inf, True, False, "abc", "1", "1_0", "１", [], {}, [[1]], 10**30]
    if option.kind == "whole":
        values += [1.5, 2.0, 1e9]
    for bound, step in ((option.least, -1), (option.most, 1)):
        if bound is not None:
            values.append(bound + step)
    values += [bound for bound in (option.above, option.below) if bound is not None]
    if option.many is not None:
        fits = inside(option) or [1]
        values = [[*fits, value] for value in values if not isinstance(value, list | dict)] + [3, "[1]", {}]
    return values


@settings(max_examples=300, deadline=None)
@given(option=st.sampled_from(NUMBERS), data=st.data())
def test_every_numeric_option_refuses_what_is_no_such_number(option, data):
    value = data.draw(st.sampled_from(wrong(option)))
    with pytest.raises(UserError) as info:
        check_values(nested(option.key, value))
    text = str(info.value)
    assert text.startswith(f"{option.key}=") and "does not fit" in text and text.endswith(".") and "\n" not in text


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.key)
def test_every_numeric_option_takes_what_is_within_its_bounds(option):
    check_values(nested(option.key, inside(option)))
    if option.null:
        check_values(nested(option.key, None))


@settings(max_examples=200, deadline=None)
@given(option=st.sampled_from([o for o in OPTIONS if o.kind in ("flag", "word")]),
       value=st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)))
def test_a_choice_is_one_of_its_words(option, value):
    if value in option.words:
        return check_values(nested(option.key, value))
    with pytest.raises(UserError, match="it must be"):
        check_values(nested(option.key, value))


def test_whatever_is_shipped_is_in_the_table_or_has_a_class_of_its_own():
    elsewhere = ("face", "keyframe", "signal", "sweep", "dataset", "experiment", "train_from", "store", "run", "data.root",
                 "split.test", "split.root", "pretrain.checkpoint", "protocol.seeds")
    nodes = {"task", "model", "encoder", "protocol", "split", "pretrain", "data", "synthetic", "clip", "embed", "smae", "train",
             "resources", "canaries", "model.hpa", "model.dcan", "model.signal", "pretrain.video", "pretrain.signal"}
    for words in ([], ["split=fixed"], ["split=kfold"], ["split=lnso"], ["model=signal_small"], ["experiment=demo"],
                  ["experiment=video_alone"], ["encoder=vit_micro"]):
        raw = compose("synthetic", words).model_dump()
        for key in _flat(raw):
            known = key in TABLE or key in nodes or key.endswith(".name") or key.startswith(elsewhere)
            assert known, f"{key} is checked by nothing"


@pytest.mark.parametrize("value", ["nan", ".inf", "-inf", "1e999", "-1", "0", "true", "high", "[0.1]", "''", "0_1", "1_000.0",
                                   "1e-3,1e-2", "interval(0,1)", "${oc.env:HOME}", "???", "0.1\r", "0.1\u00a0", "\u200b0.1",
                                   "１", "null"])
def test_a_rate_that_is_none_is_refused_before_anything_runs(value, capsys):
    assert cli.run(lambda argv: cli.parse("loso", "", argv), ["--dataset", "synthetic", f"train.lr={value}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "Traceback" not in said and "\r" not in said


@pytest.mark.parametrize("word", [
    "protocol.seeds=1000000000", "protocol.seeds=1e9", "protocol.seeds=[1e9]", "protocol.seeds=[0,-3]", "protocol.seeds=[0,0]",
    "protocol.seeds=1_0", "protocol.seeds=[4294967296]", "protocol.seeds=[true]", "protocol.seeds=[]", "protocol.seeds=abc",
    "pretrain.seed=18446744073709551616", "synthetic.seed=4294967296", "split.seed=-1", "task.classes=[0,0]",
    "task.classes=[3]", "task.classes=[a,b]", "task.classes=[-1,1]", "task.classes=[0_1,2]", "task.classes=[0,1.0]",
    "task.name=../../x", "task.name=/tmp/x", "task.name=a..b", "task.name=.", "task.name=a b", "store=", "run.dir=''",
    "data.root=\"\"", "store= ", "store=/x ", "store.key=/a/${KEY}", "run.dir=/x\r", "model=null", "model=xyz",
    "model.name=xyz",
    "split.name=kfold", "~train.lr=1", "~audit", "model@here=ridge", "max_folds=1.0", "resources.cpus=0", "clip.frames=true"])
def test_a_word_that_cannot_be_meant_is_refused(word):
    with pytest.raises(UserError) as info:
        compose("biovid_a", [word])
    assert "\n" not in str(info.value) and "\r" not in str(info.value)


def test_a_plus_of_hydra_s_sets_the_key_as_well():
    assert compose("synthetic", ["+train.lr=0.1"]).train["lr"] == compose("synthetic", ["++train.lr=0.1"]).train["lr"] == 0.1


@pytest.mark.parametrize("path", ["C:\\data\\", "/a/it\\'s", "/a=b,c", "/a/(x)", "/data/ä b"])
def test_a_path_may_hold_what_hydra_s_grammar_cannot(path):
    assert compose("biovid_a", [f"data.root={path}"]).data.root == path


def test_a_quoted_path_is_the_path_within():
    assert compose("biovid_a", ["data.root='/a b'"]).data.root == "/a b"


def test_commas_within_brackets_and_quotes_are_no_several_values():
    for word in ("task.classes=[0,1]", "model.hpa={filters:4,heads:2}", "data.subjects='a,b'"):
        check_word(word, word.partition("=")[0], path=False)
    with pytest.raises(UserError, match="gives several values"):
        check_word("encoder=vit_tiny,vit_small", "encoder", path=False)


def test_what_stands_there_twice():
    assert repeated(["a", "b", "a", "c", "b", "a"]) == ["a", "b"] and repeated(["a", "b"]) == []


ELSEWHERE = re.compile(  # preprocessing's own option classes; names and paths; what a run gives a model itself
    r"(face|keyframe|signal)\.|(.*\.)?(name|root|dir|key|read|checkpoint|ledger|test|tokenizer)$|dataset$|train_from$|train\.augment$|"
    r"protocol\.seeds$|encoder\.(decoder|frames)$|model\.dcan\.(video|signal)_tokens$|pretrain\.video\.warmup_epochs$")


@pytest.mark.parametrize(("dataset", "model"), [("synthetic", "dual"), ("watch", "signal_small"), ("synthetic", "svm")])
def test_every_option_of_a_run_stands_in_the_one_table(dataset, model):
    keys = set(filled(compose(dataset, [f"model={model}"]).model_dump(mode="json"), model))
    assert len(keys) > 100 and not sorted(key for key in keys if key not in TABLE and not ELSEWHERE.match(key))
