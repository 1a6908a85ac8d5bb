"""Commands of the stage report that make HTML pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import (
    DATA,
    NAMED_VOLUMES,
    OUT,
    arg,
    command,
    named,
    stored_by_dataset,
)
from brainpretrain.files import read_json, read_tsv
from brainpretrain.report.pages import audits as audit_pages
from brainpretrain.report.pages import html, rejected, run


@command("page-rejected", NAMED_VOLUMES, DATA, OUT)
def page_rejected(args: argparse.Namespace) -> None:
    """An HTML page with the reason for each, and what was accepted."""
    html.write(args.out, rejected.page(stored_by_dataset(args.volumes, args.data)))


@command("page-run", arg("run", type=Path, metavar="JSON", help="run.json of a training"), OUT)
def page_run(args: argparse.Namespace) -> None:
    """What was trained, on what, with which code and hardware, how long, and the whole config."""
    html.write(args.out, run.page(read_json(args.run)))


@command(
    "page-overlap",
    arg("--audits", nargs="*", default=[], metavar="CORPUS=TSV", help="overlap.tsv of each corpus, with pairs.tsv beside it"),
    arg("--protocols", nargs="*", default=[], metavar="CORPUS=PROTOCOL", help="the protocol of each corpus"),
    arg("--splits", nargs="*", default=[], metavar="TASK=JSON", help="what `split` wrote of each task"),
    arg("--near", type=float, required=True, metavar="R", help="as given to `overlap`"), OUT,
)  # fmt: skip
def page_overlap(args: argparse.Namespace) -> None:
    """An HTML page: per corpus, task and cohort the subjects that are shared, and the pairs."""
    protocols = named(args.protocols)
    audits = {
        corpus: (protocols[corpus], read_tsv(path), read_tsv(Path(path).with_name("pairs.tsv")))
        for corpus, path in named(args.audits).items()
    }
    splits = {task: read_json(path) for task, path in named(args.splits).items()}
    html.write(args.out, audit_pages.overlap_page(audits, args.near, splits))
