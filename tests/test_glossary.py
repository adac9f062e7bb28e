"""docs/reference/glossary.md: every term once, in one short sentence, and every protocol is among them."""

import re

from orchestrator.config.groups import choices
from tests.helpers.places import ROOT

TEXT = (ROOT / "docs" / "reference" / "glossary.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| (.+) \|$", TEXT, re.M)[2:]
TERMS = [term.strip("`") for term, _ in ROWS]
WANTED = {"subject", "fold", "clip", "keyframe", "token", "tubelet", "MAE", "HPA", "DCAN", "IMF", "recall", "majority baseline",
          "chance", "cross-fitting", "optimism bias", "LOSO", "interval", "pseudonym", "store", "run", "seed", "protocol"}


def test_the_terms_are_in_alphabetical_order_each_once():
    assert TERMS == sorted(set(TERMS), key=str.casefold)
    assert set(TERMS) == WANTED | set(choices("protocol"))


def test_each_meaning_is_one_short_sentence():
    assert not [row for row in ROWS if not re.fullmatch(r"[A-Z][^.;]{20,110}\.", row[1])]


def test_the_readme_leads_to_the_glossary():
    assert "(docs/reference/glossary.md)" in (ROOT / "README.md").read_text()
