"""Commands of the stage report that draw the figures of a table of results."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import OUT, SCORES, SPEC, arg, command, mapping
from brainpretrain.config.explaining import validate
from brainpretrain.config.sections import Bootstrap
from brainpretrain.files import read_json, read_tsvs
from brainpretrain.report.figures import cases
from brainpretrain.report.write import write_budgets, write_costs, write_robustness

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


@command("plot-robustness", SCORES, SPEC, OUT_FOLDER)
def plot_robustness(args: argparse.Namespace) -> None:
    """Writes <name>_robustness.tsv|svg: the score over the strength of each degradation, a line per row."""
    write_robustness(args.out, read_tsvs(args.scores), args.spec)
