"""Small self-contained HTML pages of the report, made from the templates next to this file.

A page has no external address and, except for the viewer, no script. Templates escape every value; only a figure that
`inline` returned is inserted as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from brainpretrain import files
from brainpretrain.words import count

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
LONG_WORD = 24  # letters
MISSING = "–"


def render(name: str, **values: Any) -> str:
    """A whole HTML document: the template `name`.html.j2 with the given values. Each page needs a `title`."""
    return TEMPLATES.get_template(f"{name}.html.j2").render(values)


def write(path: Path | str, html: str) -> None:
    """Writes a page, atomically."""
    with files.atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


@dataclass(frozen=True)
class Table:
    """A table of plain values; `classes` says how each column is set ('number', 'wrap' or '')."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    classes: Sequence[str]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Iterable[int] = ()) -> Table:
    """A table for a template; `numeric` are the positions of the right-aligned columns.

    Words are broken only in columns that hold a long word, such as a path.
    """
    numeric, lines = set(numeric), [[str(value) for value in row] for row in rows]
    long = {i for line in lines for i, value in enumerate(line) if any(len(word) > LONG_WORD for word in value.split())}
    return Table(header, lines, ["number" if i in numeric else "wrap" if i in long else "" for i in range(len(header))])


def inline(svg: str) -> Markup:
    """An SVG as part of a page: without declarations and metadata, which name addresses and show nothing.

    The figure is trusted: matplotlib escapes the text in it.
    """
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return Markup(re.sub(r"\s+xmlns(:\w+)?=\"[^\"]*\"", "", svg))


def number(value: float, form: str) -> str:
    """A number in the given format, NaN as '–'."""
    return MISSING if pd.isna(value) else f"{value:{form}}"


def folds_missing(cell: dict[str, Any]) -> str:
    """What is written in place of a score whose runs are missing: '– (2 of 5 folds)'."""
    return f"{MISSING} ({cell['folds']} of {count(cell['folds_expected'], 'fold')})"
