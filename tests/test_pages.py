"""The documentation: links between files lead somewhere, pages that the code names exist, and the site builds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_every_page_lies_in_one_of_the_four_parts():
    parts = {"getting-started", "how-to", "explanation", "reference"}
    assert {Path(name).parts[1] for name in PAGES if name.startswith("docs/")} - parts <= {"architecture.md", "extend.md"}
    assert all((ROOT / "docs" / part).is_dir() for part in parts)


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
