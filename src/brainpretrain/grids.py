"""Tables for readers: lays out the numbers of `tables` and prints them as Markdown, HTML and plain text.

Dice is shown x 100 with two decimals. A delta shows by its sign as well as by its colour.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain import files, pages
from brainpretrain.errors import UserError
from brainpretrain.tables import ARM, Row, Spec, baseline_row

EMPTY_WORDS = {
    "both_empty": "both masks empty",
    "reference_empty": "only the reference empty (Dice 0)",
    "prediction_empty": "only the prediction empty (Dice 0)",
}
TERMINAL_STYLES = {"": "", "missing": "dim", "up": "green", "down": "red", "same": "dim"}


@dataclass(frozen=True)
class Cell:
    """A cell. `detail` is secondary; `tone` is '', 'missing' or, of a delta, 'up', 'down', 'same'."""

    text: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Grid:
    """A table for readers. The first `stub` columns name a row; a group begins at each row of `starts`."""

    title: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    stub: int
    starts: frozenset[int]


# --- layout


def results_grid(cells: pd.DataFrame, spec: Spec) -> Grid:
    """Lays out what `tables.build` returned: a row per arm, a column per task and cohort."""
    rows, columns, records = spec["rows"], spec["columns"], cells.to_dict("records")
    lines = [records[i * len(columns) : (i + 1) * len(columns)] for i in range(len(rows))]
    body = [(Cell(row["title"]), *map(_result, line)) for row, line in zip(rows, lines, strict=True)]
    header = [Cell("Model")]
    header += [Cell(column["title"], _shared(records[j :: len(columns)])) for j, column in enumerate(columns)]
    starts = (i for i in range(1, len(rows)) if rows[i]["backbone"] != rows[i - 1]["backbone"])
    notes = tuple(_result_notes(cells, spec))
    return Grid(spec["title"], tuple(header), tuple(body), notes, stub=1, starts=frozenset(starts))


def per_label_grid(labels: pd.DataFrame, spec: Spec) -> Grid:
    """Lays out what `tables.per_label` returned: a row per data, label and arm; a column per fold."""
    body: list[tuple[Cell, ...]] = []
    starts = []
    for column in spec["columns"]:
        scored = labels[(labels["task"] == column["task"]) & (labels["cohort"] == column["cohort"])]
        for label in sorted(scored["label"].unique()) or ["–"]:
            starts.append(len(body))
            of_label = scored[scored["label"] == label]
            names = (Cell(column["title"]), Cell(label))
            body += [(*names, Cell(row["title"]), *_folds(of_label, row, spec)) for row in spec["rows"]]
    header = ["Data", "Label", "Model", *(f"fold {fold}" for fold in spec["folds"]), "all folds"]
    notes = ["Dice x 100. A fold: mean over cases. All folds: mean ± SD (n - 1) over the folds."]
    notes += [*_delta_note(spec), _left_out_note(labels["left_out"].sum(), labels["cases"].sum())]
    title = f"{spec['title']}: Dice per label"
    return Grid(title, tuple(map(Cell, header)), tuple(body), tuple(notes), stub=3, starts=frozenset(starts[1:]))


def _folds(of_label: pd.DataFrame, row: Row, spec: Spec) -> Iterator[Cell]:
    """The cells of one label and arm: a fold each, then the mean over folds and its delta."""
    dice = _by_fold(of_label, row, spec)
    base = baseline_row(row, spec)
    mean = dice.mean(skipna=False)
    delta = mean - _by_fold(of_label, base, spec).mean(skipna=False) if base else float("nan")
    for value in dice:
        yield Cell("–", tone="missing") if pd.isna(value) else Cell(percent(value))
    yield _value(mean, dice.std(ddof=1), delta, int(dice.notna().sum()), len(dice))


def _by_fold(of_label: pd.DataFrame, row: Row, spec: Spec) -> pd.Series:
    """Dice of one label and arm, indexed by the folds of the spec; NaN where it is missing."""
    mine = of_label[(of_label[ARM] == [str(row[name]) for name in ARM]).all(axis=1)]
    return mine.set_index("fold")["dice"].reindex([str(fold) for fold in spec["folds"]])


def _result(cell: Mapping[str, Any]) -> Cell:
    return _value(cell["dice"], cell["dice_sd"], cell["delta"], cell["folds"], cell["folds_expected"])


def _value(mean: float, sd: float, delta: float, folds: int, expected: int) -> Cell:
    if pd.isna(mean):
        return Cell(f"– ({folds} of {pages.count(expected, 'fold')})", tone="missing")
    shown = percent(mean) + (f" ± {percent(sd)}" if pd.notna(sd) else "")
    if pd.isna(delta):
        return Cell(shown)
    change = signed(delta)
    return Cell(shown, change, {"+": "up", "−": "down", "±": "same"}[change[0]])


def percent(value: float) -> str:
    """Dice x 100: 0.5898 is '58.98'."""
    return f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of Dice x 100 with its sign: '+2.98', '−0.13', '±0.00'."""
    shown = f"{100 * value:+.2f}"
    return "±0.00" if shown[1:] == "0.00" else shown.replace("-", "−")


def _shared(column: list[Mapping[str, Any]]) -> str:
    """What the cells of a column have in common: cohort, cases, folds."""
    cases = sorted({cell["cases"] for cell in column if cell["cases"]}) or [0]
    number = pages.count(cases[-1], "case") if len(cases) == 1 else f"{cases[0]:,} to {cases[-1]:,} cases"
    return f"{column[0]['cohort']}, {number}, {pages.count(column[0]['folds_expected'], 'fold')}"


def _result_notes(cells: pd.DataFrame, spec: Spec) -> Iterator[str]:
    yield (
        "Dice x 100: mean ± SD (n - 1) over the folds of the fold score, which is the mean over labels of the mean over cases."
    )
    yield from _delta_note(spec)
    n_train = {str(row["n_train"]) for row in spec["rows"]}
    if len(n_train) == 1:
        yield f"Training cases (n_train): {n_train.pop()}."
    yield _left_out_note(cells["left_out"].sum(), cells["label_scores"].sum())
    kept = {words: int(cells[status].sum()) for status, words in EMPTY_WORDS.items()}
    if any(kept.values()):
        counts = "; ".join(f"{words}: {number:,}" for words, number in kept.items() if number)
        yield f"Counted in spite of an empty mask: {counts}."
    missing = int(cells["dice"].isna().sum())
    if missing:
        cells_missing = f"{missing} of {pages.count(len(cells), 'cell')}"
        yield f"– means that runs are missing ({cells_missing}); in brackets: the folds scored."


def _delta_note(spec: Spec) -> Iterator[str]:
    if any(baseline_row(row, spec) for row in spec["rows"]):
        yield f"Signed: the difference to '{spec['baseline']}' with the same backbone and n_train."


def _left_out_note(left_out: int, scores: int) -> str:
    return f"Left out, as the Dice of empty masks is undefined: {left_out:,} of {scores:,} scores."


# --- writers


def write(path: Path | str, frame: pd.DataFrame, grid: Grid) -> None:
    """Writes a table in the form that the suffix of `path` names, atomically.

    `.tsv` holds the numbers of `frame`, Dice in 0..1; `.md`, `.html` and `.txt` show `grid`, Dice x 100.

    Raises:
        UserError: another suffix.
    """
    printers = {".md": markdown, ".html": html, ".txt": text}
    suffix = Path(path).suffix
    if suffix == ".tsv":
        files.write_tsv(path, frame)
    elif suffix in printers:
        with files.atomic(path) as temporary:
            temporary.write_text(printers[suffix](grid), encoding="utf-8")
    else:
        known = ", ".join([".tsv", *printers])
        raise UserError(f"cannot write a table as '{suffix}'", where=path, fix=f"use one of {known}")


def markdown(grid: Grid) -> str:
    """The grid as a Markdown table with title and notes."""
    rule = ["---" if i < grid.stub else "---:" for i in range(len(grid.header))]
    lines = [_pipes(map(_inline, grid.header)), _pipes(rule)]
    lines += [_pipes(map(_inline, row)) for row in grid.rows]
    notes = [f"- {_escaped(note)}" for note in grid.notes]
    return "\n".join([f"**{_escaped(grid.title)}**", "", *lines, "", *notes]) + "\n"


def _inline(cell: Cell) -> str:
    return _escaped(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _escaped(value: str) -> str:
    """One line of text that can neither end a Markdown cell nor begin a tag."""
    return " ".join(escape(value, quote=False).split()).replace("|", "\\|")


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def html(grid: Grid) -> str:
    """The grid as a page of its own."""
    details = _columns_with_details(grid)
    head = "".join(_tag("th", cell, i >= grid.stub, ' scope="col"') for i, cell in enumerate(grid.header))
    body = ""
    for i, row in enumerate(grid.rows):
        names = "".join(_tag("th", cell, False, ' scope="row"') for cell in row[: grid.stub])
        values = "".join(_tag("td", cell, True, aligned=j in details) for j, cell in enumerate(row) if j >= grid.stub)
        start = ' class="start"' if i in grid.starts else ""
        body += f"<tr{start}>{names}{values}</tr>\n"
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in grid.notes)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
    return pages.page(grid.title, f'<div class="scroll">{table}</div>\n<ul class="notes">\n{notes}</ul>')


def _columns_with_details(grid: Grid) -> set[int]:
    return {j for row in grid.rows for j, cell in enumerate(row) if cell.detail}


def _tag(tag: str, cell: Cell, number: bool, attributes: str = "", aligned: bool = False) -> str:
    """A cell. Where `aligned`, one without a detail keeps its place free, so that numbers stand below each other."""
    shown = escape(cell.text)
    if cell.tone == "missing":
        shown = f'<span class="missing">{shown}</span>'
    if cell.detail:
        kind = cell.tone or "detail"
        shown += f' <span class="{kind}">{escape(cell.detail)}</span>'
    elif aligned:
        shown += ' <span class="none"></span>'
    kind = ' class="number"' if number else ""
    return f"<{tag}{attributes}{kind}>{shown}</{tag}>"


def text(grid: Grid, colour: bool = False) -> str:
    """The grid for a terminal, as wide as it needs to be; `colour` adds ANSI colours to the deltas."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    details = _columns_with_details(grid)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 1))
    for j, cell in enumerate(grid.header):
        heading = Text("\n".join([cell.text, *cell.detail.split(", ")]).strip())
        table.add_column(heading, justify="left" if j < grid.stub else "right", no_wrap=True)
        if j in details:
            table.add_column(justify="right", no_wrap=True)
    for i, row in enumerate(grid.rows):
        cells = []
        for j, cell in enumerate(row):
            style = TERMINAL_STYLES[cell.tone]
            cells.append(Text(cell.text, "" if cell.detail else style))
            cells += [Text(cell.detail, style)] if j in details else []
        table.add_row(*cells, end_section=i + 1 in grid.starts)
    system = "standard" if colour else None
    console = Console(file=io.StringIO(), width=1000, force_terminal=colour, color_system=system)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join([grid.title, "", *lines, "", *grid.notes]) + "\n"
