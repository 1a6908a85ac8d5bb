"""A table as readers see it, before it is printed: text in cells, with what is shown small, coloured or grey.

`layouts` makes grids from numbers, `printers` writes them as Markdown, LaTeX, HTML and plain text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A cell of a grid.

    Attributes:
        text: the value.
        detail: secondary text, such as the difference to the baseline.
        tone: '', 'missing' or, of a difference, 'up' (better), 'down' (worse) or 'same'.
        under: small lines below `text`.
        beside: small lines below `detail`.
        published: a published value, shown grey below everything else.
    """

    text: str
    detail: str = ""
    tone: str = ""
    under: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    published: str = ""


@dataclass(frozen=True)
class Grid:
    """A table for readers.

    Attributes:
        header: as many cells as each row has.
        notes: shown below the table.
        stub: the first `stub` columns name a row.
        starts: indices of the rows before which a line is drawn, since a group begins there.
        warnings: what readers must know first; shown in red above the notes.
        narrow: on a page, details are placed below the values and not next to them, since the columns are many.
    """

    title: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    stub: int
    starts: frozenset[int]
    narrow: bool = False
    warnings: tuple[str, ...] = ()
