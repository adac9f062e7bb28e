"""report.html: one file, no request to anywhere, made to be read by a person and to print well."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.files.storage import read_json, write_text
from orchestrator.reporting import plots
from orchestrator.reporting import sections as of
from orchestrator.reporting.cohort_ledger import ledger_section
from orchestrator.reporting.controls import controls_section
from orchestrator.reporting.findings import Report, metric_words, plain_words, warnings
from orchestrator.reporting.markup import page, text
from orchestrator.reporting.subgroups import subgroups_section
from orchestrator.reporting.summary import build_summary, chance_words, draws_words, percent, stamps
from orchestrator.scores.results import Fold, Run, interval

QUESTION = "How well does this work on a person it has never seen?"
LEAKY_QUESTION = "What would a protocol report that has met the test person?"


def hero(report: Report) -> str:
    summary = report.summary
    said = "".join(f"<p>{text(sentence)}</p>" for sentence in plain_words(report))
    if summary["accuracy_mean"] is None:
        return f'<div class="hero"><div class="number">-</div><div>{said}</div></div>'
    ci95, name = interval(report.values)
    under = f"± {percent(summary['accuracy_std'])} over {len(report.values)} people"
    if ci95:
        under += f"<br>95 % interval {percent(ci95[0])} to {percent(ci95[1])} ({text(name)})"
    under += f"<br>{chance_words(summary)}"
    under += "".join(f"<br>{name} {metric_words(summary, field)}" for name, field in (
        ("balanced accuracy", "balanced_accuracy"), ("AUROC", "auroc")) if summary[f"{field}_mean"] is not None)
    if over := draws_words(summary):
        under += f"<br>{over}"
    bar = plots.headline_plot(summary["accuracy_mean"], ci95, summary["chance"])
    kind = "number leaky" if summary["leaky"] else "number"
    return (f'<div class="hero"><div><div class="{kind}">{percent(summary["accuracy_mean"])}<small> %</small></div>'
            f'<div class="under">{under}</div></div><div>{said}</div><div class="bar">{bar}</div></div>')


def stamped(report: Report) -> str:
    return "".join(f'<div class="stamp"><b>{word}</b>{text(sentence)}.</div>'
                   for word, sentence in stamps(report.summary))


def careful(report: Report) -> str:
    found = warnings(report)
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in found)
    return f'<div class="care"><b>Read with care</b><ul>{items}</ul></div>' if found else ""


SECTIONS: tuple[tuple[str, Callable[[Report], str]], ...] = (
    ("People", of.people_section), ("Classes", of.confusion_section), ("Certainty", of.calibration_section),
    ("Variance", of.seeds_section), ("Lost clips", of.losses_section), ("Who has seen whom", of.lineage_section),
    ("Canaries", of.audit_section), ("Looks", ledger_section), ("Controls", controls_section), ("Subgroups", subgroups_section),
    ("Beside other numbers", of.published_section), ("Paper and default", of.choices_section),
    ("Pretraining", of.curves_section), ("Folds", of.folds_section), ("How it was made", of.made_section))


def build_page(run: Run, folds: Sequence[Fold], summary: Mapping | None = None) -> str:
    report = Report(run, folds, summary or build_summary(run, folds))
    made = [(name, html) for name, make in SECTIONS if (html := make(report))]
    links = " ".join(f'<a href="#{html.split(chr(34))[1]}">{text(name)}</a>' for name, html in made)
    title = f"{run['dataset']} · {run['task']} · {run['model']}"
    top = (f'<header><p class="kind">dualpain · {text(title)} · {text(run["protocol"])}</p>'
           f"<h1>{text(LEAKY_QUESTION if run['leaky'] else QUESTION)}</h1></header>")
    return page(f"dualpain: {title}", top + stamped(report) + hero(report) + careful(report) + f"<nav>{links}</nav>"
                + "".join(html for _, html in made))


def write_report(run_dir: Path | str, run: Run, folds: Sequence[Fold], summary: Mapping | None = None) -> Path:
    """Write run.dir/report.html atomically and return its path. Encoders' hashes come from lineage.json beside it."""
    path = Path(run_dir) / "report.html"
    record = read_json(path.parent / "lineage.json") or {}
    if encoders := record.get("encoders"):
        run = {**run, "lineage": [{"sha256": e["sha256"], **e["lineage"]} for e in encoders]}
    write_text(path, build_page(run, folds, summary))
    return path
