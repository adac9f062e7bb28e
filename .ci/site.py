"""What mkdocs calls while it builds the site (mkdocs.yml): pages that do not lie in docs/, the reference, the navigation.

The reference has one page per package: the docstrings of every public name, read from the sources without importing them.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("getting-started", "how-to", "explanation", "reference")
TITLES = {"getting-started": "Getting started", "how-to": "How-to", "explanation": "Explanation", "reference": "Reference"}
OUTSIDE = {"README.md": "index.md", "models/README.md": "reference/paper.md", "CONTRIBUTING.md": "project/contributing.md",
           "CHANGELOG.md": "project/changelog.md", "THIRD_PARTY.md": "project/third-party.md"}
# What comes first in a part; the other pages of its folder follow by name. Two keep their place on top of docs/.
FIRST = {"getting-started": ["getting-started/install.md"], "explanation": ["architecture.md"], "how-to": ["extend.md"]}
NAMED = {"reference/paper.md": "The paper's figures and equations, by file"}  # whose heading says too little here
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)((?:#[^)\s]*)?)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    benchmarks = {f"benchmarks/{path.name}": f"project/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.md"))}
    pages = {name: uri for name, uri in {**OUTSIDE, **benchmarks}.items() if (ROOT / name).is_file()}
    for name, uri in pages.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text()))
    packages = {f"reference/code/{package}.md": text for package, text in reference().items()}
    for uri, text in packages.items():
        files.append(File.generated(config, uri, content=text))
    own = {file.src_uri for file in files.documentation_pages()}
    config.nav = [{"dualpain": "index.md"}]
    for part in PARTS:
        inside = [uri for uri in FIRST.get(part, []) if uri in own]
        inside += sorted(uri for uri in own if uri.startswith(f"{part}/") and uri not in packages and uri not in inside)
        inside = [{NAMED[uri]: uri} if uri in NAMED else uri for uri in inside]
        config.nav.append({TITLES[part]: inside + ([{"Code": list(packages)}] if part == "reference" else [])})
    measured = list(benchmarks.values())
    project = [uri for uri in pages.values() if uri.startswith("project/") and uri not in measured]
    config.nav.append({"Project": [*project, {"Benchmarks": measured}]})
    config.extra["pages"] = {**{f"docs/{uri}": uri for uri in own if uri not in pages.values()}, **pages}
    return files


def reference() -> dict[str, str]:
    """{package: its page}, with every file of the package."""
    pages = {}
    for top in ("orchestrator", "models", "preprocessing"):
        for init in sorted((ROOT / top).rglob("__init__.py")):
            package = ".".join(init.parent.relative_to(ROOT).parts)
            modules = [f"{package}.{path.stem}" for path in sorted(init.parent.glob("*.py")) if not path.stem.startswith("__")]
            own = f"::: {package}\n    options: {{members: false, show_root_heading: false}}\n"
            pages[package] = f"# {package}\n\n{own}\n" + "\n".join(f"::: {module}\n" for module in modules)
    return pages


class Lines(griffe.Extension):
    """Paragraphs of a docstring that stand in columns keep their lines, which Markdown would join."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(
                text.replace("\n", "  \n") if re.search(r"\S {2,}\S", text) else text for text in paragraphs)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages; to a file that is no page, its name."""
    pages: dict[str, str] = config.extra["pages"]
    here = next((name for name, uri in pages.items() if uri == page.file.src_uri), page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        name = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        uri = pages.get(name) or (name.removeprefix("docs/") if files.get_file_from_path(name.removeprefix("docs/")) else None)
        if uri is None:
            if not (ROOT / name).exists():
                return match[0]  # which mkdocs refuses
            return text if text == name else f"{text} (`{name}`)"
        return f"{picture}[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return LINK.sub(moved, markdown)
