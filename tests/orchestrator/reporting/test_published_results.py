"""Published results are shown only for the same data, classes, split and protocol; otherwise the report says why not."""

import pytest

from orchestrator.reporting.published_results import PUBLISHED, beside_run, published
from tests.helpers.made_runs import made_run

BIOVID = {"dataset": "biovid_a", "task": "bl_pa4", "split": "loso"}


def beside(**more):
    shown, said = beside_run(made_run(**{**BIOVID, **more})[0])
    return [row.accuracy for row in shown], " ".join(said)


def test_every_number_says_what_it_is():
    for known in PUBLISHED.values():
        assert all(0 < row.accuracy < 100 and row.chosen and row.split in ("loso", "fixed", None) for row in known)
    paper = published("biovid_a", "bl_pa4")[0]
    assert (paper.accuracy, paper.std, paper.protocols) == (86.73, 11.67, ("as_paper",))
    assert published("synthetic", "bl_pa4") == [] and beside(dataset="synthetic") == ([], "")


def test_the_papers_number_stands_beside_its_own_protocol_alone():
    shown, said = beside(protocol="as_paper", leaky=True)
    assert shown == [86.73] and "there was no epoch to choose, so compare it with protocol=clean only" in said
    shown, said = beside(protocol="clean")
    assert shown == [83.30, 82.73, 77.80]  # models without epochs
    assert "PeerJ CS e3158" in said and "the epoch was chosen on the test subjects" in said and "protocol=as_paper only" in said
    assert "PainFormer (several)" in said and "how the epoch was chosen is not known" in said
    assert "the number of subjects left out at a time is not known" in said  # the thesis
    assert beside(protocol="exclude_pretrain")[0] == []


@pytest.mark.parametrize("split", ["lnso", "kfold", "fixed", "cross_dataset", "unknown"])
def test_another_split_has_none(split):
    shown, said = beside(protocol="as_paper", split=split)
    assert shown == [] and "made with another split (split=loso)" in said


@pytest.mark.parametrize("more, words", [
    ({"config": {"task": {"classes": [0, 3]}}}, "its classes are [0, 3]"), ({"partial": True}, "recordings of the cohort"),
    ({"config": {"data": {"subjects": "67"}}}, "data.subjects=67"), ({"n_not_asked": 80}, "max_folds"),
    ({"config": {"scale": "subject_z"}}, "transductive")])
def test_another_question_has_none(more, words):
    shown, said = beside(protocol="as_paper", **more)
    assert shown == [] and said.startswith("No published result is comparable with this run") and words in said


def test_a_fixed_split_is_drawn_or_the_data_sets_own():
    def fixed(dataset, task, named):
        return beside(dataset=dataset, task=task, split="fixed", protocol="as_paper",
                      config={"split": {"name": "fixed", "list": named}})[0]

    assert fixed("ai4pain", "no_low_high", "auto") == fixed("ai4pain", "no_low_high", "own") == [83.85, 78.99, 77.08]
    assert fixed("ai4pain", "no_low_high", "random") == [] and fixed("biovid_b", "bl_pa2_pa4", "own") == []
    assert fixed("biovid_b", "bl_pa2_pa4", "auto")[0] == 54.37
    assert beside(dataset="biovid_b", task="bl_pa2_pa4", split="loso", protocol="as_paper")[0] == []
