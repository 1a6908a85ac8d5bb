"""Tables for readers: lays out the numbers of `results` as grids, which `printers` print.

Scores are shown in printed units (Dice x 100, HD95 in mm) with two decimals. A delta is recognised by its sign as well as by
its colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers
from brainpretrain.report.crossed import FEWEST_DRAWS
from brainpretrain.report.grid import Cell, Grid
from brainpretrain.report.metrics import METRICS, Metric, metric_of
from brainpretrain.report.notes import delta_note, interval_notes, test_notes, validation_notes, verdict_notes
from brainpretrain.report.results import ALL, ARM, UNKNOWN, LabelScores, label_scores
from brainpretrain.words import count

EMPTY_WORDS = {
    "both_empty": "both masks empty",
    "reference_empty": "only the reference empty",
    "prediction_empty": "only the prediction empty",
}
FOLD_SCORE = "mean ± SD (n - 1) over the folds of the fold score, which is the mean over labels of the mean over cases"
MODELS = "these models "  # before an interval that takes the trained models as given
SEEN, OTHERWISE = "†", "*"  # marks: pretrained on subjects of the cohort; differs from the published protocol


# --- results


def results_grid(cells: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays out what `results.build` returned: a row per arm, a column per task and cohort."""
    rows, columns, records = spec.rows, spec.columns, cells.to_dict("records")
    lines = [records[i * len(columns) : (i + 1) * len(columns)] for i in range(len(rows))]
    uneven = [len(_numbers_of_cases(records[j :: len(columns)])) > 1 for j in range(len(columns))]
    metric = metric_of(spec)
    body = [
        (Cell(row.title), *(_result(cell, metric, counted, spec) for cell, counted in zip(line, uneven, strict=True)))
        for row, line in zip(rows, lines, strict=True)
    ]
    header = [Cell("Model")]
    header += [Cell(column.title, _shared(records[j :: len(columns)], spec)) for j, column in enumerate(columns)]
    starts = {i for i in range(1, len(rows)) if rows[i].backbone != rows[i - 1].backbone}
    starts = set() if len(starts) == len(rows) - 1 else starts  # a line between every two rows would show no groups
    notes = tuple(_result_notes(cells, spec))
    return Grid(spec.title, tuple(header), tuple(body), notes, stub=1, starts=frozenset(starts))


def with_hours(grid: Grid, spec: TableSpec, hours: Sequence[float]) -> Grid:
    """A grid of results with a last column: the hours of the pretraining of each row, and those that were published.

    Args:
        hours: by row; see `costs.pretraining_hours`.
    """
    published = {(line.backbone, line.init): f"{line.value:g} h" for line in (spec.published.hours if spec.published else ())}
    cells = [
        Cell("–" if pd.isna(value) else f"{value:.1f} h", published=published.get((row.backbone, row.init), ""))
        for row, value in zip(spec.rows, hours, strict=True)
    ]
    rows = tuple((*line, cell) for line, cell in zip(grid.rows, cells, strict=True))
    note = "Pretraining: hours by the clock on the machine that ran it; – is not known."
    return replace(grid, header=(*grid.header, Cell("Pretraining", "hours")), rows=rows, notes=(*grid.notes, note))


def with_training_hours(grid: Grid, spec: TableSpec, hours: Sequence[Sequence[float]]) -> Grid:
    """A grid of results with a further column for each column of the table: the device hours of fine-tuning ("GPU hours").

    Args:
        hours: by row and column; see `costs.training_hours`. Those of a row that goes on from another one have a plus.
    """
    values = spec.published.training_hours if spec.published else ()
    published = {(line.backbone, line.init, line.recipe, line.n_train, line.column): f"{line.value:g} h" for line in values}
    rows = []
    for line, row, of_row in zip(grid.rows, spec.rows, hours, strict=True):
        sign = "+" if "--" in row.init else ""
        cells = [
            Cell("–" if pd.isna(value) else f"{sign}{value:.2f} h", published=published.get((*row.arm, column.title), ""))
            for column, value in zip(spec.columns, of_row, strict=True)
        ]
        rows.append((*line, *cells))
    header = (*grid.header, *(Cell(f"{column.title}: hours", "fine-tuning") for column in spec.columns))
    note = "Hours of fine-tuning: by the clock, times devices, mean over folds; with +, what a row adds to the one before it."
    return replace(grid, header=header, rows=tuple(rows), notes=(*grid.notes, note))


def _result(cell: Mapping[str, Any], metric: Metric, counted: bool, spec: TableSpec) -> Cell:
    """A cell of results. `counted`: it shows its number of cases, since the cells of the column differ in it."""
    published = ""
    if pd.notna(cell["published"]):
        published = numbers.mean_sd(cell["published"], cell["published_sd"], metric)
        published += f" {OTHERWISE}" if cell["differs"] else ""
    if pd.isna(cell["value"]):
        return Cell(_missing(cell["folds"], cell["folds_expected"], spec), tone="missing", published=published)
    text = (f"{SEEN} " if cell["shared"] != 0 else "") + numbers.mean_sd(cell["value"], cell["sd"], metric)
    under = [_bracket(cell, part, metric) for part in ("", "models_") if pd.notna(cell[f"{part}low"])]
    under += [f"{cell['cases']:,} cases"] if counted else []
    if pd.isna(cell["delta"]):
        return Cell(text, under=tuple(under), published=published)
    change, tone = _change(cell["delta"], metric)
    return Cell(text, change, tone, tuple(under), tuple(_test(cell, metric)), published)


def _bracket(cell: Mapping[str, Any], part: str, metric: Metric) -> str:
    """The interval of a value, or of these trained models: '[55.10, 61.20]', 'these models [56.40, 60.10]'."""
    ends = [numbers.shown(cell[f"{part}{end}"], metric) for end in ("low", "high")]
    return (MODELS if part else "") + numbers.interval(*ends)


def _test(cell: Mapping[str, Any], metric: Metric) -> Iterator[str]:
    """The interval of a delta and the test that follows it, then those of these trained models."""
    if pd.notna(cell["delta_low"]):
        yield numbers.interval(*(numbers.signed(cell[f"delta_{end}"], metric) for end in ("low", "high")))
        yield numbers.p_value(cell["p_holm"])
    else:
        few = "draw" if cell["draws"] < FEWEST_DRAWS else "subject"
        number = count(cell["draws"] if few == "draw" else cell["subjects"], few)
        yield f"no test: {number if cell['draws'] else 'cross-validation'}"
    if not cell["pairs"]:
        yield "no paired case"
    elif cell["zeros"] == cell["pairs"]:
        yield "no case differs"
    elif pd.notna(cell["models_delta_low"]):
        ends = [numbers.signed(cell[f"models_delta_{end}"], metric) for end in ("low", "high")]
        yield f"{MODELS}{numbers.interval(*ends)}, r = {cell['biserial']:+.2f}".replace("-", numbers.MINUS)
    if cell["pairs"] != cell["cases"]:
        yield f"n = {cell['pairs']:,}"


def _change(delta: float, metric: Metric) -> tuple[str, str]:
    """A delta as it is printed, and its tone: 'up' if it is better, whatever its sign."""
    change = numbers.signed(delta, metric)
    if change.startswith("±"):
        return change, "same"
    return change, "up" if change.startswith("+") == metric.higher else "down"


def _missing(trainings: int, expected: int, spec: TableSpec) -> str:
    return f"– ({trainings} of {count(expected, 'training' if spec.seeds else 'fold')})"


def _shared(column: list[Mapping[str, Any]], spec: TableSpec) -> str:
    """What the cells of a column have in common: cohort, cases, folds."""
    cases = _numbers_of_cases(column) or [0]
    number = count(cases[-1], "case") if len(cases) == 1 else f"{cases[0]:,} to {cases[-1]:,} cases"
    seeds = f" of {count(len(spec.seeds), 'seed')}" if spec.seeds else ""
    return f"{column[0]['cohort']}, {number}, {count(len(spec.folds), 'fold')}{seeds}"


def _numbers_of_cases(column: list[Mapping[str, Any]]) -> list[int]:
    return sorted({cell["cases"] for cell in column if cell["cases"]})


# --- notes


def _result_notes(cells: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    metric = metric_of(spec)
    yield f"{_unit(metric)}: {FOLD_SCORE}."
    if not metric.higher:
        yield "Lower is better."
    yield from interval_notes(cells, spec)
    yield from delta_note(spec)
    yield from validation_notes(spec)
    yield from test_notes(cells, spec)
    n_train = {row.n_train for row in spec.rows}
    if len(n_train) == 1:
        yield f"Training cases (n_train): {n_train.pop()}."
    yield from _published_notes(cells, spec)
    yield from _seen_notes(cells)
    yield _left_out_note(metric, cells["left_out"].sum(), cells["label_scores"].sum())
    yield from _empty_notes(cells)
    missing = int(cells["value"].isna().sum())
    if missing:
        cells_missing = f"{missing} of {count(len(cells), 'cell')}"
        yield f"– means that runs are missing ({cells_missing}); in brackets: the folds scored."


def _unit(metric: Metric) -> str:
    return f"{metric.title} {metric.unit}" if metric.unit.startswith("x") else f"{metric.title} in {metric.unit}"


def _published_notes(cells: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    if spec.published is None or cells["published"].isna().all():
        return
    yield f"Published: {spec.published.source}."
    yield from spec.published.notes
    differences = sorted(set(filter(None, cells["differs"])))
    if differences:
        yield f"{OTHERWISE} differs from the published protocol: {'; '.join(differences)}."


def _corpora_of(cells: pd.DataFrame) -> pd.Series:
    """The corpus of each cell, by its init."""
    return cells["init"].str.split("--").str[0].str.split("-on-").str[-1]


def _seen_notes(cells: pd.DataFrame) -> Iterator[str]:
    """The corpora that hold scored subjects, and those of which this is not known."""
    marked = cells[(cells["shared"] != 0) & cells["value"].notna()].assign(corpus=_corpora_of)
    known = marked[marked["shared"] != UNKNOWN].drop_duplicates(["column", "corpus"]).to_dict("records")
    if known:
        shared = [f"{line['column']}: {count(int(line['shared']), 'subject')} in {line['corpus']}" for line in known]
        yield f"{SEEN} pretrained, without labels, on subjects of the cohort ({'; '.join(shared)})."
    for corpus in sorted(set(marked.loc[marked["shared"] == UNKNOWN, "corpus"])):
        yield f"{SEEN} may be pretrained on subjects of the cohort: the audit of {corpus} (overlap.tsv) is missing."
    doubted = cells[(cells["look"] != 0) & cells["value"].notna()].assign(corpus=_corpora_of)
    for line in doubted.drop_duplicates(["column", "corpus"]).to_dict("records"):
        subjects = count(int(line["look"]), "subject")
        yield f"Look at these: {subjects} of {line['column']} may be in {line['corpus']} (overlap.html has the pictures)."


def _empty_notes(cells: pd.DataFrame) -> Iterator[str]:
    kept = {words: int(cells[status].sum()) for status, words in EMPTY_WORDS.items()}
    if any(kept.values()):
        counts = "; ".join(f"{words}: {number:,}" for words, number in kept.items() if number)
        yield f"Counted in spite of an empty mask: {counts}."


def _left_out_note(metric: Metric, left_out: int, scores: int) -> str:
    why = "empty masks" if metric != METRICS["lesion_f1"] else "empty masks, labels that are not lesions"
    return f"Left out, as their {metric.title} is undefined ({why}): {left_out:,} of {scores:,} scores."


# --- verdicts


def verdict_grid(judged: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays out what `verdicts.judge` returned: a row per arm that has a baseline, a column per task and cohort."""
    metric = metric_of(spec)
    by_cell = {(*_arm(line), line["column"]): line for line in judged.to_dict("records")}
    rows = [row for row in spec.rows if spec.baseline_of(row)]
    body = [
        (Cell(row.title), Cell(spec.baseline_of(row).title), *(_judged(by_cell[*row.arm, c.title], metric) for c in spec.columns))
        for row in rows
    ]
    header = (Cell("Model"), Cell("compared with"), *(Cell(column.title, column.cohort) for column in spec.columns))
    notes = tuple(verdict_notes(judged, spec))
    return Grid(f"{spec.title}: verdicts", header, tuple(body), notes, stub=2, starts=frozenset(), narrow=True)


def _judged(line: Mapping[str, Any], metric: Metric) -> Cell:
    """A verdict with the difference, its interval, and what it would take to decide."""
    if pd.isna(line["delta"]):
        return Cell("–", tone="missing")
    change, tone = _change(line["delta"], metric)
    under = [line["to_decide"]] if line["to_decide"] else []
    beside = []
    if pd.notna(line["delta_low"]):
        beside.append(numbers.interval(*(numbers.signed(line[f"delta_{end}"], metric) for end in ("low", "high"))))
    return Cell(line["verdict"], change, tone, tuple(under), tuple(beside))


# --- by label, by metric, ranks


def per_label_grid(labels: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays out what `results.per_label` returned: a row per data, label and arm; a column per fold."""
    metric = metric_of(spec)
    body: list[tuple[Cell, ...]] = []
    starts = []
    for column in spec.columns:
        of_column = labels[(labels["task"] == column.task) & (labels["cohort"] == column.cohort)]
        for label in sorted(of_column["label"].unique()) or ["–"]:
            starts.append(len(body))
            names = (Cell(column.title), Cell(label))
            lines = label_scores(of_column, column, label, spec)
            body += [
                (*names, Cell(row.title), *_by_folds(line, metric, spec)) for row, line in zip(spec.rows, lines, strict=True)
            ]
    header = ["Data", "Label", "Model", *(f"fold {fold}" for fold in spec.fold_names), "all folds"]
    notes = [f"{_unit(metric)}. A fold: mean over cases. All folds: mean ± SD (n - 1) over the folds."]
    notes += [*delta_note(spec), _left_out_note(metric, labels["left_out"].sum(), labels["cases"].sum())]
    title = f"{spec.title}: {metric.title} per label"
    return Grid(title, tuple(map(Cell, header)), tuple(body), tuple(notes), stub=3, starts=frozenset(starts[1:]))


def _by_folds(scores: LabelScores, metric: Metric, spec: TableSpec) -> Iterator[Cell]:
    """The cells of one label and arm: one for each fold, then the mean over folds and its delta."""
    for value in scores.by_fold:
        yield Cell("–", tone="missing") if pd.isna(value) else Cell(numbers.shown(value, metric))
    if pd.isna(scores.mean):
        yield Cell(_missing(sum(map(pd.notna, scores.by_fold)), len(scores.by_fold), spec), tone="missing")
    else:
        change = _change(scores.delta, metric) if pd.notna(scores.delta) else ()
        yield Cell(numbers.mean_sd(scores.mean, scores.sd, metric), *change)


def per_metric_grid(cells: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays out the metrics of `results.everything`: a row per data and arm, a column per metric."""
    names = list(dict.fromkeys(cells["metric"]))
    lines = {(line["column"], *_arm(line), line["metric"]): line for line in cells.to_dict("records")}
    body = [
        (Cell(column.title), Cell(row.title), *(_plain(lines[column.title, *row.arm, name], spec) for name in names))
        for column in spec.columns
        for row in spec.rows
    ]
    header = [Cell("Data"), Cell("Model")]
    header += [Cell(METRICS[name].title, f"{METRICS[name].unit} {'↑' if METRICS[name].higher else '↓'}") for name in names]
    starts = range(len(spec.rows), len(body), len(spec.rows))
    notes = [f"{FOLD_SCORE[0].upper()}{FOLD_SCORE[1:]}."]
    notes += ["↑ higher is better, ↓ lower is better.", *delta_note(spec)]
    undefined = cells.groupby("metric", sort=False)[["left_out", "label_scores"]].sum()
    notes += [_left_out_note(METRICS[name], *undefined.loc[name]) for name in names if undefined.loc[name, "left_out"]]
    title = f"{spec.title}: all metrics"
    return Grid(title, tuple(header), tuple(body), tuple(notes), stub=2, starts=frozenset(starts), narrow=True)


def _arm(line: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(line[name]) for name in ARM)


def _plain(cell: Mapping[str, Any], spec: TableSpec) -> Cell:
    """Mean, SD and delta, without interval and test."""
    metric = METRICS[cell["metric"]]
    if pd.isna(cell["value"]):
        undefined = cell["label_scores"] and cell["left_out"] == cell["label_scores"]
        return Cell("undefined" if undefined else _missing(cell["folds"], cell["folds_expected"], spec), tone="missing")
    change = _change(cell["delta"], metric) if pd.notna(cell["delta"]) else ()
    return Cell(numbers.mean_sd(cell["value"], cell["sd"], metric), *change)


def rank_grid(ranks: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays out what `results.rank` returned: the rows from the best to the worst, in groups of one n_train."""
    titles = [column.title for column in spec.columns]
    several = len(titles) > 1
    by_cell = {(*_arm(line), line["column"]): line for line in ranks.to_dict("records")}
    order = ranks[ranks["column"] == ALL].assign(place=lambda r: r.groupby("n_train", sort=False).ngroup())
    lines = order.sort_values(["place", "rank"], kind="stable", na_position="last").to_dict("records")
    body = [
        (
            Cell(line["row"]),
            *(_rank_cell(by_cell.get((*_arm(line), title))) for title in (titles if several else [])),
            *_rank_summary(line, several),
        )
        for line in lines
    ]
    header = [
        Cell("Model"),
        *map(Cell, titles if several else []),
        Cell("rank", f"mean over {len(titles)} columns" if several else ""),
    ]
    header += [Cell("rank", "bootstrap over columns")] if several else []
    header += [Cell("first", "share of samples"), Cell("rank by case")]
    starts = (i for i in range(1, len(lines)) if lines[i]["n_train"] != lines[i - 1]["n_train"])
    notes = tuple(_rank_notes(ranks, spec))
    return Grid(f"{spec.title}: ranks", tuple(header), tuple(body), notes, stub=1, starts=frozenset(starts))


def _rank_cell(line: Mapping[str, Any] | None) -> Cell:
    if line is None or pd.isna(line["rank"]):
        return Cell("–", tone="missing")
    return Cell(numbers.rank(line["rank"]), under=(_rank_interval(line["low"], line["high"]),))


def _rank_interval(low: float, high: float) -> str:
    return numbers.interval(numbers.rank(low), numbers.rank(high))


def _rank_summary(line: Mapping[str, Any], several: bool) -> Iterator[Cell]:
    if pd.isna(line["rank"]):
        yield from [Cell("not ranked", tone="missing"), *[Cell("–", tone="missing")] * (3 if several else 2)]
        return
    yield Cell(f"{line['rank']:.2f}", under=(_rank_interval(line["low"], line["high"]),))
    if several:
        yield Cell(_rank_interval(line["columns_low"], line["columns_high"]))
    yield Cell(f"{100 * line['first']:.0f} %")
    yield Cell("–", tone="missing") if pd.isna(line["case_rank"]) else Cell(f"{line['case_rank']:.2f}")


def _rank_notes(ranks: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    metric, bootstrap, confidence = metric_of(spec), spec.bootstrap, numbers.share(spec.bootstrap.confidence)
    yield (
        f"Ranks by {metric.title}, 1 is best, ties share their mean rank; among the rows of the same n_train that are scored"
        " in all folds of all columns."
    )
    yield (
        f"In brackets: {confidence} interval of the rank in {bootstrap.resamples:,} bootstrap samples"
        " of the subjects; first: how often the row is the best of them."
    )
    if len(spec.columns) > 1:
        yield "Bootstrap over columns: data sets are drawn, not subjects. With few columns it says little."
    yield "Rank: mean over cases first, then ranked. Rank by case: ranked for each subject, then the mean."
    whole = ranks[(ranks["column"] == ALL) & (ranks["rows_ranked"] > 1)].drop_duplicates("n_train")
    for line in whole.to_dict("records"):
        if pd.notna(line["tau"]):
            yield (
                f"n_train {line['n_train']}: Kendall's tau of the bootstrap rankings with this one is {line['tau']:.2f} on"
                f" average ({line['rows_ranked']:.0f} rows)."
            )
    if ranks.loc[ranks["column"] == ALL, "rank"].isna().any():
        yield "Not ranked: rows with missing runs."
