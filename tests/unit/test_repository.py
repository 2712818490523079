"""The repository as a whole: links that lead somewhere, names that are unique."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)")


def test_links_between_pages_lead_somewhere() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *(page for part in ("docs", "deploy", "tests") for page in (ROOT / part).rglob("*.md")),
    ]
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text()) if not link.startswith("http")]
    assert len(links) > 50
    assert [(str(page), link) for page, link in links if not (page.parent / link).exists()] == []


def test_test_modules_have_names_of_their_own() -> None:
    """pytest imports them by name, from all folders."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
