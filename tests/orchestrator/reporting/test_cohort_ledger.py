"""How many configurations were evaluated on the test subjects: each counts once, in the order of the first run."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator import preprocess
from orchestrator.evaluation import run_record
from orchestrator.files.storage import read_json
from orchestrator.plan import folds
from orchestrator.reporting import cohort_ledger
from orchestrator.reporting.cohort_ledger import best_of, counted, ordinal, register, sentence
from tests.helpers.roads import Road, without_times

PEOPLE = dict.fromkeys(["c/a", "c/b", "c/c"], {})


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th"]
    assert sentence(12) == sentence(12, 12) == "12th configuration on this cohort"
    assert sentence(1, 2) == "1st configuration on this cohort; 1 other came later"
    assert sentence(2, 6) == "2nd configuration on this cohort; 4 others came later"


def test_a_configuration_counts_once():
    entries: list[dict] = []
    numbers = []
    for key in ("one", "two", "one", "three", "two", "one"):
        number, entries = counted(entries, key, PEOPLE, "")
        numbers.append(number)
    assert numbers == [1, 2, 1, 3, 2, 1] and len(entries) == 3


def test_only_configurations_tested_on_one_of_these_subjects_count():
    _, entries = counted([], "one", dict.fromkeys(["c/a"], {}), "")
    _, entries = counted(entries, "two", dict.fromkeys(["c/b"], {}), "")
    number, entries = counted(entries, "three", dict.fromkeys(["c/b", "c/c"], {}), "")
    assert number == 2, "one was evaluated on none of them"
    number, entries = counted(entries, "three", dict.fromkeys(["c/a"], {}), "")  # max_folds was raised
    assert number == 3 and counted(entries, "three", dict.fromkeys(["c/b"], {}), "") == (3, entries)
    assert counted(entries, "one", dict.fromkeys(["c/b"], {}), "")[0] == 1, "none came before it"


def test_subjects_of_two_manifests_with_one_name_are_two():
    _, entries = counted([], "one", {"manifest/a": {"signals": ["1", "2"]}}, "")
    assert counted(entries, "two", {"manifest/a": {"signals": ["3"]}}, "")[0] == 1
    assert counted(entries, "two", {"manifest/a": {"signals": ["1"]}}, "")[0] == 2, "without a clip it is the same subject"
    assert counted(entries, "two", {"manifest/a": {"video": ["4"]}}, "")[0] == 2, "films and signals may be of one subject"
    _, entries = counted([], "one", {"manifest/a": {"signals": "1"}}, "")
    assert counted(entries, "two", {"manifest/a": {"signals": ["1"]}}, "")[0] == 2, "an older mark tells nobody apart"


def test_the_best_of_many_equals():
    assert best_of(1, 0.05) == pytest.approx(0) and best_of(2, 1) == pytest.approx(0.564, abs=0.03)
    assert best_of(12, 1) == pytest.approx(1.629, abs=0.01)  # of 12 normal deviates


@pytest.fixture
def made(ridge, tmp_path):
    return Road(ridge.root, tmp_path / "store", tmp_path / "run", list(ridge.words))


def number(road: Road) -> int:
    return read_json(road.run / "summary.json")["configurations_on_cohort"]


def test_a_run_says_which_configuration_it_is(made, inline, tmp_path, capsys):
    assert made.main("max_folds=3") == 0 and number(made) == 1
    assert "1st configuration on this cohort" in capsys.readouterr().out
    first = without_times(read_json(made.run / "summary.json"))
    assert made.main("max_folds=3", "run.dir=" + str(tmp_path / "again")) == 0, "elsewhere it is the same configuration"
    assert without_times(read_json(tmp_path / "again" / "summary.json")) == first
    other = Road(made.root, made.store, tmp_path / "other", made.words)
    assert other.main("max_folds=3", "model.alpha=5") == 0 and number(other) == 2
    assert "2nd configuration on this cohort" in (other.run / "report.html").read_text()
    more = Road(made.root, made.store, tmp_path / "more", made.words)
    assert more.main("max_folds=3", "model.alpha=7") == 0 and number(more) == 3
    capsys.readouterr()
    assert made.main("max_folds=3") == 0 and number(made) == 1, "run again it is the first as before"
    assert "1st configuration on this cohort; 2 others came later" in capsys.readouterr().out
    assert "; 2 others came later" in (made.run / "report.html").read_text()
    for path in made.run.glob("ledger/fold-001*"):
        path.unlink()
    assert made.main("max_folds=3") == 0 and without_times(read_json(made.run / "summary.json")) == first
    assert (made.run / "predictions.parquet").read_bytes() == (tmp_path / "again" / "predictions.parquet").read_bytes()
    (ledger,) = (made.store / "private" / "met").glob("*.json")
    assert ledger.stat().st_mode & 0o077 == 0 and len(read_json(ledger)["configurations"]) == 3
    raw = {clip.recording.subject for clip in made.cohort().clips}
    assert not [name for name in raw if name in ledger.read_text()]


def test_a_dry_run_and_preprocessing_do_not_count(made, inline):

    assert preprocess.main(made.argv()) == 0 and made.main("--dry-run") == 0
    assert not (made.store / "private" / "met").exists()


def test_two_commands_at_once_get_two_numbers(made):
    config, people = made.config(), made.cohort()
    plan = folds.make_plan(config, people.people)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda key: register(config, people, plan, key, {})[0], [f"key {i}" for i in range(16)]))
    assert sorted(numbers) == list(range(1, 17))


def test_a_damaged_list_is_renamed_and_reported(made, capsys):
    config, people = made.config(), made.cohort()
    plan = folds.make_plan(config, people.people)
    assert [register(config, people, plan, key, {}) for key in ("one", "two", "one")] == [(1, 1), (2, 2), (1, 2)]
    (path,) = (made.store / "private" / "met").glob("*.json")
    path.write_text(path.read_text().replace('"number": 2', '"number": 1'))
    assert register(config, people, plan, "three", {}) == (1, 1)
    assert "counting starts again" in capsys.readouterr().out and path.with_suffix(".damaged").exists()


def test_both_protocols_are_two(made):
    both = made.config("protocol=both", "model=ridge")
    assert len(run_record.runs(both)) == 2
    people = made.cohort()
    numbers = [register(own, people, folds.make_plan(own, people.people), own.protocol.name, {})[0]
               for own in run_record.runs(both)]
    assert numbers == [1, 2]


def test_synthetic_subjects_of_another_seed_are_others(made):
    names = {cohort_ledger._name(made.config(word), [f"{cohort}/s1"]) for word in ("synthetic.seed=0", "synthetic.seed=1")
             for cohort in ("synthetic",)}
    assert len(names) == 2
    assert cohort_ledger._name(made.config(), ["a/b c\N{LATIN SMALL LETTER E WITH ACUTE}/s1"]).startswith("a_b_c_-")
