"""report.html: one self-contained file without network requests, for reading and printing.

Its content is plain data (blocks.py), collected here; its layout is in templates/.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from orchestrator.files.storage import read_json, write_text
from orchestrator.reporting import plots
from orchestrator.reporting import sections as of
from orchestrator.reporting.blocks import Headline, Page, Section
from orchestrator.reporting.cohort_ledger import configurations_section
from orchestrator.reporting.controls import controls_section
from orchestrator.reporting.findings import Report, metric_words, plain_words, warnings
from orchestrator.reporting.subgroups import subgroups_section
from orchestrator.reporting.summary import build_summary, chance_words, draws_words, percent, stamps
from orchestrator.scores.results import Fold, Run, interval

QUESTION = "How well does this model work on unseen subjects?"
LEAKY_QUESTION = "What accuracy does a leaky protocol report?"


def headline(report: Report) -> Headline:
    summary, said = report.summary, plain_words(report)
    if summary["accuracy_mean"] is None:
        return Headline("-", "", (), said, None)
    ci95, name = interval(report.values)
    under = [f"± {percent(summary['accuracy_std'])} over {len(report.values)} subjects"]
    if ci95:
        under.append(f"95 % interval {percent(ci95[0])} to {percent(ci95[1])} ({name})")
    under.append(chance_words(summary))
    under += [f"{name} {metric_words(summary, field)}" for name, field in (
        ("balanced accuracy", "balanced_accuracy"), ("AUROC", "auroc")) if summary[f"{field}_mean"] is not None]
    if over := draws_words(summary):
        under.append(over)
    bar = plots.headline_plot(summary["accuracy_mean"], ci95, summary["chance"])
    return Headline(percent(summary["accuracy_mean"]), "%", under, said, bar)


SECTIONS: tuple[tuple[str, Callable[[Report], Section | None]], ...] = (
    ("Subjects", of.subjects_section), ("Classes", of.confusion_section), ("Calibration", of.calibration_section),
    ("Variance", of.variance_section), ("Excluded clips", of.excluded_section), ("Data use", of.lineage_section),
    ("Leakage canaries", of.audit_section), ("Configurations", configurations_section), ("Controls", controls_section),
    ("Subgroups", subgroups_section), ("Other results", of.published_section), ("Paper and default", of.deviations_section),
    ("Pretraining", of.curves_section), ("Folds", of.folds_section), ("Settings", of.settings_section))


def page_of(report: Report) -> Page:
    run = report.run
    made = [(name, section) for name, make in SECTIONS if (section := make(report))]
    title = f"{run['dataset']} · {run['task']} · {run['model']}"
    return Page(f"dualpain: {title}", f"dualpain · {title} · {run['protocol']}", LEAKY_QUESTION if run["leaky"] else QUESTION,
                bool(report.summary["leaky"]), stamps(report.summary), headline(report), warnings(report),
                [(section.anchor, name) for name, section in made], [section for _, section in made])


def template(name: str) -> str:
    """The text of a file in templates/."""
    return resources.files("orchestrator.reporting").joinpath("templates", name).read_text("utf-8")


@cache
def environment() -> jinja2.Environment:
    """Everything is escaped except Markup: the style sheet and the drawings (plots.py), both from this package."""
    return jinja2.Environment(loader=jinja2.FunctionLoader(template), autoescape=True, undefined=jinja2.StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)


def render(page: Page) -> str:
    return environment().get_template("page.html.jinja").render(page=page, stylesheet=Markup(template("report.css")))


def build_page(run: Run, folds: Sequence[Fold], summary: Mapping | None = None) -> str:
    return render(page_of(Report(run, folds, summary or build_summary(run, folds))))


def write_report(run_dir: Path | str, run: Run, folds: Sequence[Fold], summary: Mapping | None = None) -> Path:
    """Write run.dir/report.html atomically and return its path. Encoders' hashes come from lineage.json in the same folder."""
    path = Path(run_dir) / "report.html"
    record = read_json(path.parent / "lineage.json") or {}
    if encoders := record.get("encoders"):
        run = {**run, "lineage": [{"sha256": e["sha256"], **e["lineage"]} for e in encoders]}
    write_text(path, build_page(run, folds, summary))
    return path
