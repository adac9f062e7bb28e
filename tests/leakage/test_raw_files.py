"""From raw files through all stages in empty stores: one subject's recordings are replaced by noise with the same names.

The fold that tests the subject must keep its scaler, encoder and head to the last bit; every fold that trained on the
subject must not; nobody moves between roles.
"""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator import cli, loso
from orchestrator.files.storage import read_json, with_checksum, write_json
from preprocessing.synthetic.cohort import generate
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, Road, hashes

FITTED = ("scaler_sha256", "encoder_sha256", "weights_sha256", "epochs", "history", "train_label_counts", "train_subjects",
          "val_subjects")


@pytest.fixture(scope="module")
def other_faces(tmp_path_factory):
    """Videos of another subject: faces are found, but not those of this cohort."""
    return generate(tmp_path_factory.mktemp("others") / "tree", subjects=1, clips_per_level=CLIPS_PER_LEVEL, seed=77,
                    levels=("BL1", "PA4"), size=(160, 120), jobs=1)


def spoil(tree, other, person: str) -> None:
    """Signals become noise; half of the videos show another face, the other half are invalid files."""
    rng = np.random.default_rng(3)
    for path in sorted((tree / "biosignals_raw" / person).iterdir()):
        header, *rows = path.read_text().splitlines()
        separator = "\t" if "\t" in header else ","
        noise = 40 * rng.normal(size=(len(rows), header.count(separator)))
        table = [[row.split(separator)[0], *(f"{x:.4f}" for x in values)] for row, values in zip(rows, noise, strict=True)]
        path.write_text("\n".join([header, *(separator.join(row) for row in table)]) + "\n")
    faces = sorted((other / "video").rglob("*.mp4"))
    for number, path in enumerate(sorted((tree / "video" / person).iterdir())):
        path.write_bytes(rng.bytes(5000) if number % 2 else faces[number].read_bytes())


@pytest.fixture
def noisy_run(road, other_faces, tmp_path, inline):
    """(subject index, the same run on data in which this subject of the first group is noise), in an empty store."""
    group = road.config().pretrain.seed  # groups depend only on the number of subjects and the seed
    from orchestrator.plan.pretrain_groups import draw

    person = draw(PEOPLE, 2, group)[0].subjects[0]
    tree = tmp_path / "tree"
    shutil.copytree(road.root, tree)
    raw = {clip.subject: clip.recording.subject for clip in road.cohort().clips}
    spoil(tree, other_faces, raw[person])
    noise = Road(tree, tmp_path / "store", tmp_path / "run")
    assert noise.main() == 0
    return person, noise


@pytest.mark.ci
def test_noise_in_a_test_subject_changes_all_folds_but_its_own(road, noisy_run):
    person, noise = noisy_run
    plain, other = list(road.ledger().values()), list(noise.ledger().values())
    assert [(e["subject"], e["train_subjects"], e["val_subjects"]) for e in plain] \
        == [(e["subject"], e["train_subjects"], e["val_subjects"]) for e in other]
    own, theirs = plain[person], other[person]
    assert {name: own[name] for name in FITTED} == {name: theirs[name] for name in FITTED}
    assert theirs["n_quarantined"] == CLIPS_PER_LEVEL and theirs["n_test"] == CLIPS_PER_LEVEL
    before = {row["sample"]: row["prob"] for row in own["predictions"]}
    assert all(before[row["sample"]] != row["prob"] for row in theirs["predictions"]) and theirs["predictions"]
    for index in range(PEOPLE):
        if index != person:
            assert plain[index]["weights_sha256"] != other[index]["weights_sha256"]
            assert plain[index]["scaler_sha256"] != other[index]["scaler_sha256"]
    served = {e["encoder_sha256"] for e in plain} & {e["encoder_sha256"] for e in other}
    assert served == {own["encoder_sha256"]}, "the noisy subject is in the other group's encoder alone"
    before, now = hashes(road.store / "clips"), hashes(noise.store / "clips")
    changed = {name.rpartition("/")[2] for name in now if name.endswith(".parquet") and before[name] != now[name]}
    assert changed == {f"{own['subject']}.parquet", "quarantine.parquet"}


def test_an_encoder_with_a_test_subject_in_its_lineage_is_an_error(road, inline, tmp_path, capsys):
    """The guard checks the artefact, not the plan: an encoder with a test subject in its lineage stops the run."""
    mine = road.copy(tmp_path, run=False)
    lineage = read_json(road.run / "lineage.json")
    tested, index = lineage["folds"][0]["test"][0], lineage["folds"][0]["encoder"]
    for side in sorted(mine.store.glob("encoders/*/encoder.json")):
        value = read_json(side)
        if value["lineage"] == lineage["encoders"][index]["lineage"]:
            value["lineage"]["people"].append(tested)
            write_json(side, with_checksum(value))
    assert cli.run(loso.main, mine.argv("max_folds=1")) == 2
    said = capsys.readouterr().err
    assert f"Test subject {tested} leaked into training through encoder {index + 1}" in said and "Traceback" not in said
    assert inline["pretrain"] == [] and not list(mine.run.glob("ledger/*.json"))


def test_as_paper_is_marked_leaky_in_all_outputs(road, inline, tmp_path, capsys):
    """One encoder for all, scaling over all subjects, epoch chosen on the test subject: marked leaky in all outputs."""
    paper = Road(road.root, road.store, tmp_path / "run")
    assert paper.main("protocol=as_paper", "max_folds=2") == 0
    assert inline["pretrain"] == [], "the first group's encoder is there already"
    said, summary = capsys.readouterr().out, paper.summary()
    for name in ("predictions", "folds"):
        assert pq.read_schema(paper.run / f"{name}.parquet").metadata[b"leaky"] == b"True"
    assert read_json(paper.run / "lineage.json")["leaky"] and all(entry["leaky"] for entry in paper.ledger().values())
    assert "LEAKY" in said and summary["leaky"] and "LEAKY" in (paper.run / "report.html").read_text()
    assert all(fold["val_subjects"] == [fold["subject"]] for fold in summary["folds"])
    assert len({fold["scaler_sha256"] for fold in summary["folds"]}) == 1
    assert len({fold["encoder_sha256"] for fold in summary["folds"]}) == 1
