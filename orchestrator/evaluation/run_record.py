"""The identity of a run: its content key, its folder, and what the report needs in addition to the ledger."""

import platform
import shlex
import subprocess
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from models import source
from models.registry import find
from orchestrator.cohort.cohort import Cohort
from orchestrator.cohort.lineage import Lineage
from orchestrator.config import plugins
from orchestrator.config.configuration import PATHS, SHORT, Config, choices, with_protocol
from orchestrator.config.model_inputs import is_estimator
from orchestrator.config.split_register import SPLITS
from orchestrator.evaluation.fit_fold import FoldRecipe
from orchestrator.files.code_key import code_sha256
from orchestrator.files.storage import file_sha256, key_of, write_checked, write_json, write_text
from orchestrator.plan.folds import Fold, Plan, seed_of
from orchestrator.pretraining import quality
from orchestrator.scores.fold_result import FoldResult
from orchestrator.stores.clip_store import ClipStore
from orchestrator.stores.encoder_store import NOT_RECIPE, Encoder
from orchestrator.stores.token_store import TokenJob
from preprocessing.allotment import usable_cores

PACKAGES = ("ray", "torch", "torchvision", "timm", "numpy", "scipy", "pyarrow", "opencv-python-headless", "EMD-signal",
            "hydra-core", "scikit-learn", "av", "ai-edge-litert")
# The code that computes a fold's predictions, apart from its model.
FOLDS = ("orchestrator.evaluation.fit_fold:fit_fold", "orchestrator.evaluation.fold_data:build",
         "orchestrator.plan.folds:make_plan", "orchestrator.stores.cross_dataset:JoinedStore",
         "orchestrator.stores.cross_dataset:join")
# Settings that do not change the result.
NOT_CONTENT = {"store", "run", "max_folds", "strict", "audit", "canaries", "controls", "resources", "sweep", "train_from"}
FACE_FOLDERS = tuple(path.partition(".")[2] for path in sorted(PATHS) if path.startswith("face."))
ROOT = Path(__file__).resolve().parents[2]


def run_dir(config: Config) -> Path:
    if config.run.dir:
        return Path(config.run.dir).expanduser().resolve()
    name = f"{config.dataset}-{config.task.name}-{config.model.name}-{config.protocol.name}"
    # other input folders mean another run, before any file is read: report and doctor use the name alone
    read = (config.data.root, config.split.root, config.sweep.read, config.pretrain.checkpoint,
            *(config.face.get(folder) for folder in FACE_FOLDERS),
            *([config.pretrain.given] if config.pretrain.given else []))
    places = [str(Path(place).expanduser().resolve()) if place else None for place in read]
    return Path("runs").resolve() / f"{name}-{key_of([_content(config), places, config.pretrain.checkpoint_saw], 8)}"


def in_folder(config: Config, folder: Path) -> Config:
    """The same run in another folder; a ledger at run.ledger gets a subfolder of the same name."""
    place, mark, options = (config.run.ledger or "").partition("?")  # s3://bucket/folder?region=...
    ledger = place and f"{place.rstrip('/')}/{folder.name}{mark}{options}"
    return config.model_copy(update={"run": config.run.model_copy(update={"dir": str(folder), "ledger": ledger or None})})


def runs(config: Config) -> list[Config]:
    """The run; for protocol=both the clean and the leaky one, each in its own folder."""
    if config.protocol.name != "both":
        return [config]
    return [in_folder(with_protocol(config, name), run_dir(config) / name) for name in ("clean", "as_paper")]


def _content(config: Config) -> dict:
    content = config.model_dump(mode="json", exclude=NOT_CONTENT)
    content["protocol"].pop("seeds")  # each ledger file has its own
    if config.protocol.name != "as_paper":
        content["protocol"].pop("as_paper_epochs")
    content["data"].pop("root")  # the data are identified by their hashes
    content["split"].pop("root")
    for name in ("workers", "checkpoint", "checkpoint_saw", "from", *NOT_RECIPE):
        content["pretrain"].pop(name)  # the encoders are identified by theirs
    if content["pretrain"]["seeds"] == 1:
        content["pretrain"].pop("seeds")
    content["face"] = _without_folders(content["face"])
    if content["model"].get("weights"):
        content["model"]["weights"] = _weights(content["model"]["weights"])
    return content


def _weights(path: str) -> str:
    """A weight file is identified by its content; if it is missing, building the model raises an error."""
    return file_sha256(Path(path)) if Path(path).is_file() else "absent"


def _without_folders(face: dict) -> dict:
    return {name: value for name, value in face.items() if name not in FACE_FOLDERS}


def content(config: Config, cohort: Cohort, clips: ClipStore, encoders: Sequence[Encoder], tokens: Sequence[TokenJob],
            recipe: FoldRecipe, lineages: Sequence[Lineage] = ()) -> dict[str, str]:
    """Everything that determines a run, each by its hash; the names are used in error messages. Another hash is another run.

    lineages: of the sweeps that chose the configuration.
    """
    settings, fit = _content(config), asdict(recipe)
    # what is done, not how it was requested: only networks are refitted, by default if there are few subjects
    settings["protocol"]["refit"] = fit["refit"] = recipe.refit and not is_estimator(config.model.name)
    made_of = {
        "configuration": [settings, fit],
        "code": [code_sha256(*FOLDS, *source(config.model.name), *_registered(config)), find(config.model.name).facts()],
        "people": [cohort.key_fingerprint, [[p.pseudonym, p.cohort, sorted(p.held_out)] for p in cohort.people]],
        # sex and age only together with a secret part, because the hash is published
        "clips": [[clips.sha256(p.index), p.sex, p.age] for p in cohort.people],
        "encoders": [[e.sha256, e.lineage.sha256()] for e in encoders], "tokens": [job.key for job in tokens],
        "chosen settings": [lineage.sha256() for lineage in lineages]}
    return {name: key_of(value, 32) for name, value in made_of.items()}


def _registered(config: Config) -> list[str]:
    """Registered functions that this run uses apart from its model, as "module:name"."""
    found = [SPLITS[config.split.name].make]
    if isinstance(config.train.get("augment"), Mapping):
        from models.classifier.augment import find

        found += [find(name) for name in config.train["augment"]]
    return [f"{one.__module__}:{one.__qualname__}" for one in found]


def together(contents: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The content of a run with more than one configuration."""
    return {name: key_of(list(dict.fromkeys(one[name] for one in contents)), 32) for name in contents[0]}


def lineage_record(content: Mapping[str, str], cohort: Cohort,
                   served: Sequence[tuple[Sequence[Fold], Sequence[Encoder], Sequence[Lineage]]],
                   protocol: str, leaky: bool) -> dict:
    """served: folds with their encoders and the lineages of their settings; encoders are numbered consecutively."""
    encoders: list[dict] = []
    folds: list[dict] = []
    chosen: list[dict] = []
    for own, theirs, lineages in served:
        first = len(encoders)
        encoders += [{"index": first + e.plan.index, "sha256": e.sha256, "lineage": e.lineage.to_json()} for e in theirs]
        folds += [{"fold": f.index, "seed": f.seed, "encoder": first + (f.group if f.group is not None else 0),
                   "test": cohort.keys(f.test), "train": cohort.pseudonyms(f.train), "val": cohort.pseudonyms(f.val)}
                  for f in own]
        chosen += [lineage.to_json() for lineage in lineages]
    return {"content_key": key_of(content, 32), "content": dict(content), "cohort": cohort.name, "protocol": protocol,
            "leaky": leaky, "encoders": encoders, "chosen_by": chosen,
            "folds": sorted(folds, key=lambda f: (f["fold"], f["seed"]))}


def write_start(folder: Path, config: Config, record: dict) -> None:
    """Written before the first fold, so that an unfinished run can be identified."""
    import yaml

    write_checked(folder / "lineage.json", record)
    write_text(folder / "config.yaml", yaml.safe_dump(portable(config), sort_keys=True))
    write_json(folder / "environment.json", {
        "python": platform.python_version(), "system": platform.system(), "machine": platform.machine(),
        "cores": usable_cores(config.resources.cpus), "executor": config.run.executor, "versions": versions(),
        **({"plugins": plugins.record()} if plugins.named() else {})})


def portable(config: Config) -> dict:
    """The configuration without this machine's paths, which appear only on the terminal and in <store>/private."""
    content = config.model_dump(mode="json", exclude={"store", "run"})
    content["data"]["root"] = content["split"]["root"] = None
    content["sweep"]["read"] = None
    content["pretrain"]["checkpoint"] = "a file" if content["pretrain"]["checkpoint"] else None
    if content["pretrain"]["from"] and content["pretrain"]["from"] not in choices("dataset"):
        content["pretrain"]["from"] = "a folder"
    if content["pretrain"]["checkpoint_saw"] not in ("none", "unknown"):
        content["pretrain"]["checkpoint_saw"] = "a file"
    content["face"] = _without_folders(content["face"])
    if content["model"].get("weights"):
        content["model"]["weights"] = "a file"
    return content


def places(config: Config) -> list[str]:
    """Every path in the configuration, as written and resolved; only for the terminal."""
    named = [value for key in PATHS if isinstance(value := _at(config, key), str)]
    given = [*named, str(config.store_dir), str(run_dir(config)), str(Path.cwd()), str(Path.home())]
    return [place for path in given for place in (path, str(Path(path).expanduser().resolve()))
            if "/" in place and place != "/"]


def _at(config: Config, key: str) -> object:
    value: object = config.model_dump(mode="json")
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def without_paths(command: str) -> str:
    words: list[str] = []
    for word in shlex.split(command):
        name, separator, value = word.partition("=")
        if name == "--plugin" and separator or words[-1:] == ["--plugin"]:
            words.append(f"{name}={Path(value).name}" if separator else Path(word).name)
            continue
        named = name == "pretrain.from" and value in choices("dataset")  # the name of a data set, not a path
        words.append(f"{name}=..." if separator and SHORT.get(name, name) in PATHS and not named else word)
    return " ".join(words)


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_state() -> tuple[str | None, bool | None]:
    """(commit, dirty), or (None, None) outside a checkout of this project."""
    if not (ROOT / ".git").exists():
        return None, None

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def facts(config: Config, plan: Plan, cohort: Cohort, clips: ClipStore, encoders: Sequence[Encoder],
          entries: Sequence[FoldResult], failed: dict[str, str], wall_s: float, command: str, used: Collection[str],
          chosen: Sequence[Lineage] = ()) -> dict:
    """The `run` from which summary and report are written, together with the ledger entries.

    used: samples that are not excluded for this model. chosen: lineages of settings that a sweep chose.
    """
    commit, dirty = git_state()
    quarantine = [row for row in clips.quarantine() if row["label"] in config.task.classes and row["sample"] not in used]
    names = [cohort.class_names[c] for c in config.task.classes]
    counts = cohort.label_counts(config.task.classes)
    encoder_parameters = sum(_video_parameters(e) for e in encoders[:1])
    return {
        "dataset": config.dataset, "task": config.task.name, "class_names": names, "model": config.model.name,
        "encoder": "+".join(sorted({e.plan.name for e in encoders if e.plan.video})) or None,
        "n_parameters": encoder_parameters + max([e.n_parameters for e in entries], default=0),
        "split": config.split.name, "protocol": config.protocol.name, "leaky": plan.leaky,
        "unproven": bool(config.model.options().get("weights")) or not all(
            lineage.is_proven() for lineage in (*(e.lineage for e in encoders), *chosen)),
        "partial": cohort.partial,
        "n_subjects": plan.n_subjects, "n_planned": len(plan.folds), "n_failed": len(plan.folds) - len(entries),
        "failed_folds": [{"fold": f.index, "seed": f.seed, "reason": failed[f.name]} for f in plan.folds
                         if f.name in failed],
        "seeds": plan.seeds() if plan.by_pretrain_seed else list(config.protocol.seeds),
        "pretrain_seeds": [seed for seed, _ in plan.by_pretrain_seed] or [config.pretrain.seed], "seed_of": seed_of(plan),
        "wall_s": wall_s, "versions": versions(), "git_commit": commit,
        "dirty": dirty, "key_fingerprint": cohort.key_fingerprint, "command": without_paths(command),
        "executor": config.run.executor,
        "quarantine": {
            "by_class": dict(Counter(cohort.class_names[r["label"]] for r in quarantine)),
            "by_subject": dict(Counter(r["subject"] for r in quarantine)),
            "by_reason": dict(Counter(f"{r['stage']}: {r['reason']}" for r in quarantine)), "rows": quarantine},
        "clips": _by_subject(cohort, counts, names),
        "curves": [row for e in encoders for row in _curve(e)], "plan": plan.text(), "refit": plan.refit,
        "quality": quality.of(encoders),
        "notes": [*cohort.notes, *clips.length_warning(dict(zip(config.task.classes, names, strict=True))), *clips.notes(),
                  *_settings(config)], "n_not_asked": plan.n_not_asked,
        "synthetic": cohort.synthetic,
        "config": portable(config),
        "lineage": [e.lineage.to_json() for e in encoders],
        "warnings": [{"subject": e.subject, "text": text} for e in entries for text in e.warnings]}


def _curve(encoder: Encoder) -> list[dict]:
    """With several pretrain seeds, the seed is part of the name, because each seed has an encoder 1."""
    seed = encoder.plan.group.seed if encoder.plan.group else None
    rows = encoder.curve()
    return rows if seed is None else [{**row, "encoder": f"{row.get('encoder')}, pretrain seed {seed}"} for row in rows]


def _settings(config: Config) -> list[str]:
    """A note on the data that default training settings were chosen on; estimators do not use these settings."""
    origin = config.train_from if not is_estimator(config.model.name) else None
    return [f"The settings of the training: {origin}"] if origin else []


def _by_subject(cohort: Cohort, counts: dict[int, Counter], names: list[str]) -> dict[str, dict[str, int]]:
    """Clips by pseudonym and class; a subject in two data sets is counted as one."""
    found: dict[str, Counter] = {}
    for subject, counter in counts.items():
        found.setdefault(cohort.people[subject].pseudonym, Counter()).update(counter)
    return {name: {names[c]: n for c, n in sorted(counter.items())} for name, counter in found.items()}


def _video_parameters(encoder: Encoder) -> int:
    if encoder.plan.video is None:
        return 0
    from models import checkpoint

    side = checkpoint.read_sidecar(encoder.plan.folder / "video")
    from math import prod

    return sum(prod(shape) for name, (_, shape) in side["tensors"].items() if not name.startswith("decoder"))
