"""Commands of the stage report that draw figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from brainpretrain.cli.arguments import CORPUS, DATA, NAMED_VOLUMES, OUT, SCORES, SPEC, arg, command, mapping
from brainpretrain.config.explaining import validate
from brainpretrain.config.sections import Bootstrap
from brainpretrain.files import read_json, read_tsv, read_tsvs
from brainpretrain.preprocess.stored import read_stored_of
from brainpretrain.report.figures import cases, composition
from brainpretrain.report.figures.slices import reconstructions
from brainpretrain.report.figures.training import loss_curves
from brainpretrain.report.write import write_budgets, write_costs
from brainpretrain.training.log import read_curves

RUNS = arg("--runs", type=Path, nargs="+", required=True, metavar="JSON", help="run.json of the trainings, in a study's folders")
OUT_FOLDER = arg("--out", type=Path, required=True, metavar="DIR", help="folder to write into")


@command("plot-cases", SCORES, SPEC, OUT)
def plot_cases(args: argparse.Namespace) -> None:
    """A panel per column of the table, a pair of points per case."""
    cases.draw(read_tsvs(args.scores), args.spec, args.out)


@command("plot-costs", SCORES, RUNS, SPEC, OUT_FOLDER)
def plot_costs(args: argparse.Namespace) -> None:
    """Writes <name>_costs.tsv|svg|html: hours of training against the score, area = peak memory (AMAES Figure 1)."""
    write_costs(args.out, read_tsvs(args.scores), args.spec, {str(path): read_json(path) for path in args.runs})


@command(
    "plot-budgets",
    SCORES, RUNS, SPEC,
    arg("--bootstrap", type=mapping, required=True, metavar="JSON", help="resamples, confidence, seed (JSON, or @file.yaml)"),
    OUT_FOLDER,
)  # fmt: skip
def plot_budgets(args: argparse.Namespace) -> None:
    """Writes <name>_budgets.tsv|svg|html and <name>_matched.tsv: the budget at which an arm matches full supervision."""
    bootstrap = validate(Bootstrap, args.bootstrap, "--bootstrap")
    runs = {str(path): read_json(path) for path in args.runs}
    write_budgets(args.out, read_tsvs(args.scores), args.spec, runs, bootstrap)


@command(
    "plot-loss",
    arg("logs", type=Path, nargs="+", metavar="CSV", help="log.csv; for several (the folds of an arm) their mean is drawn"),
    arg("--title", default="", help="title of the figure"), OUT,
)  # fmt: skip
def plot_loss(args: argparse.Namespace) -> None:
    """Loss with its trivial baselines, learning rate, patches per second, waiting for data, memory.

    If schedule.tsv is next to the first log, the planned learning rate and the frozen parts are drawn behind the logged values.
    """
    log = pd.concat([read_curves(path) for path in args.logs]).groupby("step", as_index=False).mean()
    plan = args.logs[0].with_name("schedule.tsv")
    schedule = read_tsv(plan, numbers=["step", "lr", "phase"]) if plan.exists() else None
    title = args.title + (f", mean of {len(args.logs)} folds" if len(args.logs) > 1 else "")
    loss_curves(log, args.out, title, schedule)


@command(
    "plot-reconstructions",
    arg("reconstruction", type=Path, metavar="NPZ", help="reconstruction.npz of a pretraining"), OUT,
)  # fmt: skip
def plot_reconstructions(args: argparse.Namespace) -> None:
    """Input, masked input, output, target and error on middle axial slices."""
    reconstructions(args.reconstruction, args.out)


@command("plot-composition", CORPUS, NAMED_VOLUMES, DATA, OUT)
def plot_composition(args: argparse.Namespace) -> None:
    """Volumes by source and sequence, spacing, intensity, rejected volumes."""
    composition.draw(read_tsv(args.corpus), read_stored_of(args.volumes, args.data), args.out)
