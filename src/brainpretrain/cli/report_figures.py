"""Commands of the stage report that draw figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from brainpretrain.cli.arguments import (
    DATA,
    NAMED_VOLUMES,
    OUT,
    SCORES,
    SPEC,
    arg,
    command,
    joined,
    mapping,
    stored_by_dataset,
)
from brainpretrain.config.explaining import validate
from brainpretrain.config.sections import Bootstrap
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.report import budgets, costs
from brainpretrain.report.figures import budgets as budgets_figure
from brainpretrain.report.figures import cases, composition
from brainpretrain.report.figures import costs as costs_figure
from brainpretrain.report.figures.slices import reconstructions
from brainpretrain.report.figures.training import loss_curves
from brainpretrain.report.pages import budgets as budgets_page
from brainpretrain.report.pages import costs as costs_page
from brainpretrain.report.pages import html
from brainpretrain.training.log import read_curves

RUNS = arg("--runs", type=Path, nargs="+", required=True, metavar="JSON", help="run.json of the trainings, in a study's folders")


TABLE_OUT = arg("--out", type=Path, required=True, metavar="DIR", help="folder")


@command("plot-cases", SCORES, SPEC, OUT)
def plot_cases(args: argparse.Namespace) -> None:
    """A panel per column of the table, a pair of points per case."""
    cases.draw(joined(args.scores), args.spec, args.out)


@command("plot-costs", SCORES, RUNS, SPEC, TABLE_OUT)
def plot_costs(args: argparse.Namespace) -> None:
    """Writes <name>_costs.tsv|svg|html: hours of training against the score, area = peak memory (AMAES Figure 1)."""
    runs = costs.by_place({str(path): read_json(path) for path in args.runs})
    arms, stem = costs.arms(joined(args.scores), args.spec, runs), args.out / f"{args.spec.name}_costs"
    figure = stem.with_suffix(".svg")
    write_tsv(stem.with_suffix(".tsv"), arms)
    costs_figure.draw(arms, args.spec, figure)
    html.write(stem.with_suffix(".html"), costs_page.page(arms, args.spec, figure.read_text(encoding="utf-8")))


@command(
    "plot-budgets",
    SCORES, RUNS, SPEC,
    arg("--bootstrap", type=mapping, required=True, metavar="JSON", help="resamples, confidence, seed (JSON, or @file.yaml)"),
    TABLE_OUT,
)  # fmt: skip
def plot_budgets(args: argparse.Namespace) -> None:
    """Writes <name>_budgets.tsv|svg|html and <name>_matched.tsv: the budget at which an arm matches full supervision."""
    scores, bootstrap = joined(args.scores), validate(Bootstrap, args.bootstrap, "--bootstrap")
    runs = costs.by_place({str(path): read_json(path) for path in args.runs})
    counted = budgets.counted_subjects([run for place, run in runs.items() if place.startswith("finetune/")])
    points = budgets.curves(scores, args.spec, counted)
    matches = budgets.matched(scores, args.spec, points, bootstrap)
    stem = args.out / f"{args.spec.name}_budgets"
    figure = stem.with_suffix(".svg")
    write_tsv(stem.with_suffix(".tsv"), points)
    write_tsv(args.out / f"{args.spec.name}_matched.tsv", matches)
    budgets_figure.draw(points, matches, args.spec, figure)
    svg = figure.read_text(encoding="utf-8")
    page = budgets_page.page(points, matches, args.spec, svg, bootstrap.resamples)
    html.write(stem.with_suffix(".html"), page)


@command(
    "plot-loss",
    arg("logs", type=Path, nargs="+", metavar="CSV", help="log.csv; of several (the folds of an arm) the mean is drawn"),
    arg("--title", default="", help="above the figure"), OUT,
)  # fmt: skip
def plot_loss(args: argparse.Namespace) -> None:
    """Loss with its trivial baselines, learning rate, patches per second, waiting for data, memory.

    Where schedule.tsv lies beside the first log, the planned learning rate stands behind the logged one, with what was frozen.
    """
    log = pd.concat([read_curves(path) for path in args.logs]).groupby("step", as_index=False).mean()
    planned = args.logs[0].with_name("schedule.tsv")
    schedule = read_tsv(planned, numbers=["step", "lr", "phase"]) if planned.exists() else None
    title = args.title + (f", mean of {len(args.logs)} folds" if len(args.logs) > 1 else "")
    loss_curves(log, args.out, title, schedule)


@command(
    "plot-reconstructions",
    arg("reconstruction", type=Path, metavar="NPZ", help="reconstruction.npz of a pretraining"), OUT,
)  # fmt: skip
def plot_reconstructions(args: argparse.Namespace) -> None:
    """Input, masked input, output, target and error on middle axial slices."""
    reconstructions(args.reconstruction, args.out)


@command(
    "plot-composition",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"), NAMED_VOLUMES, DATA, OUT,
)  # fmt: skip
def plot_composition(args: argparse.Namespace) -> None:
    """Volumes by source and sequence, spacing, intensity, rejected."""
    composition.draw(read_tsv(args.corpus), stored_by_dataset(args.volumes, args.data), args.out)
