"""The Markdown files: every relative link leads somewhere, and the README stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import report

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "benchmarks", "weights", "examples", "engines", "sdk", "export", "tests", "web/example")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
#: Of the README, code and tables included.
WORDS = 600
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, spaces to hyphens, other punctuation gone, repeats numbered."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        shown = LINK.sub(lambda link: link.group(0)[1:].partition("]")[0], heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        repeats = (f"{slug}-{count}" for count in range(1, 100))
        found.add(slug if slug not in found else next(one for one in repeats if one not in found))
    return found


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere: no such file inside the project, or no such heading in it."""
    missing = []
    for target in LINK.findall(CODE.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            missing.append(target)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    other = "# Files, and `streams`\n\n```\n# no heading\n```\n\n## Twice\n\n## Twice\n"
    (tmp_path / "other.md").write_text(other)
    (tmp_path / "page.md").write_text(
        "[a](other.md#files-and-streams) [b](other.md#twice-1) [c](https://example.org) `[d](code.md)` [e](#here)\n"
        "[f](gone.md) [g](other.md#twice-2) [h](other.md#no-heading) [i](#gone)\n\n# Here\n"
    )
    assert broken(tmp_path / "page.md") == ["gone.md", "other.md#twice-2", "other.md#no-heading", "#gone"]


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        names = (target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8")) if ":" not in target)
        ahead += [(page.parent / name).resolve() for name in names if name.endswith(".md")]
    assert sorted((ROOT / "docs").glob("*.md")) == sorted(page for page in reached if page.parent == ROOT / "docs")


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    written = re.sub(f"{re.escape(report.BEGIN)}.*?{re.escape(report.END)}", "", text, flags=re.DOTALL)
    assert len(written.split()) <= WORDS
