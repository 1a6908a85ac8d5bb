"""Writes all files that belong to one table of results: the table itself, its costs, label budgets and curves of degradation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain import local_mean
from brainpretrain.config.sections import Bootstrap
from brainpretrain.files import write_tsv
from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import budgets, costs, layouts, printers, results, robustness, verdicts
from brainpretrain.report.figures import budgets as budgets_figure
from brainpretrain.report.figures import costs as costs_figure
from brainpretrain.report.figures import ranks
from brainpretrain.report.figures import robustness as robustness_figure
from brainpretrain.report.grid import Grid
from brainpretrain.report.pages import budgets as budgets_page
from brainpretrain.report.pages import costs as costs_page
from brainpretrain.report.pages import html
from brainpretrain.report.results import Overlaps

LAYOUTS = {
    "results": layouts.results_grid,
    "labels": layouts.per_label_grid,
    "metrics": layouts.per_metric_grid,
    "ranks": layouts.rank_grid,
    "verdicts": layouts.verdict_grid,
}


def write_table(
    folder: Path | str,
    scores: pd.DataFrame,
    spec: TableSpec,
    overlaps: Overlaps,
    runs: Mapping[str, Mapping[str, Any]] | None = None,
    pretrainings: Sequence[Path] = (),
) -> Grid:
    """Writes the results, scores by label, results by metric, ranks and verdicts of one table, and the figure of the ranks.

    The files are <name>, <name>_labels, <name>_metrics, <name>_ranks and <name>_verdicts as .tsv, .md, .tex, .html and .txt, and
    <name>_ranks.svg and .png. The same scores always give the same bytes.

    Args:
        scores, spec, overlaps: as for `results.build`.
        runs: run.json of the trainings by path, as for `costs.by_place`; needed by a table that shows hours.
        pretrainings: log.csv of pretrainings in a study's folders. A warning is shown for each that a row starts from and that
            ends no better than the local mean.

    Returns:
        The results as they are shown.

    Raises:
        UserError: as `results.everything`.
    """
    folder = Path(folder)
    frames = results.everything(scores, spec, overlaps)
    frames["verdicts"] = verdicts.judge(frames["results"], spec)
    grids = {part: layout(frames[part], spec) for part, layout in LAYOUTS.items()}
    if spec.hours:
        hours = costs.pretraining_hours(spec, costs.by_place(runs or {}))
        grids["results"] = layouts.with_hours(grids["results"], spec, hours)
        frames["results"]["pretrain_hours"] = [round(value, 6) for value in hours for _ in spec.columns]
    if spec.training_hours:
        trained = costs.training_hours(spec, costs.by_place(runs or {}))
        grids["results"] = layouts.with_training_hours(grids["results"], spec, trained)
        frames["results"]["finetune_device_hours"] = [round(value, 6) for of_row in trained for value in of_row]
    warnings = local_mean_warnings(spec, pretrainings)
    grids = {part: replace(grid, warnings=warnings) for part, grid in grids.items()}
    for part, grid in grids.items():
        name = spec.name if part == "results" else f"{spec.name}_{part}"
        for suffix in printers.SUFFIXES:
            printers.write(folder / (name + suffix), frames[part], grid)
    for suffix in (".svg", ".png"):
        ranks.draw(frames["ranks"], spec, folder / f"{spec.name}_ranks{suffix}")
    return grids["results"]


def local_mean_warnings(spec: TableSpec, logs: Sequence[Path]) -> tuple[str, ...]:
    """A line for each pretraining behind a table that ends no better than the local mean.

    Args:
        spec: the table.
        logs: log.csv of pretrainings, <pretext> and <backbone> and so on in their paths.
    """
    used = {pretraining.path: pretraining for row in spec.rows if (pretraining := Arm("", *row.arm).pretraining)}
    by_path = {"/".join(log.parts[-5:-1]): log for log in logs}
    found = [local_mean.warning(by_path[path], f"{p.init}, {p.backbone},") for path, p in used.items() if path in by_path]
    return tuple(filter(None, found))


def write_costs(folder: Path, scores: pd.DataFrame, spec: TableSpec, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes <name>_costs as .tsv, .svg and .html: what each arm of a table costs and which score it reaches.

    Args:
        scores, spec: as for `results.build`.
        runs: run.json of the trainings by path, as for `costs.by_place`.
    """
    arms, stem = costs.arms(scores, spec, costs.by_place(runs)), folder / f"{spec.name}_costs"
    figure = stem.with_suffix(".svg")
    write_tsv(stem.with_suffix(".tsv"), arms)
    costs_figure.draw(arms, spec, figure)
    html.write(stem.with_suffix(".html"), costs_page.page(arms, spec, figure.read_text(encoding="utf-8")))


def write_budgets(
    folder: Path, scores: pd.DataFrame, spec: TableSpec, runs: Mapping[str, Mapping[str, Any]], bootstrap: Bootstrap
) -> None:
    """Writes <name>_budgets as .tsv, .svg and .html, and <name>_matched.tsv: scores over the number of labelled subjects.

    Args:
        scores, spec, runs: as for `write_costs`.
        bootstrap: as for `budgets.matched`.
    """
    finetunings = [run for place, run in costs.by_place(runs).items() if place.startswith("finetune/")]
    points = budgets.curves(scores, spec, budgets.counted_subjects(finetunings))
    matches = budgets.matched(scores, spec, points, bootstrap)
    stem = folder / f"{spec.name}_budgets"
    figure = stem.with_suffix(".svg")
    write_tsv(stem.with_suffix(".tsv"), points)
    write_tsv(folder / f"{spec.name}_matched.tsv", matches)
    budgets_figure.draw(points, matches, spec, figure)
    svg = figure.read_text(encoding="utf-8")
    html.write(stem.with_suffix(".html"), budgets_page.page(points, matches, spec, svg, bootstrap.resamples))


def write_robustness(folder: Path, scores: pd.DataFrame, spec: TableSpec) -> None:
    """Writes <name>_robustness as .tsv and .svg: the scores of a table over the strength of each degradation.

    Args:
        scores, spec: as for `results.build`.
    """
    points, stem = robustness.curves(scores, spec), folder / f"{spec.name}_robustness"
    write_tsv(stem.with_suffix(".tsv"), points)
    robustness_figure.draw(points, spec, stem.with_suffix(".svg"))
