"""Tables for readers: lays out the numbers of `tables` and prints them as Markdown, LaTeX, HTML and plain text.

Scores are shown in printed units (Dice x 100, HD95 in mm) with two decimals. A delta shows by its sign as well as by
its colour.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain import files, pages, tables
from brainpretrain.errors import UserError
from brainpretrain.tables import ALL, ARM, METRICS, UNKNOWN, Metric, Row, Spec, baseline_row, metric_of

EMPTY_WORDS = {
    "both_empty": "both masks empty",
    "reference_empty": "only the reference empty",
    "prediction_empty": "only the prediction empty",
}
TERMINAL_STYLES = {"": "", "missing": "dim", "up": "green", "down": "red", "same": "dim"}
SEEN, OTHERWISE = "†", "*"  # marks: subjects were pretrained on; ran otherwise than published


@dataclass(frozen=True)
class Cell:
    """A cell. `detail` is secondary; `tone` is '', 'missing' or, of a delta, 'up' (better), 'down', 'same'.

    `under` are small lines below the text, `beside` below the detail; `published` is shown grey, below all.
    """

    text: str
    detail: str = ""
    tone: str = ""
    under: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    published: str = ""


@dataclass(frozen=True)
class Grid:
    """A table for readers. The first `stub` columns name a row; a group begins at each row of `starts`."""

    title: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    stub: int
    starts: frozenset[int]


# --- results


def results_grid(cells: pd.DataFrame, spec: Spec) -> Grid:
    """Lays out what `tables.build` returned: a row per arm, a column per task and cohort."""
    rows, columns, records = spec["rows"], spec["columns"], cells.to_dict("records")
    lines = [records[i * len(columns) : (i + 1) * len(columns)] for i in range(len(rows))]
    uneven = [len(_numbers_of_cases(records[j :: len(columns)])) > 1 for j in range(len(columns))]
    metric = metric_of(spec)
    body = [
        (Cell(row["title"]), *(_result(cell, metric, count) for cell, count in zip(line, uneven, strict=True)))
        for row, line in zip(rows, lines, strict=True)
    ]
    header = [Cell("Model")]
    header += [Cell(column["title"], _shared(records[j :: len(columns)])) for j, column in enumerate(columns)]
    starts = (i for i in range(1, len(rows)) if rows[i]["backbone"] != rows[i - 1]["backbone"])
    notes = tuple(_result_notes(cells, spec))
    return Grid(spec["title"], tuple(header), tuple(body), notes, stub=1, starts=frozenset(starts))


def _result(cell: Mapping[str, Any], metric: Metric, count: bool) -> Cell:
    """A cell of results. `count`: the number of cases stands in it, since not all cells of the column have the same."""
    published = ""
    if pd.notna(cell["published"]):
        published = mean_sd(cell["published"], cell["published_sd"], metric) + (f" {OTHERWISE}" if cell["differs"] else "")
    if pd.isna(cell["value"]):
        return Cell(_missing(cell["folds"], cell["folds_expected"]), tone="missing", published=published)
    text = (f"{SEEN} " if cell["shared"] != 0 else "") + mean_sd(cell["value"], cell["sd"], metric)
    under = [_brackets(shown(cell["low"], metric), shown(cell["high"], metric))] if pd.notna(cell["low"]) else []
    under += [f"{cell['cases']:,} cases"] if count else []
    if pd.isna(cell["delta"]):
        return Cell(text, under=tuple(under), published=published)
    change, tone = _change(cell["delta"], metric)
    return Cell(text, change, tone, tuple(under), tuple(_test(cell, metric)), published)


def _test(cell: Mapping[str, Any], metric: Metric) -> Iterator[str]:
    """The interval of a delta, and the test behind it."""
    if pd.notna(cell["delta_low"]):
        yield _brackets(signed(cell["delta_low"], metric), signed(cell["delta_high"], metric))
    if not cell["pairs"]:
        yield "no paired case"
    elif cell["zeros"] == cell["pairs"]:
        yield f"no case differs (n = {cell['pairs']})"
    else:
        yield f"{p_value(cell['p_holm'])} (n = {cell['pairs']})"
        yield f"r = {cell['biserial']:+.2f}".replace("-", "−")


def _change(delta: float, metric: Metric) -> tuple[str, str]:
    """A delta as it is printed, and its tone: 'up' is better, whatever its sign."""
    change = signed(delta, metric)
    if change.startswith("±"):
        return change, "same"
    return change, "up" if change.startswith("+") == metric.higher else "down"


def _missing(folds: int, expected: int) -> str:
    return f"– ({folds} of {pages.count(expected, 'fold')})"


def _brackets(low: str, high: str) -> str:
    return f"[{low}, {high}]"


def shown(value: float, metric: Metric) -> str:
    """A score in printed units: a Dice of 0.5898 is '58.98'."""
    return f"{metric.scale * value:.2f}".replace("-", "−")


def mean_sd(mean: float, sd: float, metric: Metric) -> str:
    """'58.98 ± 0.88', or '58.98' where the SD is unknown."""
    return shown(mean, metric) + (f" ± {shown(sd, metric)}" if pd.notna(sd) else "")


def percent(value: float) -> str:
    """Dice x 100: 0.5898 is '58.98'."""
    return shown(value, METRICS["dice"])


def signed(value: float, metric: Metric = METRICS["dice"]) -> str:
    """A difference in printed units with its sign: '+2.98', '−0.13', '±0.00'."""
    change = f"{metric.scale * value:+.2f}"
    return "±0.00" if change[1:] == "0.00" else change.replace("-", "−")


def p_value(p: float) -> str:
    """'p = 0.031', 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _shared(column: list[Mapping[str, Any]]) -> str:
    """What the cells of a column have in common: cohort, cases, folds."""
    cases = _numbers_of_cases(column) or [0]
    number = pages.count(cases[-1], "case") if len(cases) == 1 else f"{cases[0]:,} to {cases[-1]:,} cases"
    return f"{column[0]['cohort']}, {number}, {pages.count(column[0]['folds_expected'], 'fold')}"


def _numbers_of_cases(column: list[Mapping[str, Any]]) -> list[int]:
    return sorted({cell["cases"] for cell in column if cell["cases"]})


# --- notes


def _result_notes(cells: pd.DataFrame, spec: Spec) -> Iterator[str]:
    metric, confidence = metric_of(spec), _share(spec["statistics"]["confidence"])
    yield f"{_unit(metric)}: mean ± SD (n - 1) over the folds of the fold score, which is the mean over labels of the mean over cases."
    if not metric.higher:
        yield "Lower is better."
    if cells["low"].notna().any():
        yield (
            f"In brackets: {confidence} interval, bootstrap over subjects ({spec['statistics']['resamples']:,} samples, percentiles)."
            " The trained models are taken as given; how much trainings differ is in the SD."
        )
    yield from _delta_note(spec)
    yield from _test_notes(cells, spec)
    n_train = {str(row["n_train"]) for row in spec["rows"]}
    if len(n_train) == 1:
        yield f"Training cases (n_train): {n_train.pop()}."
    yield from _published_notes(cells, spec)
    yield from _seen_notes(cells)
    yield _left_out_note(metric, cells["left_out"].sum(), cells["label_scores"].sum())
    yield from _empty_notes(cells)
    missing = int(cells["value"].isna().sum())
    if missing:
        cells_missing = f"{missing} of {pages.count(len(cells), 'cell')}"
        yield f"– means that runs are missing ({cells_missing}); in brackets: the folds scored."


def _unit(metric: Metric) -> str:
    return f"{metric.title} {metric.unit}" if metric.unit.startswith("x") else f"{metric.title} in {metric.unit}"


def _share(value: float) -> str:
    return f"{100 * value:g} %"


def _delta_note(spec: Spec) -> Iterator[str]:
    if any(baseline_row(row, spec) for row in spec["rows"]):
        yield f"Signed: the difference to '{spec['baseline']}' with the same backbone and n_train."


def _test_notes(cells: pd.DataFrame, spec: Spec) -> Iterator[str]:
    tested = cells[cells["p"].notna()]
    if tested.empty:
        return
    numbers = sorted(set(tested["tests"]))
    number = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    yield (
        "p: two-sided Wilcoxon signed-rank test on n subjects, each the mean over its labels and folds; corrected by Holm for the"
        f" {number} tests of its column. r: rank-biserial correlation, −1 to 1."
    )
    few = tested[(tested["smallest_p"] > 1 - spec["statistics"]["confidence"]) & (tested["zeros"] < tested["pairs"])]
    if len(few):
        level = _share(round(1 - spec["statistics"]["confidence"], 9))
        yield f"Too few subjects differ in {pages.count(len(few), 'cell')} for any p below {level}, whatever the scores."


def _published_notes(cells: pd.DataFrame, spec: Spec) -> Iterator[str]:
    if cells["published"].isna().all():
        return
    yield f"Grey: published, {spec['published']['source']}."
    yield from spec["published"]["notes"]
    differs = sorted({found for found in cells["differs"] if found})
    if differs:
        yield f"{OTHERWISE} ran otherwise than published: {'; '.join(differs)}."


def _seen_notes(cells: pd.DataFrame) -> Iterator[str]:
    seen = cells[cells["shared"] != 0].drop_duplicates(["column", "init"])
    if len(seen):
        words = [
            f"{line['column']}, {line['init'].split('-on-')[1]}: "
            + ("not audited here" if line["shared"] == UNKNOWN else pages.count(int(line["shared"]), "subject"))
            for line in seen.to_dict("records")
        ]
        yield f"{SEEN} the corpus holds subjects, without labels, that are scored here ({'; '.join(words)})."


def _empty_notes(cells: pd.DataFrame) -> Iterator[str]:
    kept = {words: int(cells[status].sum()) for status, words in EMPTY_WORDS.items()}
    if any(kept.values()):
        counts = "; ".join(f"{words}: {number:,}" for words, number in kept.items() if number)
        yield f"Counted in spite of an empty mask: {counts}."


def _left_out_note(metric: Metric, left_out: int, scores: int) -> str:
    return f"Left out, as {metric.title} is undefined where masks are empty: {left_out:,} of {scores:,} scores."


# --- by label, by metric, ranks


def per_label_grid(labels: pd.DataFrame, spec: Spec) -> Grid:
    """Lays out what `tables.per_label` returned: a row per data, label and arm; a column per fold."""
    metric = metric_of(spec)
    body: list[tuple[Cell, ...]] = []
    starts = []
    for column in spec["columns"]:
        scored = labels[(labels["task"] == column["task"]) & (labels["cohort"] == column["cohort"])]
        for label in sorted(scored["label"].unique()) or ["–"]:
            starts.append(len(body))
            of_label = scored[scored["label"] == label]
            names = (Cell(column["title"]), Cell(label))
            body += [(*names, Cell(row["title"]), *_by_folds(of_label, row, spec)) for row in spec["rows"]]
    header = ["Data", "Label", "Model", *(f"fold {fold}" for fold in spec["folds"]), "all folds"]
    notes = [f"{_unit(metric)}. A fold: mean over cases. All folds: mean ± SD (n - 1) over the folds."]
    notes += [*_delta_note(spec), _left_out_note(metric, labels["left_out"].sum(), labels["cases"].sum())]
    title = f"{spec['title']}: {metric.title} per label"
    return Grid(title, tuple(map(Cell, header)), tuple(body), tuple(notes), stub=3, starts=frozenset(starts[1:]))


def _by_folds(of_label: pd.DataFrame, row: Row, spec: Spec) -> Iterator[Cell]:
    """The cells of one label and arm: a fold each, then the mean over folds and its delta."""
    metric = metric_of(spec)
    values = _by_fold(of_label, row, spec)
    base = baseline_row(row, spec)
    mean = values.mean(skipna=False)
    delta = mean - _by_fold(of_label, base, spec).mean(skipna=False) if base else float("nan")
    for value in values:
        yield Cell("–", tone="missing") if pd.isna(value) else Cell(shown(value, metric))
    if pd.isna(mean):
        yield Cell(_missing(int(values.notna().sum()), len(values)), tone="missing")
    else:
        yield Cell(mean_sd(mean, values.std(ddof=1), metric), *(_change(delta, metric) if pd.notna(delta) else ()))


def _by_fold(of_label: pd.DataFrame, row: Row, spec: Spec) -> pd.Series:
    """The scores of one label and arm, indexed by the folds of the spec; NaN where one is missing."""
    mine = of_label[(of_label[ARM] == [str(row[name]) for name in ARM]).all(axis=1)]
    return mine.set_index("fold")["value"].reindex([str(fold) for fold in spec["folds"]])


def per_metric_grid(cells: pd.DataFrame, spec: Spec) -> Grid:
    """Lays out what `tables.per_metric` returned: a row per data and arm, a column per metric."""
    names = list(dict.fromkeys(cells["metric"]))
    found = {(line["column"], *_arm(line), line["metric"]): line for line in cells.to_dict("records")}
    body = [
        (
            Cell(column["title"]),
            Cell(row["title"]),
            *(_plain(found[column["title"], *_arm(row), name]) for name in names),
        )
        for column in spec["columns"]
        for row in spec["rows"]
    ]
    directions = {name: "higher is better" if METRICS[name].higher else "lower is better" for name in names}
    header = [Cell("Data"), Cell("Model")]
    header += [Cell(METRICS[name].title, f"{METRICS[name].unit}, {directions[name]}") for name in names]
    starts = range(len(spec["rows"]), len(body), len(spec["rows"]))
    notes = ["Mean ± SD (n - 1) over the folds of the fold score, which is the mean over labels of the mean over cases."]
    notes += [*_delta_note(spec)]
    undefined = cells.groupby("metric", sort=False)[["left_out", "label_scores"]].sum()
    notes += [_left_out_note(METRICS[name], *undefined.loc[name]) for name in names]
    title = f"{spec['title']}: all metrics"
    return Grid(title, tuple(header), tuple(body), tuple(notes), stub=2, starts=frozenset(starts))


def _arm(line: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(line[name]) for name in ARM)


def _plain(cell: Mapping[str, Any]) -> Cell:
    """Mean, SD and delta alone."""
    metric = METRICS[cell["metric"]]
    if pd.isna(cell["value"]):
        undefined = cell["label_scores"] and cell["left_out"] == cell["label_scores"]
        return Cell("undefined" if undefined else _missing(cell["folds"], cell["folds_expected"]), tone="missing")
    change = _change(cell["delta"], metric) if pd.notna(cell["delta"]) else ()
    return Cell(mean_sd(cell["value"], cell["sd"], metric), *change)


def rank_grid(ranks: pd.DataFrame, spec: Spec) -> Grid:
    """Lays out what `tables.rank` returned: the rows from the best to the worst, groups of n_train below each other."""
    titles = [column["title"] for column in spec["columns"]]
    several = len(titles) > 1
    found = {(*_arm(line), line["column"]): line for line in ranks.to_dict("records")}
    order = ranks[ranks["column"] == ALL].assign(place=lambda r: r.groupby("n_train", sort=False).ngroup())
    lines = order.sort_values(["place", "rank"], kind="stable", na_position="last").to_dict("records")
    body = [
        (
            Cell(line["row"]),
            *(_rank_cell(found.get((*_arm(line), title))) for title in (titles if several else [])),
            *_rank_summary(line, several),
        )
        for line in lines
    ]
    header = [Cell("Model"), *map(Cell, titles if several else []), Cell("rank", f"mean over {len(titles)} columns" if several else "")]
    header += [Cell("rank", "bootstrap over columns")] if several else []
    header += [Cell("first", "share of samples"), Cell("rank by case")]
    starts = (i for i in range(1, len(lines)) if lines[i]["n_train"] != lines[i - 1]["n_train"])
    notes = tuple(_rank_notes(ranks, spec))
    return Grid(f"{spec['title']}: ranks", tuple(header), tuple(body), notes, stub=1, starts=frozenset(starts))


def _rank_cell(line: Mapping[str, Any] | None) -> Cell:
    if line is None or pd.isna(line["rank"]):
        return Cell("–", tone="missing")
    return Cell(f"{line['rank']:.2f}".rstrip("0").rstrip("."), under=(f"[{line['low']:.2f}, {line['high']:.2f}]",))


def _rank_summary(line: Mapping[str, Any], several: bool) -> Iterator[Cell]:
    if pd.isna(line["rank"]):
        yield from [Cell("not ranked", tone="missing"), *[Cell("–", tone="missing")] * (3 if several else 2)]
        return
    yield Cell(f"{line['rank']:.2f}", under=(f"[{line['low']:.2f}, {line['high']:.2f}]",))
    if several:
        yield Cell(f"[{line['columns_low']:.2f}, {line['columns_high']:.2f}]")
    yield Cell(f"{100 * line['first']:.0f} %")
    yield Cell("–", tone="missing") if pd.isna(line["case_rank"]) else Cell(f"{line['case_rank']:.2f}")


def _rank_notes(ranks: pd.DataFrame, spec: Spec) -> Iterator[str]:
    metric, statistics = metric_of(spec), spec["statistics"]
    yield (
        f"Ranks by {metric.title}, 1 is best, ties share their mean rank; among the rows of the same n_train that are scored in all"
        " folds of all columns."
    )
    yield (
        f"In brackets: {_share(statistics['confidence'])} interval of the rank in {statistics['resamples']:,} bootstrap samples of"
        " the subjects; first: how often the row is the best of them."
    )
    if len(spec["columns"]) > 1:
        yield "Bootstrap over columns: data sets are drawn, not subjects. With few columns it says little."
    yield "Rank: mean over cases first, then ranked. Rank by case: ranked for each subject, then the mean."
    whole = ranks[(ranks["column"] == ALL) & (ranks["rows_ranked"] > 1)].drop_duplicates("n_train")
    for line in whole.to_dict("records"):
        if pd.notna(line["tau"]):
            yield (
                f"n_train {line['n_train']}: Kendall's tau of the bootstrap rankings with this one is {line['tau']:.2f} on average"
                f" ({line['rows_ranked']:.0f} rows)."
            )
    if ranks.loc[ranks["column"] == ALL, "rank"].isna().any():
        yield "Not ranked: rows with missing runs."


# --- writers


def write(path: Path | str, frame: pd.DataFrame, grid: Grid) -> None:
    """Writes a table in the form that the suffix of `path` names, atomically.

    `.tsv` holds the numbers of `frame`, Dice in 0..1; `.md`, `.tex`, `.html` and `.txt` show `grid`, Dice x 100.

    Raises:
        UserError: another suffix.
    """
    printers = {".md": markdown, ".tex": latex, ".html": html, ".txt": text}
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
    """A cell of several lines: text and detail, what is small, what was published."""
    lines = [f"{cell.text} ({cell.detail})" if cell.detail else cell.text, *cell.under, *cell.beside]
    shown = [_escaped(line) for line in lines]
    return "<br>".join([*shown, f"*published {_escaped(cell.published).replace('*', '&#42;')}*"] if cell.published else shown)


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
    small = [*cell.under, *cell.beside]
    shown += "".join(f'<span class="detail">{escape(line)}</span>' for line in small)
    if cell.published:
        shown += f'<span class="published">{escape(cell.published)}</span>'
    kind = ' class="number"' if number else ""
    return f"<{tag}{attributes}{kind}>{shown}</{tag}>"


def latex(grid: Grid) -> str:
    """The grid as a LaTeX table; the document needs the packages booktabs and xcolor."""
    columns = "l" * grid.stub + "r" * (len(grid.header) - grid.stub)
    body = []
    for i, row in enumerate(grid.rows):
        body += [r"\midrule"] if i in grid.starts else []
        body.append(_tex_row(row))
    notes = "\\par\n".join(map(_tex, grid.notes))
    begin = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(grid.title)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    end = [r"\bottomrule", r"\end{tabular}", r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
    packages = [r"% \usepackage{booktabs}", r"% \usepackage{xcolor}"]
    whole = [*packages, *begin, _tex_row(grid.header), r"\midrule", *body, *end, notes, r"\end{minipage}", r"\end{table}"]
    return "\n".join(whole) + "\n"


def _tex_row(cells: Iterable[Cell]) -> str:
    return " & ".join(map(_tex_cell, cells)) + r" \\"


def _tex_cell(cell: Cell) -> str:
    """A cell; several lines are stacked. Each line is in braces, or one with a bracket would be an option of the line end."""
    first = _tex(cell.text) + (f" ({_tex(cell.detail)})" if cell.detail and cell.tone else "")
    lines = [cell.detail] if cell.detail and not cell.tone else []
    small = [rf"{{\scriptsize {_tex(line)}}}" for line in [*lines, *cell.under, *cell.beside]]
    small += [rf"{{\scriptsize\color{{gray}}{_tex(cell.published)}}}"] if cell.published else []
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
    "≥": r"$\geq$",
}


def _tex(value: str) -> str:
    """One line of text that LaTeX prints as it is."""
    return "".join(TEX.get(character, character) for character in " ".join(value.split()))


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
            cells.append(_terminal(cell.text, "" if cell.detail else TERMINAL_STYLES[cell.tone], [*cell.under, *_printed(cell)]))
            cells += [_terminal(cell.detail, TERMINAL_STYLES[cell.tone], cell.beside)] if j in details else []
        table.add_row(*cells, end_section=i + 1 in grid.starts)
    system = "standard" if colour else None
    console = Console(file=io.StringIO(), width=1000, force_terminal=colour, color_system=system)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join([grid.title, "", *lines, "", *grid.notes]) + "\n"


def _printed(cell: Cell) -> list[str]:
    return [f"published {cell.published}"] if cell.published else []


def _terminal(first: str, style: str, small: Iterable[str]) -> Any:
    from rich.text import Text

    return Text("\n").join([Text(first, style), *(Text(line, "dim") for line in small)])


def write_table(folder: Path | str, scores: pd.DataFrame, spec: Spec, overlaps: tables.Overlaps) -> Grid:
    """Writes all that belongs to one table: results, by label, by metric, ranks, and the plot of the ranks.

    <name>, <name>_labels, <name>_metrics and <name>_ranks as .tsv, .md, .tex, .html and .txt; <name>_ranks.svg and .png.

    Args:
        scores, spec, overlaps: as for `tables.build`.

    Returns:
        The results, as they are shown.

    Raises:
        UserError: as `tables.build` and `tables.rank`.
    """
    from brainpretrain import rank_plots

    folder = Path(folder)
    parts = {
        "": (tables.build(scores, spec, overlaps), results_grid),
        "_labels": (tables.per_label(scores, spec), per_label_grid),
        "_metrics": (tables.per_metric(scores, spec), per_metric_grid),
        "_ranks": (tables.rank(scores, spec), rank_grid),
    }
    for part, (frame, layout) in parts.items():
        grid = layout(frame, spec)
        for suffix in (".tsv", ".md", ".tex", ".html", ".txt"):
            write(folder / f"{spec['name']}{part}{suffix}", frame, grid)
    for suffix in (".svg", ".png"):
        rank_plots.draw(parts["_ranks"][0], spec, folder / f"{spec['name']}_ranks{suffix}")
    return results_grid(parts[""][0], spec)
