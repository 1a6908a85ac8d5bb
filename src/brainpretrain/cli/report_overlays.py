"""Commands that show the worst, the median and the best case: as a figure and in the viewer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from brainpretrain.cli.arguments import OUT, ROOT, TASK, VOLUMES, arg, command
from brainpretrain.preprocess.stored import read_stored
from brainpretrain.report import viewer
from brainpretrain.report.figures import overlays
from brainpretrain.report.overlays import load_overlays

EVALUATIONS = arg(
    "--evaluations", type=Path, nargs="+", required=True, metavar="DIR", help="folder of each fold: scores.tsv and predictions/"
)
SUBSETS = arg("--subsets", type=json.loads, default=[], metavar="JSON", help="list of the subsets of the data set; default: all")


@command(
    "plot-overlays",
    EVALUATIONS,
    VOLUMES, ROOT, TASK, SUBSETS, OUT,
)  # fmt: skip
def plot_overlays(args: argparse.Namespace) -> None:
    """Outlines of reference and prediction on the slice with most of the reference."""
    cases = load_overlays(args.evaluations, *read_stored(args.volumes), args.root, args.task, args.subsets)
    overlays.draw(cases, args.out)


@command(
    "overlay-cases",
    EVALUATIONS,
    VOLUMES, ROOT, TASK, SUBSETS,
    arg("--title", required=True, help="name of the arm on the page"), OUT,
)  # fmt: skip
def overlay_cases(args: argparse.Namespace) -> None:
    """Stores image, reference and prediction of the cases as a script, which a page can load without a server."""
    cases = load_overlays(args.evaluations, *read_stored(args.volumes), args.root, args.task, args.subsets)
    viewer.write_cases(args.out, args.title, cases, list(args.task["labels"]))


@command(
    "page-overlays",
    arg("cases", type=Path, nargs="+", metavar="JS", help="output of `overlay-cases`, below the folder of the page"),
    arg("--bundle", type=Path, required=True, metavar="JS", help="niivue.umd.js of NiiVue"),
    arg("--title", required=True, help="title of the page"), OUT,
)  # fmt: skip
def page_overlays(args: argparse.Namespace) -> None:
    """Writes a page that opens offline and without a server; the bundle is copied next to it."""
    viewer.write_page(args.out, args.title, args.cases, args.bundle)
