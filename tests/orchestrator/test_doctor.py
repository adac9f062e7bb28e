"""The doctor: the problems it finds with a machine and a data root, its estimate of a run, and that it writes nothing."""

import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from orchestrator import cli, doctor, loso, preprocess
from orchestrator.cohort import cohort
from orchestrator.config.configuration import compose
from orchestrator.errors import UserError
from orchestrator.estimate import costs, data_fingerprint, finished, flops, machine
from orchestrator.estimate.costs import Cost, Speed
from orchestrator.estimate.machine import OK, STOP, WARN
from orchestrator.plan import folds
from orchestrator.runtime import places, progress
from orchestrator.stages import check, make_clips
from orchestrator.stores import clip_store
from orchestrator.stores.encoder_store import video_options
from preprocessing.allotment import usable_cores
from preprocessing.face import weights
from tests.helpers import films
from tests.helpers.roads import CLIPS_PER_LEVEL, PEOPLE, snapshot

pytestmark = pytest.mark.medium
SPEED = Speed(50e9, 2, "2 cores")  # so that no test depends on this machine's


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(costs, "measured", lambda config: SPEED)


@pytest.fixture
def own(signal_tree, tmp_path) -> Path:
    """A tree without videos, to spoil."""
    return shutil.copytree(signal_tree, tmp_path / "tree")


def ask(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.run(doctor.main, ["--dataset", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def said_by(capsys, stage, *words: str) -> str:
    assert cli.run(stage.main, ["--dry-run", "--dataset", *words]) == 0
    return capsys.readouterr().out


def on_tree(capsys, tree: Path, tmp_path: Path, *words: str) -> tuple[int, str, str]:
    return ask(capsys, "biovid_a", f"data.root={tree}", f"store={tmp_path / 'store'}", *words)


def fingerprint_of(tree: Path, *words: str) -> data_fingerprint.Fingerprint:
    config = compose("biovid_a", [f"data.root={tree}", *words])
    return data_fingerprint.take(config, cohort.preview(config))


# ---------------------------------------------------------------- whole commands

def test_a_cohort_with_videos(tree, tmp_path, capsys):
    before = snapshot(tree)
    code, out, err = on_tree(capsys, tree, tmp_path, "experiment=demo")
    assert code == 0 and not err.replace("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", "")
    n = PEOPLE * CLIPS_PER_LEVEL * 2
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if line.count("│") == 3}
    assert rows["subjects"].startswith(f"{PEOPLE} (")
    assert rows["clips"] == f"{n}, {n} of them in task=bl_pa4"
    assert re.fullmatch(rf"{n} clips: 5\.48( to 5\.52)? s, 25 fps, 160x120 \(6 opened\)", rows["video"])
    assert rows["signals"] == f"{n} clips: 5.50 s, 512 Hz (12 opened)"
    assert rows["channels"].count("512 Hz") == 3
    for word in ("nothing wrong was found", "A run can start", "preprocess", "2 video MAE (vit_micro)", "7 folds of dual"):
        assert word in out
    assert re.search(r"PA4 +│ +14 +│ +2 +│ +2 +│ +yes", out) and re.search(r"PA2 +│ +0 +│ +0 +│ +0 +│ +no", out)
    assert not (tmp_path / "store").exists() and snapshot(tree) == before


def test_the_synthetic_cohort_before_it_is_written(tmp_path, capsys):
    code, out, _ = ask(capsys, "synthetic", f"store={tmp_path / 'store'}", "synthetic.subjects=9")
    assert code == 0 and "synthetic (as it will be generated)" in out and "144, 144 of them" in out
    assert "144 clips written" in out and not list(tmp_path.iterdir())


def test_a_damaged_synthetic_tree_is_described_and_left_as_it_is(signal_tree, tmp_path, capsys):
    words = [f"store={tmp_path / 'store'}", f"synthetic.subjects={PEOPLE}", f"synthetic.clips_per_level={CLIPS_PER_LEVEL}",
             "model=signal"]
    root = cohort.synthetic_root(compose("synthetic", words))
    shutil.copytree(signal_tree, root)
    victim = sorted((root / "biosignals_raw").glob("*/*.csv"))[0]
    victim.unlink()
    before = snapshot(tmp_path)
    code, out, _ = ask(capsys, "synthetic", *words)
    assert code == 0 and "1 of 28 clips have no signal file" in out
    assert snapshot(tmp_path) == before


def test_watch_needs_no_face_models(tmp_path, capsys):
    code, out, _ = ask(capsys, "watch", f"store={tmp_path / 'store'}")
    assert code == 0 and "not needed: no video" in out and "2229, 2229 of them in task=exercise" in out
    assert "4.00 s, 50 Hz (12 opened)" in out and "10 folds of signal_small" in out


def test_an_absent_root_is_one_sentence_and_the_layout(tmp_path, capsys):
    code, out, err = ask(capsys, "biovid_a", f"data.root={tmp_path / 'nowhere'}", f"store={tmp_path / 'store'}")
    assert code == 2 and "does not exist" in err and "starting_point/samples.csv" in err and "preprocessing.synthetic" in err
    assert "Python" in out  # the machine is described all the same


def test_an_incomplete_cohort_is_described_and_refused(own, tmp_path, capsys):
    table = own / "starting_point" / "samples.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    code, out, err = on_tree(capsys, own, tmp_path, "model=signal")
    assert code == 2 and "is incomplete" in err and "data.allow_partial=true" in err
    assert "27, 27 of them in task=bl_pa4" in out and "7 folds of signal" in out  # the cost is told all the same
    code, out, err = on_tree(capsys, own, tmp_path, "model=signal", "data.allow_partial=true")
    assert code == 0 and not err


@pytest.mark.parametrize(("words", "said"), [
    (["model=video"], "use model=signal"), (["model=resnet3d", "pretrain=none"], "model=resnet3d"),
    (["task=five"], "PA1"), (["protocol.val_subjects=5"], "protocol.val_subjects")])
def test_what_would_stop_a_run_stops_the_doctor(signal_tree, tmp_path, capsys, words, said):
    code, out, err = on_tree(capsys, signal_tree, tmp_path, "model=signal", *words)
    assert code == 2 and err.startswith("error: ") and said in err and err.count("\n") == 1


def test_too_few_subjects(tmp_path, capsys):
    code, out, err = ask(capsys, "synthetic", f"store={tmp_path / 'store'}", "synthetic.subjects=5")
    assert code == 2 and "at least 7" in err and "pretrain=none protocol.val=fixed_epochs" in err and "STOP" in out


def test_both_protocols_are_priced_together(signal_tree, tmp_path, capsys):
    code, out, _ = on_tree(capsys, signal_tree, tmp_path, "model=signal", "protocol=both")
    assert code == 0 and "7 folds of signal (clean)" in out and "7 folds of signal (as_paper)" in out
    assert "2 signal MAE" in out  # the groups are shared


@pytest.mark.parametrize("error", [OSError("stale"), UserError("the ledger cannot be read")])
def test_what_is_finished_is_unknown_and_the_rest_is_shown(signal_tree, tmp_path, capsys, monkeypatch, error):
    def look(*_):
        raise error

    monkeypatch.setattr(finished, "find", look)
    code, out, _ = on_tree(capsys, signal_tree, tmp_path, "model=signal")
    assert code == 0 and "folds of signal" in out and "to do" not in out


def test_a_full_disk_stops(signal_tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "free_bytes", lambda path: 1000)
    code, _, err = on_tree(capsys, signal_tree, tmp_path, "model=signal")
    assert code == 2 and "store=DIR" in err


def test_trainings_that_were_left_are_named_with_what_to_do(tmp_path):
    config = compose("watch", [f"store={tmp_path}"])
    assert check.unfinished(config) == []
    left = tmp_path / "encoders" / "abc.partial"
    left.mkdir(parents=True)
    (left / "signal-00000004.safetensors").write_bytes(bytes(3 << 20))
    (found,) = check.unfinished(config)
    assert found.state == WARN and "1 of encoders not finished" in found.text and str(left) in found.text
    assert "3" in found.text.partition("finished,")[2].partition("MB")[0] and "remove" in found.fix


def test_more_than_one_stop_is_counted(signal_tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(machine, "python", lambda: machine.Finding("Python", STOP, "too old", "take a newer one"))
    code, _, err = on_tree(capsys, signal_tree, tmp_path, "model=signal")
    assert code == 2 and err == "error: Python: too old; take a newer one. (1 more above.)\n"


# ---------------------------------------------------------------- the data

def test_missing_empty_equal_and_unreadable_files(own, tmp_path, capsys):
    first, second, third, *_ = sorted((own / "biosignals_raw").glob("*/*.csv"))
    shutil.copy(first, second)
    third.write_bytes(b"")
    data = fingerprint_of(own, "model=signal")
    assert data.empty == (third,) and [set(group) for group in data.same_content] == [{first, second}]
    assert data.hashed_all and not data.missing
    code, out, _ = on_tree(capsys, own, tmp_path, "model=signal")
    assert code == 0 and "1 files are empty" in out and "1 groups of files are byte for byte equal" in out
    assert "Warnings above" in out


def test_files_that_a_manifest_lists_and_that_are_missing(tmp_path, capsys):
    rows = ["subject,sample,label,label_name,signal_path,channels,fs"]
    channels = '"[{""name"": ""eda"", ""kind"": ""eda""}]"'
    for person in range(8):
        for clip in range(4):
            name = f"p{person}-{clip}.csv"
            rows.append(f"p{person},{clip},{clip % 2},{'ab'[clip % 2]},{name},{channels},16")
            if name != "p3-1.csv":
                text = "text" if name == "p0-0.csv" else 0.5
                values = [str(person + clip / 7 + i) for i in range(64)]
                (tmp_path / name).write_text("\n".join(["eda", *values, str(text)]) + "\n")
    rows.append(f"p0,again,0,a,p0-2.csv,{channels},16")  # the same file under another name
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    code, out, _ = ask(capsys, "manifest", f"data.root={tmp_path}", f"store={tmp_path / 'store'}", "model=signal",
                       "task.classes=[0,1]")
    assert code == 0 and "1 files are listed but missing" in out and "p3-1.csv" in out
    assert "1 clips use exactly the same recording as another clip" in out
    assert "1 of 12 opened cannot be used" in out and "eda (eda, 16 Hz)" in out


def test_a_subject_without_a_class_is_reported(own, tmp_path, capsys):
    table = own / "starting_point" / "samples.csv"
    header, *rows = table.read_text().splitlines()
    person = rows[0].split("\t")[1]
    table.write_text("\n".join([header, *(r for r in rows if not (person in r and "PA4" in r))]) + "\n")
    code, out, _ = on_tree(capsys, own, tmp_path, "model=signal", "data.allow_partial=true")
    assert code == 0 and "1 subjects have no clip of some class of the task" in out


def test_a_truncated_video_among_the_opened_is_reported(tree, tmp_path):
    own = shutil.copytree(tree, tmp_path / "tree")
    for film in (own / "video").glob("*/*.mp4"):
        film.write_bytes(film.read_bytes()[:2000])
    data = fingerprint_of(own)
    assert len(data.video.problems) == data.video.opened == data.with_video
    assert "truncated" in data.video.problems[0] and data.frames_per_clip is None


def test_equal_files_are_sought_within_a_budget(tmp_path):
    for name, text in (("a", "xy"), ("b", "xy"), ("c", "zz"), ("d", "longer"), ("e", "longer")):
        (tmp_path / name).write_text(text)
    groups, whole = data_fingerprint.equal_files(tmp_path.iterdir(), budget=10)
    assert groups == ((tmp_path / "a", tmp_path / "b"),) and not whole
    assert len(data_fingerprint.equal_files(tmp_path.iterdir())[0]) == 2
    assert data_fingerprint.equal_files([tmp_path / ("x" * 300)]) == ((), True)  # a name that no file system takes


# ---------------------------------------------------------------- the machine

def test_packages_against_constraints(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# pinned\nNumPy==0.1\nabsent-package==1.0\npydantic_core==0.2\n")
    (found,) = machine.packages(file)
    assert found.state == WARN and "2 of 3 differ" in found.text and "instead of 0.1" in found.text
    assert machine.packages(tmp_path / "none.txt")[0].state == OK  # an installed package has no such file


def test_a_missing_package_stops(monkeypatch):
    monkeypatch.setattr(machine, "required", lambda: ["ray", "no-such-thing"])
    (found,) = machine.packages()
    assert found.state == STOP and "no-such-thing missing" in found.text and "make install" in found.fix


def test_required_packages_are_the_projects_own():
    names = machine.required()
    assert {"ray", "torch", "av", "hydra-core"} <= set(names) and "pytest" not in names


@pytest.mark.parametrize("damage", ["absent", "another"])
def test_face_models_that_are_not_the_right_ones_stop(tmp_path, damage):
    for name in weights.SHA256:
        shutil.copy(weights.weight_file(name), tmp_path / name)
    config = compose("biovid_a", [f"face.weights_dir={tmp_path}"])
    assert machine.faces(config, True)[0].state == OK
    victim = tmp_path / "face_landmark.tflite"
    weights.weight_file.cache_clear()
    victim.unlink() if damage == "absent" else victim.write_bytes(b"something else")
    (found,) = machine.faces(config, True)
    assert found.state == STOP and "face_landmark.tflite" in found.text
    assert machine.faces(config, False)[0].state == OK  # not needed without video
    assert machine.faces(compose("biovid_a", [f"face.weights_dir={tmp_path}", "face.provider=cropped"]), True)[0].state == STOP
    with pytest.raises(UserError, match="length=40.5"):
        compose("biovid_a", ["signal.length=40.5"])


def test_a_codec_that_is_not_there(monkeypatch):
    monkeypatch.setattr(machine, "SYNTHETIC_ENCODER", "no_such_encoder")
    assert machine.codecs(video=True, encode=False).state == WARN
    found = machine.codecs(video=True, encode=True)
    assert found.state == STOP and "no_such_encoder" in found.text


def test_a_store_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(**words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places.tempfile, "mkstemp", refuse)
    config = compose("watch", [f"store={tmp_path / 'a' / 'b'}"])
    assert places.store(config).state == STOP and not (tmp_path / "a").exists()


def test_a_store_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert places.store(compose("watch", [f"store={tmp_path / 'file' / 'store'}"])).state == STOP


def test_raw_names_open_to_others(tmp_path):
    (tmp_path / "private").mkdir(mode=0o755)
    found = places.store(compose("watch", [f"store={tmp_path}"]))
    assert found.state == WARN and "chmod 700" in found.fix
    (tmp_path / "private").chmod(0o700)
    assert places.store(compose("watch", [f"store={tmp_path}"])).state == OK


def test_a_mistakes_sentence_ends_once(tmp_path, capsys):
    assert cli.run(doctor.main, ["--dataset", "manifest", f"data.root={tmp_path / 'nowhere'}", "model=ridge"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Data: ") and said.endswith("data.root=DIR.\n")


def test_too_little_memory_and_too_many_workers(monkeypatch):
    config = compose("watch", ["resources.cpus=64"])
    monkeypatch.setattr(machine, "usable_cores", lambda wanted=None: min(wanted or 16, 16))
    monkeypatch.setattr(machine, "memory_bytes", lambda: (16 << 30, 6 << 30))
    assert machine.memory(config).state == WARN and machine.cores(config).state == WARN
    assert machine.memory(compose("watch", ["resources.cpus=2"])).state == OK


def test_a_small_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("Usage", (), {"total": 64 << 20}))
    assert machine.shared_memory(tmp_path).state == WARN and machine.shared_memory(tmp_path / "none").state == OK


# ---------------------------------------------------------------- the cost

@pytest.mark.parametrize(("name", "full", "visible", "painted"), [  # GFLOP a clip, as counted on throw-away modules
    ("vit_tiny", 40.2307, 2.86, None), ("vit_small", 113.7558, 9.12, 27.06), ("vit_base", 360.6892, 31.8, None),
    ("vit_large", 1193.6654, 104.1, None)])
def test_operations_of_the_video_mae(name, full, visible, painted):
    options = video_options(compose("biovid_a", [f"encoder={name}"]))
    found = flops.video_mae(options, 1 - 160 / 1568)
    assert found.tokens == 1568 and found.encode / 1e9 == pytest.approx(full, abs=5e-5)
    if painted:
        d, embedding = found.dim, 2 * 1536 * found.dim  # of one token; those modules embedded the masked ones too, ours do not
        critic = 9 * 2 * 1408 * 1536 * 2 * d
        expected = 3 * (1e9 * (visible + painted) - 1408 * embedding)
        assert found.step - critic == pytest.approx(expected, rel=0.01)


def test_operations_of_the_classifier():
    """The dual head over 1,568 and 400 tokens, counted by hand: HPA 2.04 and 0.096, co-attention 2.62, E_ts 0.20."""
    assert flops.classifier(compose("biovid_a", ["model=dual"]), 3) / 1e9 == pytest.approx(4.955, abs=5e-4)
    assert flops.classifier(compose("biovid_a", ["model=video"]), 3) / 1e9 == pytest.approx(2.04, rel=0.01)
    wide = {"n_channels": 3, "length": 400, "dim": 64, "ff": 256, "depth": 3}
    assert flops.signal_mae(wide).encode / 1e9 == pytest.approx(0.24, rel=0.01)


@pytest.mark.parametrize("name", ["vit_micro", "vit_tiny"])
def test_parameters_on_disk(name):
    from models import build

    options = video_options(compose("biovid_a", [f"encoder={name}"]))
    assert flops.video_mae(options).parameters == sum(p.numel() for p in build("video_mae", **options).parameters())


@cache
def biovid(people: int = 87) -> data_fingerprint.Fingerprint:
    """BioVid A as its owner would see it: all numbers, no file."""
    config = compose("synthetic", [f"synthetic.subjects={people}", "synthetic.clips_per_level=20", "task=five"])
    return replace(data_fingerprint.take(config, cohort.preview(config)), planned=False)


def prices_of(*words: str, people: int = 87, speed: Speed = SPEED) -> dict[str, Cost]:
    config = compose("biovid_a", ["task=five", *words])
    plan = folds.make_plan(config, tuple(cohort.Person(i, f"s{i}") for i in range(people)))
    return {f"{p.stage} {p.what}": p for p in costs.forecast(config, biovid(people), [plan], speed)}


def price(prices: dict[str, Cost], word: str) -> Cost:
    (found,) = [p for name, p in prices.items() if word in name]
    return found


def test_the_published_cost_of_the_whole_cohort():
    """Token cache of BioVid A: 1,204,224 bytes a clip and encoder; pretraining in days to weeks on two cores."""
    prices = prices_of()
    tokens = price(prices, "embed")
    assert tokens.size == 8700 * 2 * 1_204_224
    low, high = price(prices, "video MAE").seconds
    assert 86400 < low < high < 60 * 86400
    assert price(prices, "preprocess").size == pytest.approx(8700 * 1_556_300, rel=0.001)


def test_cost_grows_with_what_it_should():
    base = prices_of()
    for words, word in ((["pretrain.video.epochs=400"], "video MAE"), (["encoder=vit_base"], "embed"),
                        (["pretrain.video.mask_ratio=0.5"], "video MAE"), (["train.max_epochs=400"], "loso"),
                        (["protocol.seeds=3"], "loso"), (["protocol.refit=true"], "loso")):
        assert price(prices_of(*words), word).seconds[1] > price(base, word).seconds[1] * 1.05, words
    assert price(prices_of("embed.pool=2x2"), "embed").size == price(base, "embed").size / 4
    assert price(prices_of(speed=Speed(500e9, 2, "2 cores")), "embed").seconds[1] < price(base, "embed").seconds[1]
    assert not [name for name in prices_of("pretrain=none") if "pretrain" in name]
    assert not [name for name in prices_of("model=signal") if "embed" in name or "video MAE" in name]


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (5400, "1.5 h"), (86400 * 3, "3.0 days"), (86400 * 30, "30 days")])
def test_durations_in_words(seconds, text):
    assert progress.duration(seconds) == text


def test_the_speed_is_measured_and_leaves_threads_alone(monkeypatch):
    import torch

    monkeypatch.undo()
    before = torch.get_num_threads()
    speed = costs.measured(compose("watch", ["resources.cpus=3"]))
    assert speed.rate > 1e8 and torch.get_num_threads() == before
    assert torch.cuda.is_available() or speed.workers == usable_cores(3)


def test_a_window_that_leaves_no_clip_stops(tmp_path, capsys):
    """Windows in Unix time; columns that no file has; files that are damaged: twelve of them, and nothing beside."""
    channels = '"[{""name"": ""eda"", ""kind"": ""eda"", ""unit"": ""uS""}]"'
    values = "\n".join(["eda", *(str(i % 7) for i in range(64))])
    for what, window, text in (("short_file", "1645000000,1645000004", values),
                               ("missing_column", ",", values.replace("eda", "x")), ("not_a_number", ",", values + "\ntext")):
        rows = ["subject,sample,label,signal_path,channels,fs,start_s,end_s"]
        for i in range(32):
            (tmp_path / f"{i}.csv").write_text(text)
            rows.append(f"p{i % 8},{i},{i // 8 % 2},{i}.csv,{channels},16,{window}")
        (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
        code, _, err = ask(capsys, "manifest", f"data.root={tmp_path}", f"store={tmp_path / 'store'}", "model=ridge",
                           "pretrain=none", "task.classes=[0,1]")
        assert code == 2 and "none of the 32 signals that were opened can be used" in err, (what, err)


@pytest.mark.parametrize("gone", [0, 3])
def test_a_run_says_the_time_of_the_doctor(own, tmp_path, gone):
    """For the same clips, also where some are made already; with videos, of the size that both assume."""
    config = compose("biovid_a", [f"data.root={own}", f"store={tmp_path / 'store'}", "model=signal"])
    people = cohort.preview(config)
    jobs = clip_store.plan_shards(config, people, keep=False)[gone:]
    data, there = data_fingerprint.take(config, people), finished.Finished(frozenset(range(gone)))
    told = costs._preprocess(config, data, there)[0].seconds
    said = make_clips.forecast(config, jobs)
    assert f": {costs.span(told)} on" in said and "without the start of Ray" in said
    assert costs.middle(told) > costs.clip_seconds(config, len(jobs), 0, 4 * len(jobs), emg=False)
    film = costs._preprocess(config.model_copy(update={"model": compose("biovid_a", []).model}),
                             replace(data, with_video=28), finished.NOTHING)[0].seconds
    assert film == costs.interval(costs.clip_seconds(config, len(people.people), 28, 28, emg=True))


def test_a_missing_column_is_named_with_its_file(tmp_path, capsys):
    """Of one file that is not among the opened ones, and of all files."""
    channels = '"[{""name"": ""eda"", ""column"": ""EDA"", ""kind"": ""eda""}]"'
    rows = ["subject,sample,label,signal_path,channels,fs"]
    for i in range(32):
        (tmp_path / f"{i}.csv").write_text("\n".join(["EDA,bvp", *(f"{x},{x}" for x in
                                                   np.random.default_rng(i).normal(size=64))]))
        rows.append(f"p{i % 8},{i},{i // 8 % 2},{i}.csv,{channels},16")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    words = ("manifest", f"data.root={tmp_path}", f"store={tmp_path / 'store'}", "model=ridge", "pretrain=none",
             "task.classes=[0,1]")
    assert "lack a column" not in ask(capsys, *words)[1] and "\ndata " not in said_by(capsys, loso, *words)
    for i in range(32):
        (tmp_path / f"{i}.csv").write_text((tmp_path / f"{i}.csv").read_text().replace("EDA", "GSR"))
        code, out, err = ask(capsys, *words) if i in (1, 31) else (None, "", "")
        if i == 1:
            assert code == 0 and "2 signal files lack a column" in out
            assert said_by(capsys, preprocess, *words).count("\ndata ") == 2  # the table, and what was opened
        if i == 31:
            plan = said_by(capsys, loso, *words)
            assert "about" in plan and "data        Columns: 32 signal files lack a column" in plan
            assert "data        no run is possible. Data: none of the 32 signals that were opened can be used" in plan
            assert "data        no run is possible. Classes: none of the 16 clips of class 0 can be used" in plan
            assert code == 2 and "none of the 32 signals that were opened can be used" in err and "32 signal files" in out
        if code is not None:
            said = "".join((out + err).split())  # the terminal breaks lines
            assert f"{tmp_path}/0.csvhascolumn'EDA'0times,itscolumnsare'GSR','bvp'" in said


def test_filters_lengths_and_rates_are_checked(tmp_path, capsys):
    channels = '"[{""name"": ""emg"", ""column"": 0, ""kind"": ""emg""}]"'
    rows = ["subject,sample,label,signal_path,channels,fs"]
    for i in range(32):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).normal(size=60 if i != 20 else 9))
        rows.append(f"p{i % 8},{i},{i // 8 % 2},{i}.npy,{channels},{32 if i % 2 else 16}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    words = ("manifest", f"data.root={tmp_path}", f"store={tmp_path / 'store'}", "model=ridge", "pretrain=none",
             "task.classes=[0,1]")
    code, out, _ = ask(capsys, *words)
    assert re.search(r"notes +│ 1 of 1 signal channels have no unit.*: they are used, and their values are not converted", out)
    assert code == 0 and "emg: not filtered: the band from 20 Hz lies at or above the Nyquist limit" in out
    assert "clips last" in out
    code, _, err = ask(capsys, *words, "signal.window_mode=crop", "signal.length=50")
    assert code == 2 and "different sampling rates (16, 32 Hz)" in err


def manifest(folder: Path, seconds, film: Path | None = None) -> tuple[str, ...]:
    """Signals at 20 Hz of eight subjects; seconds(subject, label, number). Returns the words of a command."""
    channels = '"[{""name"": ""x"", ""column"": 0, ""kind"": ""other""}]"'
    rows = ["subject,sample,label,label_name,signal_path,channels,fs" + (",video_path" if film else "")]
    for i in range(48):
        person, label = i % 8, int(i >= 8)
        np.save(folder / f"{i}.npy", np.random.default_rng(i).normal(size=round(20 * seconds(person, label, i))))
        rows.append(f"p{person},{i},{label},{('rest', 'pain')[label]},{i}.npy,{channels},20" + (f",{film}" if film else ""))
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return ("manifest", f"data.root={folder}", f"store={folder / 'store'}", "model=ridge", "pretrain=none",
            "task.classes=[0,1]")


def test_a_class_of_another_length_stays_and_is_reported(tmp_path, capsys):
    words = manifest(tmp_path, lambda person, label, i: (60, 10)[label])
    code, out, _ = ask(capsys, *words)
    assert code == 0 and "Clips of class rest last 60 s, of pain 10 s: a model can separate these classes by duration" in out
    code, out, _ = ask(capsys, *words, "signal.seconds=10")
    assert code == 0 and "classes by duration" not in out and "clips last" not in out


def test_a_class_whose_clips_are_all_excluded_stops(tmp_path, capsys):
    words = manifest(tmp_path, lambda person, label, i: 10 if label else 0.3 * 1.5 ** person)  # none like the other
    code, _, err = ask(capsys, *words)
    assert code == 2 and "none of the 8 clips of class rest can be used" in err and "signal.seconds" in err
    words = manifest(tmp_path, lambda person, label, i: 10)
    for i in range(8):
        (tmp_path / f"{i}.npy").unlink()
    code, _, err = ask(capsys, *words)
    assert code == 2 and "none of the 8 clips of class rest can be used" in err and "restore the files" in err
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", np.zeros((0, 1)))
    code, _, err = ask(capsys, *words)
    assert code == 2 and "none of the 8 clips of class rest can be used" in err and "no row in the window" in err
    for i in range(8):
        (tmp_path / f"{i}.npy").unlink()
    np.save(tmp_path / "3.npy", np.random.default_rng(3).normal(size=200))  # one subject's cannot train the own fold
    code, _, err = ask(capsys, *words)
    assert code == 2 and "No training subject of fold 3 has a usable clip of class rest" in err


@pytest.mark.parametrize(("seconds", "fits"), [(3.0, True), (1.0, False), (6.0, False)])
def test_videos_that_no_model_reads_are_compared_with_the_signals(tmp_path, capsys, seconds, fits):
    film = films.write_video(tmp_path / "a.mp4", films.numbered(75))
    words = manifest(tmp_path, lambda person, label, i: seconds, Path(film.name))
    code, out, err = ask(capsys, *words, "data.allow_partial=true")
    if fits:
        assert code == 0 and "other_durations" not in out
    else:
        assert code == 2 and "none of the 48 signals that were opened can be used" in err
        assert "The video lasts 3.00 s, its signals" in err
