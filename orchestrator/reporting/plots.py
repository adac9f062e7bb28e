"""Figures of the report as inline SVG, without external files, fonts or links.

The same numbers give the same drawing. alt: its content in words.
"""

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from orchestrator.reporting import blocks
from orchestrator.scores.metrics import Reliability
from orchestrator.scores.results import Fold, SubjectScores, in_order, seed_table

INK, FAINT, GRID = "#22303c", "#6b7a86", "#e3e8ec"
TEAL, PALE, ROSE, AMBER, SKY = "#0f766e", "#cfe8e4", "#be4b5c", "#d99a2b", "#9db8d2"

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "text.color": INK, "axes.labelcolor": FAINT, "axes.edgecolor": "#b9c3cb", "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": FAINT, "ytick.color": FAINT,
    "text.parse_math": False, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8, "legend.frameon": False}


def _drawn(figure: Figure, name: str, alt: str) -> blocks.Figure:
    """Matplotlib escapes the names that it draws, so its SVG is safe markup."""
    sink = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.04,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = sink.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # matplotlib's group names would repeat from figure to figure
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1))  # type: ignore[union-attr]
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" width="[\d.]+pt"', "", svg, count=1)
    # The drawing shrinks with the page, but is never enlarged.
    svg = svg.replace("<svg", f'<svg style="width:100%;max-width:{width * 4 / 3:.0f}px;height:auto"', 1)
    return blocks.Figure(Markup(svg), alt)


def styled(draw: Callable[..., blocks.Figure]) -> Callable[..., blocks.Figure]:
    """Matplotlib reads its style when a part is created, so the whole figure is drawn within the style context."""
    @functools.wraps(draw)
    def within(*arguments: Any) -> blocks.Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*arguments)
    return within


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def wilson(right: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a proportion."""
    p = right / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _beside(chance: float | None) -> str:
    return "" if chance is None else f", chance {_percent(chance)}"


@styled
def headline_plot(mean: float, ci95: Sequence[float] | None, chance: float | None) -> blocks.Figure:
    """The mean and its interval on the scale from 0 to 100 %, with chance."""
    figure, ax = _axes(12.0, 0.8)
    ax.barh(0, 1, height=0.34, color="#eef1f4")
    if ci95:
        ax.barh(0, ci95[1] - ci95[0], left=ci95[0], height=0.34, facecolor=PALE, edgecolor=TEAL, lw=0.8)
    ax.plot([mean, mean], [-0.17, 0.17], color=TEAL, lw=3.5, solid_capstyle="butt")
    if chance is not None:
        ax.plot([chance, chance], [-0.3, 0.3], color=ROSE, lw=1.4, ls=(0, (3, 2)))
        ax.text(chance, 0.38, f"chance {100 * chance:.0f}", color=ROSE, ha="center", va="bottom", fontsize=8)
    ax.set(xlim=(0, 1), ylim=(-0.35, 0.7), yticks=[], xticks=np.linspace(0, 1, 6))
    ax.set_xticklabels(["0", "20", "40", "60", "80", "100 %"])
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0)
    between = f", 95 % interval {_percent(ci95[0])} to {_percent(ci95[1])}" if ci95 else ""
    return _drawn(figure, "headline", f"Accuracy {_percent(mean)}{between}{_beside(chance)}")


@styled
def subjects_plot(subjects: Sequence[SubjectScores], mean: float, ci95: Sequence[float] | None,
                  chance: float | None) -> blocks.Figure:
    """Accuracy of every test subject, sorted; faint dots are single seeds."""
    table = seed_table(subjects)
    values = np.nanmean(table, axis=1)
    order = np.argsort(values, kind="stable")
    clips = np.array([max(scores.n for scores in subjects[i].by_seed.values()) for i in order])
    values, table, x = values[order], table[order], np.arange(len(subjects))
    lo, hi = wilson(values * clips, clips)
    figure, ax = _axes(11.2, 3.5)
    ax.grid(axis="y")
    if ci95:
        ax.axhspan(ci95[0], ci95[1], facecolor=(PALE, 0.55), edgecolor=TEAL, lw=0.6, ls=":", label="95 % interval of the mean")
    ax.axhline(mean, color=TEAL, lw=1.2, label=f"mean {100 * mean:.1f} %")
    if chance is not None:
        ax.axhline(chance, color=ROSE, lw=1.2, ls=(0, (4, 3)), label=f"chance {100 * chance:.1f} %")
    ax.vlines(x, lo, hi, color=SKY, lw=1.6 if len(subjects) <= 45 else 0.9)
    if table.shape[1] > 1:
        ax.plot(np.repeat(x, table.shape[1]), table.ravel(), ".", color=FAINT, ms=3, alpha=0.6, label="one seed")
    ax.plot(x, values, "o", color=TEAL, ms=5.5 if len(subjects) <= 45 else 3.5, mec="white", mew=0.7)
    if len(subjects) <= 45:
        ax.set_xticks(x, [subjects[i].subject[:6] for i in order], rotation=90, fontsize=7.5, family="monospace")
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{len(subjects)} subjects, sorted")
    least = min(lo.min(), 1.0 if chance is None else chance)
    ax.set(xlim=(-0.7, len(subjects) - 0.3), ylim=(min(0.0 if least < 0.25 else 0.2, least), 1.02))
    ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    ax.legend(loc="lower right", fontsize=8, ncols=4, bbox_to_anchor=(1, 1.0))
    return _drawn(figure, "subjects", f"Accuracy of {len(subjects)} test subjects, sorted, from {_percent(values[0])} to "
                  f"{_percent(values[-1])}; mean {_percent(mean)}{_beside(chance)}")


@styled
def confusion_plot(matrix: np.ndarray, names: Sequence[str]) -> blocks.Figure:
    """Rows are true classes. Shade and per cent are within a row, small numbers are clips."""
    K = len(names)
    of = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.where(of > 0, of, 1)
    side = max(3.6, 0.66 * K + 1.4)
    figure, ax = _axes(side, side)
    shades = matplotlib.colors.LinearSegmentedColormap.from_list("teal", ["#f3f7f7", TEAL])
    for row in range(K):
        for column in range(K):
            value = share[row, column]
            ax.add_patch(Rectangle((column, row), 0.97, 0.97, color=shades(value), lw=0))
            colour = "white" if value > 0.55 else INK
            ax.text(column + 0.485, row + 0.43, f"{100 * value:.0f} %", ha="center", va="center", color=colour,
                    fontsize=13 if K <= 3 else 8.5, fontweight="bold")
            ax.text(column + 0.485, row + 0.72, f"{round(float(matrix[row, column]), 1):g}", ha="center", va="center",
                    color=colour, fontsize=8.5 if K <= 3 else 7.5)
    ax.set(xlim=(0, K), ylim=(K, 0), xlabel="predicted class", ylabel="true class", aspect="equal")
    turn = 45 if max(map(len, names)) > 6 and K > 3 else 0
    ax.set_xticks(np.arange(K) + 0.485, names, rotation=turn, ha="right" if turn else "center")
    ax.set_yticks(np.arange(K) + 0.485, names)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    rows = [f"of {name} " + ", ".join(f"{_percent(value)} as {predicted}" for predicted, value in zip(names, row, strict=True))
            for name, row in zip(names, share, strict=True)]
    return _drawn(figure, "confusion", f"Confusion matrix: {'; '.join(rows)}")


@styled
def reliability_plot(bins: Reliability) -> blocks.Figure:
    """Accuracy by confidence; the bars below count clips."""
    figure = Figure(figsize=(4.4, 3.9))
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1], gridspec_kw={"hspace": 0.12})
    used = bins.count > 0
    ax.grid()
    ax.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 3)))
    ax.vlines(bins.confidence[used], bins.confidence[used], bins.accuracy[used], color=ROSE, lw=2, alpha=0.6)
    ax.plot(bins.confidence[used], bins.accuracy[used], "o-", color=TEAL, ms=5, mec="white", lw=1.2)
    ax.set(xlim=(0, 1), ylim=(0, 1.03), ylabel="accuracy")
    middle = (bins.edges[:-1] + bins.edges[1:]) / 2
    below.bar(middle, bins.count, width=0.085, color=SKY)
    below.set(xlabel="confidence", ylabel="clips", yticks=[0, int(bins.count.max())])
    for axis in (ax.yaxis, below.xaxis):
        axis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    shown = [f"confidence {_percent(sure)}, accuracy {_percent(right)}"
             for sure, right in zip(bins.confidence[used], bins.accuracy[used], strict=True)]
    return _drawn(figure, "reliability", f"Reliability diagram, by bin: {'; '.join(shown)}")


@styled
def curves_plot(curves: Sequence[Mapping[str, Any]]) -> blocks.Figure:
    """Pretraining loss by epoch, one small panel per stage."""
    titles = [", ".join(filter(None, (row["stage"], row.get("encoder")))) for row in curves]
    stages = list(dict.fromkeys(titles))
    columns = min(3, len(stages))
    rows = -(-len(stages) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    ends = []
    for ax, stage in zip(panels, stages, strict=False):
        points = [(row["epoch"], row["loss"]) for row, title in zip(curves, titles, strict=True) if title == stage]
        ax.grid(axis="y")
        ax.plot(*zip(*points, strict=True), "o-" if len(points) < 15 else "-", color=TEAL, ms=3, lw=1.4)
        ends.append(f"{stage} from {points[0][1]:.3g} to {points[-1][1]:.3g}")
        ax.set_title(stage, fontsize=9, loc="left", color=INK)
        ax.set_xlabel("epoch", fontsize=8)
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in panels[len(stages):]:
        ax.set_visible(False)
    return _drawn(figure, "curves", f"Pretraining loss by epoch: {'; '.join(ends)}")


ROLES = {"not used": "#f4f6f8", "training": "#c3d5e6", "inner validation": AMBER, "test": TEAL,
         "test subject, also used in training": "#4d0b1b"}  # from light to dark, so that they also differ in grey


def roles_matrix(folds: Sequence[Fold]) -> tuple[np.ndarray, list[Fold], list[str]]:
    """(folds, subjects) indices into ROLES, the folds of the first seed, and the subjects in the order of their folds."""
    first = in_order(folds)[0].seed
    rows = [fold for fold in in_order(folds) if fold.seed == first]
    subjects = list(dict.fromkeys(p for fold in rows for p in fold.subjects))
    subjects += sorted({p for fold in rows for p in (*fold.train_subjects, *fold.val_subjects)} - set(subjects))
    matrix = np.zeros((len(rows), len(subjects)), dtype=int)
    for i, fold in enumerate(rows):
        train, val, test = set(fold.train_subjects), set(fold.val_subjects), set(fold.subjects)
        used = test if fold.leaky else test & (train | val)  # the leaky protocol scales over all subjects
        matrix[i] = [4 if p in used else 3 if p in test else 2 if p in val else int(p in train)
                     for p in subjects]
    return matrix, rows, subjects


@styled
def roles_plot(folds: Sequence[Fold], encoders: Sequence[Mapping[str, Any]] = ()) -> blocks.Figure:
    """The role of each subject (columns) in each fold (rows); a dot where the fold's encoder was pretrained on the subject."""
    matrix, rows, subjects = roles_matrix(folds)
    n_folds, n_subjects = matrix.shape
    cell = min(0.24, 5.2 / max(n_subjects, 1))
    figure, ax = _axes(cell * n_subjects + 0.6, max(cell * n_folds + 0.5, 1.1))
    inner = 1.04 if n_subjects > 40 else 0.9  # overlap hides the lines between many small cells
    colours = list(ROLES.values())
    for row in range(n_folds):
        start = 0  # one rectangle for adjacent equal cells keeps an 87 x 87 figure small
        for column in range(1, n_subjects + 1):
            if column == n_subjects or matrix[row, column] != matrix[row, start] or n_subjects <= 40:
                ax.add_patch(Rectangle((start, row), column - start - 1 + inner, inner,
                                       color=colours[matrix[row, start]], lw=0))
                start = column
    pretrained_on = {encoder["sha256"]: set(encoder["subjects"]) for encoder in encoders}
    dots = [(j + inner / 2, i + inner / 2) for i, fold in enumerate(rows) for j, subject in enumerate(subjects)
            if subject in pretrained_on.get(fold.encoder_sha256 or "", ())]
    for index, (name, colour) in enumerate(ROLES.items()):
        if (matrix == index).any():
            ax.plot([], [], "s", color=colour, ms=6, label=name)
    if dots:
        ax.plot(*zip(*dots, strict=True), "o", color="white", mec=INK, mew=0.6 if n_subjects <= 40 else 0,
                ms=4 if n_subjects <= 40 else 1.6)
        ax.plot([], [], "o", color="white", mec=INK, mew=0.6, ms=4, label="in the encoder's pretraining")
    ax.set(xlim=(0, n_subjects), ylim=(n_folds, 0), xlabel=f"subjects (seed {rows[0].seed})", ylabel="folds",
           xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=8, handletextpad=0.2)
    used = sum((row == len(ROLES) - 1).any() for row in matrix)
    return _drawn(figure, "roles", f"Roles of {n_subjects} subjects in {n_folds} folds; in {used} folds a test subject is also "
                  f"used in training; in {len({y for _, y in dots})} folds the encoder was pretrained on some of these "
                  f"subjects")
