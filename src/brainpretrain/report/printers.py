"""Prints a grid for readers as Markdown, LaTeX, HTML and plain text.

`layouts` makes the grids. Every text is escaped, since titles come from users.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain import files
from brainpretrain.errors import UserError
from brainpretrain.report.grid import Cell, Grid
from brainpretrain.report.pages import html as pages

TERMINAL_STYLES = {"": "", "missing": "dim", "up": "green", "down": "red", "same": "dim"}


def write(path: Path | str, frame: pd.DataFrame, grid: Grid) -> None:
    """Writes a table atomically, in the format of the suffix of `path`.

    `.tsv` holds the numbers of `frame`, Dice in 0..1; `.md`, `.tex`, `.html` and `.txt` show `grid`, Dice x 100.

    Raises:
        UserError: the suffix is another one.
    """
    suffix = Path(path).suffix
    if suffix == ".tsv":
        files.write_tsv(path, frame)
    elif suffix in PRINTERS:
        with files.atomic(path) as temporary:
            temporary.write_text(PRINTERS[suffix](grid), encoding="utf-8")
    else:
        raise UserError(f"cannot write a table as '{suffix}'", where=path, fix=f"use one of {', '.join(SUFFIXES)}")


def markdown(grid: Grid) -> str:
    """The grid as a Markdown table with title and notes."""
    rule = ["---" if i < grid.stub else "---:" for i in range(len(grid.header))]
    lines = [_pipes(map(_inline, grid.header)), _pipes(rule)]
    lines += [_pipes(map(_inline, row)) for row in grid.rows]
    notes = [f"- **{_escaped(words)}**" for words in grid.warnings] + [f"- {_escaped(note)}" for note in grid.notes]
    return "\n".join([f"**{_escaped(grid.title)}**", "", *lines, "", *notes]) + "\n"


def _inline(cell: Cell) -> str:
    """A cell as lines: text with detail, the small lines, the published value."""
    lines = [f"{cell.text} ({cell.detail})" if cell.detail else cell.text, *cell.under, *cell.beside]
    published = [f"*{_escaped(line).replace('*', '&#42;')}*" for line in _published(cell)]
    return "<br>".join([*map(_escaped, lines), *published])


def _published(cell: Cell) -> list[str]:
    """The line with the published value; it says 'published', since its grey colour alone may be lost in print."""
    return [f"published {cell.published}"] if cell.published else []


def _escaped(value: str) -> str:
    """One line of text that can neither end a Markdown cell nor begin a tag."""
    return " ".join(escape(value, quote=False).split()).replace("|", "\\|")


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def html(grid: Grid) -> str:
    """The grid as an HTML page. A column with details is two columns under one heading, so that numbers align."""
    return pages.render("grid", title=grid.title, grid=grid, wide=set() if grid.narrow else _columns_with_details(grid))


def _columns_with_details(grid: Grid) -> set[int]:
    return {j for row in grid.rows for j, cell in enumerate(row) if cell.detail}


def latex(grid: Grid) -> str:
    """The grid as a LaTeX table; the document needs the packages booktabs and xcolor."""
    columns = "l" * grid.stub + "r" * (len(grid.header) - grid.stub)
    body = []
    for i, row in enumerate(grid.rows):
        body += [r"\midrule"] if i in grid.starts else []
        body.append(_tex_row(row))
    notes = "\\par\n".join([*(rf"\textcolor{{red}}{{{_tex(words)}}}" for words in grid.warnings), *map(_tex, grid.notes)])
    begin = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(grid.title)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    end = [r"\bottomrule", r"\end{tabular}", r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
    packages = [r"% \usepackage{booktabs}", r"% \usepackage{xcolor}"]
    whole = [*packages, *begin, _tex_row(grid.header), r"\midrule", *body, *end, notes, r"\end{minipage}", r"\end{table}"]
    return "\n".join(whole) + "\n"


def _tex_row(cells: Iterable[Cell]) -> str:
    return " & ".join(map(_tex_cell, cells)) + r" \\"


def _tex_cell(cell: Cell) -> str:
    """A cell; several lines are stacked. Each is in braces, since LaTeX takes a bracket after a line end for its option."""
    first = _tex(cell.text) + (f" ({_tex(cell.detail)})" if cell.detail and cell.tone else "")
    lines = [cell.detail] if cell.detail and not cell.tone else []
    small = [rf"{{\scriptsize {_tex(line)}}}" for line in [*lines, *cell.under, *cell.beside]]
    small += [rf"{{\scriptsize\color{{gray}}{_tex(line)}}}" for line in _published(cell)]
    stacked = r"\\".join([f"{{{first}}}", *small])
    return rf"\shortstack[r]{{{stacked}}}" if small else stacked


TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "†": r"$\dagger$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def _tex(value: str) -> str:
    """One line of text, escaped so that LaTeX prints it verbatim."""
    return "".join(TEX.get(character, character) for character in " ".join(value.split()))


def text(grid: Grid, colour: bool = False) -> str:
    """The grid for a terminal, at its full width; `colour` adds ANSI colours to the deltas."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    details = _columns_with_details(grid)
    tall = any(cell.under or cell.beside or cell.published for row in grid.rows for cell in row)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 1), leading=int(tall))
    for j, cell in enumerate(grid.header):
        heading = Text("\n".join([cell.text, *cell.detail.split(", ")]).strip())
        table.add_column(heading, justify="left" if j < grid.stub else "right", no_wrap=True)
        if j in details:
            table.add_column(justify="right", no_wrap=True)
    for i, row in enumerate(grid.rows):
        cells = []
        for j, cell in enumerate(row):
            cells.append(
                _terminal(cell.text, "" if cell.detail else TERMINAL_STYLES[cell.tone], [*cell.under, *_published(cell)])
            )
            cells += [_terminal(cell.detail, TERMINAL_STYLES[cell.tone], cell.beside)] if j in details else []
        table.add_row(*cells, end_section=i + 1 in grid.starts)
    system = "standard" if colour else None
    console = Console(file=io.StringIO(), width=1000, force_terminal=colour, color_system=system)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    red, plain = ("\033[31m", "\033[0m") if colour else ("", "")
    warnings = [f"{red}! {words}{plain}" for words in grid.warnings]
    return "\n".join([grid.title, "", *lines, "", *warnings, *grid.notes]) + "\n"


def _terminal(first: str, style: str, small: Iterable[str]) -> Any:
    from rich.text import Text

    return Text("\n").join([Text(first, style), *(Text(line, "dim") for line in small)])


PRINTERS = {".md": markdown, ".tex": latex, ".html": html, ".txt": text}
SUFFIXES = (".tsv", *PRINTERS)
