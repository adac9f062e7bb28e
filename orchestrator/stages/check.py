"""Checks this machine and the data root, reports problems with their fixes, and estimates time and disk of a run."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.registry import MODELS
from orchestrator.cohort import duplicates
from orchestrator.cohort.cohort import Clip, Cohort
from orchestrator.config.configuration import Config, with_protocol
from orchestrator.config.model_inputs import SIGNALS, TOKENS, VIDEO, is_estimator, needs
from orchestrator.errors import EXIT_DONE, UserError
from orchestrator.estimate import costs, data_fingerprint, finished
from orchestrator.estimate.data_fingerprint import Fingerprint, Sample
from orchestrator.estimate.machine import OK, STOP, WARN, Finding
from orchestrator.evaluation import run_record
from orchestrator.files.storage import free_bytes
from orchestrator.plan import folds
from orchestrator.plan.folds import Plan
from orchestrator.plan.splits import SPLITS
from orchestrator.stores import cross_dataset, origin
from preprocessing.datasets.registry import SOURCES
from preprocessing.duplicates.fingerprints import HOLDS_LITTLE
from preprocessing.errors import InputError

MARKS = {OK: "[green]ok[/]", WARN: "[yellow]warning[/]", STOP: "[red]STOP[/]"}
SHOWN = 3  # examples of a list of files


def already_finished(config: Config, people: Cohort, plans: list[Plan]) -> finished.Finished:
    """What is finished already; NOTHING if this cannot be determined, so that the rest is shown all the same."""
    try:
        return finished.find(config, people, plans)
    except (UserError, InputError, OSError):
        return finished.NOTHING


def read(config: Config) -> tuple[Cohort | None, str]:
    """The cohort as far as it can be read, and the error that would stop a run ("" if there is none)."""
    try:
        return cross_dataset.load(config, preview=True), ""
    except (UserError, InputError) as error:
        problem = str(error)
    if not config.data.allow_partial:  # an incomplete cohort is described all the same
        try:
            return cross_dataset.load(config.model_copy(
                update={"data": config.data.model_copy(update={"allow_partial": True})}), preview=True), problem
        except (UserError, InputError):
            pass
    return None, problem


def plan(config: Config, people: Cohort) -> tuple[list[Plan], list[Finding]]:
    names = ["clean", "as_paper"] if config.protocol.name == "both" else [config.protocol.name]
    try:
        given = origin.read(config, people)
        plans = [folds.make_plan(with_protocol(config, name), people.people, given) for name in names]
    except UserError as error:
        return [], [Finding.stop("Plan", error)]
    return plans, [Finding("Plan", OK, p.text().replace("\n", "; ")) for p in plans]


def classes_left(config: Config, people: Cohort, data: Fingerprint, plans: Sequence[Plan]) -> list[Finding]:
    """STOP if the excluded clips leave a fold without training clips of a class. A run would notice it only at the end."""
    if data.planned:
        return []
    names, n_all = [people.class_names[c] for c in config.task.classes], people.label_counts(config.task.classes)
    lost = len(data.lengths.odd)
    fix = "correct fs, or give all clips one window (start_s, end_s, or signal.seconds)" if lost else \
        "restore the files, or correct channels, start_s, end_s and fs"
    for c, name in enumerate(names):
        total = sum(counter[c] for counter in n_all.values())
        if total and not any(counter[c] for counter in data.usable.values()):
            why = "because of their length, or because their files are missing, lack a column or have no row in the window"
            return [Finding("Classes", STOP, f"none of the {total} clips of class {name} can be used, {why}", fix)]
    try:
        for one in plans:
            folds.check_classes(one.folds, data.usable, names, is_estimator(config.model.name))
    except UserError as error:
        return [Finding.stop("Classes", error)]
    return []


def registered(config: Config) -> list[Finding]:
    """What the names on the command line stand for."""
    source, model = SOURCES[config.dataset], MODELS[config.model.name]
    reads = " and ".join(sorted(model.needs))
    return [Finding("Data set", OK, f"{source.name}: {source.about}" + (f" (paper: {source.paper})" if source.paper else "")),
            Finding("Model", OK, f"{model.name}, which reads {reads}: {model.about}"
                                 + (f" (paper: {model.paper})" if model.paper else "")),
            Finding("Split", OK, f"{config.split.name}: {SPLITS[config.split.name].about}")]


def judge(config: Config, data: Fingerprint, problem: str) -> list[Finding]:
    """The problems of the data, each with its fix."""
    found = [Finding.stop("Cohort", problem)] if problem else []
    for what, names, there, other in (("video", TOKENS | VIDEO, data.with_video, "signal"),
                                      ("signals", SIGNALS, data.with_signal, "video")):
        if names & needs(config) and not there:
            found.append(Finding("Model", STOP, f"model={config.model.name} needs {what}, but this data set has no {what}",
                                 f"use model={other}"))
    if data.same_reference:
        found.append(Finding("Duplicates", WARN, f"{data.same_reference} clips use exactly the same recording as another clip",
                             "remove the repeated rows: one recording would count twice"))
    if data.same_content:
        first = ", ".join(str(p) for p in data.same_content[0][:SHOWN])
        found.append(Finding("Duplicates", WARN, f"{len(data.same_content)} groups of files are byte for byte equal ({first})",
                             "a recording copied under another name leaks between subjects: keep one copy, unless the values "
                             "are so few or so coarse that they are equal by chance"))
    if not data.hashed_all:
        found.append(Finding("Duplicates", OK, "too many files have equal sizes: not all of them were compared"))
    if data.lacking_a_class:
        found.append(Finding("Classes", WARN, f"{data.lacking_a_class} subjects have no clip of some class of the task",
                             "nothing to do: their folds will show a warning"))
    if data.uneven_rates:
        found.append(Finding.stop("Rates", data.uneven_rates))
    if text := data.lengths.sentence():
        fix = "correct fs, or give them all one window; a run excludes them" if data.lengths.odd else ""
        found.append(Finding("Lengths", WARN, text, fix))
    if data.length_warning:
        text, _, fix = data.length_warning.rstrip(".").rpartition("; ")
        found.append(Finding("Lengths", WARN, text, fix))
    found += [Finding("Filters", WARN, text.rstrip("."), "a run skips the filter; bands are set in signal.*")
              for text in data.unfit]
    found += excluded(config, data)
    return found or [Finding("Data", OK, "nothing wrong was found")]


def excluded(config: Config, data: Fingerprint) -> list[Finding]:
    """The files that a run cannot use, as far as headers and a few opened recordings show it."""
    found = []
    for paths, what, fix in ((data.missing, "files are listed but missing", "restore them, or remove their clips"),
                             (data.empty, "files are empty", "copy them again")):
        if paths:
            shown = ", ".join(str(p) for p in paths[:SHOWN]) + (" ..." if len(paths) > SHOWN else "")
            found.append(Finding("Files", WARN, f"{len(paths)} {what} ({shown})", fix + "; a run excludes their clips"))
    if data.lacking:
        shown = "; ".join(data.lacking[:SHOWN]) + ("; ..." if len(data.lacking) > SHOWN else "")
        found.append(Finding("Columns", WARN, f"{len(data.lacking)} signal files lack a column, or have it twice ({shown})",
                             "correct the columns of the channels, or the files; a run excludes their clips"))
    for what, names, sample in (("Videos", TOKENS | VIDEO, data.video), ("Signals", SIGNALS, data.signal)):
        if sample.problems:
            problem, n = Counter(sample.problems).most_common(1)[0]
            named = next((e for p, e in zip(sample.problems, sample.examples, strict=True) if p == problem and e), "")
            reason = problem.rstrip(".") + (f" ({named})" if named else "")
            if len(sample.problems) == sample.opened and names & needs(config):
                text = f"none of the {sample.opened} {what.lower()} that were opened can be used, {n} because of "
                text += reason
                found.append(Finding("Data", STOP, text, "repair them, or correct the manifest"))
                continue
            found.append(Finding(what, WARN, f"{len(sample.problems)} of {sample.opened} opened cannot be used: {reason}",
                                 f"{n} for the same reason; a run excludes such clips, with strict=true it stops"))
    return found


def duplicate_recordings(people: Cohort, data: Fingerprint, watched: bool = True) -> list[Finding]:
    """An identical recording of two subjects, which stops a run; the files are named here."""
    group = {path: f"group {i}" for i, paths in enumerate(data.same_content) for path in paths}

    def digests(clip: Clip) -> tuple[str, str]:
        video, signal = clip.recording.video, clip.recording.signal
        files = data_fingerprint.source_files(signal) if signal else ()
        return ("" if video is None or not watched else group.get(video.path, str(video.path.absolute())),
                "|".join(group.get(path, str(path.absolute())) for path in files))

    found = duplicates.shared_files(people, digests)
    whole, n_little = True, 0
    if found is None and not data.planned:
        decoded, whole, n_little = duplicates.shared_decoded(people, with_videos=watched)
        found = decoded[0] if decoded else None
    if found is not None:
        files = [str(one.path) for clip in found[:2] if (one := getattr(clip.recording, found[2]))]
        return [Finding("Duplicates", STOP, f"two subjects have an identical recording ({' and '.join(dict.fromkeys(files))})",
                        "it leaks into training when either of them is tested: keep one copy")]
    notes = [Finding("Duplicates", OK, f"{n_little} clips: {HOLDS_LITTLE.rstrip('.')}")] if n_little else []
    if whole:
        return notes
    return [*notes, Finding("Duplicates", OK, "too many recordings to compare them decoded here; a run compares all of them")]


def disk_space(config: Config, prices: list[costs.Cost]) -> list[Finding]:
    total, free = sum(p.size + p.passing for p in prices), free_bytes(config.store_dir)
    if total > free:
        return [Finding("Disk", STOP, f"the stages need about {costs.size_text(total)} but {config.store_dir} has "
                        f"{costs.size_text(free)} free", "choose another disk with store=DIR, or embed.pool=2x2")]
    folder = run_record.run_dir(config)
    done = len(list(folder.glob("ledger/fold-*.json"))) if (folder / "lineage.json").exists() else 0
    text = f"about {costs.size_text(total)} of {costs.size_text(free)} free"
    return [Finding("Disk", OK, text + (f"; {folder.name} holds {done} finished folds" if done else ""))]


def unfinished(config: Config) -> list[Finding]:
    """Interrupted trainings of encoders. Only a command with the same configuration resumes one; none is removed by itself."""
    folders = sorted(config.store_dir.glob("encoders/*.partial"))
    if not folders:
        return []
    size = sum(p.stat().st_size for folder in folders for p in folder.iterdir() if p.is_file())
    names = ", ".join(str(folder) for folder in folders[:SHOWN]) + (" ..." if len(folders) > SHOWN else "")
    return [Finding("Trainings", WARN, f"{len(folders)} of encoders not finished, {costs.size_text(size)} ({names})",
                    "run the same command again to resume one; remove the folders of those that you will not resume")]


def table(title: str, findings: list[Finding]) -> Table:
    shown = Table(title=title, title_justify="left", show_header=False, pad_edge=False)
    for name in ("state", "what", "text"):
        shown.add_column(name, no_wrap=name != "text")
    for f in findings:
        shown.add_row(MARKS[f.state], f.what, escape(f.text) + (f"\n[bold]{escape(f.fix)}[/]" if f.fix else ""))
    return shown


def describe(config: Config, data: Fingerprint) -> list[Table]:
    """The fingerprint of the data, as two tables."""
    facts = Table(title=f"{config.dataset}" + (" (as it will be generated)" if data.planned else ""), title_justify="left",
                  show_header=False, pad_edge=False)
    sexes = ", ".join(f"{n} {sex}" for sex, n in sorted(data.sexes.items()) if sex != "unknown")
    ages = f", {data.ages[0]} to {data.ages[1]} years old" if data.ages else ""
    facts.add_row("subjects", f"{data.subjects}" + (f" ({sexes}{ages})" if sexes else ""))
    facts.add_row("clips", f"{data.clips}, {data.task_clips} of them in task={config.task.name}")
    facts.add_row("video", f"{data.with_video} clips{_sampled(data.video, 'fps')}")
    facts.add_row("signals", f"{data.with_signal} clips{_sampled(data.signal, 'Hz')}")
    facts.add_row("channels", escape(", ".join(data.channels) or "none"))
    for note in data.notes:
        facts.add_row("notes", escape(note))
    for note in data.video.notes:
        facts.add_row("opened videos", escape(note))
    classes = Table(title="Clips per class and subject", title_justify="left", pad_edge=False)
    for name in ("class", "clips", "fewest", "most", "in the task"):
        classes.add_column(name, justify="left" if name in ("class", "in the task") else "right")
    for c in data.classes:
        classes.add_row(escape(c.name), str(c.clips), str(c.least), str(c.most), "yes" if c.in_task else "no")
    return [facts, classes]


def _sampled(sample: Sample, unit: str) -> str:
    def bounds(values: tuple[float, ...], digits: str) -> str:
        low, high = (format(f(values), digits) for f in (min, max))
        return low if low == high else f"{low} to {high}"

    parts = []
    if sample.seconds:
        parts.append(f"{bounds(sample.seconds, '.2f')} s")
    if sample.rates:
        parts.append(f"{bounds(sample.rates, '.5g')} {unit}")
    if sample.shapes:
        parts.append(", ".join(sorted(set(sample.shapes))))
    opened = f" ({sample.opened} opened)" if sample.opened else ""
    return (": " + ", ".join(parts) if parts else "") + opened


def cost_table(prices: list[costs.Cost], left: list[costs.Cost] | None, speed: costs.Speed) -> Table:
    """Time and disk of every stage for an empty store; the last row is the remaining work, if something is finished."""
    title = f"Estimate for an empty store, on {speed.name} of {speed.rate / 1e9:.0f} GFLOP/s, if nothing else runs on them"
    shown = Table(title=title, title_justify="left", pad_edge=False)
    for name in ("stage", "work", "time", "disk"):
        shown.add_column(name, justify="right" if name == "disk" else "left")
    for price in prices:
        more = f", and {costs.size_text(price.passing)} of temporary disk space" if price.passing >= 1e6 else ""
        shown.add_row(price.stage, price.what + more, costs.span(price.seconds), costs.size_text(price.size))
    shown.add_section()
    for name, rows in (("all", prices), ("to do", left)):
        if rows is None:
            continue
        without = [f"{p.stage} ({p.what})" for p in rows if p.seconds is None]
        stages = ", ".join(dict.fromkeys(p.stage for p in rows if p.stage not in ("start", "report")))
        text = "" if name == "all" else f"{stages}; the rest is finished" if stages else "only the report: the rest is finished"
        text += (", " if text else "") + f"without {', '.join(without)}" if without else ""
        spent, size = costs.total([p.seconds for p in rows]), sum(p.size for p in rows)
        shown.add_row(name, text, costs.span(spent), costs.size_text(size))
    return shown


def verdict(console: Console, findings: list[Finding]) -> int:
    stops = [f for f in findings if f.state == STOP]
    if stops:
        more = f" ({len(stops) - 1} more above.)" if len(stops) > 1 else ""
        raise UserError(stops[0].sentence() + more)
    warnings = sum(f.state == WARN for f in findings)
    console.print("A run can start." + (f" Warnings above: {warnings}." if warnings else ""))
    return EXIT_DONE
