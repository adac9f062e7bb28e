"""The report: self-contained, equal to the summary, and with clear warnings."""

import re
from html.parser import HTMLParser
from importlib import resources
from typing import get_args

import jinja2
import numpy as np
import pytest
from markupsafe import Markup
from scipy import stats

from orchestrator.files.storage import write_json
from orchestrator.reporting import page, plots
from orchestrator.reporting.blocks import (
    Block,
    Columns,
    Figure,
    Headline,
    Listing,
    Note,
    Page,
    Section,
    Sentences,
    Table,
)
from orchestrator.reporting.cohort_ledger import configurations_section
from orchestrator.reporting.controls import controls_section
from orchestrator.reporting.findings import Report, excluded_by_class, lineage_words, plain_words, shared_training, warnings
from orchestrator.reporting.page import build_page, write_report
from orchestrator.reporting.sections import gap_words, no_paths, our_row, scores_table
from orchestrator.reporting.summary import build_summary
from tests.helpers.made_runs import made_run, pseudonym, results, takes_entries, words_of

Report, build_page, write_report, build_summary, shared_training = map(takes_entries, (
    Report, build_page, write_report, build_summary, shared_training))

pytestmark = pytest.mark.medium
VOID = {"meta", "br", "use", "path", "rect", "circle"}


class Tags(HTMLParser):
    """Collects tags and visible text; fails on tags that do not nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.attributes, self.words = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID - {"path", "rect", "circle", "use"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def report(n_people=8, **more):
    keep = {name: more.pop(name) for name in list(more) if name in ("seeds", "skill", "classes", "n_clips")}
    run, folds = made_run(n_people=n_people, **keep)
    run |= more
    return Report(run, folds, build_summary(run, folds))


@pytest.fixture(scope="module")
def full():
    curves = [{"stage": "video MAE, group 1", "epoch": e, "loss": 1 / (e + 1)} for e in range(5)]
    run, folds = made_run(n_people=8, seeds=(0, 1), plan="8 folds <planned>", curves=curves,
                          config={"model": {"name": "dual"}, "data": {"root": "/home/me/BioVid"}, "frames": "all"},
                          command="python -m orchestrator.loso data.root=/home/me/BioVid model=dual",
                          quarantine={"by_reason": {"no_face": 4}, "by_class": {"PA4": 4},
                                      "by_subject": {pseudonym(1): 4}},
                          clips={pseudonym(i): {"BL1": 8, "PA4": 8} for i in range(8)},
                          notes=["One video is missing."])
    return run, folds, build_page(run, folds)


def test_nothing_is_asked_of_anywhere(full):
    html = full[2]
    assert "http" not in html and "//" not in html.replace("</", "")
    assert not re.search(r"<(link|script|img|iframe|object)\b|@import|url\((?!#)", html)
    for name, value in Tags(html).attributes:
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#"), value


def test_every_link_of_the_page_leads_somewhere(full):
    attributes = Tags(full[2]).attributes
    ids = [value for name, value in attributes if name == "id"]
    targets = {value[1:] for name, value in attributes if name == "href"}
    assert len(targets) >= 9 and targets <= set(ids)
    sections = [i for i in ids if i in targets]
    assert len(sections) == len(set(sections))


def test_it_says_what_the_summary_says(full):
    run, folds, html = full
    summary, text = build_summary(run, folds), Tags(html).text
    assert f"{100 * summary['accuracy_mean']:.1f} %" in text
    lo, hi = summary["accuracy_ci95"]
    assert f"95 % interval {100 * lo:.1f} to {100 * hi:.1f} (Student t)" in text
    assert f"chance {100 * summary['chance']:.1f}" in text and "On unseen subjects" in text
    for fold in summary["folds"]:
        assert fold["subject"] in text and fold["weights_sha256"][:8] in text
    for word in ("8 folds <planned>", "name: dual", "no_face", "video MAE, group 1", "One video is missing.", "2.14",
                 "entire data set", "feedc0de", "abcdef0"):
        assert word in text, word


def test_same_run_same_page_and_file(full, tmp_path):
    run, folds, html = full
    assert write_report(tmp_path, run, folds[::-1]).read_text() == html
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_names_and_reasons_are_text_never_markup():
    run, folds = made_run(classes=("<b>BL", "PA&4"), failed_folds=[{"fold": 8, "seed": 0, "reason": "<script>x</script>"}],
                          n_planned=9, n_failed=1)
    html = build_page(run, folds)
    assert "<script" not in html and "<b>BL" not in html
    assert "<script>x</script>" in Tags(html).text


HOSTILE = "</style><script>alert('1')</script>&\"{{ 7 * 7 }}"


def test_every_template_escapes():
    """A page with hostile text everywhere, rendered by all templates."""
    note, table = Note(HOSTILE), Table(HOSTILE, [HOSTILE] * 2, [[HOSTILE, HOSTILE]])
    figure = Figure(Markup("<svg></svg>"), HOSTILE, HOSTILE)
    blocks = [note, table, figure, Sentences([HOSTILE], HOSTILE), Listing(HOSTILE, HOSTILE), Columns([[note], [table]])]
    html = page.render(Page(HOSTILE, HOSTILE, HOSTILE, True, [(HOSTILE, HOSTILE)],
                            Headline(HOSTILE, HOSTILE, [HOSTILE], [HOSTILE], figure), [HOSTILE], [(HOSTILE, HOSTILE)],
                            [Section(HOSTILE, HOSTILE, blocks)]))
    plain = html.replace(page.template("report.css"), "")
    assert "<script" not in html and html.count("</style>") == 1 and "{{ 7 * 7 }}" in html
    assert plain.count("alert(") == plain.count("alert(&#39;1&#39;)&lt;/script&gt;&amp;&#34;{{ 7 * 7 }}") > 20
    assert {kind.kind for kind in get_args(Block)} == {block.kind for block in blocks}, "a kind that is not tried here"


def test_autoescape_is_on_in_every_template():
    environment = page.environment()
    names = [path.name for path in resources.files("orchestrator.reporting").joinpath("templates").iterdir()
             if path.name.endswith(".jinja")]
    assert len(names) >= 3 and environment.autoescape is True and environment.undefined is jinja2.StrictUndefined
    for name in names:
        tree = environment.parse(page.template(name))
        assert not list(tree.find_all((jinja2.nodes.EvalContextModifier, jinja2.nodes.MarkSafe))), f"{name} turns it off"
        assert not {"safe", "tojson", "xmlattr"} & {f.name for f in tree.find_all(jinja2.nodes.Filter)}, f"{name} goes round it"


def test_a_name_that_a_template_does_not_know_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        page.environment().get_template("page.html.jinja").render(stylesheet="")


def test_hostile_names_of_subjects_and_clips_are_text():
    run, folds = made_run(n_people=6, classes=("BL1", HOSTILE), task=HOSTILE, encoder=HOSTILE, notes=[HOSTILE],
                          lineage=[{"artefact": HOSTILE, "sha256": f"{0:064d}", "people": [f"made/{HOSTILE}"], "parents": []}],
                          quarantine={"by_reason": {HOSTILE: 2}, "by_class": {"PA4": 2}, "by_subject": {HOSTILE: 2}})
    folds = [{**fold, "subject": HOSTILE + fold["subject"], "predictions": [
        row | {"subject": HOSTILE + row["subject"], "sample": HOSTILE + row["sample"]} for row in fold["predictions"]]}
        for fold in folds]
    html = build_page(run, folds)
    assert "<script" not in html and html.count("</style>") == 1 + html.count("<svg") and HOSTILE in Tags(html).text


def test_tables_and_figures_can_be_read_aloud(full):
    html = full[2]
    assert html.startswith('<!doctype html>\n<html lang="en">')
    n = html.count("<table>")
    assert n == html.count("<caption>") == html.count("<thead>") and n > 8
    assert not re.search(r'<th(?! scope="(row|col)")[ >]|<caption></caption>|<th[^>]*></th>', html)
    assert html.count("<svg") == html.count("<figure>") == len(re.findall(r'role="img" aria-label="[^"]{20,}"', html)) > 4
    assert re.search(r'aria-label="Confusion matrix: of BL1 \d+ % as BL1, \d+ % as PA4; of PA4', html)


def test_roles_differ_in_grey():
    def grey(colour):
        return sum(share * int(colour[i:i + 2], 16) for share, i in ((.299, 1), (.587, 3), (.114, 5)))

    shades = [grey(colour) for colour in plots.ROLES.values()]
    assert all(lighter - darker > 30 for lighter, darker in zip(shades, shades[1:], strict=False))


def test_stamps_come_before_the_result():
    run, folds = made_run(leaky=True, protocol="as_paper", partial=True, unproven=True)
    text = Tags(build_page(run, folds)).text
    assert text.index("LEAKY") < text.index("79.7") and "PARTIAL" in text and "UNPROVEN" in text
    assert "unseen subjects?" not in text and "On unseen subjects" not in text
    assert "LEAKY" not in Tags(build_page(*made_run())).text


def test_a_run_without_folds_still_has_a_page():
    run, _ = made_run(n_failed=8, failed_folds=[{"fold": 0, "seed": 0, "reason": "killed"}])
    text = Tags(build_page(run, [])).text
    assert "No fold finished" in text and "killed" in text and "0 of 8" in text


def test_words_about_chance():
    """They repeat the verdict of the test, not whether an interval includes a number."""
    assert "is above chance, 50.0 (one-sided t test" in " ".join(plain_words(report(skill=1.5)))
    at_chance = " ".join(plain_words(report(skill=0.0)))
    assert "is not shown to be above chance, 50.0" in at_chance and "generalises to new subjects" in at_chance
    run, folds = made_run(skill=1.5)
    for fold in folds:
        for row in fold["predictions"]:
            row["y_pred"] = 1 - row["y_pred"]
    below = Report(run, folds, build_summary(run, folds))
    assert "below chance" in " ".join(plain_words(below))
    leaky = " ".join(plain_words(report(skill=1.5, leaky=True)))
    assert "No verdict: the test subjects were used" in leaky and "is above chance" not in leaky


def test_the_smallest_possible_p_is_named():
    said = " ".join(plain_words(report(skill=20.0)))
    assert "p = 0.004, the smallest p that 8 subjects can give" in said and "level 0.05" in said
    assert "the smallest p" not in " ".join(plain_words(report(skill=0.0)))


def test_equal_accuracies_are_no_certainty():
    assert any("no width. This does not mean certainty" in text for text in warnings(report(skill=20.0)))
    assert not any("no width" in text for text in warnings(report()))


def test_no_optimism_bias_is_computed_if_subjects_do_not_differ():
    assert "random variation" in words_of(configurations_section(report(configurations_on_cohort=5)))
    said = words_of(configurations_section(report(skill=20.0, configurations_on_cohort=5)))
    assert "5th configuration" in said and "random variation" not in said
    first = words_of(configurations_section(report(configurations_on_cohort=1, configurations_by_now=4)))
    assert "no other was evaluated on these test subjects" in first and "3 others came later" in first
    assert "If all 4 were equally good" in first


def test_a_leaky_run_that_scores_lower_is_no_optimism_and_an_estimator_chose_no_epoch():
    """Seen with a random forest on a public data set: -0.9 points, 95 % interval -1.7 to -0.1."""
    said, = gap_words({"gap": -.009, "gap_ci95": (-.017, -.001), "n_people": 34, "n_left_out": 0})
    row = our_row({"model": "random_forest", "encoder": None, "protocol": "as_paper", "accuracy_mean": .717,
                   "accuracy_std": .075})
    assert "-0.9 points" in said and "is optimism" not in said and "no optimism bias is shown" in said
    assert "chosen on the test subject" not in row[3] and "no epoch to choose" in row[3]


def test_a_constant_control_has_no_gap():
    row = {"name": "duration", "known": True, "n_people": 8, "accuracy": 0.0, "ci95": [0.0, 0.0], "difference": 0.139,
           "difference_ci95": [0.06, 0.21]}

    def said(row, varies):
        return words_of(controls_section(report(controls=[row | {"varies": varies}])))

    assert "+13.9" in said(row, True) and "+13.9" not in said(row, False)
    near = row | {"difference_ci95": [-0.06, 0.21]}
    assert "better than duration alone" in said(near, True) and "better than duration alone" not in said(near, False)
    limits = [warnings(report(controls=[near | {"varies": varies}])) for varies in (True, False)]
    assert ["better than duration alone" in " ".join(texts) for texts in limits] == [True, False]  # at the top of the page


def test_a_refit_shares_the_validation_subjects_too():
    run, folds = made_run(n_people=8)
    again = [fold | {"refit": True} for fold in folds]
    everybody = [len({*a["train_subjects"], *a["val_subjects"]} & {*b["train_subjects"], *b["val_subjects"]}) for a in folds
                 for b in folds if a is not b]
    assert set(everybody) == {6} and shared_training(folds) < shared_training(again) == pytest.approx(6 / 8)


def test_variance_components_are_named_for_what_varied():
    text = Tags(build_page(*made_run(seeds=(0, 1)))).text
    assert "Variance components" in text and "another training seed" in text and "pretraining seed" not in text
    assert "other clips of the same classes" in text
    forest = Tags(build_page(*made_run(seeds=(0, 1), model="random_forest"))).text
    assert "changes initial weights" in text and "initial weights" not in forest and "estimator's own random numbers" in forest
    alone = Tags(build_page(*made_run())).text
    assert "Variance components" in alone and "training seed" not in alone
    of = {str(seed): {"protocol": 0, "pretrain": seed} for seed in (0, 1)}
    drawn = Tags(build_page(*made_run(seeds=(0, 1), pretrain_seeds=[0, 1], seed_of=of))).text
    assert "another pretraining seed" in drawn and "another training seed" not in drawn
    both = {str(seed): {"protocol": seed % 2, "pretrain": seed // 2} for seed in range(4)}
    text = Tags(build_page(*made_run(seeds=range(4), pretrain_seeds=[0, 1], seed_of=both))).text
    assert "another pretraining seed" in text and "another training seed" in text


def test_scores_stand_beside_accuracy_with_intervals():
    made = report()
    low, high = made.summary["auroc_ci95"]
    text = Tags(build_page(made.run, made.folds)).text
    assert f"AUROC {100 * made.summary['auroc_mean']:.1f} (95 % interval {100 * low:.1f} to {100 * high:.1f})" in text
    assert f"{100 * low:.1f} to {100 * high:.1f}" in words_of(scores_table(made)) and "balanced accuracy" in text
    assert "chance 50.0 (uniform guessing 1/2), majority baseline 50.0" in text


@pytest.mark.filterwarnings("error")
def test_a_page_of_one_clip_or_of_one_class_has_no_warning():
    run, folds = made_run(n_people=3)
    build_page(run, [{**folds[0], "predictions": folds[0]["predictions"][:1]}])
    build_page(run, [{**fold, "predictions": [r for r in fold["predictions"] if r["y_true"] == 0]} for fold in folds])


def test_warnings_fit_the_run():
    said = " ".join(warnings(report()))
    assert "Only 8 subjects" in said and "synthetic" in said and "Classes differ" not in said
    many = " ".join(warnings(report(n_people=30, dataset="biovid_a")))
    assert "Only" not in many and "synthetic" not in many
    failed = " ".join(warnings(report(n_planned=9, n_failed=1, dirty=True)))
    assert "8 of 9 planned folds; 1 failed" in failed and "uncommitted changes" in failed


def test_constant_predictions_and_missing_classes_are_reported():
    run, folds = made_run()
    for fold in folds:
        for row in fold["predictions"]:
            row["y_pred"] = 0
    folds[3]["predictions"] = [row for row in folds[3]["predictions"] if row["y_true"] == 0]
    folds[2]["warnings"] = ["the loss was not finite once"]
    said = warnings(Report(run, folds, build_summary(run, folds)))
    assert "The model predicted BL1 for every clip." in said
    assert "In 7 folds the model predicted the same class for every clip." in said  # the eighth has one class only
    assert f"No usable clip of class PA4 from 1 subject ({pseudonym(3)[:6]})." in said
    assert said[-1] == "In 1 fold: the loss was not finite once."


def test_uneven_exclusion_is_reported_with_its_rates():
    clips = {pseudonym(i): {"PA4": 8, "BL1": 8} for i in range(8)}
    made = report(quarantine={"by_class": {"PA4": 16, "BL1": 2}}, clips=clips)
    assert any("25.0 % of class PA4, but 3.1 % of BL1" in text for text in warnings(made))
    even = report(quarantine={"by_class": {"PA4": 9, "BL1": 8}}, clips=clips)
    assert not any("Classes differ" in text for text in warnings(even))


def test_excluded_clips_are_counted_from_the_folds_by_default():
    assert excluded_by_class(report(seeds=(0, 1))) == {"BL1": (0, 64), "PA4": (2, 66)}


def test_lineage_shows_training_subjects_of_each_part():
    made = report()
    said = " ".join(lineage_words(made))
    assert "trained on 5 subjects; the epoch was chosen on 2 others" in said and "In no fold" in said and "read once" in said
    share = np.mean([len(set(a.train_subjects) & set(b.train_subjects))
                     / len(set(a.train_subjects) | set(b.train_subjects))
                     for i, a in enumerate(made.folds) for b in made.folds[i + 1:]])
    assert f"{100 * share:.0f} % in common" in said


def test_a_model_without_epochs_names_its_training_subjects():
    run, folds = made_run()
    said = lineage_words(Report(run, [fold | {"epochs": 0} for fold in folds], build_summary(run, folds)))
    assert "also trained on the 2 inner validation subjects" in said[0]


def test_a_test_subject_used_in_training_is_reported():
    run, folds = made_run()
    folds[0]["train_subjects"] = [*folds[0]["train_subjects"], folds[0]["subject"]]
    folds[1]["test_openings"] = 2
    made = Report(run, folds, build_summary(run, folds))
    assert any("In 1 fold the test subject" in text for text in warnings(made))
    assert any("read more than once in 1 fold" in text for text in warnings(made))
    assert "In no fold" not in " ".join(lineage_words(made)) and "read once" not in " ".join(lineage_words(made))
    folds[2]["val_subjects"] = [folds[2]["subject"]]
    assert "the epoch was chosen on the test subject" in lineage_words(Report(run, folds, {}))[0]
    leaky = [fold | {"epochs": 0, "val_subjects": [fold["subject"]]} for fold in folds]
    without = " ".join(lineage_words(Report({**run, "refit": True}, leaky, build_summary(run, leaky))))
    assert "no epochs to choose, so the scaling over all subjects is the only leak" in without
    assert "chosen number of epochs" not in without
    matrix, rows, people = plots.roles_matrix(results(folds))
    names = list(plots.ROLES)
    assert names[matrix[0, people.index(folds[0]["subject"])]] == "test subject, also used in training"


def test_an_encoder_pretrained_on_a_test_subject_is_named():
    parent = {"artefact": "checkpoint", "people": [f"made/{pseudonym(5)}"], "parents": [], "proven": True}
    encoders = [{"artefact": "encoder 1", "sha256": f"{0:064d}", "proven": True, "parents": [],
                 "people": [f"made/{pseudonym(1)}", f"made/{pseudonym(3)}"]},
                {"artefact": "encoder 2", "sha256": f"{1:064d}", "people": [f"made/{pseudonym(0)}"], "proven": True,
                 "parents": [parent]}]
    said = " ".join(lineage_words(report(lineage=encoders)))
    assert "Encoder 1 was pretrained on 2 subjects and is used in 4 folds; none of their test subjects is" in said
    assert "Encoder 2 was pretrained on 2 subjects and is used in 4 folds; its pretraining INCLUDES 1 of" in said
    unknown = {"artefact": "public", "sha256": f"{0:064d}", "people": [], "proven": False, "parents": []}
    assert "the other subjects of its pretraining are not known" in " ".join(lineage_words(report(lineage=[unknown])))


def test_hashes_of_the_encoders_come_from_the_lineage_beside_the_report(tmp_path):
    run, folds = made_run()
    lineage = {"artefact": "encoder 1", "people": ["made/x"], "proven": True, "parents": []}
    write_json(tmp_path / "lineage.json", {"encoders": [{"index": 0, "sha256": f"{0:064d}", "lineage": lineage}]})
    text = Tags(write_report(tmp_path, run, folds).read_text()).text
    assert "Encoder 1 was pretrained on 1 subject and is used in 4 folds; none of their test subjects is" in text


def test_no_path_is_in_the_report(full):
    run, folds, html = full
    assert "/home" not in html and "root: (path)" in html and "data.root=(path) model=dual" in html
    reason = f"cannot read /home/me/BioVid/{123456}_w_{99}.mp4, 3/4 done"
    assert no_paths(reason) == "cannot read (path), 3/4 done"
    assert "/home" not in build_page(run | {"failed_folds": [{"fold": 1, "seed": 0, "reason": reason}]}, folds)


def test_roles_of_every_fold():
    _, folds = made_run(n_people=6)
    matrix, rows, people = plots.roles_matrix(results(folds))
    names = np.array(list(plots.ROLES))[matrix]
    assert (np.diag(names) == "test").all() and people == [fold["subject"] for fold in folds]
    assert ((names == "inner validation").sum(axis=1) == 2).all() and ((names == "training").sum(axis=1) == 3).all()


def test_published_numbers_stand_only_beside_their_own_question():
    run, folds = made_run(dataset="biovid_a", split="loso")
    clean = Tags(build_page(run, folds)).text
    assert "86.73" not in clean and "83.30" in clean and "compare it with protocol=as_paper only" in clean
    assert "not directly comparable" in clean and "epoch chosen on inner validation subjects" in clean
    paper = Tags(build_page(run | {"protocol": "as_paper", "leaky": True}, folds)).text
    assert "86.73" in paper and "83.30" not in paper and "epoch chosen on the test subject" in paper
    elsewhere = Tags(build_page(run | {"split": "kfold"}, folds)).text
    assert "86.73" not in elsewhere and "83.30" not in elsewhere and "made with another split" in elsewhere
    assert "Published for this task" not in Tags(build_page(*made_run())).text


def test_a_model_without_epochs_does_not_say_when_stopping_was_decided():
    run, folds = made_run(dataset="biovid_a", split="loso", model="random_forest")
    said = Tags(build_page(run, folds)).text
    assert "clean: no epoch to choose; fitted and scaled without the test subject" in said and "epoch chosen" not in said
    paper = Tags(build_page(run | {"protocol": "as_paper", "leaky": True}, folds)).text
    assert "as_paper: no epoch to choose; scaled with the test subject's clips too" in paper
    fixed = [fold | {"val_subjects": []} for fold in folds]
    assert "number of epochs fixed in advance" in Tags(build_page(run | {"model": "lstm"}, fixed)).text


def test_a_leaky_run_has_no_unseen_subjects():
    """An estimator has no validation subjects, but its scale includes the test subject."""
    run, folds = made_run(model="ridge", leaky=True, protocol="as_paper")
    folds = [fold | {"leaky": True, "epochs": 0, "val_subjects": []} for fold in folds]
    said = " ".join(lineage_words(Report(run, folds, build_summary(run, folds))))
    assert "In no fold" not in said and "read once" not in said and "the scaling over all subjects is the only leak" in said
    matrix, _, _ = plots.roles_matrix(results(folds))
    assert (np.array(list(plots.ROLES))[matrix].diagonal() == "test subject, also used in training").all()


def test_selected_folds_are_reported_first():
    run, folds = made_run(n_people=8, seeds=(0, 1))
    assert "max_folds: only 8 of the 20 test folds were run" in Tags(build_page(run | {"n_not_asked": 12}, folds)).text
    assert "max_folds" not in Tags(build_page(run | {"n_not_asked": 0}, folds)).text


def test_a_transductive_scale_is_reported():
    assert "Transductive" in Tags(build_page(*made_run(config={"scale": "subject_z"}))).text
    assert "Transductive" not in Tags(build_page(*made_run(config={"scale": "train_z"}))).text


def test_both_protocols_side_by_side_give_the_optimism():
    run, folds = made_run(skill=1.0)
    leaky = build_summary(*made_run(skill=2.0, leaky=True, protocol="as_paper"))
    pair = {"gap": 0.123, "gap_ci95": (0.05, 0.2), "n_people": 7, "n_left_out": 1}
    text = Tags(build_page(run | {"beside": [leaky], "optimism": pair}, folds)).text
    assert "paired over 7 subjects (1 more were tested in one run only): as_paper minus clean is +12.3 points" in text
    assert "95 % interval +5.0 to +20.0" in text and f"{100 * leaky['accuracy_mean']:.1f}" in text
    assert "This is optimism bias, not a better model, and a lower bound" in text
    under = pair | {"gap": -0.009, "gap_ci95": (-0.017, -0.001)}
    lower = Tags(build_page(run | {"beside": [leaky], "optimism": under}, folds)).text
    assert "clean is -0.9 points" in lower and "no optimism bias is shown" in lower and "is optimism" not in lower
    few = Tags(build_page(run | {"optimism": {**pair, "gap_ci95": None, "n_left_out": 0}, "beside": [leaky]}, folds)).text
    assert "paired over 7 subjects: as_paper minus clean is +12.3 points." in few


def test_a_subject_with_one_clip_has_a_report():
    run, folds = made_run()
    folds[0] = folds[0] | {"predictions": folds[0]["predictions"][:1]}
    found = build_summary(run, folds)
    assert found["accuracy_ci95"] and found["auroc_ci95"] and found["folds"][0]["n_test"] == 1
    assert found["folds"][0]["accuracy"] in (0.0, 1.0) and "nan" not in Tags(build_page(run, folds)).text.lower()


def test_wilson_equals_scipy():
    lo, hi = plots.wilson(np.array([7.0, 16.0]), np.array([16, 16]))
    for i, right in enumerate((7, 16)):
        expected = stats.binomtest(right, 16).proportion_ci(method="wilson")
        assert (lo[i], hi[i]) == pytest.approx((expected.low, expected.high), abs=1e-4)
