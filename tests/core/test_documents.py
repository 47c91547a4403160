"""What README and the pages of docs/ point at is there: files, headings, targets of make and of Snakemake."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

from eightfold.core.provenance import SCRIPTS

ROOT = SCRIPTS.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "bench/README.md",
    ROOT / "profiles/README.md",
]
# A block of code: between fences, or indented below an empty line. A block may stand in a list, indented deeper.
FENCED = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?: {4,}[^\n]*\n)+)")
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def code_of(text: str) -> list[str]:
    """The blocks and spans of code of a page."""
    fenced = FENCED.findall(text)
    rest = FENCED.sub("", text)
    return [*fenced, *INDENTED.findall(rest), *SPAN.findall(INDENTED.sub("", rest))]


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page; a heading that comes again has -1, -2, ... at its end."""
    slugs: list[str] = []
    for title in HEADING.findall(FENCED.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slugs.append(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return {slug + (f"-{slugs[:i].count(slug)}" if slug in slugs[:i] else "") for i, slug in enumerate(slugs)}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file, or whose heading in it, is not there."""
    text = page.read_text(encoding="utf-8")
    wrong = []
    for link in LINK.findall(SPAN.sub("", FENCED.sub("", text))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text(encoding="utf-8"))):
            wrong.append(link)
    return wrong


def make_targets(code: str) -> set[str]:
    """What a piece of code asks of make: `make a b X=1; make c` gives a, b and c."""
    found = set()
    bare = re.sub(r"(^|\s)#.*", "", code)
    for words in re.findall(r"(?:^|(?<=[;&|\s]))make((?: +[^\s;&|]+)+)", bare, re.MULTILINE):
        found |= {word for word in shlex.split(words, posix=False) if re.fullmatch(r"[a-z][\w-]*", word)}
    return found


def snakemake_targets(code: str) -> set[str]:
    """What the lines of a piece of code ask of Snakemake, by its own parser; files are left out. Options of plug-ins are
    unknown to that parser and must come after the target."""
    found = set()
    for line in code.replace("\\\n", " ").splitlines():
        if match := re.search(r"(?:^|\s)snakemake +(\S.*)", line):
            words = shlex.split(match[1], comments=True)
            asked, _ = get_argument_parser().parse_known_args(words)
            found |= {str(target) for target in [*(asked.targets or []), *(asked.forcerun or [])]}
    return {name for name in found if re.fullmatch(r"\w+", name)}


@cache
def made_by_make() -> set[str]:
    heads = re.findall(r"^([a-z][\w -]*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return {name for head in heads for name in head.split()}


@cache
def rules() -> set[str]:
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return set(re.findall(r"^(?:use rule \w+ as|rule) (\w+)\b", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_that_a_page_names_exists(page):
    code = code_of(page.read_text(encoding="utf-8"))
    assert set().union(*map(make_targets, code)) <= made_by_make()
    assert set().union(*map(snakemake_targets, code)) <= rules()


def test_the_index_lists_every_page():
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))
    }
    assert {page for page in PAGES if page not in (index, ROOT / "README.md")} <= linked


def test_a_link_without_a_file_or_a_heading_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One thing\n\n## `make it`, now\n\n## One thing\n")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#make-it-now) [c](other.md#one-thing-1) [d](#here) [e](https://nowhere.example/x)"
    page.write_text(
        f"# Here\n\n{good}\n\n`[no](link.md)` [f](none.md) ![g](none.svg) [h](other.md#two-things) [i](#there)\n"
    )
    assert broken_links(page) == ["none.md", "none.svg", "other.md#two-things", "#there"]


def test_targets_are_read_from_code_and_not_from_prose():
    text = (
        "We make nothing. `make plan CONFIG=a.yaml`, `make`\n\n    make extras test   # make no_comment\n\n"
        "```sh\nmake lint; make new NAME=x\n```\n\n"
        "    snakemake --cores all --configfile my.yaml --config run=s0 seed=1 -- evaluate\n"
        "    snakemake look --cores 1 --configfile a.yaml && snakemake results/a.csv --cores all \\\n      --forcerun train\n"
    )
    code = code_of(text)
    assert set().union(*map(make_targets, code)) == {"plan", "extras", "test", "lint", "new"}
    assert set().union(*map(snakemake_targets, code)) == {"evaluate", "look", "train"}


def test_the_page_of_commands_has_every_target_of_make():
    rows = re.findall(r"^\| (`[^|]*) \|", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for row in rows for name in SPAN.findall(row)}
    heads = re.findall(r"^([a-z][\w -]*):[^=\n]*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == {name for head in heads for name in head.split()} - {"help"}
