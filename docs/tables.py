"""Tables of the documentation that are made from the code. To update: python docs/tables.py

README.md: models, data sets and splits, from the registers. docs/reference/options.md: the options, from the table that checks
them (orchestrator/config/schema.py), the comments in experiments/ and the options classes of preprocessing.
"""

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from models.registry import MODELS  # noqa: E402
from orchestrator.config.configuration import PATHS, compose, split_readers  # noqa: E402
from orchestrator.config.defaults import filled  # noqa: E402
from orchestrator.config.groups import EXPERIMENTS, GROUPS, choices  # noqa: E402
from orchestrator.config.option import Option  # noqa: E402
from orchestrator.config.schema import TABLE  # noqa: E402
from orchestrator.config.signature import parameters, rows  # noqa: E402
from orchestrator.plan.splits import SPLITS  # noqa: E402
from preprocessing.datasets.registry import SOURCES  # noqa: E402

ORDER = ("tokens", "signals", "video")
# The sections of options.md: the first words of the keys in each.
SECTIONS = {
    "run": ("task", "protocol", "split", "max_folds", "audit", "canaries", "controls", "strict", "run", "store", "resources"),
    "data": ("data", "synthetic"),
    "preprocessing": ("frames", "face", "keyframe", "signal", "scale"),
    "encoders": ("clip", "encoder", "smae", "embed"),
    "pretraining": ("pretrain",),
    "training": ("train", "train_from"),
    "models": ("model",),
    "sweep and compare": ("sweep", "compare")}
# Values of keys that no row of the table checks, and that are no path.
KINDS = {"protocol.seeds": "a whole number, or a list of them", "split.test": "a data set, or null",
         "train_from": "text, or null", "run.ledger": "a folder or a URL, or null",
         "pretrain.checkpoint_saw": "none, unknown, or a file",
         "pretrain.from": "a data set, a folder or a list of folders, or null", "keyframe.preset": "default or paper"}


def pages() -> dict[str, dict[str, str]]:
    """{page: {table name, as in the marks of the page: its Markdown}}."""
    return {"README.md": registers(), "docs/reference/options.md": options()}


def registers() -> dict[str, str]:
    models = [(f"`{m.name}`", ", ".join(part for part in ORDER if part in m.needs), m.family, m.about, m.paper)
              for m in MODELS.values()]
    sources = [(f"`{s.name}`", s.about, s.paper) for s in SOURCES.values()]
    splits = [(f"`{s.name}`", s.about) for s in SPLITS.values()]
    return {"models": table(("`model=`", "reads", "kind", "what it is", "paper"), models),
            "data sets": table(("`--dataset`", "what it is", "paper"), sources),
            "splits": table(("`split=`", "test subjects"), splits)}


def options() -> dict[str, str]:
    lines = {key: (f"`{key}`", cell(value_of(key)), default_of(key), cell(about(key))) for key in keys()}
    found = {"groups": table(("option", "choices", "default"), [
        ("`--dataset`" if group == "dataset" else f"`{group}`", ", ".join(f"`{name}`" for name in choices(group)),
         default_of_group(group)) for group in GROUPS])}
    for name, parts in SECTIONS.items():
        own = [lines[key] for part in parts for key in lines if key.partition(".")[0] == part]
        found[name] = table(("option", "value", "default", "meaning"), own)
    return found


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


# Which options there are

def keys() -> list[str]:
    """Every option but the groups: first those that only experiments/ has, then those of the table."""
    shipped = [key for key in leaves(composed().model_dump(mode="json", by_alias=True))
               if key not in TABLE and key not in GROUPS and not key.endswith(".name") and key != "experiment"]
    paths = [key for key in sorted(PATHS) if key not in TABLE]
    return list(dict.fromkeys([*shipped, *paths, *TABLE, *preprocessing()]))


def leaves(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [leaf for key, value in node.items()
            for leaf in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])]


@cache
def composed(*words: str) -> Any:
    return compose("synthetic", list(words))


@cache
def preprocessing() -> dict[str, tuple[str, str, Any]]:
    """{option: (value, meaning, default)} of the options classes of preprocessing."""
    from preprocessing.face.engine import FaceOptions
    from preprocessing.face.keyframes import KeyframeOptions
    from preprocessing.signals.emd import EMDOptions
    from preprocessing.signals.signals import SignalOptions

    found = {}
    for node, kind in (("face", FaceOptions), ("keyframe", KeyframeOptions), ("signal", SignalOptions),
                       ("signal.emd_options", EMDOptions)):
        checked, hints, texts = {row.key: row for row in rows(kind, node)}, typing.get_type_hints(kind), paragraphs(kind)
        for name, parameter in inspect.signature(kind).parameters.items():
            key = f"{node}.{name}"
            if parameter.default is not inspect.Parameter.empty and key != "signal.emd_options":
                value = checked[key].wanted() if key in checked else of_hint(hints[name])
                found[key] = (value, texts.get(name, ""), parameter.default)
    return found


def of_hint(hint: Any) -> str:
    text = str(hint)
    return "a path, or null" if "Path" in text else "a number or a name" if "tuple" not in text else "two numbers, or null"


def paragraphs(kind: type) -> dict[str, str]:
    """{field: what the docstring of its class says after "field: "}."""
    text = " ".join((kind.__doc__ or "").split())
    names = "|".join(inspect.signature(kind).parameters)
    parts = re.split(rf"(?:^|(?<=[.;] ))((?:{names})(?:, (?:{names}))*): ", text)
    told = zip(parts[1::2], parts[2::2], strict=True)
    return {name: said.strip().rstrip(".;").replace("None", "null") for together, said in told for name in together.split(", ")}


# Their values, defaults and meanings

def value_of(key: str) -> str:
    if key in KINDS:
        return KINDS[key]
    if key in PATHS:
        return "a path, or null" if key != "store.dir" else "a path"
    return TABLE[key].wanted() if key in TABLE else preprocessing()[key][0]


def about(key: str) -> str:
    """The meaning, from its one source: the row of the table, else the comment in experiments/, else the docstring."""
    row = TABLE.get(key, Option(key, "text"))
    told = row.about or commented(key) or preprocessing().get(key, ("", "", None))[1]
    readers = [name for name in split_readers(key.partition(".")[2]) if name in SPLITS] if key.startswith("split.") else []
    return f"{', '.join(f'`{name}`' for name in readers)}: {told}" if readers and not told.startswith("`split=") else told


def commented(key: str) -> str:
    """What the files of experiments/ say beside the key; where they differ, each with its file."""
    group, _, leaf = key.partition(".")
    found = {"": comments(EXPERIMENTS / "config.yaml").get(key, "")}
    if group in GROUPS:
        found |= {path.stem: comments(path).get(leaf, "") for path in sorted((EXPERIMENTS / group).glob("*.yaml"))}
    told = {name: text for name, text in found.items() if text}
    if len(set(told.values())) < 2:
        return next(iter(told.values()), "")
    return "; ".join(f"`{group}={name}`: {text}" for name, text in told.items())


@cache
def comments(path: Path) -> dict[str, str]:
    """{key: the comment beside it}, with the lines that continue it."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    last = ""
    for line in path.read_text().splitlines():
        if last and (more := re.match(r"\s{8,}# ?(.*)", line)):
            found[last] += " " + more[1]
        elif match := re.match(r"( *)(\w+):[^#]*(?:\s# ?(.*))?$", line):
            above = [(depth, name) for depth, name in above if depth < len(match[1])] + [(len(match[1]), match[2])]
            last = ".".join(name for _, name in above) if match[3] else ""
            if last:
                found[last] = match[3]
    return found


def default_of_group(group: str) -> str:
    value = {"dataset": "`synthetic`", "experiment": "none", "task": "by data set", "model": "by data set"}
    return value.get(group) or shown(getattr(composed(), group).name)


def default_of(key: str) -> str:
    if key.startswith("model.") and key.count(".") == 1:
        return of_models(key.partition(".")[2])
    dual, small = defaults("dual"), defaults("signal_small")
    if key.startswith("model.signal."):
        like = key.replace("model.signal.", "smae.")
        first = shown(dual[like]) if key.endswith("tokenizer") else f"as `{like}`"
        return first + (f"; {shown(small[like])} (`signal_small`)" if small[like] != dual[like] else "")
    if key.startswith("model.dcan."):
        from models.classifier.dcan import ReleasedDCAN

        own = parameters_with_defaults(ReleasedDCAN)
        name = key.rpartition(".")[2]
        told = [shown(dual[key])] if key in dual else []
        told += [f"{shown(own[name])} (`fusion=released`)"] if name in own and own[name] != dual.get(key, own) else []
        return "; ".join(told)
    if key.startswith("model.hpa.") and small[key] != dual[key]:
        return f"{shown(dual[key])}; {shown(small[key])} (`signal_small`)"
    if key == "compare.margin":
        return "none"
    return shown(dual[key] if key in dual else preprocessing()[key][2])


def of_models(leaf: str) -> str:
    """The default of model.LEAF for every model that has it."""
    found: dict[str, list[str]] = {}
    for name, model in MODELS.items():
        if leaf in parameters(model.maker()):
            own: Mapping[str, Any] = parameters_with_defaults(model.maker())
            if model.family == "classifier":
                own = {leaf: defaults("signal_small" if name == "signal_small" else "dual")[f"model.{leaf}"]}
            found.setdefault(shown(own[leaf]), []).append(name)
    return "; ".join(f"{value} ({', '.join(f'`{name}`' for name in names)})" for value, names in found.items())


def parameters_with_defaults(make: Callable[..., Any]) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(make).parameters.values() if p.default is not p.empty}


@cache
def defaults(model: str) -> dict[str, Any]:
    return filled(composed(f"model={model}").model_dump(mode="json", by_alias=True), model)


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def written(text: str, tables: Mapping[str, str]) -> str:
    """The text of a page, with each table between its marks updated."""
    for name, new in tables.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not mark or not end:
            raise SystemExit(f"The page lacks the marks <!-- {name} --> and <!-- end of {name} -->: add them")
        text = f"{before}{mark}{new}\n{end}{after}"
    return text


if __name__ == "__main__":
    for page, tables in pages().items():
        (ROOT / page).write_text(written((ROOT / page).read_text(), tables))
