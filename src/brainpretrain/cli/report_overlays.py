"""Commands that show the worst, the median and the best case: as a figure and in the viewer."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import OUT, ROOT, TASK, VOLUMES, arg, command, stored
from brainpretrain.report import viewer
from brainpretrain.report.figures import overlays
from brainpretrain.report.overlays import load_overlays


@command(
    "plot-overlays",
    arg("--evaluations", type=Path, nargs="+", required=True, metavar="DIR", help="a fold each: scores.tsv and predictions/"),
    VOLUMES, ROOT, TASK, OUT,
)  # fmt: skip
def plot_overlays(args: argparse.Namespace) -> None:
    """Outlines of reference and prediction on the slice with most of the reference."""
    table, folder = stored(args.volumes)
    cases = load_overlays(args.evaluations, table, folder, args.root, args.task)
    overlays.draw(cases, args.out)


@command(
    "overlay-cases",
    arg("--evaluations", type=Path, nargs="+", required=True, metavar="DIR", help="a fold each: scores.tsv and predictions/"),
    VOLUMES, ROOT, TASK,
    arg("--title", required=True, help="what the page calls the arm"), OUT,
)  # fmt: skip
def overlay_cases(args: argparse.Namespace) -> None:
    """Image, reference and prediction of the cases as a script, which a page may load without a server."""
    table, folder = stored(args.volumes)
    cases = load_overlays(args.evaluations, table, folder, args.root, args.task)
    viewer.write_cases(args.out, args.title, cases, list(args.task["labels"]))


@command(
    "page-overlays",
    arg("cases", type=Path, nargs="+", metavar="JS", help="what `overlay-cases` wrote, below the folder of the page"),
    arg("--bundle", type=Path, required=True, metavar="JS", help="niivue.umd.js of NiiVue"),
    arg("--title", required=True, help="above the page"), OUT,
)  # fmt: skip
def page_overlays(args: argparse.Namespace) -> None:
    """A page that opens offline and from a folder; the bundle is copied beside it."""
    viewer.write_page(args.out, args.title, args.cases, args.bundle)
