"""Writes the pages of the documentation site for mkdocs: those of docs/, the READMEs, and pages generated from the code.

    python docs/site/build.py OUT     (make docs)

OUT/mkdocs.yml has the settings, OUT/pages the pages. No page is written by hand there, and none of them is committed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from docs.site import methods, reference  # noqa: E402  (the line above makes them importable)

PICTURES = (".png", ".svg")
ASSETS = ("extra.css", "iframe-worker.js")  # of docs/site/
READMES = ("src/**/README.md", "rules/README.md", "slurm/README.md", "envs/README.md")
_LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```.*?^ *```[^\n]*\n?", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """Files of the repository that become pages -> address of the page on the site."""
    pages = {str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in _below_docs("*.md")}
    for pattern in READMES:
        for path in sorted(ROOT.glob(pattern)):
            folder = str(path.parent.relative_to(ROOT))
            pages[f"{folder}/README.md"] = f"code/{folder.removeprefix('src/')}.md"
    return pages | {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}


def tree() -> dict[str, str]:
    """All pages of the site: address -> Markdown, with links that hold on the site."""
    mapped, moved = sources(), methods.moved((ROOT / "docs" / "pretexts.md").read_text())
    pages = {}
    for source, address in mapped.items():
        if source != "README.md":  # the site has a first page of its own, docs/index.md
            text = (ROOT / source).read_text()
            text = methods.shortened(text) if source == "docs/pretexts.md" else text
            pages[address] = relinked(text, source, address, mapped, moved)
    generated = {**reference.pages(), **methods.pages()}
    for address, text in generated.items():  # their links are written as if they were files of docs/
        pages[address] = relinked(text, f"docs/{address}", address, mapped | {f"docs/{name}": name for name in generated}, moved)
    return pages


def pictures() -> Iterator[Path]:
    """The pictures of docs/."""
    for ending in PICTURES:
        yield from _below_docs(f"*{ending}")


def _below_docs(pattern: str) -> list[Path]:
    paths = sorted((ROOT / "docs").rglob(pattern))
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]


def links(text: str) -> list[tuple[str, str, str]]:
    """Links and pictures of a page outside of code: ("!" or "", text, target)."""
    return _LINK.findall(_FENCE.sub("", text))


def relinked(text: str, source: str, address: str, mapped: dict[str, str], moved: dict[str, str]) -> str:
    """A page whose links lead to pages of the site. A link to another file of the repository becomes the path of the file.

    Args:
        source: the page's file in the repository, from which its links start.
        address: its address on the site.
        mapped: file -> address of all pages.
        moved: anchor of docs/pretexts.md -> address of the page that has this section on the site.
    """

    def link(match: re.Match) -> str:
        picture, words, target = match.groups()
        if target.startswith(("http://", "https://", "mailto:")):
            return match.group()
        path, _, anchor = target.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(source), path)) if path else source
        if file == "docs/pretexts.md" and anchor in moved:
            return f"[{words}]({_relative(moved[anchor], address)}#{anchor})"
        if source == "docs/pretexts.md" and not path:
            return match.group()
        if file in mapped or (picture and file.startswith("docs/")):
            where = _relative(mapped.get(file, file.removeprefix("docs/")), address)
            return f"{picture}[{words}]({where}{'#' + anchor if anchor else ''})"
        if file.startswith("docs/") and Path(file).suffix in PICTURES:
            return f"[{words}]({_relative(file.removeprefix('docs/'), address)})"
        return f"`{file}`" if words.strip("`") in file else f"{words} (`{file}`)"

    parts, last = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(link, text[last : fence.start()]), fence.group()]
        last = fence.end()
    return "".join([*parts, _LINK.sub(link, text[last:])])


def _relative(target: str, address: str) -> str:
    return os.path.relpath(target, os.path.dirname(address) or ".")


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    words = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-") for heading in words}


def settings(pages: dict[str, str]) -> dict[str, Any]:
    """The settings for mkdocs, in whose navigation a pattern such as methods/recipes/* stands for all pages of that form."""
    read = yaml.safe_load((ROOT / "docs" / "site" / "mkdocs.yml").read_text())
    read["nav"] = _expanded(read["nav"], lambda pattern: [page for page in pages if fnmatch(page, pattern)])
    return read


def _expanded(nav: list, matching: Callable[[str], list[str]]) -> list:
    entries: list = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, content),) = entry.items()
            entries.append({title: _expanded(content, matching) if isinstance(content, list) else content})
        else:
            entries += matching(entry) if "*" in entry else [entry]
    return entries


def listed(nav: list) -> list[str]:
    """Addresses of all pages of a navigation, in its order."""
    found: list[str] = []
    for entry in nav:
        content = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += listed(content) if isinstance(content, list) else [content]
    return found


def write(out: Path) -> None:
    """Writes the settings and all pages below `out`."""
    pages = tree()
    for address, text in pages.items():
        path = out / "pages" / address
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for file in (*pictures(), *(ROOT / "docs" / "site" / name for name in ASSETS)):
        path = out / "pages" / file.relative_to(ROOT / "docs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.read_bytes())
    # the slugs are a function of Python, which YAML names by a tag
    text = yaml.safe_dump(settings(pages), sort_keys=False, allow_unicode=True)
    slugs = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
    (out / "mkdocs.yml").write_text(text.replace("slugify: GITHUB", f"slugify: {slugs}"), encoding="utf-8")
    print(f"{len(pages)} pages in {out / 'pages'}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
