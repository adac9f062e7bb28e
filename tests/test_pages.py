"""The documentation: links between files lead somewhere, files that pages name exist, lists agree, the architecture names every
file, and the site builds."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.helpers.places import ROOT

LISTED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
NAMES = [name for name in LISTED.split("\0") if (ROOT / name).is_file()]
PAGES = [name for name in NAMES if name.endswith(".md")]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (ROOT / name).read_text())
    assert not [target for target in targets if not ((ROOT / name).parent / target).exists()]


def test_pages_that_are_named_anywhere_exist():
    """In messages, comments, configurations and pages."""
    told = {(name, page) for name in NAMES if Path(name).suffix in {".py", ".md", ".yaml", ".toml", ""}
            for page in re.findall(r"\bdocs/[\w/-]+\.(?:md|png|py)\b", (ROOT / name).read_text())}
    assert len(told) > 20
    assert not [(name, page) for name, page in told if not (ROOT / page).exists()]


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_with_their_folder_exist(name):
    """From the checkout, from the page's folder, or within one of the packages."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|sh|toml))`", (ROOT / name).read_text())
    places = [ROOT, (ROOT / name).parent, *(ROOT / package for package in ("orchestrator", "models", "preprocessing"))]
    assert not [file for file in named if not any((place / file).is_file() for place in places)]


def test_each_rule_against_leaks_names_its_code_and_the_test_of_it():
    """Files of the leakage tests test the whole program; any other one imports the code that it is named for."""
    section = (ROOT / "README.md").read_text().partition("\n## How leakage is prevented\n")[2].partition("\n## ")[0]
    rules = section.split("\n- ")[1:]
    assert len(rules) == 7
    for rule in rules:
        (code, test) = re.search(r"\(`([\w/]+\.py)`;\s+`(tests/[\w/]+\.py)`\)$", rule.strip()).groups()
        package, _, module = code.removesuffix(".py").replace("/", ".").rpartition(".")
        text = (ROOT / test).read_text()
        assert (ROOT / code).is_file() and (test.startswith("tests/leakage/") or f"from {package}.{module} import" in text
                                            or re.search(rf"^from {package} import .*\b{module}\b", text, re.M)), rule


def test_the_reading_order_leads_from_the_command_inwards():
    """Each file after the first is imported by one before it."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    (paragraph,) = re.findall(r"^To read the code, .*?\n\n", text, re.M | re.S)
    files = re.findall(r"`(orchestrator/[\w/]+\.py)`", paragraph)
    assert len(files) == 6
    for i, file in enumerate(files[1:], 1):
        package, _, module = file.removesuffix(".py").replace("/", ".").rpartition(".")
        imports = rf"from {package}\.{module} import|from {package} import .*\b{module}\b"
        assert any(re.search(imports, (ROOT / before).read_text()) for before in files[:i]), file


def test_every_page_lies_in_one_of_the_four_parts():
    parts = {"getting-started", "how-to", "explanation", "reference"}
    assert {Path(name).parts[1] for name in PAGES if name.startswith("docs/")} - parts <= {"architecture.md", "extend.md"}
    assert all((ROOT / "docs" / part).is_dir() for part in parts)


@pytest.mark.parametrize("package", ["orchestrator", "models", "preprocessing"])
def test_the_architecture_names_every_file_and_folder_of_a_package(package):
    text = (ROOT / "docs/architecture.md").read_text().partition(f"\n| `{package}/` | contents")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in text.splitlines()[2:]]
    told = [word.removesuffix(".py").rstrip("/") for cell in cells for word in re.findall(r"[\w./]+", cell) if word != ".py"]
    inside = {Path(name).parts[1].removesuffix(".py") for name in NAMES if name.startswith(package) and name.endswith(".py")}
    assert sorted(told) == sorted(inside - {"__init__"})


@pytest.mark.parametrize("package", ["orchestrator", "models", "preprocessing"])
def test_folders_of_tests_are_folders_of_the_package(package):
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / package).rglob("test_*.py")}
    assert folders and not [folder for folder in folders if not (ROOT / folder).is_dir()]


def test_a_pull_request_lists_the_points_of_the_guide():
    """Each by the words it begins with, in the same order and under the same heading."""
    guide, template = ((ROOT / name).read_text() for name in ("CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md"))
    for heading in ("Before you submit a change", "Evidence for a change"):
        told, asked = (text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0] for text in (guide, template))
        points = re.findall(r"^- (.+?)(?::|$)", told, re.M)
        assert len(points) >= 4
        assert [point.split(",")[0] for point in points] == [
            point.split(",")[0] for point in re.findall(r"^- \[ \] (.+?)(?::|$)", asked, re.M)]


def test_headings_of_the_changes_are_unreleased_or_a_version_with_its_date():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings
    assert not [one for one in headings if one != "Unreleased" and not re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", one)]


def test_the_citation_is_of_this_version_and_of_the_paper_in_the_readme():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    (paper,) = cited["references"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert paper["title"] in readme and f"(PeerJ CS {paper['volume']}:{paper['start']}, {paper['year']})" in readme
    assert paper["url"] == f"https://doi.org/{paper['doi']}" and paper["doi"].endswith(paper["start"].removeprefix("e"))
    assert [f"{one['family-names']} {one['given-names']}" for one in paper["authors"]] == [
        "Nguyen M", "Yang H", "Dao D", "Kim S", "Kim S", "Shin J", "Nguyen NAT", "Nguyen T"]


@pytest.mark.ci
def test_the_site_builds_and_asks_nothing_of_other_hosts(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "architecture.html", "orchestrator.plan.html", "models.mae.html"} <= {page.name for page in pages}
    for page in pages:
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"(.*?)\"|<link[^>]*\shref=\"(.*?)\"", page.read_text())
        assert not [url for pair in fetched for url in pair if url.startswith(("http:", "https:", "//"))], page
