"""Commands of the stage report that make HTML pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import DATA, NAMED_VOLUMES, OUT, arg, command, pairs
from brainpretrain.files import read_json, read_tsv
from brainpretrain.preprocess.stored import read_stored_of
from brainpretrain.report.pages import audits as audit_pages
from brainpretrain.report.pages import html, rejected, run


@command("page-rejected", NAMED_VOLUMES, DATA, OUT)
def page_rejected(args: argparse.Namespace) -> None:
    """An HTML page with the reason for each rejected volume, and counts of accepted volumes."""
    html.write(args.out, rejected.page(read_stored_of(args.volumes, args.data)))


@command("page-run", arg("run", type=Path, metavar="JSON", help="run.json of a training"), OUT)
def page_run(args: argparse.Namespace) -> None:
    """An HTML page with the trained network, its data, code, hardware and duration, and the whole config."""
    html.write(args.out, run.page(read_json(args.run)))


@command(
    "page-overlap",
    pairs("--audits", "CORPUS=TSV", help="overlap.tsv of each corpus, next to its pairs.tsv"),
    pairs("--protocols", "CORPUS=PROTOCOL", help="the protocol of each corpus"),
    pairs("--splits", "TASK=JSON", help="output of `split` for each task"),
    arg("--near", type=float, required=True, metavar="R", help="as given to `overlap`"), OUT,
)  # fmt: skip
def page_overlap(args: argparse.Namespace) -> None:
    """An HTML page: for each corpus, task and cohort the shared subjects, and the pairs of equal images."""
    protocols = dict(args.protocols)
    audits = {
        corpus: (protocols[corpus], read_tsv(path), read_tsv(Path(path).with_name("pairs.tsv"))) for corpus, path in args.audits
    }
    splits = {task: read_json(path) for task, path in args.splits}
    html.write(args.out, audit_pages.overlap_page(audits, args.near, splits))
