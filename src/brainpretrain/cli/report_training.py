"""Commands of the stage report that show a training: its curves, its reconstructions, its run.json."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from brainpretrain import local_mean
from brainpretrain.cli.arguments import OUT, OUT_FILES, SPEC, arg, command, mapping
from brainpretrain.files import read_json, read_tsv
from brainpretrain.report import printers, trainings
from brainpretrain.report.figures import validation
from brainpretrain.report.figures.slices import reconstructions
from brainpretrain.report.figures.training import loss_curves
from brainpretrain.report.pages import html, run
from brainpretrain.training.log import read_curves


@command(
    "plot-loss",
    arg("logs", type=Path, nargs="+", metavar="CSV", help="log.csv; for several (the folds of an arm) their mean is drawn"),
    arg("--title", default="", help="title of the figure"), OUT,
)  # fmt: skip
def plot_loss(args: argparse.Namespace) -> None:
    """Loss with its trivial baselines, learning rate, patches per second, waiting for data, memory.

    If schedule.tsv is next to the first log, the planned learning rate and the frozen parts are drawn behind the logged values,
    unless the trainings have different learning rates, as after a choice in each fold.
    """
    logs = pd.concat([read_curves(path) for path in args.logs])
    log = logs.groupby("step", as_index=False).mean()
    plan = args.logs[0].with_name("schedule.tsv")
    alike = "lr" not in logs or logs.groupby("step")["lr"].nunique().le(1).all()
    schedule = read_tsv(plan, numbers=["step", "lr", "phase"]) if plan.exists() and alike else None
    title = args.title + (f", mean of {len(args.logs)} folds" if len(args.logs) > 1 else "")
    title += "" if alike else ", whose learning rates differ"
    loss_curves(log, args.out, title, schedule)


@command(
    "plot-reconstructions",
    arg("reconstruction", type=Path, metavar="NPZ", help="reconstruction.npz of a pretraining"), OUT,
)  # fmt: skip
def plot_reconstructions(args: argparse.Namespace) -> None:
    """Input, masked input, output, target and error on middle axial slices."""
    reconstructions(args.reconstruction, args.out)


@command(
    "table-trainings",
    arg("--logs", type=Path, nargs="*", default=[], metavar="CSV", help="log.csv of the fine-tunings of the table"),
    arg("--pretrainings", type=Path, nargs="*", default=[], metavar="CSV", help="log.csv of its pretrainings"),
    arg("--rates", type=Path, nargs="*", default=[], metavar="JSON", help="output of `choose-rate` for its arms and folds"),
    arg("--grids", type=mapping, default={}, metavar="JSON", help="learning rates of each recipe that has a grid"),
    SPEC, OUT_FILES,
)  # fmt: skip
def table_trainings(args: argparse.Namespace) -> None:
    """Whether the trainings behind a table have converged, the learning rate that each arm got in each fold, and whether its
    pretrainings beat the local mean.
    """
    logs = {trainings.key_of_log(str(path)): read_curves(path) for path in args.logs}
    rates = {trainings.key_of_rate(str(path)): read_json(path) for path in args.rates}
    lines = trainings.build(args.spec, logs, rates, args.grids)
    sane = [trainings.sanity("/".join(path.parts[-4:-1]), read_curves(path)) for path in args.pretrainings]
    shown = trainings.grid(lines, args.spec, args.grids, sane)
    for path in args.out:
        printers.write(path, lines, shown)
    print(printers.text(shown))


@command(
    "plot-validation",
    arg("--logs", type=Path, nargs="+", required=True, metavar="CSV", help="log.csv of the fine-tunings, with run.json beside"),
    SPEC, OUT,
)  # fmt: skip
def plot_validation(args: argparse.Namespace) -> None:
    """Pseudo-Dice during the fine-tunings of a table, with a band over folds and seeds."""
    logs = {trainings.key_of_log(str(path)): read_curves(path) for path in args.logs}
    runs = {trainings.key_of_log(str(path)): read_json(path.with_name("run.json")) for path in args.logs}
    validation.draw(logs, runs, args.spec, args.out)


@command("page-run", arg("run", type=Path, metavar="JSON", help="run.json of a training"), OUT)
def page_run(args: argparse.Namespace) -> None:
    """An HTML page with the trained network, its data, code, hardware and duration, and the whole config."""
    content = read_json(args.run)
    html.write(args.out, run.page(content, local_mean.warning(args.run.with_name("log.csv"), content.get("name", ""))))
