"""BioVid's parts A and B share subjects: an encoder trained on a subject in A may not be used to test it in B."""

import pytest

from orchestrator import cli, loso
from orchestrator.files.storage import read_json, with_checksum, write_json
from preprocessing.synthetic.cohort import generate
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, TINY, Road


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The same subjects' signals in the layouts of A and of B."""
    place = tmp_path_factory.mktemp("parts")
    trees = {part: generate(place / f"Part{part}", part=part, subjects=PEOPLE, clips_per_level=CLIPS_PER_LEVEL,
                            levels=("BL1", "PA4"), size=(160, 120), jobs=1, videos=False) for part in "AB"}
    for tree in trees.values():
        (tree / "SYNTHETIC.json").unlink()  # now the loader takes them as a part of BioVid and of its cohort
    return trees


def test_an_encoder_trained_on_a_subject_in_a_cannot_test_it_in_b(parts, inline, tmp_path, capsys):
    store = tmp_path / "store"
    words = [*TINY, "model=signal", "task=bl_pa4", "data.allow_partial=true"]
    in_a, in_b = (Road(parts[part], store, tmp_path / part, words, f"biovid_{part.lower()}") for part in "AB")
    assert in_a.main("max_folds=1") == 0
    of_a = {path: read_json(path)["lineage"] for path in sorted(store.glob("encoders/*/encoder.json"))}
    assert in_b.main("max_folds=1") == 0, "with its own encoders B runs"
    lineage = read_json(in_b.run / "lineage.json")
    tested, used = lineage["folds"][0]["test"][0], lineage["encoders"][lineage["folds"][0]["encoder"]]["lineage"]
    assert tested.startswith("biovid/") and tested not in used["people"]
    (saw_them,) = [value for value in of_a.values() if tested in value["people"]]  # under the same name as in B

    # The encoder of this fold in B is replaced by one that was trained in A, with its lineage.
    for path in sorted(set(store.glob("encoders/*/encoder.json")) - set(of_a)):
        value = read_json(path)
        if value["lineage"] == used:
            write_json(path, with_checksum({**value, "lineage": saw_them}))
    done = {stage: len(what) for stage, what in inline.items()}
    capsys.readouterr()
    assert cli.run(loso.main, in_b.argv("max_folds=1", f"run.dir={tmp_path / 'again'}")) == 2
    said = capsys.readouterr().err
    assert f"Test subject {tested} leaked into training through {saw_them['artefact']}" in said and "Traceback" not in said
    assert {stage: len(what) for stage, what in inline.items()} == done, "nothing was computed"
    assert not list((tmp_path / "again").glob("ledger/*.json"))
